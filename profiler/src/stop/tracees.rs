//! The threads that are traced, each with its events.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::Plan;
use super::asleep::{Sleep, Sleeper};
use super::door::Doors;
use super::jitter::Jitter;
use crate::sys::perf::{Event, KernelEvent, Kind};

/// One traced thread.
#[derive(Debug)]
pub(super) struct Tracee {
    pub(super) event: Event,
    pub(super) kernel: KernelEvent,
    pub(super) doors: Doors,
    /// Events in the kernel whose thread was not met at a door, to be told when it stands still.
    pub(super) owed: Vec<u64>,
    /// Decides the time to its next stop.
    jitter: Jitter,
    sleep: Option<Sleep>,
    /// Whether its events are on.
    pub(super) wanted: bool,
}

impl Tracee {
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
    pub(super) fn take_owed(&mut self) -> Vec<u64> {
        let mut owed = std::mem::take(&mut self.owed);
        owed.extend(self.doors.give_up());
        owed
    }

    /// Sets the time to its next stop. It stands still.
    pub(super) fn next_period(&mut self, kind: Kind) {
        if let Kind::TaskClock { period_ns } = kind {
            // A thread that cannot be told keeps the old one.
            let _ = self.event.set_period(self.jitter.period(period_ns));
        }
    }
}

/// All traced threads, by id.
#[derive(Debug, Default)]
pub(super) struct Tracees {
    pub(super) by_tid: BTreeMap<i32, Tracee>,
}

impl Tracees {
    /// Gives a traced thread its events.
    pub(super) fn adopt(
        &mut self,
        plan: &Plan,
        tid: i32,
        signal: i32,
        epoll: &Epoll,
    ) -> io::Result<()> {
        let event = Event::signalling(tid, plan.kind, signal)?;
        let kernel = KernelEvent::open(tid, plan.kind)?;
        let watched = EpollEvent::new(EpollFlags::EPOLLIN, u64::from(tid.cast_unsigned()));
        epoll.add(&kernel, watched)?;
        event.enable()?;
        let tracee = Tracee {
            event,
            kernel,
            doors: Doors::default(),
            owed: Vec::new(),
            jitter: Jitter::new(tid),
            sleep: Sleep::open(plan.pid, tid).ok(),
            wanted: true,
        };
        self.by_tid.insert(tid, tracee);
        Ok(())
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
