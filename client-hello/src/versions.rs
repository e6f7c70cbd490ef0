//! The protocol versions that a client offers.

use std::fmt;

use crate::malformed::Malformed;
use crate::vector;

/// A ProtocolVersion (RFC 8446 4.1.2), such as 0x0304 for TLS 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion(pub u16);

impl ProtocolVersion {
    /// TLS 1.2 (RFC 5246).
    pub const TLS12: Self = Self(0x0303);
    /// TLS 1.3 (RFC 8446).
    pub const TLS13: Self = Self(0x0304);
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0x0300 => f.write_str("SSL 3.0"),
            0x0301 => f.write_str("TLS 1.0"),
            0x0302 => f.write_str("TLS 1.1"),
            0x0303 => f.write_str("TLS 1.2"),
            0x0304 => f.write_str("TLS 1.3"),
            other => write!(f, "0x{other:04x}"),
        }
    }
}

/// The versions that a client offers: those of supported_versions in the client's order, or legacy_version where
/// that extension is missing (RFC 8446 4.2.1).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ProtocolVersions<'a> {
    /// Checked to be a list of 16-bit values.
    list: &'a [u8],
}

impl<'a> ProtocolVersions<'a> {
    /// Reads the data of the extension supported_versions.
    pub(crate) fn read(data: &'a [u8]) -> Result<Self, Malformed> {
        vector::filling_u8(data).and_then(vector::of_u16).map(|list| Self { list }).ok_or(Malformed::SupportedVersions)
    }

    /// The one version of a hello without that extension.
    pub(crate) fn legacy(legacy_version: &'a [u8; 2]) -> Self {
        Self { list: legacy_version }
    }

    /// The versions in the order of the client's preference. GREASE values (RFC 8701) are left out.
    pub fn iter(&self) -> impl Iterator<Item = ProtocolVersion> + Clone + use<'a> {
        vector::iter_u16(self.list).filter(|&version| !vector::is_grease(version)).map(ProtocolVersion)
    }

    /// Whether the client offers `version`.
    pub fn contains(&self, version: ProtocolVersion) -> bool {
        self.iter().any(|offered| offered == version)
    }

    /// The highest of them; `None` if all are GREASE.
    pub fn highest(&self) -> Option<ProtocolVersion> {
        self.iter().max()
    }
}

impl fmt::Debug for ProtocolVersions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|version| version.to_string())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grease_is_no_version() {
        let versions = ProtocolVersions::read(&[6, 0xda, 0xda, 3, 4, 3, 3]).unwrap();
        assert_eq!(versions.iter().collect::<Vec<_>>(), [ProtocolVersion::TLS13, ProtocolVersion::TLS12]);
        assert_eq!(versions.highest(), Some(ProtocolVersion::TLS13));
        assert_eq!(format!("{versions:?}"), r#"["TLS 1.3", "TLS 1.2"]"#);
    }

    #[test]
    fn an_empty_or_odd_list_is_malformed() {
        for data in [&[][..], &[0], &[1, 3], &[3, 3, 4, 3], &[2, 3, 4, 3]] {
            assert_eq!(ProtocolVersions::read(data), Err(Malformed::SupportedVersions), "{data:?}");
        }
    }
}
