//! The text beside the object: digests of its sources and of itself, and who built it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::cargo::workspace;

pub(super) struct Record {
    pub(super) sources: String,
    pub(super) object: String,
    pub(super) toolchain: String,
}

impl Record {
    pub(super) fn new(sources: String, object: &[u8], toolchain: String) -> Self {
        Self { sources, object: digest(object), toolchain }
    }

    pub(super) fn read() -> Result<Self> {
        Self::parse(&fs::read_to_string(workspace().join(RECORD)).with_context(|| format!("read {RECORD}"))?)
    }

    pub(super) fn write(&self) -> Result<()> {
        fs::write(workspace().join(RECORD), self.text()).with_context(|| format!("write {RECORD}"))
    }

    fn text(&self) -> String {
        let Self { sources, object, toolchain } = self;
        format!(
            "Written by cargo xtask ebpf, read by cargo xtask ebpf --check; the digests are SHA-256.\n\
             sources {sources}\nobject {object}\ntoolchain {toolchain}\n"
        )
    }

    fn parse(text: &str) -> Result<Self> {
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.map(str::to_owned).with_context(|| format!("{RECORD} has no line `{name}`"))
        };
        Ok(Self { sources: field("sources")?, object: field("object")?, toolchain: field("toolchain")? })
    }
}

/// Of all files that the object is made from: names, lengths and contents in the order of the names.
pub(super) fn sources_digest() -> Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(Path::new(source), &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let content = fs::read(workspace().join(&file)).with_context(|| format!("read {}", file.display()))?;
        hash.update(file.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    Ok(hexadecimal(&hash.finalize()))
}

pub(super) fn digest(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let full = workspace().join(path);
    if !full.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(&full).with_context(|| format!("read {}", full.display()))? {
        collect(&path.join(entry?.file_name()), files)?;
    }
    Ok(())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const RECORD: &str = "router-ebpf/object/router-ebpf.txt";
const SOURCES: &[&str] = &[
    "router-common/Cargo.toml",
    "router-common/src",
    "router-ebpf/Cargo.lock",
    "router-ebpf/Cargo.toml",
    "router-ebpf/src",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = Record::new("ab".to_owned(), b"object", "rustc 1.96.0, LLVM 22".to_owned());
        let read = Record::parse(&record.text()).unwrap();
        assert_eq!((read.sources, read.object, read.toolchain), (record.sources, record.object, record.toolchain));
        assert!(Record::parse("sources ab\n").is_err());
    }

    #[test]
    fn the_committed_object_belongs_to_the_sources() {
        let record = Record::read().unwrap();
        assert_eq!(record.object, digest(&fs::read(workspace().join(super::super::OBJECT)).unwrap()));
        assert_eq!(record.sources, sources_digest().unwrap(), "cargo xtask ebpf");
    }
}
