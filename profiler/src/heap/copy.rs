//! Copies the resident writable memory of a process.

use std::io;

use onlooker_heap::space::{PAGE_BYTES, Range, Space};
use onlooker_unwinder::memory::{MAX_SEGMENTS, ReadError, ReadMemory, RemoteAddr, Segment};

use super::mappings::{self, Kind, Mapping};
use super::pagemap::PageMap;

/// Longest piece of one segment.
const SEGMENT_BYTES: u64 = 64 << 20;
/// The target may grow between the first look and the copy.
const HEADROOM: u64 = 8;
const HEADROOM_BYTES: u64 = 4 << 20;

/// How much may be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of ours that the copy may take.
    pub max_bytes: u64,
}

/// Copied memory, and what is known of all mappings.
#[derive(Debug)]
pub struct Copied {
    /// The memory.
    pub space: Space<Vec<u8>>,
    /// All mappings, by address, at the time of the copy.
    pub mappings: Vec<Mapping>,
    /// Resident bytes that were to be copied and were not, because of the limit.
    pub left_out_bytes: u64,
    /// Whether it is known which pages are resident; if not, whole mappings were copied.
    pub residency_known: bool,
}

/// Why no copy could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The mappings cannot be read.
    #[error(transparent)]
    Maps(#[from] io::Error),
    /// The memory cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What is to be copied, and the buffer for it: allocated and touched, so that copying under a
/// stop waits for no page of ours.
#[derive(Debug)]
pub struct Prepared {
    buffer: Vec<u8>,
    limits: Limits,
}

impl Prepared {
    /// Looks how much there is and reserves as much.
    ///
    /// # Errors
    /// When the mappings cannot be read.
    pub fn new(pid: i32, limits: Limits) -> Result<Self, CopyError> {
        let mappings = mappings::read(pid)?;
        let wanted = mappings.iter().filter(|m| is_wanted(m));
        let resident: u64 = wanted.map(|m| m.resident_bytes).sum();
        let bytes = resident + resident / HEADROOM + HEADROOM_BYTES;
        let bytes = bytes.min(limits.max_bytes);
        // Not zeros: these would be pages that do not exist yet.
        Ok(Self {
            buffer: vec![0xff; bytes as usize],
            limits,
        })
    }

    /// Copies. `progress` is told how many bytes of how many are done.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn copy<M: ReadMemory>(
        self,
        pid: i32,
        memory: &mut M,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Copied, CopyError> {
        let mappings = mappings::read(pid)?;
        let (mut runs, residency_known) = runs(pid, &mappings);
        let total: u64 = runs.iter().map(|(start, end)| end - start).sum();
        let mut left_out_bytes = 0;
        if total > self.limits.max_bytes {
            // Small ones first: a large one is more likely one buffer than many objects.
            runs.sort_by_key(|(start, end)| end - start);
            let mut room = self.limits.max_bytes;
            for run in &mut runs {
                let len = (run.1 - run.0).min(room) / PAGE_BYTES * PAGE_BYTES;
                left_out_bytes += run.1 - run.0 - len;
                run.1 = run.0 + len;
                room -= len;
            }
            runs.retain(|(start, end)| start < end);
            runs.sort_unstable();
        }
        let mut buffer = self.buffer;
        let wanted: u64 = runs.iter().map(|(start, end)| end - start).sum();
        buffer.resize(wanted as usize, 0xff);
        let ranges = read_runs(memory, &runs, &mut buffer, |done| progress(done, wanted))?;
        let space = Space::new(ranges, buffer).map_err(io::Error::other)?;
        Ok(Copied {
            space,
            mappings,
            left_out_bytes,
            residency_known,
        })
    }
}

/// Whether objects, blocks or roots may lie in a mapping.
fn is_wanted(mapping: &Mapping) -> bool {
    mapping.writable
        && mapping.resident_bytes > 0
        && matches!(mapping.kind, Kind::Heap | Kind::Anonymous | Kind::Data)
}

/// The runs of resident pages of all wanted mappings, by address.
fn runs(pid: i32, mappings: &[Mapping]) -> (Vec<(u64, u64)>, bool) {
    let wanted = || mappings.iter().filter(|m| is_wanted(m));
    let mut runs = Vec::new();
    let read = PageMap::open(pid).and_then(|mut map| {
        wanted().try_for_each(|mapping| map.runs(mapping.start, mapping.end, &mut runs))
    });
    if read.is_err() {
        return (wanted().map(|m| (m.start, m.end)).collect(), false);
    }
    (runs, true)
}

/// Reads runs one behind the other into `buffer`; what was read of them.
fn read_runs<M: ReadMemory>(
    memory: &mut M,
    runs: &[(u64, u64)],
    buffer: &mut [u8],
    mut progress: impl FnMut(u64),
) -> Result<Vec<Range>, ReadError> {
    let mut ranges: Vec<Range> = Vec::new();
    let mut add = |start: u64, len: u64, at: u64| match ranges.last_mut() {
        _ if len == 0 => {}
        Some(last) if last.end() == start && last.at + last.len == at => last.len += len,
        _ => ranges.push(Range { start, len, at }),
    };
    let mut pieces: Vec<(u64, u64)> = Vec::with_capacity(runs.len());
    for &(start, end) in runs {
        let mut from = start;
        while from < end {
            let to = end.min(from + SEGMENT_BYTES);
            pieces.push((from, to - from));
            from = to;
        }
    }
    let mut at = 0;
    let mut next = 0;
    let mut segments = Vec::with_capacity(MAX_SEGMENTS);
    while next < pieces.len() {
        segments.clear();
        let mut batch = 0;
        for &(start, len) in pieces[next..].iter().take(MAX_SEGMENTS) {
            // The kernel copies at most 2 GiB in a call, and progress wants to be told.
            if !segments.is_empty() && batch + len > SEGMENT_BYTES {
                break;
            }
            batch += len;
            segments.push(Segment {
                addr: RemoteAddr(start),
                len: len as u32,
            });
        }
        let got = match memory.read(&segments, &mut buffer[at as usize..]) {
            Ok(got) => got as u64,
            Err(ReadError::Unmapped(_)) => 0,
            Err(error) => return Err(error),
        };
        let mut left = got;
        for _ in 0..segments.len() {
            let (start, len) = pieces[next];
            let part = len.min(left);
            add(start, part, at);
            at += part;
            left -= part;
            if part < len {
                // The page behind what was read is gone since: go on after it.
                let skip = (part + 1).next_multiple_of(PAGE_BYTES).min(len);
                pieces[next] = (start + skip, len - skip);
                if len == skip {
                    next += 1;
                }
                break;
            }
            next += 1;
        }
        progress(at);
    }
    Ok(ranges)
}
