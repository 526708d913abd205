//! Meeting a thread that works in the kernel when it comes back.
//!
//! Time that a thread works in the kernel counts, and pages that it touches there, but a signal
//! that is sent there interrupts system calls. So a second event, in the kernel only, notes the registers with
//! which the thread had entered it, and a breakpoint is put where it will come out: there it
//! is in user mode, and its Python stack is still the one that it had inside.
//!
//! A short system call has ended before the breakpoint is there. Then another one comes through
//! the same door: it is taken for the same only if its stack pointer and every register that a
//! system call leaves alone (its arguments among them) are the same.

use std::io;

use crate::sys::perf::{Event, Kind, Record, Touch};
use crate::sys::ptrace::Registers;

/// So many others may come through before the thread is given up.
const MAX_OTHERS: u32 = 32;
/// So many others from the same place (a buffer has moved, say): the next best answer.
const MAX_ALIKE: u32 = 3;

/// Doors of one thread; a processor has four breakpoints, and debuggers may want one. The thread
/// may be elsewhere for a while before it comes back to a door.
const DOORS: usize = 3;

/// The doors of one thread.
#[derive(Debug, Default)]
pub(super) struct Doors {
    doors: [Door; DOORS],
    /// The one to give up next.
    oldest: usize,
}

impl Doors {
    /// Notes an event in the kernel, which was entered with these registers. Answers the events of
    /// those who are not waited for any more.
    ///
    /// # Errors
    /// When there is no breakpoint to be had; the event is not noted then.
    pub(super) fn beat(&mut self, tid: i32, signal: i32, record: Record) -> io::Result<Vec<Touch>> {
        let at = record.registers;
        let same = self
            .doors
            .iter()
            .position(|door| door.waits_at(at.ip, at.sp));
        let free = || self.doors.iter().position(|door| door.waiting.is_none());
        let index = same.or_else(free).unwrap_or_else(|| {
            self.oldest = (self.oldest + 1) % DOORS;
            self.oldest
        });
        self.doors[index].beat(tid, signal, record)
    }

    /// Whether a signal with this descriptor is of one of them.
    pub(super) fn are(&self, fd: i32) -> bool {
        self.doors.iter().any(|door| door.is(fd))
    }

    /// Whether anybody is waited for.
    pub(super) fn wait(&self) -> bool {
        self.doors.iter().any(|door| door.waiting.is_some())
    }

    /// The thread stands still there: in a door, or elsewhere.
    pub(super) fn came(&mut self, now: &Registers) -> Came {
        let place = |test: &dyn Fn(&Registers) -> bool| {
            let waits = |door: &Door| door.waiting.as_ref().is_some_and(|(at, _)| test(at));
            self.doors.iter().position(waits)
        };
        let here = place(&|at| at == now).or_else(|| place(&|at| at.ip == now.ip));
        here.map_or(Came::Other, |index| self.doors[index].came(now))
    }

    /// Nobody is waited for any more; answers the events of all.
    pub(super) fn give_up(&mut self) -> Vec<Touch> {
        self.doors.iter_mut().flat_map(Door::give_up).collect()
    }

    /// The events of the one that entered the kernel there.
    pub(super) fn take_if_at(&mut self, ip: u64, sp: u64) -> Vec<Touch> {
        let there = self.doors.iter_mut().filter(|door| door.waits_at(ip, sp));
        there.flat_map(Door::give_up).collect()
    }
}

/// One door of one thread.
#[derive(Debug, Default)]
pub(super) struct Door {
    event: Option<Event>,
    /// Who is waited for, and what happened to it.
    waiting: Option<(Registers, Vec<Touch>)>,
    others: u32,
    /// Of those, the ones with the same stack pointer.
    alike: u32,
}

/// Who came through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// The one that is waited for, with its events.
    Expected(Vec<Touch>),
    /// Another one.
    Other,
    /// Another one once too often: these events are given up. Mostly it comes from the same
    /// place as the one that was waited for.
    TooMany(Vec<Touch>),
}

impl Door {
    fn waits_at(&self, ip: u64, sp: u64) -> bool {
        let at = self.waiting.as_ref();
        at.is_some_and(|(at, _)| at.ip == ip && at.sp == sp)
    }

    fn beat(&mut self, tid: i32, signal: i32, record: Record) -> io::Result<Vec<Touch>> {
        let at = record.registers;
        if self.waits_at(at.ip, at.sp)
            && let Some((expected, events)) = &mut self.waiting
        {
            *expected = at;
            events.push(record.touch);
            return Ok(Vec::new());
        }
        let old = self
            .waiting
            .take()
            .map_or_else(Vec::new, |(_, events)| events);
        let event = match &mut self.event {
            Some(event) => {
                event.disable()?;
                event.move_to(at.ip)?;
                event
            }
            none => none.insert(Event::signalling(
                tid,
                Kind::Instruction { addr: at.ip },
                signal,
            )?),
        };
        event.enable()?;
        self.waiting = Some((at, vec![record.touch]));
        self.others = 0;
        self.alike = 0;
        Ok(old)
    }

    /// Whether a signal with this descriptor is the door's.
    fn is(&self, fd: i32) -> bool {
        self.event.as_ref().is_some_and(|event| event.fd() == fd)
    }

    /// The thread stands in the door.
    fn came(&mut self, now: &Registers) -> Came {
        let Some((expected, _)) = &self.waiting else {
            return Came::Other;
        };
        if expected == now {
            return Came::Expected(self.give_up());
        }
        self.others += 1;
        self.alike += u32::from(expected.sp == now.sp);
        if self.others > MAX_OTHERS || self.alike > MAX_ALIKE {
            return Came::TooMany(self.give_up());
        }
        Came::Other
    }

    /// Nobody is waited for any more; answers the events that were. The breakpoint has no limit of
    /// hits in the kernel, and is taken away here: since Linux 6.17 an event that has reached
    /// its limit (PERF_EVENT_IOC_REFRESH) stays stopped (`__perf_event_overflow`), and nothing
    /// starts a breakpoint again (`hw_breakpoint_add`).
    fn give_up(&mut self) -> Vec<Touch> {
        if let Some(event) = &self.event {
            let _ = event.disable();
        }
        self.waiting
            .take()
            .map_or_else(Vec::new, |(_, events)| events)
    }
}
