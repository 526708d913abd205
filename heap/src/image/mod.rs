//! Copied memory that is kept: the `.olkh` format.
//!
//! ```text
//! header      140 bytes: magic, byte order, version, length of the file, length and CRC-32 of
//!             each section, CRC-32 of the header itself
//! meta        JSON: the process, its layout, where walks start
//! mappings    rows of 5 words: start, end, resident bytes, swapped bytes, kind and whether writable
//! arenas      rows of 4 words: start, length, end of what was carved, place in the table
//! absent      rows of 2 words: start and end of memory that was swapped out or left out
//! ranges      rows of 3 words: address, length, place in the pages; by address, without overlap
//! pieces      address, length, bytes and zeros up to the next word: what was read one by one
//! pages       from the next multiple of 4 096 on: resident memory, densely
//! ```
//! Numbers are little-endian, words have 8 bytes. Sections follow each other without a gap but for
//! the zeros before the pages. Every byte of the file is covered by a checksum or must be zero.
//!
//! A page lies in the file as it lay in memory and at a multiple of the page size, so a file that
//! is mapped is a [`Space`] as it stands: opening it reads tables, and no object. Readers of one
//! file share its pages in the kernel's cache.
//!
//! What is kept is all that a census is a function of. Arenas are kept as they were found: where
//! the target ran on, its own table of them is another one by the time the last page was copied.

mod error;
mod header;
mod open;
mod tables;
mod write;

use std::collections::BTreeMap;

use onlooker_unwinder::layout::Layout;
use serde::{Deserialize, Serialize};

pub use error::ImageError;
pub use open::open;
pub use write::write;

use crate::mappings::{Mapping, What};
use crate::pymalloc::{Arena, Roots};
use crate::space::Space;

/// The newest version of the format, which this code writes.
pub const VERSION: u32 = 1;

/// What an image tells besides memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The version of Onlooker that wrote it.
    pub onlooker: String,
    /// The process.
    pub process: Process,
    /// When the copy was complete, in nanoseconds since 1970.
    pub taken_unix_ns: u64,
    /// How long the process was stopped for it; `None` without a stop.
    pub pause_ns: Option<u64>,
    /// Whether the memory is of one instant: the process was stopped, or did not run.
    #[serde(default)]
    pub at_once: bool,
    /// Resident bytes that were to be copied and were not, because of a limit.
    pub left_out: BTreeMap<What, u64>,
    /// Whether the kernel told which pages are resident; if not, whole mappings were copied.
    pub residency_known: bool,
    /// Where its interpreter keeps what. Proven against the process before it was copied.
    pub layout: Layout,
    /// Where walks start.
    pub roots: Roots,
    /// `pthread_self()` of each thread of Python.
    pub thread_ids: Vec<u64>,
    /// Blocks that malloc gave because they are too large for pymalloc, as the interpreter counts.
    pub raw_blocks: Option<u64>,
    /// Whether arenas were found by a scan.
    pub scanned: bool,
}

/// Which process an image is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id, as seen from where Onlooker ran.
    pub pid: i32,
    /// Its Python, as `3.12.1`.
    pub python: String,
    /// Its command line.
    pub command: Vec<String>,
    /// What tells it from any other that had or will have its id; `None` where `/proc` did not tell.
    pub identity: Option<Identity>,
}

/// Tells a process from all others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// `starttime` of `/proc/PID/stat`, in clock ticks since the system was started.
    pub start_ticks: u64,
}

/// The memory of a process at one time, and all that a census of it needs.
#[derive(Debug)]
pub struct Image<B> {
    /// What is told besides memory.
    pub meta: Meta,
    /// All mappings, by address.
    pub mappings: Vec<Mapping>,
    /// Arenas of pymalloc, by address.
    pub arenas: Vec<Arena>,
    /// The memory.
    pub space: Space<B>,
}
