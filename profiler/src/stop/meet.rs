//! What is done with a thread that stands still.

use std::time::Instant;

use super::door::Came;
use super::tracees::is_thread_of;
use super::worker::{Worker, give_up};
use super::{Watch, signal, why};
use crate::error::Error;
use crate::sys::perf::{Kind, Record, Touch};
use crate::sys::ptrace::{self, Stop};
use crate::sys::urgent;

impl Worker {
    /// Looks at a thread that stands still, and lets it go on.
    pub(super) fn stop<W: Watch>(&mut self, watch: &mut W, stop: Stop) -> Result<(), Error> {
        let tid = stop.tid;
        match (stop.event, stop.signal) {
            (0, signal) if signal == self.signal => {
                let start = Instant::now();
                if !self.ours(watch, tid) {
                    pass_on(stop);
                    return Ok(());
                }
                self.await_write(watch);
                // A thread that is gone (killed while it was stopped) cannot be told to go on.
                let _ = ptrace::go_on(tid, 0);
                let took = start.elapsed().as_nanos();
                let huge = watch.went_on();
                if let Some(tracee) = self.tracees.by_tid.get_mut(&tid) {
                    tracee.went_on(huge);
                    tracee.stop_took(u64::try_from(took).unwrap_or(u64::MAX));
                }
                self.go_near();
                Ok(())
            }
            (libc::PTRACE_EVENT_STOP, signal)
                if !is_group_stop(signal) && !self.tracees.by_tid.contains_key(&tid) =>
            {
                if !is_thread_of(self.plan.pid, tid) {
                    let _ = ptrace::detach(tid, 0);
                    return Ok(());
                }
                let adopted = self.adopt(tid);
                watch.joins(tid);
                pass_on(stop);
                adopted
            }
            (libc::PTRACE_EVENT_EXEC, _) => {
                // All other threads are gone, and so are its handlers of signals.
                for (tid, tracee) in &mut self.tracees.by_tid {
                    give_up(watch, *tid, tracee, why::GONE);
                }
                self.tracees.by_tid.clear();
                let chosen = signal::choose(self.plan.pid).map(|signal| self.signal = signal);
                let adopted = chosen.and_then(|()| self.adopt(tid));
                watch.exec();
                pass_on(stop);
                adopted
            }
            _ => {
                pass_on(stop);
                Ok(())
            }
        }
    }

    /// Whether the signal that a stopped thread is about to get came from one of our events;
    /// if so, it has been looked at.
    fn ours<W: Watch>(&mut self, watch: &mut W, tid: i32) -> bool {
        let kind = self.plan.kind;
        let Some(tracee) = self.tracees.by_tid.get_mut(&tid) else {
            return false;
        };
        let mut records: Vec<Record> = Vec::new();
        let no_room = tracee.event.records(|record| records.push(record));
        // With a record nobody need be asked. A signal that somebody else sent in the same moment
        // is one with ours, as it is in the kernel, and the target ignores it.
        let fd = match records.is_empty() {
            false => tracee.event.fd(),
            true => match ptrace::signal_info(tid) {
                Ok(info) if info.from_descriptor() => info.fd,
                _ => return false,
            },
        };
        if let Some(record) = records.last() {
            tracee.noted(record);
            self.met_on = Some(record.cpu);
        }
        let by_event = fd == tracee.event.fd();
        let mut missing = no_room;
        if by_event {
            let since_ns = records.last().map(|record| record.time_ns);
            let events: Vec<Touch> = match kind {
                Kind::PageFaults { .. } => records.iter().map(|record| record.touch).collect(),
                Kind::TaskClock { .. } | Kind::Instruction { .. } | Kind::Write { .. } => {
                    vec![Touch::default(); tracee.beats]
                }
            };
            tracee.next_period(kind);
            if events.is_empty() && no_room == 0 {
                // Its record came with an earlier signal, or it has no buffer.
                missing = u64::from(!tracee.event.has_buffer());
            }
            if !events.is_empty() {
                let worth = watch.stopped(tid, &events, since_ns);
                tracee.judged(worth);
            }
        } else if tracee
            .awaited
            .as_ref()
            .is_some_and(|(_, event)| event.fd() == fd)
        {
            watch.written();
        } else if !tracee.doors.are(fd) {
            return false;
        }
        // Two signals at once are one: it may stand in a door as well.
        if tracee.doors.wait()
            && let Ok(now) = ptrace::registers(tid)
        {
            match tracee.doors.came(&now) {
                Came::Expected(events) => drop(watch.stopped(tid, &events, None)),
                Came::Other => {}
                Came::TooMany(events) => tracee.owed.extend(events),
            }
        }
        if !tracee.owed.is_empty() {
            watch.missed(tid, &std::mem::take(&mut tracee.owed));
        }
        if missing > 0 {
            watch.lost(tid, missing, why::BUFFER);
        }
        true
    }

    /// Goes to the CPU of the thread that was stopped, where that is worth it.
    fn go_near(&mut self) {
        let met_on = self.met_on.take().filter(|_| self.urgency.is_urgent());
        if let Some((cpu, own)) = met_on.zip(urgent::cpu())
            && self.nearby.met(cpu, own)
        {
            // Where it may not run it stays.
            let _ = urgent::move_to(cpu);
        }
    }

    /// Takes in what happened to a thread in the kernel.
    pub(super) fn kernel_beats<W: Watch>(&mut self, watch: &mut W, tid: i32) {
        let signal = self.signal;
        let Some(tracee) = self.tracees.by_tid.get_mut(&tid) else {
            return;
        };
        let (doors, owed, beats) = (&mut tracee.doors, &mut tracee.owed, tracee.kernel_beats);
        let no_room = tracee.kernel.records(|record| {
            for _ in 0..beats {
                let given_up = doors.beat(tid, signal, record);
                owed.extend(given_up.unwrap_or_else(|_| vec![record.touch]));
            }
        });
        if no_room > 0 {
            watch.lost(tid, no_room * beats as u64, why::BUFFER);
        }
    }
}

/// Lets a thread go on as it would without us.
pub(super) fn pass_on(stop: Stop) {
    let Stop { tid, signal, event } = stop;
    // A thread that is gone cannot be told to go on.
    let _ = match event {
        0 => ptrace::go_on(tid, signal),
        libc::PTRACE_EVENT_STOP if is_group_stop(signal) => ptrace::listen(tid),
        _ => ptrace::go_on(tid, 0),
    };
}

/// Whether a stop that PTRACE_SEIZE reports is that of the whole process by SIGSTOP and its like
/// (ptrace(2), "Group-stop").
fn is_group_stop(signal: i32) -> bool {
    matches!(
        signal,
        libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU
    )
}
