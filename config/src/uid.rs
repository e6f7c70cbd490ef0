//! Which tenant gets which uid: a pure function of the names, so that processes agree without talking and a restart
//! changes nothing. Never looks at the user database.

use hashbrown::{HashMap, HashSet};

use crate::model::UidRange;

/// A uid for each name, none twice and none of `taken`; `None` when the range is too small. `names` are distinct.
///
/// A name's first choice is its FNV-1a hash modulo the size of the range; in the order of the names, each takes the
/// first free uid from there on, around the end of the range. So a new tenant moves another one's uid only when their
/// choices collide; `sandbox.uid` is for those who need more.
pub(crate) fn allot<'n>(
    range: UidRange,
    taken: &HashSet<u32>,
    names: impl IntoIterator<Item = &'n str>,
) -> Option<HashMap<&'n str, u32>> {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    let size = u64::from(range.last - range.first) + 1;
    let occupied = taken.iter().filter(|uid| (range.first..=range.last).contains(uid)).count();
    if (names.len() + occupied) as u64 > size {
        return None;
    }
    let mut used = taken.clone();
    let mut uids = HashMap::with_capacity(names.len());
    for name in names {
        let mut offset = fnv_1a(name.as_bytes()) % size;
        // Ends because there are at least as many free uids as names.
        let uid = loop {
            let uid = range.first + offset as u32;
            if used.insert(uid) {
                break uid;
            }
            offset = (offset + 1) % size;
        };
        uids.insert(name, uid);
    }
    Some(uids)
}

/// FNV-1a with 64 bits (RFC 9923): stable over versions and architectures, which the standard library's hasher is not.
fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: UidRange = UidRange { first: 61184, last: 65519 };

    #[test]
    fn the_hash_is_fnv_1a() {
        // Test vectors of the algorithm's authors.
        assert_eq!(fnv_1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv_1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv_1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn uids_stay_what_they_are() {
        let uids = allot(RANGE, &HashSet::new(), ["globex", "acme"]).unwrap();
        assert_eq!((uids["acme"], uids["globex"]), (ACME, GLOBEX));
        let more = allot(RANGE, &HashSet::new(), ["acme", "globex", "initech"]).unwrap();
        assert_eq!((more["acme"], more["globex"]), (ACME, GLOBEX));
    }

    #[test]
    fn a_taken_uid_is_stepped_over_and_the_end_wraps() {
        let taken = HashSet::from([ACME]);
        assert_eq!(allot(RANGE, &taken, ["acme"]).unwrap()["acme"], ACME + 1);
        let range = UidRange { first: 1000, last: 1002 };
        let uids = allot(range, &HashSet::new(), ["a", "b", "c"]).unwrap();
        let distinct: HashSet<u32> = uids.values().copied().collect();
        assert_eq!(distinct, HashSet::from([1000, 1001, 1002]));
        assert_eq!(allot(range, &HashSet::from([1001]), ["a", "b", "c"]), None);
    }

    const ACME: u32 = 65087;
    const GLOBEX: u32 = 65422;
}
