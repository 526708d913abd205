//! Why a recording cannot be read, and what may be missing from one that can.

use crate::columns::InvalidValue;
use crate::frame::FORMAT_VERSION;
use std::io;
use thiserror::Error;

/// Why nothing of a recording could be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The input failed.
    #[error("cannot read the recording at byte {offset}: {source}")]
    Io {
        /// Bytes read before.
        offset: u64,
        /// What the input said.
        source: io::Error,
    },
    /// There is not a single byte.
    #[error("the file is empty, not an Onlooker recording")]
    Empty,
    /// The file begins as a recording does, and ends before the first block could begin.
    #[error("the recording ends after {bytes} bytes, before its first block")]
    TooShort {
        /// Length of the file.
        bytes: u64,
    },
    /// The file is something else.
    #[error("not an Onlooker recording: it starts with \"{}\"", .found.escape_ascii())]
    NotARecording {
        /// What stands where a recording has its magic number; fewer bytes in a shorter file.
        found: Vec<u8>,
    },
    /// A later Onlooker wrote it.
    #[error(
        "the recording has format version {found}, this Onlooker reads up to version \
         {FORMAT_VERSION}: use a newer one"
    )]
    NewerVersion {
        /// The file's format version.
        found: u32,
    },
    /// No Onlooker wrote it.
    #[error("the recording has format version {found}, which never existed")]
    NoSuchVersion {
        /// The file's format version.
        found: u32,
    },
    /// The recording has a right beginning and no readable block.
    #[error("none of the recording's {bytes} bytes is a readable block{}", reason(.problem))]
    NoBlock {
        /// Length of the file, as far as it was read.
        bytes: u64,
        /// What is wrong with what should be the first block, if there is something.
        problem: Option<BlockProblem>,
    },
}

fn reason(problem: &Option<BlockProblem>) -> String {
    problem
        .as_ref()
        .map_or_else(String::new, |problem| format!(": {problem}"))
}

/// What is wrong with a block.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum BlockProblem {
    /// No block begins here.
    #[error("no block begins there")]
    NoBlock,
    /// The file ends inside the block.
    #[error("the file ends {missing} bytes before the end of a block")]
    Truncated {
        /// Bytes that the block lacks.
        missing: u64,
    },
    /// The content is not what was written.
    #[error("checksum is {found:#010x} instead of {expected:#010x}")]
    Checksum {
        /// Checksum in the block's head.
        expected: u32,
        /// Checksum of what follows it.
        found: u32,
    },
    /// The block has a number that was passed already.
    #[error("block {found} stands where block {expected} was expected")]
    OutOfOrder {
        /// Smallest number that could come here.
        expected: u64,
        /// Number in the block's head.
        found: u32,
    },
    /// The content cannot be decompressed to the length in the block's head.
    #[error("cannot be decompressed to {raw_bytes} bytes")]
    Decompress {
        /// The length in the block's head.
        raw_bytes: u32,
    },
    /// The decompressed content is not the message that it should be.
    #[error("not a message of this format: {0}")]
    Message(prost::DecodeError),
    /// The message holds what no writer puts into it.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
}

/// A table of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Table {
    /// [`Tables::locations`](crate::tables::Tables::locations).
    Locations,
    /// [`Tables::stacks`](crate::tables::Tables::stacks).
    Stacks,
    /// [`Tables::threads`](crate::tables::Tables::threads).
    Threads,
    /// [`Tables::mappings`](crate::tables::Tables::mappings).
    Mappings,
    /// [`Tables::samples`](crate::tables::Tables::samples).
    Samples,
    /// [`Tables::rss`](crate::tables::Tables::rss).
    Rss,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Locations => "code locations",
            Self::Stacks => "stacks",
            Self::Threads => "threads",
            Self::Mappings => "mappings",
            Self::Samples => "samples",
            Self::Rss => "points of the RSS series",
        }
    }
}

/// What is missing from a recording that could be read. Displayed as one line.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum Warning {
    /// A part of the file was passed over.
    #[error("passed over what is damaged at byte {offset} (length {bytes}): {problem}")]
    Damaged {
        /// Where the part begins.
        offset: u64,
        /// Its length.
        bytes: u64,
        /// What was wrong at its beginning.
        problem: BlockProblem,
    },
    /// Blocks are missing before the one that begins at `offset`.
    #[error("missing before byte {offset}: {blocks} of the blocks, {samples} of the samples")]
    MissingBlocks {
        /// Where the next readable block begins.
        offset: u64,
        /// How many there were.
        blocks: u64,
        /// How many samples they held.
        samples: u64,
    },
    /// What the recording says about itself was in a block that could not be read.
    #[error("the recording's header is missing: command line, start and rate are not known")]
    NoHeader,
    /// Rows were dropped because what they refer to was in a block that could not be read.
    #[error("dropped {rows} of the {}: what they refer to is missing", .table.name())]
    Unresolved {
        /// Their table.
        table: Table,
        /// How many were dropped.
        rows: u64,
    },
    /// The recording has no end: its writer was killed, or the end was cut off or damaged.
    #[error("the recording has no end; the counts are those of its last readable block")]
    Unfinished,
    /// Something follows the end of the recording.
    #[error("what follows the recording's end at byte {offset} was not read")]
    Trailing {
        /// Where the recording ends.
        offset: u64,
    },
    /// The rest was not read because there would be more to keep than the caller allows.
    #[error("the rest from byte {offset} was not read: it needs more than {limit_bytes} bytes")]
    MemoryLimit {
        /// Where reading stopped.
        offset: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The rest was not read because too much before it was damaged.
    #[error("the rest from byte {offset} was not read: too much is damaged")]
    TooDamaged {
        /// Where reading stopped.
        offset: u64,
    },
}
