//! Variable-length vectors of the TLS presentation language (RFC 8446 3.4). `None` means that a vector overruns its
//! surroundings or does not fill them.

/// The contents of the vector with a length of 8 bits that fills `bytes`.
pub(crate) fn filling_u8(bytes: &[u8]) -> Option<&[u8]> {
    let (contents, behind) = split_u8(bytes)?;
    behind.is_empty().then_some(contents)
}

/// The contents of the vector with a length of 16 bits that fills `bytes`.
pub(crate) fn filling_u16(bytes: &[u8]) -> Option<&[u8]> {
    let (contents, behind) = split_u16(bytes)?;
    behind.is_empty().then_some(contents)
}

/// The contents of the vector with a length of 8 bits at the beginning of `bytes`, and what stands behind it.
pub(crate) fn split_u8(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(length))
}

/// The contents of the vector with a length of 16 bits at the beginning of `bytes`, and what stands behind it.
pub(crate) fn split_u16(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(length)))
}

/// `list` if it is a list of at least one value of 16 bits.
pub(crate) fn of_u16(list: &[u8]) -> Option<&[u8]> {
    (!list.is_empty() && list.len().is_multiple_of(2)).then_some(list)
}

/// The values of a list that [`of_u16`] has checked.
pub(crate) fn iter_u16(list: &[u8]) -> impl Iterator<Item = u16> + Clone {
    let (values, _) = list.as_chunks();
    values.iter().map(|&value| u16::from_be_bytes(value))
}

/// Whether `value` is one of those that clients sprinkle in to keep servers tolerant (RFC 8701 2).
pub(crate) fn is_grease(value: u16) -> bool {
    let [high, low] = value.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_must_fill_its_surroundings() {
        assert_eq!(filling_u8(&[2, 7, 8]), Some(&[7, 8][..]));
        assert_eq!(filling_u8(&[2, 7, 8, 9]), None);
        assert_eq!(filling_u16(&[0, 2, 7, 8]), Some(&[7, 8][..]));
        assert_eq!(filling_u16(&[0, 2, 7, 8, 9]), None);
    }

    #[test]
    fn a_vector_must_not_overrun_its_surroundings() {
        assert_eq!(split_u8(&[2, 7]), None);
        assert_eq!(split_u8(&[]), None);
        assert_eq!(split_u16(&[0, 2, 7]), None);
        assert_eq!(split_u16(&[0]), None);
    }

    #[test]
    fn the_sixteen_grease_values_are_grease() {
        let grease = (0..=u16::MAX).filter(|&value| is_grease(value));
        assert_eq!(grease.clone().count(), 16);
        assert_eq!(grease.take(3).collect::<Vec<_>>(), [0x0a0a, 0x1a1a, 0x2a2a]);
    }
}
