//! Stops single threads of a process at the exact instant of an event, safely.
//!
//! ```text
//! perf event of a thread (user mode only) ── SIGURG to that thread ──▶ it stops before the signal is
//! delivered ──▶ [`Watch::stopped`] reads ──▶ it goes on, and the signal is gone
//! ```
//! ptrace ties a tracee to one thread of the tracer, so one *stop thread* owns all of it, and
//! everything that wants something of it sends a [`Request`].
//!
//! Why it harms nothing:
//! * An event counts in user mode only, so no system call is interrupted.
//! * The signal is one that the target ignores: when we are killed between event and resume,
//!   the kernel lets the thread go on, the signal is delivered and nothing happens.
//! * Threads are never interrupted by request (but by [`pause`]), never killed with us
//!   (EXITKILL), and let go by the kernel when the stop thread ends, however it ends.
//! * Every other signal is passed on as it came.
//!
//! A thread inside the kernel cannot change its Python stack and is not stopped. One that sleeps
//! is read as it is, and was frozen if it was on no CPU between before and after (`asleep`);
//! one that works there is met at the `door` through which it comes back.

mod asleep;
mod beats;
mod door;
mod jitter;
mod meet;
mod nearby;
mod pace;
mod pause;
mod refuse;
mod repeats;
mod seize;
mod signal;
mod tracees;
mod urgency;
mod worker;

use std::io;
use std::os::fd::AsFd;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};

pub use asleep::Sleeper;
pub use pause::pause;
use refuse::check;

use crate::error::Error;
use crate::sys::perf::Kind;
pub use crate::sys::perf::Touch;
use crate::sys::ptrace;
use worker::Worker;

/// What is to be watched.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The process.
    pub pid: i32,
    /// What its threads are stopped by.
    pub kind: Kind,
    /// Nanoseconds between two beats on our side.
    pub beat_ns: u64,
    /// Whether a page fault may bring in a huge page.
    pub huge_pages: bool,
}

/// What is done at a stop and at a beat. Called on the stop thread.
pub trait Watch {
    /// Every thread is traced and has its events: nothing is missed from now on.
    fn begins(&mut self) {}

    /// Thread `tid` stands still, in user mode, with the stack that it had when these events
    /// happened.
    /// `since_ns` is when it was stopped, by CLOCK_MONOTONIC, where the event says so. Answers
    /// whether the thread is worth to be stopped again.
    fn stopped(&mut self, tid: i32, events: &[Touch], since_ns: Option<u64>) -> bool;

    /// Thread `tid` stands still, in user mode. These events happened while it worked in the
    /// kernel, and it was not met when it came back: its stack may be that of a later instant.
    fn missed(&mut self, tid: i32, events: &[Touch]);

    /// So many events of thread `tid` will be met nowhere; `why` is one of [`why`].
    fn lost(&mut self, tid: i32, count: u64, why: &'static str);

    /// Thread `tid` is new; it is traced, has its events and has run nothing yet.
    fn joins(&mut self, _tid: i32) {}

    /// A thread has got less of a buffer for its events than it wants, or none.
    fn short_of_buffers(&mut self) {}

    /// The thread that stood still goes on: what is left to do for it and need not hold it up.
    /// Answers whether it has touched a huge page.
    fn went_on(&mut self) -> bool {
        false
    }

    /// The word of eight bytes whose next writer, the main thread, is to be told to
    /// [`written`](Self::written). Asked at the start, at each beat and at each stop.
    fn awaits(&mut self) -> Option<u64> {
        None
    }

    /// The main thread has written to that word and stands still.
    fn written(&mut self) {}

    /// Nobody stands still: a piece of work that may delay a stop, so of some 0.1 ms. Answers
    /// whether there is more of it.
    fn idle(&mut self) -> bool {
        false
    }

    /// A beat on our side; `late` beats passed before it. `asleep` are the threads that sleep;
    /// `still` tells of one whether it was on no CPU since. Answers whether to go on.
    fn beat(
        &mut self,
        late: u64,
        asleep: &[Sleeper],
        still: &mut dyn FnMut(&Sleeper) -> bool,
    ) -> bool;

    /// Whether a thread that was not worth to be stopped is so now.
    fn wants(&mut self, tid: i32) -> bool;

    /// The process has become another program by exec.
    fn exec(&mut self);
}

/// Why an event is lost.
pub mod why {
    /// It happened in the kernel, and the thread did not stand still once since.
    pub const LATER: &str = "later";
    /// Its thread has ended, or become another program, before it was met.
    pub const GONE: &str = "gone";
    /// It found no room in the buffer of its thread, or the thread has none.
    pub const BUFFER: &str = "buffer";
}

/// What the stop thread is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Let everything go and end.
    End,
}

