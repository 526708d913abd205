//! The buffer that a perf event writes its samples to.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use perf_event_open_sys::bindings::{PERF_RECORD_SAMPLE, perf_event_mmap_page};

use super::ptrace::Registers;

/// `PERF_REG_X86_…` of what is compared, as bits: bx 1, dx 3, si 4, di 5, bp 6, sp 7, ip 8,
/// r12 – r15 20 – 23. The kernel writes them in this order.
pub(super) const REGISTERS: u64 = 0x00f0_01fa;
const COUNT: usize = REGISTERS.count_ones() as usize;
/// Header, ABI, registers.
const RECORD_BYTES: usize = 8 + 8 + 8 * COUNT;

const PAGE: usize = 4096;
/// One page of bookkeeping, one of data: some forty samples, drained at each.
const LENGTH: usize = 2 * PAGE;

#[derive(Debug)]
pub(super) struct Ring {
    base: NonNull<libc::c_void>,
    /// How far it was read.
    tail: u64,
}

// SAFETY: the mapping belongs to this value alone and may be used from any one thread at a time.
unsafe impl Send for Ring {}

impl Ring {
    pub(super) fn map(event: BorrowedFd<'_>) -> io::Result<Self> {
        let length = NonZeroUsize::new(LENGTH).unwrap_or(NonZeroUsize::MIN);
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory in use.
        let base = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, event, 0) }?;
        Ok(Self { base, tail: 0 })
    }

    /// Hands out every sample that is there and makes room for more.
    pub(super) fn drain(&mut self, mut each: impl FnMut(Registers)) {
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
            if header as u32 == PERF_RECORD_SAMPLE && size == RECORD_BYTES as u64 {
                let mut words = [0; COUNT];
                for (i, word) in words.iter_mut().enumerate() {
                    *word = self.word(16 + 8 * i as u64);
                }
                let [bx, dx, si, di, bp, sp, ip, r12, r13, r14, r15] = words;
                each(Registers {
                    ip,
                    sp,
                    others: [bx, bp, r12, r13, r14, r15, di, si, dx],
                });
            }
            self.tail += size;
        }
        self.tail = end;
        tail.store(end, Ordering::Release);
    }

    /// The word so many bytes behind `tail`.
    fn word(&self, offset: u64) -> u64 {
        let at = PAGE + (((self.tail + offset) as usize % PAGE) & !7);
        // SAFETY: `at` lies in the second page of the mapping and is a multiple of eight, as
        // all records are. The kernel does not write there before `data_tail` has passed it.
        unsafe { ptr::read_volatile(self.base.as_ptr().cast::<u8>().add(at).cast::<u64>()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: it is the mapping that `map` made, and nothing refers to it any more.
        let _ = unsafe { munmap(self.base, LENGTH) };
    }
}
