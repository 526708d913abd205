//! `/proc/PID/pagemap` and `/proc/kpageflags`: one word for each page
//! (`Documentation/admin-guide/mm/pagemap.rst`).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use onlooker_heap::headers::PAGE_BYTES;
use onlooker_unwinder::memory::u64_at;

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// Page of a file, or shared anonymous memory.
const FILE: u64 = 1 << 61;
const EXCLUSIVE: u64 = 1 << 56;
const FRAME: u64 = (1 << 55) - 1;

/// `KPF_MAPPEDTODISK`, which of anonymous memory is `PG_anon_exclusive` (Linux 5.19+,
/// `include/linux/page-flags.h`).
const OWN: u64 = 1 << 34;
const ZERO_PAGE: u64 = 1 << 24;

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

    /// The pages from `start` to `end`. Fewer when the process ends meanwhile.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read(&self, start: u64, end: u64) -> io::Result<Vec<Page>> {
        let count = end.saturating_sub(start) / PAGE_BYTES;
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
}

/// What the kernel knows about page frames. Needs root or CAP_SYS_ADMIN.
#[derive(Debug)]
pub struct FrameFlags(File);

impl FrameFlags {
    /// Opens the flags; `None` where they may not be read, or mean less (before Linux 5.19).
    #[must_use]
    pub fn open() -> Option<Self> {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
        let mut numbers = release
            .split(['.', '-'])
            .map_while(|n| n.trim().parse().ok());
        let version: (u32, u32) = (numbers.next()?, numbers.next()?);
        let file = File::open("/proc/kpageflags").ok()?;
        (version >= (5, 19)).then_some(Self(file))
    }

    /// Whether a frame of anonymous memory was written since its last fork: every frame that is
    /// shared by a fork loses the mark, and the first write, which copies it or takes it over,
    /// gives it again.
    #[must_use]
    pub fn is_own(&self, frame: u64) -> Option<bool> {
        self.read(frame).map(|flags| flags & OWN != 0)
    }

    /// Whether it is the one frame of zeros that all processes share, and that is in no RSS.
    #[must_use]
    pub fn is_zero_page(&self, frame: u64) -> bool {
        self.read(frame).is_some_and(|flags| flags & ZERO_PAGE != 0)
    }

    fn read(&self, frame: u64) -> Option<u64> {
        let mut word = [0; 8];
        self.0
            .read_exact_at(&mut word, frame.checked_mul(8)?)
            .ok()?;
        Some(u64::from_le_bytes(word))
    }
}
