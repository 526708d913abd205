//! The threads that are traced, each with its events.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::Plan;
use super::asleep::{Sleep, Sleeper};
use super::door::Doors;
use super::jitter::Jitter;
use super::pace::Pace;
use super::repeats::Repeats;
use crate::sys::perf::{Event, KernelEvent, Kind, Record, Touch};

/// A thread that runs no Python has its events turned off. It may be about to: they are turned on
/// again so soon, each time later up to the last.
const FIRST_AGAIN: Duration = Duration::from_millis(2);
const LAST_AGAIN: Duration = Duration::from_secs(1);
/// A thread runs at least so many times as long as its stops take: a period that is too short for
/// that is made longer, and its stop stands for several.
const RUNS_PER_STOP: u64 = 4;
/// No clock rings more often: the timer's interrupts alone (10 µs is the kernel's own limit) can take
/// a whole CPU of a virtual machine, and then nobody gets anything of it.
const SHORTEST_PERIOD_NS: u64 = 50_000;

/// One traced thread.
#[derive(Debug)]
pub(super) struct Tracee {
    pub(super) event: Event,
    pub(super) kernel: KernelEvent,
    pub(super) doors: Doors,
    /// Tells of a write to the word at this address.
    pub(super) awaited: Option<(u64, Event)>,
    /// Events in the kernel whose thread was not met at a door, to be told when it stands still.
    pub(super) owed: Vec<Touch>,
    /// Decides the time to its next stop.
    jitter: Jitter,
    /// Decides how many page faults pass until then, where they may bring in huge pages.
    pace: Option<Pace>,
    repeats: Repeats,
    /// Periods until its next stop.
    pub(super) beats: usize,
    /// Periods between two of its events in the kernel.
    pub(super) kernel_beats: usize,
    /// What its stops take, in the mean of the last ones.
    stop_ns: u64,
    sleep: Option<Sleep>,
    /// Whether its events are on; if not, when they are turned on again.
    pub(super) wanted: bool,
    again: Instant,
    again_after: Duration,
}

impl Tracee {
    /// What came of a stop: it was worth it, or the thread runs no Python. Such events are none.
    pub(super) fn judged(&mut self, worth: bool) {
        if worth {
            self.again_after = FIRST_AGAIN;
        } else {
            self.again = Instant::now() + self.again_after;
            self.again_after = (self.again_after * 2).min(LAST_AGAIN);
            self.set_wanted(false);
        }
    }

    /// Whether its events are to be turned on again, whatever it ran.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.again
    }

    /// Turns its events on or off.
    pub(super) fn set_wanted(&mut self, wanted: bool) {
        self.wanted = wanted;
        // A thread that has ended meanwhile is found out elsewhere.
        let _ = if wanted {
            self.event.enable()
        } else {
            self.event.disable()
        };
        let _ = self.kernel.set_enabled(wanted);
        if !wanted {
            self.take_owed();
        }
    }

    /// Every event in the kernel that was not told; nobody is waited for any more.
    pub(super) fn take_owed(&mut self) -> Vec<Touch> {
        let mut owed = std::mem::take(&mut self.owed);
        owed.extend(self.doors.give_up());
        owed
    }

    /// The thread is gone: how many events were not told, and how many found no room.
    pub(super) fn untold(&mut self) -> (u64, u64) {
        let mut count = self.take_owed().len() as u64;
        let lost = self.event.records(|_| count += 1);
        let each = self.kernel_beats as u64;
        let lost = lost + each * self.kernel.records(|_| count += each);
        (count, lost)
    }

    /// Awaits a write to the word at this address, if any; as it was where no breakpoint is left.
    pub(super) fn await_write(&mut self, tid: i32, addr: Option<u64>, signal: i32) {
        if self.awaited.as_ref().map(|(at, _)| *at) == addr {
            return;
        }
        self.awaited = addr.and_then(|addr| {
            let event = Event::signalling(tid, Kind::Write { addr }, signal).ok()?;
            event.enable().ok()?;
            Some((addr, event))
        });
    }

    /// It was stopped for an event and goes on, and has touched a huge page or not.
    pub(super) fn went_on(&mut self, huge: bool) {
        let period = self.pace.as_mut().and_then(|pace| pace.after(huge));
        // A thread that has ended meanwhile is found out elsewhere.
        let _ = period.map(|period| self.event.set_period(period));
    }

    /// It is stopped for this event.
    pub(super) fn noted(&mut self, record: &Record) {
        let period = self.repeats.noted(record);
        let _ = period.map(|period| self.event.set_period(period));
    }

    /// A beat on our side.
    pub(super) fn beat(&mut self) {
        let period = self.pace.as_mut().and_then(Pace::at_rest);
        let _ = period.map(|period| self.event.set_period(period));
    }

    /// Notes what a stop took.
    pub(super) fn stop_took(&mut self, ns: u64) {
        self.stop_ns = (self.stop_ns * 7 + ns) / 8;
    }

    /// Sets the time to its next stop. It stands still.
    pub(super) fn next_period(&mut self, kind: Kind) {
        if let Kind::TaskClock { period_ns } = kind {
            let beats = (self.stop_ns * RUNS_PER_STOP).div_ceil(period_ns).max(1);
            self.beats = beats as usize;
            // A thread that cannot be told keeps the old one.
            let _ = self.event.set_period(self.jitter.period(period_ns * beats));
        }
    }
}

