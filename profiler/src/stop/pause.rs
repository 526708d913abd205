//! All threads of a process at rest for a moment, for a copy of its memory.
//!
//! PTRACE_INTERRUPT stops a thread wherever it is. When we are killed meanwhile, the kernel lets
//! every thread go on as if nothing had been, and get the signal that it was about to get: stops are only
//! looked at, not taken, for a signal that we have taken would be ours to deliver. A system call that sleeps is woken: those that the kernel
//! does not take up again by itself (`epoll_wait`, some others, see signal(7)) end with EINTR, which
//! CPython answers by calling again.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::refuse;
use crate::error::Error;
use crate::sys::ptrace;
use crate::target::permission::field;
use crate::target::{self, read_text, threads};

/// A thread that has not stopped by then sleeps in the kernel and cannot be woken. It will stop
/// before it runs a single instruction of the program.
const PATIENCE: Duration = Duration::from_millis(200);
const LOOK_EVERY: Duration = Duration::from_micros(50);

/// Does `work` while every thread of the process stands still; how long that was, in nanoseconds.
///
/// # Errors
/// Why the process cannot be stopped. It runs on then, as it does after `work`.
pub fn pause<T: Send>(pid: i32, work: impl FnOnce() -> T + Send) -> Result<(T, u64), Error> {
    match refuse::check(pid) {
        // Stopped as it is, it may be held as well.
        Ok(()) | Err(Error::Stopped { .. }) => {}
        Err(error) => return Err(error),
    }
    // Tracees belong to a thread and are let go with it, however it ends.
    thread::scope(|scope| {
        let held = scope.spawn(|| {
            let start = Instant::now();
            let held = Held::hold(pid)?;
            let answer = work();
            drop(held);
            let ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            Ok((answer, ns))
        });
        match held.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The threads that are traced. Dropping lets them go.
#[derive(Default)]
struct Held {
    tids: BTreeSet<i32>,
}

impl Held {
    /// Stops every thread. One that was started meanwhile is found in the next round; one that a
    /// seized thread starts is seized by the kernel.
    fn hold(pid: i32) -> Result<Self, Error> {
        let mut held = Self::default();
        // Those that cannot be traced because they are ending.
        let mut ending = BTreeSet::new();
        loop {
            let mut new = threads::tids(pid);
            new.retain(|tid| !held.tids.contains(tid) && !ending.contains(tid));
            if new.is_empty() {
                break;
            }
            for &tid in &new {
                match ptrace::seize(tid) {
                    Ok(()) => {
                        held.tids.insert(tid);
                        // ESRCH: it ends.
                        let _ = ptrace::interrupt(tid);
                    }
                    // The kernel has seized it for us, and it comes with a stop.
                    Err(_) if refuse::traced_by_us(pid, tid) => {
                        held.tids.insert(tid);
                    }
                    Err(error) if is(&error, Errno::ESRCH) || is_ending(pid, tid) => {
                        ending.insert(tid);
                    }
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                        return Err(target::denied(pid));
                    }
                    Err(error) => return Err(Error::stop(pid, error)),
                }
            }
            let until = Instant::now() + PATIENCE;
            for &tid in new.iter().filter(|tid| held.tids.contains(tid)) {
                wait_for(tid, until);
            }
        }
        target::check_alive(pid)?;
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for tid in &self.tids {
            // What has not stopped, or has ended, is let go by the kernel when our thread ends.
            if let Ok(Some(stop)) = ptrace::peek(*tid) {
                let signal = if stop.event == 0 { stop.signal } else { 0 };
                let _ = ptrace::detach(*tid, signal);
            }
        }
    }
}

/// Waits until a thread has stopped or ended.
fn wait_for(tid: i32, until: Instant) {
    while let Ok(None) = ptrace::peek(tid) {
        if ptrace::has_ended(tid, false) || Instant::now() > until {
            return;
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Whether a thread is gone or on its way: the kernel refuses to trace it then (EPERM).
fn is_ending(pid: i32, tid: i32) -> bool {
    let status = read_text(Path::new(&format!("/proc/{pid}/task/{tid}/status")));
    let ended = |status: &str| field(status, "State").is_none_or(|s| s.starts_with(['Z', 'X']));
    status.map_or(true, |status| ended(&status))
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}
