//! Reading a recording.
//!
//! Nothing that comes from a file is trusted: lengths are bounded before anything is allocated
//! for them, a block is taken whole or not at all, and every id in the tables that come out is
//! the id of a row. What cannot be read is passed over and reported by a [`Warning`]; only a
//! file of which nothing can be read is a [`ReadError`].

mod decode;
mod error;
#[cfg(test)]
mod hostile;
mod merge;
mod resolve;
mod scan;

pub use error::{BlockProblem, ReadError, Table, Warning};

use crate::frame::{BlockHead, FORMAT_VERSION, MAGIC, STREAM_HEAD_BYTES};
use crate::limits::{DEFAULT_MEMORY_BYTES, MAX_FAILURES};
use crate::proto;
use crate::tables::{Sample, Tables, Totals};
use merge::Merger;
use prost::Message;
use resolve::Gathering;
use scan::Scanner;
use std::io::{self, Read};

/// Bytes of memory that a byte of a block may become, at most and roughly: a string of no
/// length takes two bytes in a block.
const MEMORY_PER_RAW_BYTE: u64 = 16;

/// What was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The recording, as far as it could be read. Every id in it is valid.
    pub tables: Tables,
    /// What is missing from it, in the order of the file; empty for a whole recording.
    pub warnings: Vec<Warning>,
}

/// Reads a recording, or what is readable of it, into at most about 8 GiB of memory.
///
/// # Errors
/// When the input fails, when it is not a recording that this version reads, or when no block
/// of it is readable.
pub fn read(input: impl Read) -> Result<Loaded, ReadError> {
    read_within(input, DEFAULT_MEMORY_BYTES)
}

/// As [`read`], with samples that differ only in their time made one: the time is that of the
/// first, the weight that of all. The memory that it takes is bounded by what is distinct in the
/// recording, not by its length.
///
/// # Errors
/// As [`read`].
pub fn read_merged(input: impl Read) -> Result<Loaded, ReadError> {
    read_with(input, DEFAULT_MEMORY_BYTES, Some(Merger::default()))
}

/// As [`read`], with a limit of about `limit_bytes` to the memory that the tables may take.
/// Beyond it the rest is left out with a [`Warning::MemoryLimit`]: samples that do not differ
/// cost nearly nothing in a file, so that a small file can ask for any amount.
///
/// # Errors
/// As [`read`].
pub fn read_within(input: impl Read, limit_bytes: u64) -> Result<Loaded, ReadError> {
    read_with(input, limit_bytes, None)
}

fn read_with(
    input: impl Read,
    limit_bytes: u64,
    merger: Option<Merger>,
) -> Result<Loaded, ReadError> {
    let mut scanner = Scanner::new(input);
    let failed = |offset, source| ReadError::Io { offset, source };
    let ahead = scanner.ahead(STREAM_HEAD_BYTES);
    check_stream_head(ahead.map_err(|source| failed(0, source))?)?;
    scanner.advance(STREAM_HEAD_BYTES);
    let mut reader = Reader::new(limit_bytes, merger).map_err(|source| failed(0, source))?;
    if let Err(source) = reader.read_blocks(&mut scanner) {
        return Err(failed(scanner.offset(), source));
    }
    reader.finish(scanner.offset())
}

/// Checks magic and version at the start of `bytes`.
fn check_stream_head(bytes: &[u8]) -> Result<(), ReadError> {
    if bytes.is_empty() {
        return Err(ReadError::Empty);
    }
    let magic = &bytes[..bytes.len().min(MAGIC.len())];
    if !MAGIC.starts_with(magic) {
        return Err(ReadError::NotARecording {
            found: magic.to_vec(),
        });
    }
    let Some(head) = bytes.first_chunk::<STREAM_HEAD_BYTES>() else {
        let bytes = bytes.len() as u64;
        return Err(ReadError::TooShort { bytes });
    };
    match u32::from_le_bytes([head[8], head[9], head[10], head[11]]) {
        0 => Err(ReadError::NoSuchVersion { found: 0 }),
        found if found > FORMAT_VERSION => Err(ReadError::NewerVersion { found }),
        _ => Ok(()),
    }
}

/// A part of the file that is being passed over.
struct Damage {
    offset: u64,
    problem: BlockProblem,
}

/// How far reading got.
#[derive(PartialEq)]
enum Progress {
    /// More may come.
    Open,
    /// The recording's end was read.
    Finished,
    /// A limit was reached; a warning says which.
    Stopped,
}

/// What was read of a stream so far.
struct Reader {
    decompressor: zstd::bulk::Decompressor<'static>,
    raw: Vec<u8>,
    gathering: Gathering,
    /// `None` where every sample is kept.
    merger: Option<Merger>,
    warnings: Vec<Warning>,
    damage: Option<Damage>,
    progress: Progress,
    blocks: u64,
    /// Number of the block that comes next, and index of its first sample.
    next_sequence: u64,
    next_sample: u64,
    memory_bytes: u64,
    limit_bytes: u64,
    totals: Totals,
}

impl Reader {
    fn new(limit_bytes: u64, merger: Option<Merger>) -> io::Result<Self> {
        Ok(Self {
            decompressor: zstd::bulk::Decompressor::new()?,
            raw: Vec::new(),
            gathering: Gathering::default(),
            merger,
            warnings: Vec::new(),
            damage: None,
            progress: Progress::Open,
            blocks: 0,
            next_sequence: 0,
            next_sample: 0,
            memory_bytes: 0,
            limit_bytes,
            totals: Totals::default(),
        })
    }

