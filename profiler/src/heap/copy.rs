//! Copies the resident writable memory of a process.

use std::io;

use onlooker_heap::space::{BadRange, PAGE_BYTES, Range, Space};
use onlooker_unwinder::memory::{MAX_SEGMENTS, ReadError, ReadMemory, RemoteAddr, Segment};

use super::choose::{self, Run, choose};
use super::mappings::{self, Kind, Mapping};
use crate::target::pagemap::{PageMap, Runs};

/// Longest piece of one segment.
const SEGMENT_BYTES: u64 = 64 << 20;
/// No address of a process is larger.
const MAX_ADDRESS: u64 = 1 << 56;
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
    /// Resident pages that were to be copied and were not, because of the limit.
    pub left_out: Vec<Run>,
    /// Which pages are resident; `None` where the kernel does not tell.
    page_map: Option<PageMap>,
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
    /// The mappings make no sense.
    #[error(transparent)]
    Ranges(#[from] BadRange),
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
        let mut mappings = mappings::read(pid)?;
        set_apart(&mut mappings);
        let mut page_map = PageMap::open(pid).ok();
        let (mut runs, swapped) = runs(&mappings, &mut page_map);
        let total: u64 = runs.iter().map(|run| run.end - run.start).sum();
        let left_out = if total > self.limits.max_bytes {
            choose(memory, &mut runs, self.limits.max_bytes)?
        } else {
            Vec::new()
        };
        let mut buffer = self.buffer;
        let wanted: u64 = runs.iter().map(|run| run.end - run.start).sum();
        buffer.resize(wanted as usize, 0xff);
        let pieces = runs.iter().map(|run| (run.start, run.end)).collect();
        let ranges = read_runs(memory, pieces, &mut buffer, |done| progress(done, wanted))?;
        let mut space = Space::new(ranges, buffer)?;
        let absent = left_out.iter().map(|run| (run.start, run.end));
        let mut absent: Vec<(u64, u64)> = absent.chain(swapped).collect();
        absent.sort_unstable();
        space.set_absent(absent);
        Ok(Copied {
            space,
            mappings,
            left_out,
            page_map,
        })
    }
}

impl Copied {
    /// Copies again what is resident between these addresses: what changed while it was copied,
    /// and what came since. Memory that is gone by now stays as it was.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn again<M: ReadMemory>(
        &mut self,
        memory: &mut M,
        wanted: &[(RemoteAddr, u64)],
    ) -> Result<(), ReadError> {
        let mut buffer = Vec::new();
        for (addr, len) in wanted {
            let start = addr.0 / PAGE_BYTES * PAGE_BYTES;
            let end = addr.0.saturating_add(*len).min(MAX_ADDRESS);
            let end = end.next_multiple_of(PAGE_BYTES);
            let mut pages = Runs::default();
            let map = self.page_map.as_ref();
            if map.is_none_or(|map| map.runs(start, end, &mut pages).is_err()) {
                pages.resident = vec![(start, end)];
            }
            for (start, end) in pages.resident {
                for at in (start..end).step_by(SEGMENT_BYTES as usize) {
                    let len = SEGMENT_BYTES.min(end - at) as u32;
                    buffer.resize(len as usize, 0);
                    let addr = RemoteAddr(at);
                    match memory.read(&[Segment { addr, len }], &mut buffer) {
                        Ok(got) => self.space.put(addr, &buffer[..got]),
                        Err(ReadError::Unmapped(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether it is known which pages are resident; if not, whole mappings were copied.
    #[must_use]
    pub fn residency_known(&self) -> bool {
        self.page_map.is_some()
    }
}

/// The kernel lists mappings page by page of its answer: one that grew between two of them may
/// overlap the next, or be told twice.
fn set_apart(mappings: &mut Vec<Mapping>) {
    let mut end = 0;
    for mapping in &mut *mappings {
        mapping.start = mapping.start.max(end);
        end = end.max(mapping.end);
    }
    mappings.retain(|mapping| mapping.start < mapping.end);
}

/// Whether objects, blocks or roots may lie in a mapping.
fn is_wanted(mapping: &Mapping) -> bool {
    mapping.writable
        && mapping.resident_bytes + mapping.swapped_bytes > 0
        && matches!(mapping.kind, Kind::Heap | Kind::Anonymous | Kind::Data)
}

/// The runs of resident pages of all wanted mappings, and those that are swapped, by address.
/// `page_map` is given up when it cannot be read.
fn runs(mappings: &[Mapping], page_map: &mut Option<PageMap>) -> (Vec<Run>, Vec<(u64, u64)>) {
    let mut runs = Vec::new();
    let mut swapped = Vec::new();
    for (at, mapping) in mappings.iter().enumerate().filter(|(_, m)| is_wanted(m)) {
        let before = at.checked_sub(1).and_then(|at| mappings.get(at));
        let what = choose::what(mapping, before);
        let mut pages = Runs::default();
        let read = page_map
            .as_ref()
            .map(|map| map.runs(mapping.start, mapping.end, &mut pages));
        if !matches!(read, Some(Ok(()))) {
            *page_map = None;
            pages.resident = vec![(mapping.start, mapping.end)];
        }
        swapped.append(&mut pages.swapped);
        runs.extend(
            pages
                .resident
                .into_iter()
                .map(|(start, end)| Run { start, end, what }),
        );
    }
    (runs, swapped)
}

/// Reads runs one behind the other into `buffer`; what was read of them.
fn read_runs<M: ReadMemory>(
    memory: &mut M,
    runs: Vec<(u64, u64)>,
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
    for (start, end) in runs {
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
