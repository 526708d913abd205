//! All threads of a process at rest for a moment, for a copy of its memory.
//!
//! PTRACE_INTERRUPT stops a thread wherever it is. When we are killed meanwhile, the kernel lets
//! every thread go on as if nothing had been. A system call that sleeps is woken: those that the kernel
//! does not take up again by itself (`epoll_wait`, some others, see signal(7)) end with EINTR, which
//! CPython answers by calling again.

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::refuse;
use crate::error::Error;
use crate::sys::ptrace;
use crate::target::{self, threads};

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
            let mut tracees = BTreeMap::new();
            hold(pid, &mut tracees)?;
            let answer = work();
            let_go(&tracees);
            let ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            Ok((answer, ns))
        });
        match held.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Stops every thread. A thread that was started meanwhile is found in the next round; one that
/// a seized thread starts is seized by the kernel. `tracees` are the signals that each is to get.
fn hold(pid: i32, tracees: &mut BTreeMap<i32, i32>) -> Result<(), Error> {
    loop {
        let new: Vec<i32> = threads::tids(pid)
            .into_iter()
            .filter(|tid| !tracees.contains_key(tid))
            .collect();
        if new.is_empty() {
            break;
        }
        for &tid in &new {
            match ptrace::seize(tid) {
                Ok(()) => drop(ptrace::interrupt(tid)),
                // It has ended, or the kernel has seized it for us and it comes with a stop.
                Err(error) if is(&error, Errno::ESRCH) => {}
                Err(_) if refuse::traced_by_us(pid, tid) => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(target::denied(pid));
                }
                Err(error) => return Err(Error::stop(pid, error)),
            }
        }
        let until = Instant::now() + PATIENCE;
        for &tid in &new {
            tracees.insert(tid, wait_for(tid, until));
        }
    }
    target::check_alive(pid)
}

/// Waits until a thread has stopped; the signal that it was about to get, 0 for none.
fn wait_for(tid: i32, until: Instant) -> i32 {
    loop {
        match ptrace::stop_of(tid) {
            Ok(Some(stop)) if stop.event == 0 => return stop.signal,
            Ok(Some(_)) | Err(_) => return 0,
            Ok(None) if Instant::now() > until => return 0,
            Ok(None) => thread::sleep(LOOK_EVERY),
        }
    }
}

fn let_go(tracees: &BTreeMap<i32, i32>) {
    for (tid, signal) in tracees {
        // One that has ended, or that sleeps on in the kernel, is let go when our thread ends.
        let _ = ptrace::detach(*tid, *signal);
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}