    /// Reads blocks up to the end of the input or of the recording.
    fn read_blocks(&mut self, scanner: &mut Scanner<impl Read>) -> io::Result<()> {
        let mut failures = 0;
        while self.progress == Progress::Open {
            let offset = scanner.offset();
            match scanner.block()? {
                Ok(None) => break,
                Ok(Some(head)) => {
                    match self.block(offset, head, scanner.payload(head)) {
                        Ok(()) => {}
                        Err(problem) => self.damaged(offset, problem),
                    }
                    scanner.advance(head.length());
                }
                Err(problem) => {
                    self.damaged(offset, problem);
                    failures += 1;
                    if failures > MAX_FAILURES {
                        self.warnings.push(Warning::TooDamaged { offset });
                        self.progress = Progress::Stopped;
                    }
                    scanner.skip()?;
                }
            }
        }
        let offset = scanner.offset();
        self.end_damage(offset);
        if self.progress == Progress::Finished && !scanner.ahead(1)?.is_empty() {
            self.warnings.push(Warning::Trailing { offset });
        }
        Ok(())
    }

    /// Notes that nothing can be read at `offset`, if that was not noted for what lies before.
    fn damaged(&mut self, offset: u64, problem: BlockProblem) {
        self.damage.get_or_insert(Damage { offset, problem });
    }

    /// Reports what was passed over up to `offset`.
    fn end_damage(&mut self, offset: u64) {
        if let Some(damage) = self.damage.take() {
            self.warnings.push(Warning::Damaged {
                offset: damage.offset,
                bytes: offset - damage.offset,
                problem: damage.problem,
            });
        }
    }

    /// Takes the block at `offset`, all of it or nothing.
    fn block(&mut self, offset: u64, head: BlockHead, payload: &[u8]) -> Result<(), BlockProblem> {
        if u64::from(head.sequence) < self.next_sequence {
            return Err(BlockProblem::OutOfOrder {
                expected: self.next_sequence,
                found: head.sequence,
            });
        }
        self.decompress(head, payload)?;
        let block = proto::Block::decode(&self.raw[..]).map_err(BlockProblem::Message)?;
        let rows = block.rows.unwrap_or_default();
        let again = block.again.unwrap_or_default();
        let rows_bytes = match self.merger {
            Some(_) => rows.encoded_len() + again.encoded_len(),
            None => self.raw.len(),
        };
        let rows = decode::rows(rows)?;
        let again = decode::rows(again)?;
        let first_sample = block.samples.as_ref().map_or(0, |from| from.first_index);
        let samples = decode::samples(&block.samples.unwrap_or_default())?;
        let rss = decode::rss(&block.rss.unwrap_or_default())?;
        self.end_damage(offset);
        self.missing_before(offset, head, first_sample);
        self.blocks += 1;
        if !self.has_room(offset, rows_bytes, samples.len() + rss.len()) {
            return Ok(());
        }
        self.next_sequence = u64::from(head.sequence) + 1;
        self.next_sample = first_sample.saturating_add(samples.len() as u64);
        self.gathering.add(rows);
        self.gathering.add(again);
        match &mut self.merger {
            Some(merger) => {
                let all = samples.len();
                let new = merger.add(&mut self.gathering.samples, samples);
                self.memory_bytes -= ((all - new) * size_of::<Sample>()) as u64;
            }
            None => self.gathering.samples.extend(samples),
        }
        self.gathering.rss.extend(rss);
        self.totals = decode::totals(block.totals.unwrap_or_default());
        if block.last {
            self.progress = Progress::Finished;
        }
        Ok(())
    }

    fn decompress(&mut self, head: BlockHead, payload: &[u8]) -> Result<(), BlockProblem> {
        // The decompressor never writes beyond the capacity, which the head's check has bounded.
        self.raw.clear();
        self.raw.reserve(head.raw_bytes as usize);
        let written = self
            .decompressor
            .decompress_to_buffer(payload, &mut self.raw);
        match written {
            Ok(length) if length == head.raw_bytes as usize => Ok(()),
            _ => Err(BlockProblem::Decompress {
                raw_bytes: head.raw_bytes,
            }),
        }
    }

    fn missing_before(&mut self, offset: u64, head: BlockHead, first_sample: u64) {
        let blocks = u64::from(head.sequence) - self.next_sequence;
        if blocks > 0 {
            self.warnings.push(Warning::MissingBlocks {
                offset,
                blocks,
                samples: first_sample.saturating_sub(self.next_sample),
            });
        }
    }

    /// Whether the block just decoded may be kept; stops reading where it may not.
    fn has_room(&mut self, offset: u64, rows_bytes: usize, series: usize) -> bool {
        let rows = rows_bytes as u64 * MEMORY_PER_RAW_BYTE;
        self.memory_bytes += rows + (series * size_of::<Sample>()) as u64;
        if self.memory_bytes <= self.limit_bytes {
            return true;
        }
        self.warnings.push(Warning::MemoryLimit {
            offset,
            limit_bytes: self.limit_bytes,
        });
        self.progress = Progress::Stopped;
        false
    }

    /// Resolves what was gathered from the first `bytes` of the file.
    fn finish(mut self, bytes: u64) -> Result<Loaded, ReadError> {
        if self.blocks == 0 {
            let mut warnings = self.warnings.into_iter();
            let problem = warnings.find_map(|warning| match warning {
                Warning::Damaged { problem, .. } => Some(problem),
                _ => None,
            });
            return Err(ReadError::NoBlock { bytes, problem });
        }
        let tables = self.gathering.resolve(&mut self.warnings);
        if self.progress == Progress::Open {
            self.warnings.push(Warning::Unfinished);
        }
        let tables = Tables {
            totals: (self.progress == Progress::Finished).then(|| self.totals.clone()),
            running_totals: self.totals,
            ..tables
        };
        Ok(Loaded {
            tables,
            warnings: self.warnings,
        })
    }
}
