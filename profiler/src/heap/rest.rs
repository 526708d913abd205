//! Whether a process ran while it was copied.
//!
//! What a thread has run is added to the clock of its process when it leaves its CPU, to the
//! nanosecond, and while it runs only at ticks (`thread_group_cputime`, `kernel/sched/cputime.c`). So a process
//! whose threads all slept before and after, and whose clock stood still, has executed no instruction in
//! between: every copy of its memory is of one instant.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::target::threads;

/// A process that slept when this was made.
#[derive(Debug)]
pub(super) struct Rest {
    pid: i32,
    /// What its clock showed; `None` when it ran.
    clock: Option<Duration>,
}

impl Rest {
    /// Looks at it before it is copied.
    pub(super) fn begin(pid: i32) -> Self {
        // The clock first: what a thread ran before it slept may be added after this.
        let clock = clock(pid).filter(|_| sleeps(pid));
        Self { pid, clock }
    }

    /// Whether it has not run since.
    pub(super) fn held(&self) -> bool {
        self.clock.is_some() && sleeps(self.pid) && clock(self.pid) == self.clock
    }
}

/// The time that all threads have run, those that ended included.
fn clock(pid: i32) -> Option<Duration> {
    // `CPUCLOCK_SCHED` of the process, as `clock_getcpuclockid` makes it
    // (`include/linux/posix-timers_types.h`).
    let clock = ClockId::from_raw((!pid << 3) | 2);
    clock_gettime(clock).ok().map(Duration::from)
}

/// Whether all threads sleep.
fn sleeps(pid: i32) -> bool {
    let tids = threads::tids(pid);
    let mut running = tids.iter().map(|tid| threads::is_running(pid, *tid));
    !tids.is_empty() && running.all(|running| running == Some(false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_that_waits_rests_until_it_runs() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cat");
        let pid = child.id().cast_signed();
        // It starts, and then it waits.
        while !Rest::begin(pid).held() {
            std::thread::yield_now();
        }
        let rest = Rest::begin(pid);
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(b"x").expect("a pipe");
        let mut answer = [0];
        let mut stdout = child.stdout.take().expect("piped");
        std::io::Read::read_exact(&mut stdout, &mut answer).expect("it copies");
        while !sleeps(pid) {
            std::thread::yield_now();
        }
        assert!(!rest.held(), "it has run");
        drop(stdin);
        child.wait().expect("the end of cat");
        assert!(!Rest::begin(pid).held(), "it is gone");
    }
}
