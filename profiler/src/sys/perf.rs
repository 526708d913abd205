//! Perf events of one thread: a clock, page faults or a breakpoint that stop it by a signal, and
//! the same clock and faults noted while it is in the kernel.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};

use perf_event_open_sys::bindings::{
    HW_BREAKPOINT_W, HW_BREAKPOINT_X, PERF_COUNT_SW_PAGE_FAULTS, PERF_COUNT_SW_TASK_CLOCK,
    PERF_FLAG_FD_CLOEXEC, PERF_SAMPLE_ADDR, PERF_SAMPLE_CPU, PERF_SAMPLE_PHYS_ADDR,
    PERF_SAMPLE_READ, PERF_SAMPLE_REGS_USER, PERF_SAMPLE_TIME, PERF_TYPE_BREAKPOINT,
    PERF_TYPE_SOFTWARE, perf_event_attr,
};
use perf_event_open_sys::{ioctls, perf_event_open};

use super::check;
use super::ring::{REGISTERS, Ring};
pub use super::ring::{Record, Touch};

/// What a thread is stopped by, always in user mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// So much time on a CPU has passed.
    TaskClock {
        /// Nanoseconds between two stops.
        period_ns: u64,
    },
    /// So many page faults.
    PageFaults {
        /// Faults between two stops.
        period: u64,
    },
    /// It is about to execute the instruction at this address.
    Instruction {
        /// Where.
        addr: u64,
    },
    /// It has written to the word of eight bytes at this address.
    Write {
        /// Where, a multiple of eight.
        addr: u64,
    },
}

/// An event of one thread, closed with the value.
#[derive(Debug)]
pub struct Event {
    file: File,
    attr: perf_event_attr,
    /// Where page faults are noted.
    ring: Option<Ring>,
    /// Whether it got less of a buffer than it wants.
    short: bool,
}

impl Kind {
    fn attributes(self) -> perf_event_attr {
        let mut attr = attributes();
        let software = |attr: &mut perf_event_attr, config: u32| {
            attr.type_ = PERF_TYPE_SOFTWARE;
            attr.config = config.into();
        };
        attr.__bindgen_anon_1.sample_period = match self {
            Self::TaskClock { period_ns } => {
                software(&mut attr, PERF_COUNT_SW_TASK_CLOCK);
                period_ns
            }
            Self::PageFaults { period } => {
                software(&mut attr, PERF_COUNT_SW_PAGE_FAULTS);
                period
            }
            Self::Instruction { addr } => {
                attr.type_ = PERF_TYPE_BREAKPOINT;
                attr.bp_type = HW_BREAKPOINT_X;
                attr.__bindgen_anon_3.bp_addr = addr;
                attr.__bindgen_anon_4.bp_len = size_of::<libc::c_long>() as u64;
                1
            }
            Self::Write { addr } => {
                attr.type_ = PERF_TYPE_BREAKPOINT;
                attr.bp_type = HW_BREAKPOINT_W;
                attr.__bindgen_anon_3.bp_addr = addr;
                attr.__bindgen_anon_4.bp_len = 8;
                1
            }
        };
        let noted = PERF_SAMPLE_TIME
            | PERF_SAMPLE_ADDR
            | PERF_SAMPLE_CPU
            | PERF_SAMPLE_READ
            | PERF_SAMPLE_REGS_USER
            | PERF_SAMPLE_PHYS_ADDR;
        attr.sample_type = noted.into();
        attr.sample_regs_user = REGISTERS;
        attr.__bindgen_anon_2.wakeup_events = 1;
        attr
    }
}

impl Event {
    /// An event that sends `signal` to the thread itself, disabled at first.
    ///
    /// # Errors
    /// EACCES or EPERM without permission; ESRCH when the thread is gone; ENOSPC when all
    /// breakpoints are in use.
    pub fn signalling(tid: i32, kind: Kind, signal: i32) -> io::Result<Self> {
        let mut attr = kind.attributes();
        attr.set_exclude_kernel(1);
        let mut event = Self::open(attr, tid)?;
        event.send(signal, tid)?;
        if matches!(kind, Kind::PageFaults { .. }) {
            event.note(kind)?;
        }
        Ok(event)
    }

    /// Gives it a buffer for its records. Buffers are locked memory, of which users without
    /// CAP_IPC_LOCK have so much (`kernel.perf_event_mlock_kb` for each CPU, and RLIMIT_MEMLOCK:
    /// `perf_mmap`, `kernel/events/core.c`): of many threads the last ones get a page, or nothing.
    fn note(&mut self, kind: Kind) -> io::Result<()> {
        let wanted = match kind {
            // A beat at a time.
            Kind::TaskClock { .. } | Kind::Instruction { .. } | Kind::Write { .. } => 1,
            // One call may touch many pages.
            Kind::PageFaults { .. } => 8,
        };
        for pages in [wanted, 1] {
            match Ring::map(self.as_fd(), pages) {
                Ok(ring) => {
                    self.ring = Some(ring);
                    return Ok(());
                }
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
                Err(_) => self.short = true,
            }
        }
        Ok(())
    }

