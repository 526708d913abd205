//! Perf events of one thread: a clock or a breakpoint that stops it by a signal, a clock that
//! notes where it was in the kernel.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};

use perf_event_open_sys::bindings::{
    HW_BREAKPOINT_X, PERF_COUNT_SW_PAGE_FAULTS, PERF_COUNT_SW_TASK_CLOCK, PERF_FLAG_FD_CLOEXEC,
    PERF_SAMPLE_REGS_USER, PERF_TYPE_BREAKPOINT, PERF_TYPE_SOFTWARE, perf_event_attr,
};
use perf_event_open_sys::{ioctls, perf_event_open};

use super::check;
use super::ptrace::Registers;
use super::ring::{REGISTERS, Ring};

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
}

/// An event of one thread, closed with the value.
#[derive(Debug)]
pub struct Event {
    file: File,
    attr: perf_event_attr,
}

impl Event {
    /// An event that sends `signal` to the thread itself, disabled at first.
    ///
    /// # Errors
    /// EACCES or EPERM without permission; ESRCH when the thread is gone; ENOSPC when all
    /// breakpoints are in use.
    pub fn signalling(tid: i32, kind: Kind, signal: i32) -> io::Result<Self> {
        let mut attr = attributes();
        let period = match kind {
            Kind::TaskClock { period_ns } => {
                attr.type_ = PERF_TYPE_SOFTWARE;
                attr.config = PERF_COUNT_SW_TASK_CLOCK.into();
                period_ns
            }
            Kind::PageFaults { period } => {
                attr.type_ = PERF_TYPE_SOFTWARE;
                attr.config = PERF_COUNT_SW_PAGE_FAULTS.into();
                period
            }
            Kind::Instruction { addr } => {
                attr.type_ = PERF_TYPE_BREAKPOINT;
                attr.bp_type = HW_BREAKPOINT_X;
                attr.__bindgen_anon_3.bp_addr = addr;
                attr.__bindgen_anon_4.bp_len = size_of::<libc::c_long>() as u64;
                1
            }
        };
        attr.__bindgen_anon_1.sample_period = period;
        attr.set_exclude_kernel(1);
        let event = Self::open(attr, tid)?;
        event.send(signal, tid)?;
        Ok(event)
    }

    fn open(mut attr: perf_event_attr, tid: i32) -> io::Result<Self> {
        // SAFETY: `attr` is a whole structure of the size that it says, and lives through the
        // call. The events asked for read registers and clocks and write to nothing.
        let fd =
            unsafe { perf_event_open(&raw mut attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC.into()) };
        check(fd.into())?;
        // SAFETY: the kernel just gave us this descriptor, so nobody else owns it.
        let file = unsafe { File::from_raw_fd(fd) };
        Ok(Self { file, attr })
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

/// A clock of one thread that runs out only while the thread is in the kernel. It disturbs
/// nothing: where the thread was is noted in a buffer, and its descriptor becomes readable.
#[derive(Debug)]
pub struct KernelClock {
    event: Event,
    ring: Ring,
}

impl KernelClock {
    /// Opens it, enabled.
    ///
    /// # Errors
    /// EACCES when the kernel may not be looked at (`kernel.perf_event_paranoid`), ESRCH when
    /// the thread is gone.
    pub fn open(tid: i32, period_ns: u64) -> io::Result<Self> {
        let mut attr = attributes();
        attr.type_ = PERF_TYPE_SOFTWARE;
        attr.config = PERF_COUNT_SW_TASK_CLOCK.into();
        attr.__bindgen_anon_1.sample_period = period_ns;
        attr.set_exclude_user(1);
        attr.sample_type = PERF_SAMPLE_REGS_USER.into();
        attr.sample_regs_user = REGISTERS;
        attr.__bindgen_anon_2.wakeup_events = 1;
        let event = Event::open(attr, tid)?;
        let ring = Ring::map(event.as_fd())?;
        event.enable()?;
        Ok(Self { event, ring })
    }

    /// Where the thread had entered the kernel at the beats since the last call.
    pub fn beats(&mut self, each: impl FnMut(Registers)) {
        self.ring.drain(each);
    }

    /// Lets it beat or not.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_enabled(&self, enabled: bool) -> io::Result<()> {
        if enabled {
            self.event.enable()
        } else {
            self.event.disable()
        }
    }
}

impl AsFd for KernelClock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

fn attributes() -> perf_event_attr {
    let mut attr = perf_event_attr {
        size: size_of::<perf_event_attr>() as u32,
        ..perf_event_attr::default()
    };
    attr.set_disabled(1);
    attr.set_exclude_hv(1);
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
