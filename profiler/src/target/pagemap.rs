//! `/proc/PID/pagemap`: one word for each page (`Documentation/admin-guide/mm/pagemap.rst`).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use onlooker_heap::headers::PAGE_BYTES;
use onlooker_unwinder::memory::u64_at;

/// Unlike the frame number it is shown without CAP_SYS_ADMIN, as are the three below.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// Page of a file, or shared anonymous memory.
const FILE: u64 = 1 << 61;
const EXCLUSIVE: u64 = 1 << 56;
const FRAME: u64 = (1 << 55) - 1;

/// Pages that are looked at with one call, half a megabyte of words. A mapping may be larger than
/// any memory (sanitizers, other languages' heaps), so none is looked at as a whole.
pub const WINDOW_PAGES: u64 = 64 << 10;

/// One page as a process maps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page(u64);

impl Page {
    /// Whether it is in memory.
    #[must_use]
    pub fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }

    /// Whether the process has it at all, in memory or swapped out.
    #[must_use]
    pub fn exists(self) -> bool {
        self.0 & (PRESENT | SWAPPED) != 0
    }

    /// Whether it belongs to a file or to shared memory.
    #[must_use]
    pub fn is_file(self) -> bool {
        self.0 & FILE != 0
    }

    /// Whether no other process maps it.
    #[must_use]
    pub fn is_exclusive(self) -> bool {
        self.0 & EXCLUSIVE != 0
    }

    /// Whether it tells where it is, in memory or in the swap.
    #[must_use]
    pub fn is_placed(self) -> bool {
        self.0 & FRAME != 0
    }

    /// A page in a frame, as the kernel would tell it.
    #[cfg(test)]
    pub(crate) fn present_at(frame: u64) -> Self {
        Self(PRESENT | frame)
    }

    /// The number of its page frame; `None` when it has none or we may not see it.
    #[must_use]
    pub fn frame(self) -> Option<u64> {
        (self.is_present() && self.0 & FRAME != 0).then_some(self.0 & FRAME)
    }
}

/// The pages of one process.
#[derive(Debug)]
pub struct PageMap(File);

impl PageMap {
    /// Opens the map of a process.
    ///
    /// # Errors
    /// When the process is gone or may not be looked at.
    pub fn open(pid: i32) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/pagemap")).map(Self)
    }

    /// The pages from `start` to `end`, the first [`WINDOW_PAGES`] of them at most. Fewer when the
    /// process ends meanwhile.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn window(&self, start: u64, end: u64) -> io::Result<Vec<Page>> {
        let count = (end.saturating_sub(start) / PAGE_BYTES).min(WINDOW_PAGES);
        let mut bytes = vec![0; count as usize * 8];
        let mut filled = 0;
        while filled < bytes.len() {
            let at = start / PAGE_BYTES * 8 + filled as u64;
            match self.0.read_at(&mut bytes[filled..], at)? {
                0 => break,
                got => filled += got,
            }
        }
        let words = bytes[..filled].chunks_exact(8);
        Ok(words.filter_map(|word| u64_at(word, 0).map(Page)).collect())
    }

    /// Adds the runs of pages from `start` to `end` to `runs`. A run that goes on where the last one
    /// ended becomes part of it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn runs(&self, start: u64, end: u64, runs: &mut Runs) -> io::Result<()> {
        let mut at = start;
        while at < end {
            let pages = self.window(at, end)?;
            if pages.is_empty() {
                break;
            }
            for page in pages {
                let next = at + PAGE_BYTES;
                if page.is_present() {
                    if !page.is_file() && !page.is_exclusive() {
                        add(&mut runs.shared, at, next);
                    }
                    add(&mut runs.resident, at, next);
                } else if page.exists() {
                    add(&mut runs.swapped, at, next);
                }
                at = next;
            }
        }
        Ok(())
    }
}

/// Runs of pages: start and end, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// In memory.
    pub resident: Vec<(u64, u64)>,
    /// In swap.
    pub swapped: Vec<(u64, u64)>,
    /// Of those in memory the anonymous ones that another process maps as well, as after a fork, and
    /// the page of zeros that all have.
    pub shared: Vec<(u64, u64)>,
}

fn add(runs: &mut Vec<(u64, u64)>, start: u64, end: u64) {
    match runs.last_mut() {
        Some(last) if last.1 == start => last.1 = end,
        _ => runs.push((start, end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_go_on_over_windows() {
        let map = PageMap::open(std::process::id().cast_signed()).expect("own pages");
        let len = (WINDOW_PAGES + 16) * PAGE_BYTES;
        // Never touched, but for a page in the middle and those around the window's end.
        let mut memory: Vec<u8> = Vec::with_capacity(len as usize + PAGE_BYTES as usize);
        let start = (memory.as_ptr().addr() as u64).next_multiple_of(PAGE_BYTES);
        let skip = (start - memory.as_ptr().addr() as u64) as usize;
        let spare = &mut memory.spare_capacity_mut()[skip..];
        for page in [100, WINDOW_PAGES - 1, WINDOW_PAGES, WINDOW_PAGES + 3] {
            spare[(page * PAGE_BYTES) as usize].write(1);
        }
        let mut runs = Runs::default();
        map.runs(start, start + len, &mut runs).expect("runs");
        let runs = runs.resident;
        // With huge pages there is more in memory than was touched.
        let inside = |page: u64| {
            let addr = start + page * PAGE_BYTES;
            runs.iter()
                .filter(|run| run.0 <= addr && addr < run.1)
                .count()
        };
        for page in [100, WINDOW_PAGES - 1, WINDOW_PAGES, WINDOW_PAGES + 3] {
            assert_eq!(inside(page), 1, "page {page} of {runs:x?}");
        }
        assert!(runs.is_sorted_by(|a, b| a.1 < b.0), "{runs:x?}");
    }
}
