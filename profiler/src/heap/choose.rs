//! What of a process's memory is copied when not all of it may be.
//!
//! Roots first, then malloc's heap and everything else that may hold many objects; the insides of
//! large single buffers come last, for their first page tells their object and their size.

use onlooker_heap::space::PAGE_BYTES;
use onlooker_unwinder::memory::{MAX_SEGMENTS, ReadError, ReadMemory, RemoteAddr, Segment};

use super::mappings::{Kind, Mapping, What};

/// Smaller buffers are not set apart.
const LARGE_BYTES: u64 = 64 << 10;
/// Header of a chunk of malloc, and the bit of one that has a mapping of its own.
const HEADER_BYTES: u64 = 16;
const IS_MMAPPED: u64 = 2;
const FLAGS: u64 = 7;

/// Pages that may be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First address.
    pub start: u64,
    /// Address after the last one.
    pub end: u64,
    /// What it is.
    pub what: What,
}

impl Run {
    fn len(self) -> u64 {
        self.end - self.start
    }
}

/// What the pages of a mapping are; `before` is the mapping below it.
pub(super) fn what(mapping: &Mapping, before: Option<&Mapping>) -> What {
    // `.bss` has no file.
    let is_bss = || before.is_some_and(|b| b.kind == Kind::Data && b.end == mapping.start);
    match mapping.kind {
        Kind::Data => What::Data,
        Kind::Heap => What::BrkHeap,
        _ if is_bss() => What::Data,
        _ => What::Anonymous,
    }
}

/// Keeps as much of `runs` as there is room for; what is left out.
///
/// # Errors
/// As [`ReadMemory::read`].
pub(super) fn choose<M: ReadMemory>(
    memory: &mut M,
    runs: &mut Vec<Run>,
    max_bytes: u64,
) -> Result<Vec<Run>, ReadError> {
    let mut all = set_buffers_apart(memory, runs)?;
    all.sort_by_key(|run| match run.what {
        What::LargeBuffers => (run.what, run.len()),
        what => (what, 0),
    });
    let mut room = max_bytes;
    let mut left_out = Vec::new();
    for run in &mut all {
        let kept = run.len().min(room) / PAGE_BYTES * PAGE_BYTES;
        room -= kept;
        let border = run.start + kept;
        if border < run.end {
            left_out.push(Run {
                start: border,
                ..*run
            });
            run.end = border;
        }
    }
    all.retain(|run| run.start < run.end);
    all.sort_unstable_by_key(|run| run.start);
    left_out.sort_unstable_by_key(|run| run.start);
    *runs = all;
    Ok(left_out)
}

/// Splits runs at large buffers, which have mappings of their own but are seen as one with their
/// neighbours: a page that begins with the header of such a chunk.
fn set_buffers_apart<M: ReadMemory>(memory: &mut M, runs: &[Run]) -> Result<Vec<Run>, ReadError> {
    let mut split = Vec::with_capacity(runs.len());
    let mut buffer_end = 0;
    for run in runs {
        if run.what != What::Anonymous {
            split.push(*run);
            continue;
        }
        let mut add = |start: u64, end: u64, what: What| {
            if start < end {
                split.push(Run { start, end, what });
            }
        };
        // What goes on from the run before.
        let mut from = run.start.max(buffer_end.min(run.end));
        add(run.start, from, What::LargeBuffers);
        let mut at = from;
        while at < run.end {
            let headers = headers(memory, at, run.end)?;
            let mut seen = 0;
            let found = headers.iter().find_map(|(page, header)| {
                seen = *page;
                buffer(*header).map(|bytes| (*page, bytes))
            });
            let Some((page, bytes)) = found else {
                // A page that is gone is passed over.
                at = seen.max(at) + PAGE_BYTES;
                continue;
            };
            buffer_end = page.saturating_add(bytes);
            add(from, page + PAGE_BYTES, What::Anonymous);
            from = buffer_end.clamp(page + PAGE_BYTES, run.end);
            add(page + PAGE_BYTES, from, What::LargeBuffers);
            at = from;
        }
        add(from, run.end, What::Anonymous);
    }
    Ok(split)
}

/// The first words of some pages from `start` on.
fn headers<M: ReadMemory>(
    memory: &mut M,
    start: u64,
    end: u64,
) -> Result<Vec<(u64, [u8; HEADER_BYTES as usize])>, ReadError> {
    let segments: Vec<Segment> = (start..end)
        .step_by(PAGE_BYTES as usize)
        .take(MAX_SEGMENTS)
        .map(|page| Segment {
            addr: RemoteAddr(page),
            len: HEADER_BYTES as u32,
        })
        .collect();
    let mut bytes = vec![0; segments.len() * HEADER_BYTES as usize];
    let got = match memory.read(&segments, &mut bytes) {
        Ok(got) => got,
        Err(ReadError::Unmapped(_)) => 0,
        Err(error) => return Err(error),
    };
    let (headers, _) = bytes[..got].as_chunks();
    let pages = segments.iter().map(|segment| segment.addr.0);
    Ok(pages.zip(headers.iter().copied()).collect())
}

/// The size of the buffer whose chunk has this header, if it is one with a mapping of its own.
fn buffer(header: [u8; HEADER_BYTES as usize]) -> Option<u64> {
    let (words, _) = header.as_chunks::<8>();
    let (before, word) = (u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1]));
    let bytes = (word & !FLAGS).checked_next_multiple_of(PAGE_BYTES)?;
    // glibc 2.42+ leaves out the header of a next chunk.
    let whole = bytes - (word & !FLAGS) <= HEADER_BYTES;
    (before == 0 && word & FLAGS == IS_MMAPPED && whole && bytes >= LARGE_BYTES).then_some(bytes)
}
