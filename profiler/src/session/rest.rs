//! A process that has not run is as it was: nothing of it need be read again.
//!
//! The kernel counts the time that all threads of a process have run, in nanoseconds, and tells
//! it in one short call whoever asks. What a thread has run is added when it leaves its CPU, and
//! at ticks while it runs (`thread_group_cputime`, `kernel/sched/cputime.c`). So while all threads
//! sleep and the clock stands still, none has executed an instruction: stacks, locks and lists
//! are those of the last sample. The clock alone says nothing of a thread that runs now.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Whether a process has run since its last sample.
#[derive(Debug)]
pub(super) struct Rest {
    clock: ClockId,
    /// What it showed before the last sample was read, where that sample is to be kept.
    before: Option<Duration>,
    /// What it showed last.
    now: Option<Duration>,
}

impl Rest {
    pub(super) fn new(pid: i32) -> Self {
        Self {
            // `CPUCLOCK_SCHED` of the process, as `clock_getcpuclockid` makes it
            // (`include/linux/posix-timers_types.h`); 0 would be ourselves.
            clock: ClockId::from_raw((!pid << 3) | 2),
            before: None,
            now: None,
        }
    }

    /// Whether a process all of whose threads sleep has not run since before the last sample;
    /// `fast` when samples come so fast that it is not worth the question.
    pub(super) fn continues(&mut self, fast: bool) -> bool {
        self.now = if fast {
            None
        } else {
            clock_gettime(self.clock).ok().map(Duration::from)
        };
        self.now.is_some() && self.now == self.before
    }

    /// Notes that a sample was read, and whether it may be kept.
    pub(super) fn read(&mut self, keep: bool) {
        self.before = self.now.filter(|_| keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_that_waits_rests_and_one_that_has_run_does_not() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cat");
        let mut rest = Rest::new(child.id().cast_signed());
        assert!(!rest.continues(false), "nothing was read yet");
        rest.read(true);
        // It starts, and then it waits: sooner or later it has not run between two looks.
        while !rest.continues(false) {
            rest.read(true);
            std::thread::yield_now();
        }
        assert!(!rest.continues(true), "not asked at high rates");

        rest.read(true);
        assert!(
            !rest.continues(false),
            "the clock was not looked at before the last sample"
        );
        drop(child.stdin.take());
        child.wait().expect("the end of cat");
        rest.read(true);
        assert!(
            !rest.continues(false),
            "a process that is gone does not rest"
        );
    }
}
