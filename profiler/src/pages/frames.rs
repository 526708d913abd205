//! `/proc/kpageflags`: what the kernel knows about page frames.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// `KPF_MAPPEDTODISK`, which of anonymous memory is `PG_anon_exclusive` (Linux 5.19+,
/// `include/linux/page-flags.h`).
const OWN: u64 = 1 << 34;
const COMPOUND_HEAD: u64 = 1 << 15;
const COMPOUND_TAIL: u64 = 1 << 16;
const ZERO_PAGE: u64 = 1 << 24;

/// Who has written a frame since its last fork: every frame that is shared by a fork loses the
/// mark, and the first write, which copies it or takes it over, gives it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The process that maps it.
    Own,
    /// Nobody.
    Shared,
    /// It is a part of a huge page. That carries one mark for all of its frames, and has it too
    /// where the kernel made it of the small ones (`khugepaged`) and nobody wrote.
    Huge,
}

/// The flags of all frames. The file is root's; the numbers of frames to ask it about need
/// CAP_SYS_ADMIN, which root in a container lacks.
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

    /// The mark of a frame of anonymous memory.
    #[must_use]
    pub fn mark(&self, frame: u64) -> Option<Mark> {
        self.read(frame).map(|flags| {
            if flags & (COMPOUND_HEAD | COMPOUND_TAIL) != 0 {
                Mark::Huge
            } else if flags & OWN != 0 {
                Mark::Own
            } else {
                Mark::Shared
            }
        })
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