/// Why the stop thread has ended.
#[derive(Debug)]
pub enum Ended {
    /// It was asked to, or [`Watch::beat`] did not want to go on.
    Asked,
    /// The process has ended.
    Process,
    /// The target has begun to use the signal, or a permission went away.
    Failed(Error),
}

/// The stop thread, as the rest of the program sees it.
#[derive(Debug)]
pub struct StopThread<W> {
    requests: Sender<Request>,
    waker: EventFd,
    /// `None` once it was joined.
    thread: Option<JoinHandle<(W, Ended)>>,
}

/// Checks that a process may be stopped, and blocks SIGCHLD, which tells of stops (even where it
/// was inherited as ignored), in the calling
/// thread and those that it starts from now on. Any other thread would take it away.
///
/// # Errors
/// Why the process cannot be stopped.
pub fn prepare(pid: i32) -> Result<(), Error> {
    check(pid)?;
    ptrace::hear_of_stops().map_err(|error| Error::stop(pid, error))?;
    let mut child = SigSet::empty();
    child.add(Signal::SIGCHLD);
    child.thread_block().map_err(|error| Error::Stop {
        pid,
        error: error.into(),
    })
}

impl<W: Watch + Send + 'static> StopThread<W> {
    /// Traces every thread of the process, for which the calling thread must have called
    /// [`prepare`].
    ///
    /// # Errors
    /// Why the process cannot be stopped; it is as it was then.
    pub fn start(plan: Plan, watch: W) -> Result<Self, Error> {
        prepare(plan.pid)?;
        let fail_io = |error| Error::Stop {
            pid: plan.pid,
            error,
        };
        let fail = |error: nix::Error| fail_io(io::Error::from(error));
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let waker = EventFd::from_flags(flags).map_err(fail)?;
        let theirs = waker.as_fd().try_clone_to_owned().map_err(fail_io)?;
        let (requests, queue) = channel();
        let (ready, started) = channel();
        let thread = thread::Builder::new()
            .name("stop".to_owned())
            .spawn(move || {
                let mut watch = watch;
                let ended = match Worker::start(plan, queue, theirs) {
                    Ok(mut worker) => {
                        let _ = ready.send(Ok(()));
                        worker.run(&mut watch)
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        Ended::Asked
                    }
                };
                (watch, ended)
            })
            .map_err(fail_io)?;
        let this = Self {
            requests,
            waker,
            thread: Some(thread),
        };
        // Without an answer it has panicked, which `join` passes on.
        started.recv().unwrap_or(Ok(()))?;
        Ok(this)
    }

    /// Whether it has ended by itself.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Puts a request into its queue.
    pub fn ask(&self, request: Request) {
        if self.requests.send(request).is_ok() {
            let _ = self.waker.write(1);
        }
    }

    /// Waits for its end. A panic over there goes on here.
    ///
    /// # Panics
    /// When the stop thread has panicked.
    pub fn join(mut self) -> (W, Ended) {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(answer)) => answer,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            // Only `drop` takes it otherwise.
            None => unreachable!("joined twice"),
        }
    }
}

impl<W> Drop for StopThread<W> {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            if self.requests.send(Request::End).is_ok() {
                let _ = self.waker.write(1);
            }
            let _ = thread.join();
        }
    }
}
