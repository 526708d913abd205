//! A process that has not run is as it was: what was read of it need not be read again, and what
//! was read in many calls is of one instant.
//!
//! The kernel counts the time that all threads of a process have run, in nanoseconds, and tells
//! it in one short call whoever asks. What a thread has run is added when it leaves its CPU, and
//! at ticks while it runs (`thread_group_cputime`, `kernel/sched/cputime.c`). So while all threads
//! sleep, then and now, and the clock stands still, none has executed an instruction: stacks,
//! locks, lists and the heap are what they were. The clock alone says nothing of a thread that
//! runs now.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Whether a process has run since something was read of it.
#[derive(Debug)]
pub(crate) struct Rest {
    clock: ClockId,
    /// What it showed before that was read, where it is to be kept.
    before: Option<Duration>,
    /// What it showed last.
    now: Option<Duration>,
}

impl Rest {
    pub(crate) fn new(pid: i32) -> Self {
        Self {
            // `CPUCLOCK_SCHED` of the process, as `clock_getcpuclockid` makes it
            // (`include/linux/posix-timers_types.h`); 0 would be ourselves.
            clock: ClockId::from_raw((!pid << 3) | 2),
            before: None,
            now: None,
        }
    }

    /// Looks at the clock: whether a process all of whose threads sleep has not run since before
    /// that was read which is kept.
    pub(crate) fn continues(&mut self) -> bool {
        self.now = clock_gettime(self.clock).ok().map(Duration::from);
        self.now.is_some() && self.now == self.before
    }

    /// Notes whether what is read after the last look at the clock may be kept: not while a
    /// thread runs.
    pub(crate) fn keep(&mut self, keep: bool) {
        self.before = self.now.filter(|_| keep);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::target::threads::all_sleep;

    #[test]
    fn a_process_that_waits_rests_until_it_runs() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cat");
        let pid = child.id().cast_signed();
        let mut rest = Rest::new(pid);
        assert!(!rest.continues(), "nothing was read yet");
        rest.keep(all_sleep(pid));
        // It starts, and then it waits: sooner or later it has not run between two looks.
        while !(all_sleep(pid) && rest.continues()) {
            rest.keep(all_sleep(pid));
            std::thread::yield_now();
        }
        assert!(rest.continues(), "and still has not");
        rest.keep(true);

        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(b"x").expect("a pipe");
        let mut answer = [0];
        let mut stdout = child.stdout.take().expect("piped");
        stdout.read_exact(&mut answer).expect("it copies");
        while !all_sleep(pid) {
            std::thread::yield_now();
        }
        assert!(!rest.continues(), "it has run");
        rest.keep(false);
        assert!(!rest.continues(), "what was read then is not kept");

        drop(stdin);
        child.wait().expect("the end of cat");
        rest.keep(true);
        assert!(!rest.continues(), "a process that is gone does not rest");
    }
}
