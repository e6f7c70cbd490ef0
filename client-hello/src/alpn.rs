//! The application protocols that a client offers (RFC 7301 3.1).

use std::fmt;

use crate::malformed::Malformed;
use crate::vector;

/// A ProtocolNameList: the names in the order of the client's preference, each of 1 to 255 bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ProtocolNameList<'a> {
    /// Checked to be a sequence of names that are not empty.
    names: &'a [u8],
}

impl<'a> ProtocolNameList<'a> {
    /// Reads the data of the extension.
    pub(crate) fn read(data: &'a [u8]) -> Result<Self, Malformed> {
        let names = vector::filling_u16(data).ok_or(Malformed::Alpn)?;
        let mut rest = names;
        loop {
            match vector::split_u8(rest) {
                None | Some(([], _)) => return Err(Malformed::Alpn),
                Some((_, [])) => return Ok(Self { names }),
                Some((_, behind)) => rest = behind,
            }
        }
    }

    /// The names, the most preferred one first.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let mut rest = self.names;
        std::iter::from_fn(move || {
            let (name, behind) = vector::split_u8(rest)?;
            rest = behind;
            Some(name)
        })
    }

    /// Whether the client offers none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether the client offers `name`, such as `b"h2"`.
    pub fn contains(&self, name: &[u8]) -> bool {
        self.iter().any(|offered| offered == name)
    }
}

impl fmt::Debug for ProtocolNameList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(<[u8]>::escape_ascii).map(|name| name.to_string())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_in_their_order() {
        let list = ProtocolNameList::read(b"\0\x0c\x02h2\x08http/1.1").unwrap();
        assert_eq!(list.iter().collect::<Vec<_>>(), [&b"h2"[..], b"http/1.1"]);
        assert!(list.contains(b"h2") && !list.contains(b"h3") && !list.is_empty());
        assert_eq!(format!("{list:?}"), r#"["h2", "http/1.1"]"#);
    }

    #[test]
    fn an_empty_name_is_malformed() {
        for data in [&b"\0\x01\0"[..], b"\0\x04\x02h2\0", b"\0\x04\0\x02h2"] {
            assert_eq!(ProtocolNameList::read(data), Err(Malformed::Alpn));
        }
    }

    #[test]
    fn an_empty_list_is_malformed() {
        assert_eq!(ProtocolNameList::read(b"\0\0"), Err(Malformed::Alpn));
        assert_eq!(ProtocolNameList::read(b""), Err(Malformed::Alpn));
    }

    #[test]
    fn a_name_that_is_cut_off_is_malformed() {
        assert_eq!(ProtocolNameList::read(b"\0\x03\x03h2"), Err(Malformed::Alpn));
        assert_eq!(ProtocolNameList::read(b"\0\x04\x02h2"), Err(Malformed::Alpn));
    }
}
