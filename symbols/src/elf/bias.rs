//! From the mappings of a file to the difference between memory and image addresses.
//!
//! The kernel and `ld.so` map each segment by whole pages, so a mapping begins up to a page
//! before its segment, and one segment may be several mappings (relocations protected
//! after start, huge pages). Mappings are therefore not matched by their starts: for every
//! segment the mapping that holds its first byte in the file gives one vote for a bias.
//!
//! Votes are needed because the same file may be mapped once more as plain data (a program
//! that reads its own `libpython`). That mapping agrees with every segment whose address
//! equals its offset, which may be all of them, but it is one mapping, whereas a loaded
//! image has one for each kind of protection: of equal votes the more mappings win.

use std::collections::{HashMap, HashSet};

use super::{ElfFile, Segment};
use crate::FileOffset;

/// One mapping of the file: start address, end address, offset in the file, as in
/// `/proc/PID/maps`.
pub type Mapping = (u64, u64, u64);

/// Why the mappings do not say where the file is loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BiasError {
    /// No mapping holds the start of any segment: the mappings are of another file.
    #[error("none of {mappings} mappings holds the start of any of {segments} segments")]
    NoMatch {
        /// How many mappings were given.
        mappings: usize,
        /// How many segments have bytes in the file.
        segments: usize,
    },
    /// Two places fit equally well, as when the library is loaded twice.
    #[error("the image may be loaded with bias {first:#x} or {second:#x}")]
    Ambiguous {
        /// The lower bias.
        first: u64,
        /// A higher one with as many segments in as many mappings.
        second: u64,
    },
}

impl ElfFile<'_> {
    /// What must be added to an image address to get the address in the process whose
    /// mappings of this file are given, in any order.
    ///
    /// The mapping of offset 0 may be missing; one mapped segment is enough. `ET_EXEC` files
    /// are where they were linked to: 0, whatever is mapped.
    ///
    /// # Errors
    ///
    /// When no place fits or two fit equally well.
    pub fn bias(&self, maps: &[Mapping]) -> Result<u64, BiasError> {
        if !self.is_pie_or_shared() {
            return Ok(0);
        }
        let mut votes: HashMap<u64, Votes> = HashMap::new();
        let mut segments = 0;
        for segment in self.segments().filter(|segment| segment.file_size > 0) {
            segments += 1;
            for &mapping in maps {
                if let Some(bias) = bias_if_mapped(&segment, mapping) {
                    let votes = votes.entry(bias).or_default();
                    votes.segments += 1;
                    votes.mapping_starts.insert(mapping.0);
                }
            }
        }
        let most = votes.values().map(Votes::rank).max().unwrap_or_default();
        let winners = votes.iter().filter(|(_, votes)| votes.rank() == most);
        let mut winners: Vec<u64> = winners.map(|(&bias, _)| bias).collect();
        winners.sort_unstable();
        match *winners.as_slice() {
            [] => Err(BiasError::NoMatch {
                mappings: maps.len(),
                segments,
            }),
            [bias] => Ok(bias),
            [first, second, ..] => Err(BiasError::Ambiguous { first, second }),
        }
    }
}

/// What speaks for one bias.
#[derive(Default)]
struct Votes {
    segments: usize,
    mapping_starts: HashSet<u64>,
}

impl Votes {
    fn rank(&self) -> (usize, usize) {
        (self.segments, self.mapping_starts.len())
    }
}

/// The bias at which `segment` is where `mapping` has it, or `None` when the mapping does
/// not hold the segment's first byte.
fn bias_if_mapped(segment: &Segment, (start, end, offset): Mapping) -> Option<u64> {
    let into = segment.file_offset.checked_sub(FileOffset(offset))?;
    if into >= end.checked_sub(start)? {
        return None;
    }
    start.checked_add(into)?.checked_sub(segment.addr.0)
}
