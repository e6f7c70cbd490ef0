//! Messages as bytes: headers, attributes, acknowledgements. Pure.

use std::io;

/// A request that is being put together.
#[derive(Clone, Debug)]
pub(in crate::ebpf) struct Message(Vec<u8>);

impl Message {
    /// A request of this type; [`ACKNOWLEDGE`] is always among the flags.
    pub(in crate::ebpf) fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST | ACKNOWLEDGE).to_ne_bytes());
        Self(bytes)
    }

    /// The fixed part behind the header.
    pub(in crate::ebpf) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// One attribute.
    pub(in crate::ebpf) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = (ATTRIBUTE + value.len()) as u16;
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.bytes(value)
    }

    /// One attribute with a string, which the kernel wants with its NUL.
    pub(in crate::ebpf) fn text(self, kind: u16, value: &str) -> Self {
        self.attribute(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// One attribute with attributes in it.
    pub(in crate::ebpf) fn nested(mut self, kind: u16, inner: impl FnOnce(Self) -> Self) -> Self {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        let mut whole = inner(self);
        let length = (whole.0.len() - start) as u16;
        whole.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        whole
    }

    pub(super) fn finish(mut self, sequence: u32, into: &mut Vec<u8>) {
        let length = self.0.len() as u32;
        self.0[0..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        into.append(&mut self.0);
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// Four-byte numbers of this machine one after the other.
pub(in crate::ebpf) fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

/// The sequence number and the result of each acknowledgement in a datagram; other messages are passed over.
pub(super) fn acknowledgements(mut bytes: &[u8]) -> Vec<(u32, io::Result<()>)> {
    let mut found = Vec::new();
    while let Some(header) = bytes.get(..HEADER) {
        let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let length = (word(0) as usize).max(HEADER);
        if u16::from_ne_bytes([header[4], header[5]]) == NLMSG_ERROR
            && let Some(error) = bytes.get(HEADER..HEADER + 4)
        {
            let error = i32::from_ne_bytes([error[0], error[1], error[2], error[3]]);
            let result = if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-error)) };
            found.push((word(8), result));
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// Of struct nlmsghdr and struct nlattr (include/uapi/linux/netlink.h).
const HEADER: usize = 16;
const ATTRIBUTE: usize = 4;
const NLMSG_ERROR: u16 = 2;
const REQUEST: u16 = 1;
pub(super) const ACKNOWLEDGE: u16 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested_ones_know_their_length() {
        let message = Message::new(16, 0x600).bytes(&[1; 16]).text(3, "c").nested(18, |inner| inner.text(1, "veth"));
        let mut bytes = Vec::new();
        message.finish(7, &mut bytes);
        assert_eq!(bytes.len(), 16 + 16 + 8 + 4 + 12);
        assert_eq!(bytes[..4], (bytes.len() as u32).to_ne_bytes());
        assert_eq!(bytes[32..40], [[6, 0, 3, 0], [b'c', 0, 0, 0]].concat());
        assert_eq!(bytes[40..48], [[16, 0, 18, 0], [9, 0, 1, 0]].concat());
    }

    #[test]
    fn acknowledgements_are_told_by_their_numbers() {
        let one = |sequence: u32, error: i32| {
            [&20_u32.to_ne_bytes()[..], &[2, 0, 0, 0], &sequence.to_ne_bytes(), &[0; 4], &error.to_ne_bytes()].concat()
        };
        let found = acknowledgements(&[one(5, 0), one(6, -2)].concat());
        assert!(matches!(found[0], (5, Ok(()))));
        assert_eq!(found[1].1.as_ref().unwrap_err().kind(), io::ErrorKind::NotFound);
        for cut in 0..20 {
            assert!(acknowledgements(&one(5, 0)[..cut]).is_empty());
        }
    }
}
