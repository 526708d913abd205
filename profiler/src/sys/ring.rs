//! The buffer that a perf event writes its samples to.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use perf_event_open_sys::bindings::{PERF_RECORD_LOST, PERF_RECORD_SAMPLE, perf_event_mmap_page};

use super::ptrace::Registers;

/// `PERF_REG_X86_…` of what is compared, as bits: bx 1, dx 3, si 4, di 5, bp 6, sp 7, ip 8,
/// r12 – r15 20 – 23. The kernel writes them in this order.
pub(super) const REGISTERS: u64 = 0x00f0_01fa;
const COUNT: usize = REGISTERS.count_ones() as usize;
/// Header, time, address, CPU, count, ABI, registers, address in memory.
const RECORD_BYTES: usize = 8 + 8 + 8 + 8 + 8 + 8 + 8 * COUNT + 8;

/// Header, id of the event, how many.
const LOST_BYTES: u64 = 8 + 8 + 8;

const PAGE: usize = 4096;

/// What a page fault touched; of any other event nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touch {
    /// The address.
    pub addr: u64,
    /// Whether its page was in memory before the fault, and only could not be written to: it may
    /// be shared since a fork. Never the page of zeros.
    ///
    /// The kernel notes a fault before it brings the page in (`do_user_addr_fault`,
    /// `arch/x86/mm/fault.c`), with the address in memory where there is one
    /// (`perf_virt_to_phys`, `kernel/events/core.c`).
    pub was_there: bool,
    /// Faults since the one that was noted before, this one included; 0 where that is not known.
    pub faults: u64,
}

/// What is noted of one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// When, by CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// On which CPU.
    pub cpu: u32,
    /// What was touched.
    pub touch: Touch,
    /// Where the thread was in user mode, or had left it.
    pub registers: Registers,
}

#[derive(Debug)]
pub(super) struct Ring {
    base: NonNull<libc::c_void>,
    /// Bytes of data, a power of two, behind one page of bookkeeping.
    data: usize,
    /// How far it was read.
    tail: u64,
    /// The count in the last record; `None` after a gap.
    counted: Option<u64>,
}

// SAFETY: the mapping belongs to this value alone and may be used from any one thread at a time.
unsafe impl Send for Ring {}

impl Ring {
    /// A buffer of so many pages (a power of two), each for some thirty records.
    pub(super) fn map(event: BorrowedFd<'_>, pages: usize) -> io::Result<Self> {
        let data = pages * PAGE;
        let length = NonZeroUsize::new(PAGE + data).unwrap_or(NonZeroUsize::MIN);
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory in use.
        let base = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, event, 0) }?;
        Ok(Self {
            base,
            data,
            tail: 0,
            counted: Some(0),
        })
    }

    /// Hands out every record that is there and makes room for more. Answers how many found no
    /// room: the kernel says so in a record of its own, before the next one that does.
    pub(super) fn drain(&mut self, mut each: impl FnMut(Record)) -> u64 {
        self.samples(|ring, size| {
            if size != RECORD_BYTES as u64 {
                return;
            }
            let mut words = [0; COUNT];
            for (i, word) in words.iter_mut().enumerate() {
                *word = ring.word(48 + 8 * i as u64);
            }
            let [bx, dx, si, di, bp, sp, ip, r12, r13, r14, r15] = words;
            let count = ring.word(32);
            let before = ring.counted.replace(count);
            let faults = before.map_or(0, |before| count.saturating_sub(before));
            each(Record {
                time_ns: ring.word(8),
                cpu: ring.word(24) as u32,
                touch: Touch {
                    addr: ring.word(16),
                    was_there: ring.word(48 + 8 * COUNT as u64) != 0,
                    faults,
                },
                registers: Registers {
                    ip,
                    sp,
                    others: [bx, bp, r12, r13, r14, r15, di, si, dx],
                },
            });
        })
    }

    /// As [`drain`](Self::drain), for records of any kind: `each` is told how many bytes one has,
    /// and reads it.
    pub(super) fn samples(&mut self, mut each: impl FnMut(&mut Self, u64)) -> u64 {
        let mut lost = 0;
        let page = self.base.cast::<perf_event_mmap_page>().as_ptr();
        // SAFETY: the first page of the mapping is such a structure. The kernel writes
        // `data_head` while we look, and reads `data_tail`: both are accessed as atomics, which
        // have the size and the alignment of the `u64` that they are.
        let (head, tail) = unsafe {
            (
                AtomicU64::from_ptr(&raw mut (*page).data_head),
                AtomicU64::from_ptr(&raw mut (*page).data_tail),
            )
        };
        let end = head.load(Ordering::Acquire);
        while self.tail < end {
            let header = self.word(0);
            let size = header >> 48;
            if size < 8 {
                break;
            }
            if header as u32 == PERF_RECORD_SAMPLE {
                each(self, size);
            }
            if header as u32 == PERF_RECORD_LOST && size >= LOST_BYTES {
                lost += self.word(16);
                self.counted = None;
            }
            self.tail += size;
        }
        self.tail = end;
        tail.store(end, Ordering::Release);
        lost
    }

    /// The word so many bytes behind the beginning of the record.
    pub(super) fn word(&self, offset: u64) -> u64 {
        let at = PAGE + (((self.tail + offset) as usize % self.data) & !7);
        // SAFETY: `at` lies behind the first page of the mapping and is a multiple of eight, as
        // all records are. The kernel does not write there before `data_tail` has passed it.
        unsafe { ptr::read_volatile(self.base.as_ptr().cast::<u8>().add(at).cast::<u64>()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: it is the mapping that `map` made, and nothing refers to it any more.
        let _ = unsafe { munmap(self.base, PAGE + self.data) };
    }
}
