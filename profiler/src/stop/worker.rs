//! What the stop thread does.

use std::os::fd::OwnedFd;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::beats::Beats;
use super::meet::pass_on;
use super::nearby::Nearby;
use super::tracees::{Tracee, Tracees};
use super::urgency::Urgency;
use super::{Ended, Plan, Request, Sleeper, Watch, signal, why};
use crate::error::Error;
use crate::sys::ptrace::{self, SignalInfo};

/// Names of what is waited for; a thread's event in the kernel has the id of the thread.
const STOPS: u64 = 1 << 32;
const BEATS: u64 = STOPS + 1;
const REQUESTS: u64 = STOPS + 2;

/// The target may begin to use our signal: looked at so often.
const LOOK_AT_SIGNALS_EVERY: Duration = Duration::from_secs(1);
/// When it does it is looked at again so soon, and so often in a row: it may be for a moment only.
const LOOK_AGAIN_EVERY: Duration = Duration::from_millis(20);
const LOOKS_IN_A_ROW: u32 = 10;
/// After so many stops in a row it is time to look whether somebody wants something else.
const STOPS_IN_A_ROW: usize = 64;

/// Owns everything about the tracees; lives and ends with its thread.
pub(super) struct Worker {
    pub(super) plan: Plan,
    pub(super) signal: i32,
    pub(super) tracees: Tracees,
    pub(super) urgency: Urgency,
    pub(super) nearby: Nearby,
    /// The CPU of the thread that was stopped last by its event.
    pub(super) met_on: Option<u32>,
    pub(super) epoll: Epoll,
    stops: SignalFd,
    beats: Beats,
    queue: Receiver<Request>,
    /// Readable when there are requests. Never read: the first one ends the thread.
    _waker: OwnedFd,
    sleepers: Vec<Sleeper>,
    looked_at_signals: Instant,
    /// Looks in a row that found our signal in use.
    signal_in_use: u32,
    /// Whether a thread is short of buffers, and that was not told.
    pub(super) short: bool,
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
            urgency: Urgency::new(),
            nearby: Nearby::new(),
            met_on: None,
            epoll,
            stops,
            beats,
            queue,
            _waker: waker,
            sleepers: Vec::new(),
            looked_at_signals: Instant::now(),
            signal_in_use: 0,
            short: false,
        };
        worker.seize_all()?;
        worker.beats.start().map_err(fail_io)?;
        Ok(worker)
    }

    /// Works until it is asked to end or the process has ended.
    pub(super) fn run<W: Watch>(&mut self, watch: &mut W) -> Ended {
        watch.begins();
        self.await_write(watch);
        let mut events = [EpollEvent::empty(); 64];
        // Whether there is something to do when nothing happens, and something that does not wait.
        let (mut idle, mut at_once) = (true, false);
        let ended = loop {
            let timeout = if idle || at_once {
                EpollTimeout::ZERO
            } else {
                EpollTimeout::NONE
            };
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(nix::Error::EINTR) => continue,
                Err(error) => break Ended::Failed(self.refused(error.into())),
            };
            self.urgency.look();
            let mut stops = at_once;
            let mut beat = false;
            for event in &events[..count] {
                match event.data() {
                    STOPS => stops = true,
                    BEATS => beat = true,
                    REQUESTS => {}
                    tid => self.kernel_beats(watch, tid as i32),
                }
            }
            let met = match self.all_stops(watch, stops) {
                Ok(met) => met,
                Err(error) => break Ended::Failed(error),
            };
            at_once = met >= STOPS_IN_A_ROW;
            if let Ok(Request::End) = self.queue.try_recv() {
                break Ended::Asked;
            }
            if beat {
                match self.beat(watch) {
                    Ok(true) => idle = true,
                    Ok(false) => break Ended::Asked,
                    Err(error) => break Ended::Failed(error),
                }
            } else if count == 0 && idle {
                idle = watch.idle();
            }
            // The end of a thread has no stop.
            if beat || (stops && met == 0) {
                self.reap(watch);
                if ptrace::has_ended(self.plan.pid, false) {
                    break Ended::Process;
                }
            }
        };
        self.let_go(watch);
        ended
    }

    /// Lets every thread that is stopped go on, or so many that it is time for other things; the
    /// number of them.
    fn all_stops<W: Watch>(&mut self, watch: &mut W, told: bool) -> Result<usize, Error> {
        let mut told = told;
        let mut count = 0;
        while count < STOPS_IN_A_ROW {
            let stop = ptrace::next_stop().ok().flatten();
            if let Some(stop) = stop {
                count += 1;
                self.stop(watch, stop)?;
            }
            // Whoever stands still comes first; then the signal that told so, of which one at most
            // is pending; then whoever stopped before it was taken.
            if std::mem::take(&mut told) {
                let _ = self.stops.read_signal();
            } else if stop.is_none() {
                break;
            }
        }
        Ok(count)
    }

    pub(super) fn await_write<W: Watch>(&mut self, watch: &mut W) {
        let pid = self.plan.pid;
        if let Some(main) = self.tracees.by_tid.get_mut(&pid) {
            main.await_write(pid, watch.awaits(), self.signal);
        }
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
        self.await_write(watch);
        if std::mem::take(&mut self.short) {
            watch.short_of_buffers();
        }
        for (tid, tracee) in &mut self.tracees.by_tid {
            if !tracee.wanted && (watch.wants(*tid) || tracee.is_due()) {
                tracee.set_wanted(true);
            }
            tracee.beat();
        }
        let mut sleepers = std::mem::take(&mut self.sleepers);
        self.tracees.asleep(&mut sleepers);
        let tracees = &self.tracees;
        let go_on = watch.beat(late, &sleepers, &mut |sleeper| tracees.still(sleeper));
        self.sleepers = sleepers;
        Ok(go_on)
    }

    /// Takes threads off that have ended; the process itself belongs to its parent.
    fn reap<W: Watch>(&mut self, watch: &mut W) {
        let pid = self.plan.pid;
        self.tracees.by_tid.retain(|tid, tracee| {
            let ended = *tid != pid && ptrace::has_ended(*tid, true);
            if ended {
                give_up(watch, *tid, tracee, why::GONE);
            }
            !ended
        });
    }

    /// Ends all events and lets go on what is stopped. The rest is done by the kernel when this
    /// thread ends: PTRACE_DETACH would have to stop the others first.
    fn let_go<W: Watch>(&mut self, watch: &mut W) {
        for (tid, tracee) in &mut self.tracees.by_tid {
            let _ = tracee.event.disable();
            give_up(watch, *tid, tracee, why::LATER);
        }
        while let Ok(Some(stop)) = ptrace::next_stop() {
            let ours = || ptrace::signal_info(stop.tid).is_ok_and(SignalInfo::from_descriptor);
            if stop.event == 0 && stop.signal == self.signal && ours() {
                let _ = ptrace::go_on(stop.tid, 0);
            } else {
                pass_on(stop);
            }
        }
    }
}

/// Tells what of a thread will not be met any more.
pub(super) fn give_up<W: Watch>(watch: &mut W, tid: i32, tracee: &mut Tracee, why: &'static str) {
    let (untold, no_room) = tracee.untold();
    for (count, why) in [(untold, why), (no_room, why::BUFFER)] {
        if count > 0 {
            watch.lost(tid, count, why);
        }
    }
}

/// Each thread of the target needs up to eight descriptors; the usual soft limit is enough for 128.
fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
