//! Copies the resident writable memory of a process.

use std::io;

use onlooker_heap::space::{BadRange, PAGE_BYTES, Space};
use onlooker_unwinder::memory::{ReadError, ReadMemory, RemoteAddr, Segment};

use super::choose::{self, Run, choose};
use super::mappings::{self, Kind, Mapping};
use super::parallel;
use crate::sys::huge;
use crate::target::memory::{FileMemory, PartlySharedMemory};
use crate::target::pagemap::{PageMap, Runs};

/// Longest piece of one segment.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Where more is shared, here and there, the fast way is none.
const MAX_SHARED_RUNS: usize = 1024;
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
/// stop waits for no page of ours. It has a page more than it needs, so that pages are copied to
/// the beginnings of pages: 16 bytes behind, where malloc puts what it maps, that takes twice as long.
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
        // The page that the buffer has more counts, too.
        let limits = Limits {
            max_bytes: limits.max_bytes.saturating_sub(PAGE_BYTES),
        };
        let mappings = mappings::read(pid)?;
        let wanted = mappings.iter().filter(|m| is_wanted(m));
        let resident: u64 = wanted.map(|m| m.resident_bytes).sum();
        let bytes = resident + resident / HEADROOM + HEADROOM_BYTES;
        let bytes = bytes.min(limits.max_bytes);
        Ok(Self {
            buffer: huge::touched((bytes + PAGE_BYTES) as usize),
            limits,
        })
    }

    /// Copies. `progress` is told how many bytes of how many are done. While the process stands, what
    /// it shares with no other is read the fast way; a process that runs may fork at any time.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn copy(
        self,
        pid: i32,
        memory: &FileMemory,
        stands: bool,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Copied, CopyError> {
        let mut mappings = mappings::read(pid)?;
        set_apart(&mut mappings);
        let mut page_map = PageMap::open(pid).ok();
        let Found {
            mut runs,
            swapped,
            shared,
        } = find_runs(&mappings, &mut page_map);
        let total: u64 = runs.iter().map(|run| run.end - run.start).sum();
        let left_out = if total > self.limits.max_bytes {
            choose(&mut &*memory, &mut runs, self.limits.max_bytes)?
        } else {
            Vec::new()
        };
        let mut buffer = self.buffer;
        let wanted: u64 = runs.iter().map(|run| run.end - run.start).sum();
        buffer.resize((wanted + PAGE_BYTES) as usize, 0xff);
        let runs: Vec<(u64, u64)> = runs.iter().map(|run| (run.start, run.end)).collect();
        let lead = lead(&buffer);
        let pages = &mut buffer[lead..];
        let mut told = |done| progress(done, wanted);
        let fast = match stands && shared.len() <= MAX_SHARED_RUNS {
            true => {
                let open = || PartlySharedMemory::new(pid, memory, &shared);
                parallel::read(open, &runs, pages, &mut told)
            }
            false => Err(ReadError::Denied),
        };
        // Sandboxes may refuse it and allow the file.
        let mut ranges = match fast {
            Err(ReadError::Denied | ReadError::Os(_)) => {
                parallel::read(|| memory, &runs, pages, &mut told)?
            }
            ranges => ranges?,
        };
        for range in &mut ranges {
            range.at += lead as u64;
        }
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
    /// and what came since. Memory that is gone by now stays as it was, and what was left out stays
    /// left out.
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
            let absent = self.space.absent();
            let here = pages.resident.into_iter();
            let here: Vec<_> = here.flat_map(|run| without(run, absent)).collect();
            for (start, end) in here {
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

/// Bytes before the first beginning of a page in a buffer of more than one.
fn lead(buffer: &[u8]) -> usize {
    let behind = buffer.as_ptr().addr() % PAGE_BYTES as usize;
    (PAGE_BYTES as usize - behind) % PAGE_BYTES as usize
}

/// What of a run lies in none of `absent`, which are by address.
fn without((mut start, end): (u64, u64), absent: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let first = absent.partition_point(|(_, to)| *to <= start);
    let mut left = Vec::new();
    for (from, to) in absent[first..].iter().take_while(|(from, _)| *from < end) {
        if start < *from {
            left.push((start, *from));
        }
        start = *to;
    }
    if start < end {
        left.push((start, end));
    }
    left
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

/// Runs of pages of all wanted mappings, by address.
struct Found {
    /// Resident.
    runs: Vec<Run>,
    /// Swapped.
    swapped: Vec<(u64, u64)>,
    /// Of the resident ones those that another process may map.
    shared: Vec<(u64, u64)>,
}

/// Looks for the pages of all wanted mappings. `page_map` is given up when it cannot be read.
fn find_runs(mappings: &[Mapping], page_map: &mut Option<PageMap>) -> Found {
    let mut runs = Vec::new();
    let mut swapped = Vec::new();
    let mut shared = Vec::new();
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
            pages.shared = vec![(mapping.start, mapping.end)];
        }
        shared.append(&mut pages.shared);
        // The guard pages of stacks look like swapped ones (`MADV_GUARD_INSTALL`, Linux 6.13, which
        // glibc 2.42 asks for), but do not count as such.
        if mapping.swapped_bytes > 0 {
            swapped.append(&mut pages.swapped);
        }
        runs.extend(
            pages
                .resident
                .into_iter()
                .map(|(start, end)| Run { start, end, what }),
        );
    }
    Found {
        runs,
        swapped,
        shared,
    }
}

#[cfg(test)]
mod tests {
    use super::{PAGE_BYTES, lead, without};

    #[test]
    fn pages_are_copied_to_pages() {
        let buffer = vec![0; 3 * PAGE_BYTES as usize];
        for from in [0, 1, 16, 4095] {
            let lead = lead(&buffer[from..]);
            let at = buffer[from + lead..].as_ptr().addr();
            assert!(lead < PAGE_BYTES as usize && at.is_multiple_of(PAGE_BYTES as usize));
        }
    }

    #[test]
    fn what_is_absent_is_cut_out() {
        let absent = [(10, 20), (20, 30), (40, 50)];
        for (run, left) in [
            ((0, 10), vec![(0, 10)]),
            ((0, 60), vec![(0, 10), (30, 40), (50, 60)]),
            ((15, 45), vec![(30, 40)]),
            ((12, 18), vec![]),
            ((50, 60), vec![(50, 60)]),
        ] {
            assert_eq!(without(run, &absent), left, "{run:?}");
        }
        assert_eq!(without((1, 2), &[]), [(1, 2)]);
    }
}
