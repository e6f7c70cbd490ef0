//! What the eBPF programs and the router agree upon: names of programs and maps, keys and values. One module per program.
//! The programs see fixed-size numbers only, never a tenant's name or a rule.

#![no_std]

pub mod cut_through;
#[cfg(feature = "user")]
mod pod;
pub mod steer;

/// Programs that are loaded together, and the maps that they use. Sets share no map, so that one can be had without
/// the others.
#[derive(Clone, Copy, Debug)]
pub struct ProgramSet {
    /// Names it in logs, in metrics and under bpffs.
    pub name: &'static str,
    /// The names of its maps in the object.
    pub maps: &'static [&'static str],
    /// Of the pinned maps' keys and values, from [`layout`]; 0 for a set that pins none. Processes whose sets have
    /// the same layout can use each other's maps.
    pub layout: u32,
}

/// All sets of the object.
pub const SETS: &[ProgramSet] = &[steer::SET, cut_through::SET];

/// A number that changes with these sizes, offsets and constants (FNV-1a over their bytes).
pub const fn layout(numbers: &[usize]) -> u32 {
    let mut hash = EMPTY;
    let mut index = 0;
    while index < numbers.len() {
        hash = with(hash, numbers[index]);
        index += 1;
    }
    hash
}

/// The same for a name, as which flows keep it: the kernel has numbers, not names.
pub fn name_hash(name: &str) -> u32 {
    name.bytes().fold(EMPTY, |hash, byte| with(hash, byte as usize))
}

const fn with(mut hash: u32, number: usize) -> u32 {
    let bytes = (number as u64).to_le_bytes();
    let mut byte = 0;
    while byte < bytes.len() {
        hash = (hash ^ bytes[byte] as u32).wrapping_mul(0x0100_0193);
        byte += 1;
    }
    hash
}

const EMPTY: u32 = 0x811C_9DC5;
