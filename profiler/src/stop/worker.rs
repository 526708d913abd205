//! What the stop thread does.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::beats::Beats;
use super::door::Came;
use super::tracees::{Tracees, is_thread_of};
use super::{Ended, Plan, Request, Sleeper, Watch, refuse, signal};
use crate::error::Error;
use crate::sys::perf::Record;
use crate::sys::ptrace::{self, Stop};
use crate::sys::urgent;
use crate::target::{self, threads};

/// Names of what is waited for; a thread's event in the kernel has the id of the thread.
const STOPS: u64 = 1 << 32;
const BEATS: u64 = STOPS + 1;
const REQUESTS: u64 = STOPS + 2;

/// The target may begin to use our signal: looked at so often.
const LOOK_AT_SIGNALS_EVERY: Duration = Duration::from_secs(1);
/// When it does it is looked at again so soon, and so often in a row: it may be for a moment only.
const LOOK_AGAIN_EVERY: Duration = Duration::from_millis(20);
const LOOKS_IN_A_ROW: u32 = 10;

/// Owns everything about the tracees; lives and ends with its thread.
pub(super) struct Worker {
    plan: Plan,
    signal: i32,
    tracees: Tracees,
    epoll: Epoll,
    stops: SignalFd,
    beats: Beats,
    queue: Receiver<Request>,
    /// Readable when there are requests. Never read: the first one ends the thread.
    _waker: OwnedFd,
    sleepers: Vec<Sleeper>,
    looked_at_signals: Instant,
    /// Looks in a row that found our signal in use.
    signal_in_use: u32,
}

impl Worker {
    /// Seizes every thread of the process.
    pub(super) fn start(
        plan: Plan,
        queue: Receiver<Request>,
        waker: OwnedFd,
    ) -> Result<Self, Error> {
        let pid = plan.pid;
        let fail = |error: nix::Error| Error::Stop {
            pid,
            error: error.into(),
        };
        raise_file_limit();
        // Without the right to it stops only take longer.
        let _ = urgent::be_urgent();
        let signal = signal::choose(pid)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(fail)?;
        let mut child = SigSet::empty();
        child.add(Signal::SIGCHLD);
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let stops = SignalFd::with_flags(&child, flags).map_err(fail)?;
        let fail_io = |error| Error::Stop { pid, error };
        let beats = Beats::new(plan.beat_ns, pid).map_err(fail_io)?;
        let readable = |name| EpollEvent::new(EpollFlags::EPOLLIN, name);
        epoll.add(&stops, readable(STOPS)).map_err(fail)?;
        epoll.add(&beats, readable(BEATS)).map_err(fail)?;
        epoll.add(&waker, readable(REQUESTS)).map_err(fail)?;
        let mut worker = Self {
            plan,
            signal,
            tracees: Tracees::default(),
            epoll,
            stops,
            beats,
            queue,
            _waker: waker,
            sleepers: Vec::new(),
            looked_at_signals: Instant::now(),
            signal_in_use: 0,
        };
        worker.seize_all()?;
        worker.beats.start().map_err(fail_io)?;
        Ok(worker)
    }

    /// A thread that is started by one that is not seized yet is found in the next round; one
    /// that is started by a seized one is seized by the kernel.
    fn seize_all(&mut self) -> Result<(), Error> {
        loop {
            let mut found = false;
            for tid in threads::tids(self.plan.pid) {
                if self.tracees.by_tid.contains_key(&tid) {
                    continue;
                }
                match ptrace::seize(tid) {
                    Ok(()) => self.adopt(tid)?,
                    // The kernel has seized it for us: it comes with a stop of its own.
                    Err(_) if refuse::traced_by_us(self.plan.pid, tid) => continue,
                    Err(error) if gone(&error) => continue,
                    Err(error) => return Err(self.refused(error)),
                }
                found = true;
            }
            if !found {
                break;
            }
        }
        if self.tracees.by_tid.is_empty() {
            target::check_alive(self.plan.pid)?;
        }
        Ok(())
    }

    fn refused(&self, error: io::Error) -> Error {
        let pid = self.plan.pid;
        match refuse::check(pid) {
            Err(error) => error,
            Ok(()) if error.kind() == io::ErrorKind::PermissionDenied => target::denied(pid),
            Ok(()) => Error::stop(pid, error),
        }
    }

