//! Memory that a thread moves or resizes by mremap(2), noted by the kernel.

use std::io;
use std::os::fd::AsFd;

use perf_event_open_sys::bindings::{
    PERF_SAMPLE_REGS_USER, PERF_SAMPLE_TIME, PERF_TYPE_TRACEPOINT,
};

use super::perf::{Event, attributes};
use super::ring::Ring;

/// `PERF_REG_X86_…` of the result and the first three arguments of a system call, as bits: ax 0,
/// dx 3, si 4, di 5. The kernel writes them in this order.
const REGISTERS: u64 = 0b11_1001;
/// Header, time, ABI, registers.
const RECORD_BYTES: u64 = 8 + 8 + 8 + 8 * REGISTERS.count_ones() as u64;
/// Results from here on are errors (`IS_ERR_VALUE`, `include/linux/err.h`).
const FIRST_ERROR: u64 = -4095_i64 as u64;
/// Pages of a buffer, each for some seventy calls.
const PAGES: usize = 8;

/// A call that has succeeded: this memory is now there, and of that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remap {
    /// When, by CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// Where it was.
    pub old: u64,
    /// How much of it, in bytes; 0 where shared memory was only mapped once more.
    pub old_bytes: u64,
    /// Where it is.
    pub new: u64,
    /// Its size now, in bytes.
    pub new_bytes: u64,
}

impl Remap {
    /// Where it is what was at this address.
    #[must_use]
    pub fn apply(&self, addr: u64) -> u64 {
        match addr.checked_sub(self.old) {
            Some(offset) if offset < self.old_bytes => self.new + offset,
            _ => addr,
        }
    }
}

/// Notes the calls of one thread, which it does not disturb. Closed with the value.
#[derive(Debug)]
pub struct Remaps {
    /// Keeps it open.
    _event: Event,
    ring: Ring,
}

impl Remaps {
    /// Opens it, enabled. `id` is that of the tracepoint `syscalls:sys_exit_mremap`, from tracefs.
    ///
    /// At the exit of a call the registers of the arguments are as they were at its entry, and the
    /// result is in `ax` already (`do_syscall_64`, `arch/x86/entry`).
    ///
    /// # Errors
    /// EACCES or EPERM without permission, ESRCH when the thread is gone.
    pub fn open(tid: i32, id: u64) -> io::Result<Self> {
        let mut attr = attributes();
        attr.type_ = PERF_TYPE_TRACEPOINT;
        attr.config = id;
        attr.__bindgen_anon_1.sample_period = 1;
        attr.sample_type = (PERF_SAMPLE_TIME | PERF_SAMPLE_REGS_USER).into();
        attr.sample_regs_user = REGISTERS;
        // What is looked at are the registers of user mode.
        attr.set_exclude_kernel(1);
        let event = Event::open(attr, tid)?;
        let ring = Ring::map(event.as_fd(), PAGES)?;
        event.enable()?;
        Ok(Self {
            _event: event,
            ring,
        })
    }

    /// The calls since the last time, but for those that have failed; how many found no room.
    pub fn take(&mut self, mut each: impl FnMut(Remap)) -> u64 {
        self.ring.samples(|ring, size| {
            let new = ring.word(24);
            if size == RECORD_BYTES && new < FIRST_ERROR {
                each(Remap {
                    time_ns: ring.word(8),
                    old: ring.word(48),
                    old_bytes: ring.word(40),
                    new,
                    new_bytes: ring.word(32),
                });
            }
        })
    }
}
