//! `/proc/PID/smaps`: every mapping with what of it is resident, shared and swapped.

use std::io;
use std::ops::AddAssign;
use std::path::Path;

use serde::Serialize;

use crate::target::read_text;

/// Sizes in bytes. Those of several mappings or processes are added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// Address space.
    pub virtual_bytes: u64,
    /// Resident.
    pub rss_bytes: u64,
    /// Resident, each page divided by the number of processes that map it.
    pub pss_bytes: u64,
    /// Resident and mapped by no other process: what is freed when the process ends.
    pub uss_bytes: u64,
    /// Swapped out.
    pub swap_bytes: u64,
    /// Of the resident bytes: in transparent or reserved huge pages.
    pub huge_bytes: u64,
}

impl AddAssign for Sizes {
    fn add_assign(&mut self, other: Self) {
        self.virtual_bytes += other.virtual_bytes;
        self.rss_bytes += other.rss_bytes;
        self.pss_bytes += other.pss_bytes;
        self.uss_bytes += other.uss_bytes;
        self.swap_bytes += other.swap_bytes;
        self.huge_bytes += other.huge_bytes;
    }
}

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address after the last one.
    pub end: u64,
    /// `rw-p`.
    pub permissions: String,
    /// The file's inode; 0 for none.
    pub inode: u64,
    /// Path or `[name]`; empty for anonymous memory.
    pub name: String,
    /// Its sizes.
    pub sizes: Sizes,
}

impl Mapping {
    /// Whether a file lies behind it.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.inode != 0
    }

    /// Whether writes go to pages of its own.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.permissions.ends_with('p')
    }

    /// Whether it can be written to.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.permissions.contains('w')
    }
}

/// All mappings of a process, by address.
///
/// # Errors
/// When the process is gone or may not be looked at.
pub fn read(pid: i32) -> io::Result<Vec<Mapping>> {
    let text = read_text(Path::new(&format!("/proc/{pid}/smaps")))?;
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        if let Some(mapping) = head(line) {
            mappings.push(mapping);
        } else if let (Some(mapping), Some((name, bytes))) = (mappings.last_mut(), field(line)) {
            let sizes = &mut mapping.sizes;
            match name {
                "Size" => sizes.virtual_bytes = bytes,
                "Rss" => sizes.rss_bytes += bytes,
                "Pss" => sizes.pss_bytes += bytes,
                "Private_Clean" | "Private_Dirty" => sizes.uss_bytes += bytes,
                "Swap" => sizes.swap_bytes = bytes,
                "AnonHugePages" | "ShmemPmdMapped" | "FilePmdMapped" => sizes.huge_bytes += bytes,
                // Reserved huge pages are in none of the other figures.
                "Private_Hugetlb" => {
                    sizes.rss_bytes += bytes;
                    sizes.pss_bytes += bytes;
                    sizes.uss_bytes += bytes;
                    sizes.huge_bytes += bytes;
                }
                "Shared_Hugetlb" => {
                    sizes.rss_bytes += bytes;
                    sizes.huge_bytes += bytes;
                }
                _ => {}
            }
        }
    }
    Ok(mappings)
}

/// `55cf0d0d6000-55cf0d0d8000 r--p 00000000 fe:00 247030      /usr/bin/cat`
fn head(line: &str) -> Option<Mapping> {
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    let permissions = words.next()?.to_owned();
    let (_offset, _device) = (words.next()?, words.next()?);
    let inode = words.next()?.parse().ok()?;
    let name = words.next().unwrap_or_default().trim_start().to_owned();
    Some(Mapping {
        start,
        end,
        permissions,
        inode,
        name,
        sizes: Sizes::default(),
    })
}

/// `Rss:                   8 kB`
fn field(line: &str) -> Option<(&str, u64)> {
    let (name, rest) = line.split_once(':')?;
    let kib: u64 = rest.trim().strip_suffix(" kB")?.parse().ok()?;
    Some((name, kib * 1024))
}