    fn adopt(&mut self, tid: i32) -> Result<(), Error> {
        let adopted = self
            .tracees
            .adopt(&self.plan, tid, self.signal, &self.epoll);
        match adopted {
            Ok(()) => Ok(()),
            Err(error) if gone(&error) => Ok(()),
            Err(error) => Err(Error::perf(self.plan.pid, error)),
        }
    }

    /// Works until it is asked to end or the process has ended.
    pub(super) fn run<W: Watch>(&mut self, watch: &mut W) -> Ended {
        let mut events = [EpollEvent::empty(); 64];
        let ended = loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(nix::Error::EINTR) => continue,
                Err(error) => break Ended::Failed(self.refused(error.into())),
            };
            let mut stops = false;
            let mut beat = false;
            for event in &events[..count] {
                match event.data() {
                    STOPS => stops = true,
                    BEATS => beat = true,
                    REQUESTS => {}
                    tid => self.kernel_beats(tid as i32),
                }
            }
            // Whoever stands still first; then the signals that told so, and whoever stopped
            // before they were taken.
            let handled = self.all_stops(watch).and_then(|first| {
                if stops {
                    while let Ok(Some(_)) = self.stops.read_signal() {}
                }
                Ok(first + self.all_stops(watch)?)
            });
            match handled {
                Ok(0) if stops => self.reap(),
                Ok(_) => {}
                Err(error) => break Ended::Failed(error),
            }
            if let Ok(Request::End) = self.queue.try_recv() {
                break Ended::Asked;
            }
            if beat {
                self.reap();
                match self.beat(watch) {
                    Ok(true) => {}
                    Ok(false) => break Ended::Asked,
                    Err(error) => break Ended::Failed(error),
                }
            }
            if ptrace::has_ended(self.plan.pid, false) {
                break Ended::Process;
            }
        };
        self.let_go(watch);
        ended
    }

    /// Lets every thread that is stopped go on; the number of them.
    fn all_stops<W: Watch>(&mut self, watch: &mut W) -> Result<usize, Error> {
        let mut count = 0;
        while let Ok(Some(stop)) = ptrace::next_stop() {
            count += 1;
            self.stop(watch, stop)?;
        }
        Ok(count)
    }

    fn stop<W: Watch>(&mut self, watch: &mut W, stop: Stop) -> Result<(), Error> {
        let tid = stop.tid;
        let mut result = Ok(());
        // A thread that is gone (killed while it was stopped) cannot be told to go on.
        let _ = match (stop.event, stop.signal) {
            (0, signal) if signal == self.signal && self.ours(watch, tid) => {
                let gone_on = ptrace::go_on(tid, 0);
                watch.went_on();
                gone_on
            }
            (0, signal) => ptrace::go_on(tid, signal),
            (libc::PTRACE_EVENT_STOP, signal) if is_group_stop(signal) => ptrace::listen(tid),
            (libc::PTRACE_EVENT_STOP, _) if !self.tracees.by_tid.contains_key(&tid) => {
                if is_thread_of(self.plan.pid, tid) {
                    result = self.adopt(tid);
                    ptrace::go_on(tid, 0)
                } else {
                    ptrace::detach(tid, 0)
                }
            }
            (libc::PTRACE_EVENT_EXEC, _) => {
                // All other threads are gone, and so are its handlers of signals.
                self.tracees.by_tid.clear();
                result = signal::choose(self.plan.pid).map(|signal| self.signal = signal);
                result = result.and_then(|()| self.adopt(tid));
                watch.exec();
                ptrace::go_on(tid, 0)
            }
            _ => ptrace::go_on(tid, 0),
        };
        result
    }

    /// Whether the signal that a stopped thread is about to get came from one of our events;
    /// if so, it has been looked at.
    fn ours<W: Watch>(&mut self, watch: &mut W, tid: i32) -> bool {
        let Some(tracee) = self.tracees.by_tid.get_mut(&tid) else {
            return false;
        };
        let Ok(info) = ptrace::signal_info(tid) else {
            return false;
        };
        if !info.from_descriptor() {
            return false;
        }
        if info.fd == tracee.event.fd() {
            tracee.next_period(self.plan.kind);
            let mut records: Vec<Record> = Vec::new();
            tracee.event.records(|record| records.push(record));
            let since_ns = records.last().map(|record| record.time_ns);
            let mut events: Vec<u64> = records.iter().map(|record| record.addr).collect();
            if events.is_empty() {
                events.push(0);
            }
            if !watch.stopped(tid, &events, since_ns) {
                tracee.set_wanted(false);
            }
        } else {
            let Some(door) = tracee.doors.of(info.fd) else {
                return false;
            };
            if let Ok(now) = ptrace::registers(tid) {
                match door.came(&now) {
                    Came::Expected(events) => drop(watch.stopped(tid, &events, None)),
                    Came::Other => {}
                    Came::TooMany(events) => tracee.owed.extend(events),
                }
            }
        }
        if !tracee.owed.is_empty() {
            watch.missed(tid, &std::mem::take(&mut tracee.owed));
        }
        true
    }

    fn kernel_beats(&mut self, tid: i32) {
        let signal = self.signal;
        let Some(tracee) = self.tracees.by_tid.get_mut(&tid) else {
            return;
        };
        let (doors, owed) = (&mut tracee.doors, &mut tracee.owed);
        tracee.kernel.records(|record| {
            let given_up = doors.beat(tid, signal, record);
            owed.extend(given_up.unwrap_or_else(|_| vec![record.addr]));
        });
    }

    fn beat<W: Watch>(&mut self, watch: &mut W) -> Result<bool, Error> {
        let Some(late) = self.beats.take() else {
            return Ok(true);
        };
        let every = if self.signal_in_use == 0 {
            LOOK_AT_SIGNALS_EVERY
        } else {
            LOOK_AGAIN_EVERY
        };
        if self.looked_at_signals.elapsed() > every {
            self.looked_at_signals = Instant::now();
            if signal::is_free(self.plan.pid, self.signal) {
                self.signal_in_use = 0;
            } else {
                self.signal_in_use += 1;
            }
            if self.signal_in_use >= LOOKS_IN_A_ROW {
                return Err(Error::NoSignal { pid: self.plan.pid });
            }
        }
        for (tid, tracee) in &mut self.tracees.by_tid {
            if !tracee.wanted && watch.wants(*tid) {
                tracee.set_wanted(true);
            }
        }
        let mut sleepers = std::mem::take(&mut self.sleepers);
        self.tracees.asleep(&mut sleepers);
        let tracees = &self.tracees;
        let go_on = watch.beat(late, &sleepers, &mut |sleeper| tracees.still(sleeper));
        self.sleepers = sleepers;
        Ok(go_on)
    }

    /// Takes threads off that have ended; the process itself belongs to its parent.
    fn reap(&mut self) {
        let pid = self.plan.pid;
        self.tracees
            .by_tid
            .retain(|tid, _| *tid == pid || !ptrace::has_ended(*tid, true));
    }

    /// Ends all events and lets go on what is stopped. The rest is done by the kernel when this
    /// thread ends: PTRACE_DETACH would have to stop the others first.
    fn let_go<W: Watch>(&mut self, watch: &mut W) {
        for (tid, tracee) in &mut self.tracees.by_tid {
            let _ = tracee.event.disable();
            let lost = tracee.take_owed();
            if !lost.is_empty() {
                watch.lost(*tid, &lost);
            }
        }
        while let Ok(Some(stop)) = ptrace::next_stop() {
            let _ = match (stop.event, stop.signal) {
                (0, signal) if signal == self.signal => ptrace::go_on(stop.tid, 0),
                (0, signal) => ptrace::go_on(stop.tid, signal),
                (libc::PTRACE_EVENT_STOP, signal) if is_group_stop(signal) => {
                    ptrace::listen(stop.tid)
                }
                _ => ptrace::go_on(stop.tid, 0),
            };
        }
    }
}

/// Whether a stop that PTRACE_SEIZE reports is that of the whole process by SIGSTOP and its like
/// (ptrace(2), "Group-stop").
fn is_group_stop(signal: i32) -> bool {
    matches!(
        signal,
        libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU
    )
}

fn gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT))
}

/// Each thread of the target needs up to eight descriptors; the usual soft limit is enough for 128.
fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
