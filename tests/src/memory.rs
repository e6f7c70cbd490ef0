//! Looks for bytes in the memory of other processes, as root can (proc_pid_mem(5)).

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result};
use memchr::memmem;

use crate::processes::Pid;

/// Whether any readable mapping of the process holds this byte string.
pub fn holds(pid: Pid, wanted: &[u8]) -> Result<bool> {
    Ok(!mappings_with(pid, wanted)?.is_empty())
}

/// The readable mappings of the process that hold this byte string, as /proc/PID/maps has them.
pub fn mappings_with(pid: Pid, wanted: &[u8]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).with_context(|| format!("read the maps of {pid}"))?;
    let mut memory = File::open(format!("/proc/{pid}/mem")).with_context(|| format!("open the memory of {pid}"))?;
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().context("a range")?, fields.next().context("rights")?);
        let (from, to) = range.split_once('-').context("two ends")?;
        let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
        // What the kernel maps itself is not the process's ([vvar] cannot even be read).
        if rights.starts_with('r') && !line.contains("[v") && find(&mut memory, from, to, wanted)? {
            found.push(line.to_owned());
        }
    }
    Ok(found)
}

fn find(memory: &mut File, from: u64, to: u64, wanted: &[u8]) -> Result<bool> {
    let mut bytes = vec![0; usize::try_from(to - from)?];
    memory.seek(SeekFrom::Start(from))?;
    let mut filled = 0;
    while filled < bytes.len() {
        match memory.read(&mut bytes[filled..]) {
            // A mapping may end before its address range does, as that of a file that was cut.
            Ok(0) | Err(_) => break,
            Ok(read) => filled += read,
        }
    }
    Ok(memmem::find(&bytes[..filled], wanted).is_some())
}
