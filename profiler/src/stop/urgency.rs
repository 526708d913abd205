//! Whether the stop thread goes before all others: only as long as it needs little of a CPU.
//!
//! While it waits for a CPU a thread of the target stands still, so it runs as SCHED_RR where it
//! may. But a thread of that kind gives nothing away: at a rate that the machine cannot follow the
//! others would get what the kernel keeps back for them (`sched_rt_runtime_us`, 5 %), among them the
//! target, a shell that is to send `kill -9`, and our own main thread, which hears of Ctrl-C. So it
//! looks at its own CPU time and becomes ordinary when it takes more than half of the time; then
//! the scheduler shares the CPU fairly, and whoever wants to end it gets the turn to.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::sys::urgent;

/// Its share is looked at so often.
const WINDOW: Duration = Duration::from_millis(20);
/// It becomes ordinary beyond one part in so many, urgent again below one part in so many ...
const TOO_MUCH: u32 = 2;
const LITTLE: u32 = 4;
/// ... in so many windows in a row: a second.
const CALM_WINDOWS: u32 = 50;

/// The scheduling of the calling thread.
#[derive(Debug)]
pub(super) struct Urgency {
    share: Share,
    looked: Instant,
    /// Its CPU time then.
    cpu: Duration,
}

impl Urgency {
    /// Makes the calling thread urgent, where it has the right to; without it stops take longer.
    pub(super) fn new() -> Self {
        Self {
            share: Share {
                urgent: urgent::set(true).is_ok(),
                may: true,
                calm: 0,
            },
            looked: Instant::now(),
            cpu: cpu(),
        }
    }

    /// Whether the calling thread goes before all others.
    pub(super) fn is_urgent(&self) -> bool {
        self.share.urgent
    }

    /// To be called again and again; does something once in a window.
    pub(super) fn look(&mut self) {
        let passed = self.looked.elapsed();
        if passed < WINDOW || !self.share.may {
            return;
        }
        let cpu = cpu();
        let ran = cpu.saturating_sub(self.cpu);
        self.looked += passed;
        self.cpu = cpu;
        if let Some(urgent) = self.share.judge(ran, passed) {
            // What was refused once is refused again.
            self.share.may = urgent::set(urgent).is_ok();
        }
    }
}

/// What its share of a CPU means.
#[derive(Debug)]
struct Share {
    urgent: bool,
    may: bool,
    calm: u32,
}

impl Share {
    /// What it is to become after it has run so long in so much time; `None` for no change.
    fn judge(&mut self, ran: Duration, passed: Duration) -> Option<bool> {
        if self.urgent {
            self.calm = 0;
            self.urgent = ran * TOO_MUCH <= passed;
            return (!self.urgent).then_some(false);
        }
        self.calm = if ran * LITTLE < passed {
            self.calm + 1
        } else {
            0
        };
        self.urgent = self.calm >= CALM_WINDOWS;
        self.urgent.then_some(true)
    }
}

fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_steps_down_at_once_and_up_after_a_calm_second() {
        let ms = Duration::from_millis;
        let mut share = Share {
            urgent: true,
            may: true,
            calm: 0,
        };
        assert_eq!(share.judge(ms(10), ms(20)), None);
        assert_eq!(share.judge(ms(11), ms(20)), Some(false));
        for _ in 1..CALM_WINDOWS {
            assert_eq!(share.judge(ms(1), ms(20)), None);
        }
        assert_eq!(share.judge(ms(5), ms(20)), None, "not calm");
        for _ in 1..CALM_WINDOWS {
            assert_eq!(share.judge(ms(1), ms(20)), None);
        }
        assert_eq!(share.judge(ms(1), ms(20)), Some(true));
    }
}