    /// Whether it got less of a buffer than it wants, or none: the locked memory is used up.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.short
    }

    /// Whether it notes anything.
    #[must_use]
    pub fn has_buffer(&self) -> bool {
        self.ring.is_some()
    }

    /// What was noted since the last call, if it has a buffer; how many records found no room.
    pub fn records(&mut self, each: impl FnMut(Record)) -> u64 {
        self.ring.as_mut().map_or(0, |ring| ring.drain(each))
    }

    pub(super) fn open(mut attr: perf_event_attr, tid: i32) -> io::Result<Self> {
        // SAFETY: `attr` is a whole structure of the size that it says, and lives through the
        // call. The events asked for read registers and clocks and write to nothing.
        let fd =
            unsafe { perf_event_open(&raw mut attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC.into()) };
        check(fd.into())?;
        // SAFETY: the kernel just gave us this descriptor, so nobody else owns it.
        let file = unsafe { File::from_raw_fd(fd) };
        Ok(Self {
            file,
            attr,
            ring: None,
            short: false,
        })
    }

    /// F_SETSIG makes the signal carry the descriptor, F_SETOWN_EX with a thread's id makes it
    /// go to that thread and no other of its process.
    fn send(&self, signal: i32, tid: i32) -> io::Result<()> {
        let fd = self.fd();
        let owner = FOwnerEx {
            kind: F_OWNER_TID,
            pid: tid,
        };
        // SAFETY: F_SETSIG and F_SETFL take integers; F_SETOWN_EX reads one `f_owner_ex`.
        unsafe {
            check(libc::fcntl(fd, F_SETSIG, signal).into())?;
            check(libc::fcntl(fd, F_SETOWN_EX, &raw const owner).into())?;
            let flags = libc::O_ASYNC | libc::O_NONBLOCK;
            check(libc::fcntl(fd, libc::F_SETFL, flags).into())?;
        }
        Ok(())
    }

    /// The number that signals of this event carry.
    #[must_use]
    pub fn fd(&self) -> i32 {
        self.file.as_raw_fd()
    }

    /// Lets it count.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn enable(&self) -> io::Result<()> {
        // SAFETY: takes no argument but a flag.
        check(unsafe { ioctls::ENABLE(self.fd(), 0) }.into()).map(drop)
    }

    /// Stops counting.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn disable(&self) -> io::Result<()> {
        // SAFETY: takes no argument but a flag.
        check(unsafe { ioctls::DISABLE(self.fd(), 0) }.into()).map(drop)
    }

    /// Changes the time or the count between two signals; counting begins anew.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_period(&self, period: u64) -> io::Result<()> {
        // SAFETY: the argument is the address of one `u64`, which lives through the call.
        let result = unsafe { ioctls::PERIOD(self.fd(), (&raw const period) as u64) };
        check(result.into()).map(drop)
    }

    /// Moves a breakpoint.
    ///
    /// # Errors
    /// What the kernel says; the breakpoint is where it was then.
    pub fn move_to(&mut self, addr: u64) -> io::Result<()> {
        self.attr.__bindgen_anon_3.bp_addr = addr;
        // SAFETY: reads one whole `perf_event_attr`, which lives through the call.
        check(unsafe { ioctls::MODIFY_ATTRIBUTES(self.fd(), &raw mut self.attr) }.into()).map(drop)
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// An event of one thread that happens only while the thread is in the kernel. It disturbs
/// nothing: where the thread was is noted in a buffer, and its descriptor becomes readable.
#[derive(Debug)]
pub struct KernelEvent(Event);

impl KernelEvent {
    /// Opens it, enabled. Not for breakpoints.
    ///
    /// # Errors
    /// EACCES when the kernel may not be looked at (`kernel.perf_event_paranoid`), ESRCH when
    /// the thread is gone.
    pub fn open(tid: i32, kind: Kind) -> io::Result<Self> {
        let mut attr = kind.attributes();
        attr.set_exclude_user(1);
        let mut event = Event::open(attr, tid)?;
        event.note(kind)?;
        event.enable()?;
        Ok(Self(event))
    }

    /// As [`Event::records`].
    pub fn records(&mut self, each: impl FnMut(Record)) -> u64 {
        self.0.records(each)
    }

    /// As [`Event::is_short`].
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.0.is_short()
    }

    /// Lets it happen or not.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_enabled(&self, enabled: bool) -> io::Result<()> {
        if enabled {
            self.0.enable()
        } else {
            self.0.disable()
        }
    }
}

impl AsFd for KernelEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What all events have in common: they begin disabled.
pub(super) fn attributes() -> perf_event_attr {
    let mut attr = perf_event_attr {
        size: size_of::<perf_event_attr>() as u32,
        ..perf_event_attr::default()
    };
    attr.set_disabled(1);
    attr.set_exclude_hv(1);
    attr.set_use_clockid(1);
    attr.clockid = libc::CLOCK_MONOTONIC;
    attr
}

/// `struct f_owner_ex` (`include/uapi/asm-generic/fcntl.h`), which `libc` does not have.
#[repr(C)]
struct FOwnerEx {
    kind: i32,
    pid: i32,
}

/// As are these numbers.
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;
const F_OWNER_TID: i32 = 0;