/// What a thread's events are at first, and for how many of those that were asked for each stands.
fn slow_enough(kind: Kind) -> (Kind, usize) {
    match kind {
        Kind::TaskClock { period_ns } => {
            let beats = SHORTEST_PERIOD_NS.div_ceil(period_ns).max(1);
            let period_ns = period_ns * beats;
            (Kind::TaskClock { period_ns }, beats as usize)
        }
        other => (other, 1),
    }
}

fn pace(plan: &Plan) -> Option<Pace> {
    match plan.kind {
        Kind::PageFaults { period } if plan.huge_pages => Some(Pace::new(period)),
        _ => None,
    }
}

/// All traced threads, by id.
#[derive(Debug, Default)]
pub(super) struct Tracees {
    pub(super) by_tid: BTreeMap<i32, Tracee>,
}

impl Tracees {
    /// Gives a traced thread its events; whether it is short of buffers.
    pub(super) fn adopt(
        &mut self,
        plan: &Plan,
        tid: i32,
        signal: i32,
        epoll: &Epoll,
    ) -> io::Result<bool> {
        let (kind, beats) = slow_enough(plan.kind);
        let event = Event::signalling(tid, kind, signal)?;
        let kernel = KernelEvent::open(tid, kind)?;
        let watched = EpollEvent::new(EpollFlags::EPOLLIN, u64::from(tid.cast_unsigned()));
        epoll.add(&kernel, watched)?;
        event.enable()?;
        let short = event.is_short() || kernel.is_short();
        let tracee = Tracee {
            event,
            kernel,
            doors: Doors::default(),
            awaited: None,
            owed: Vec::new(),
            jitter: Jitter::new(tid),
            pace: pace(plan),
            repeats: Repeats::of(plan.kind),
            beats,
            kernel_beats: beats,
            stop_ns: 0,
            sleep: Sleep::open(plan.pid, tid).ok(),
            wanted: true,
            again: Instant::now(),
            again_after: FIRST_AGAIN,
        };
        self.by_tid.insert(tid, tracee);
        Ok(short)
    }

    /// The threads that sleep.
    pub(super) fn asleep(&mut self, sleepers: &mut Vec<Sleeper>) {
        sleepers.clear();
        for (tid, tracee) in &mut self.by_tid {
            let looked = tracee.sleep.as_ref().and_then(|sleep| sleep.look(*tid));
            if let Some((mut sleeper, ip, sp)) = looked {
                sleeper.worked = tracee.doors.take_if_at(ip, sp);
                sleepers.push(sleeper);
            }
        }
    }

    /// Whether a thread was on no CPU since it was found asleep.
    pub(super) fn still(&self, sleeper: &Sleeper) -> bool {
        self.by_tid
            .get(&sleeper.tid)
            .and_then(|tracee| tracee.sleep.as_ref())
            .is_some_and(|sleep| sleep.still(sleeper))
    }
}

/// Whether `tid` is a thread of the process, and not a process that was made by `clone`.
pub(super) fn is_thread_of(pid: i32, tid: i32) -> bool {
    Path::new(&format!("/proc/{pid}/task/{tid}")).exists()
}
