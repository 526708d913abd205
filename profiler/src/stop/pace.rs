//! How many page faults pass between two events of a thread.
//!
//! A fault may bring in 4 KiB or a huge page of 2 MiB, 512 times as much, and the event cannot tell
//! before. A thread that touches huge pages makes few faults: an array of 64 MiB takes 32, and one
//! in 64 would mostly miss them all. So each fault is an event after one that brought in a huge
//! page, and when a thread begins to grow after a rest; the period grows again with each event
//! of ordinary pages. How many faults an event stands for is counted by the kernel.

use std::time::{Duration, Instant};

/// A thread without an event for so long rests.
const REST: Duration = Duration::from_millis(100);
/// The period becomes so many times as long with an event of ordinary pages: 64 after six events.
const FACTOR: u64 = 4;

/// The period of one thread.
#[derive(Debug)]
pub(super) struct Pace {
    longest: u64,
    now: u64,
    /// The next event comes at once: counting begins with it when a period is set
    /// (`perf_swevent_event` after `__perf_event_period`, `kernel/events/core.c`).
    at_once: bool,
    last: Instant,
}

impl Pace {
    /// At the longest period, as the event is.
    pub(super) fn new(longest: u64) -> Self {
        Self {
            longest,
            now: longest,
            at_once: false,
            last: Instant::now(),
        }
    }

    /// Takes in an event, and whether it brought in a huge page; the period to set, if another.
    pub(super) fn after(&mut self, huge: bool) -> Option<u64> {
        self.last = Instant::now();
        let at_once = std::mem::take(&mut self.at_once);
        if huge {
            self.set(1)
        } else if at_once {
            None
        } else {
            self.set(self.now.saturating_mul(FACTOR).min(self.longest))
        }
    }

    /// The period to set for a thread that rests.
    pub(super) fn at_rest(&mut self) -> Option<u64> {
        (self.last.elapsed() > REST).then(|| self.set(1)).flatten()
    }

    fn set(&mut self, period: u64) -> Option<u64> {
        let changes = period != self.now;
        self.now = period;
        self.at_once |= changes && period > 1;
        changes.then_some(period)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_an_event_after_a_huge_page_and_fewer_are_after_others() {
        let mut pace = Pace::new(64);
        assert_eq!(pace.after(false), None);
        assert_eq!(pace.after(true), Some(1));
        assert_eq!(pace.after(true), None);
        let ordinary: Vec<_> = (0..7).map(|_| pace.after(false)).collect();
        let set = [Some(4), None, Some(16), None, Some(64), None, None];
        assert_eq!(ordinary, set);
        assert_eq!(pace.at_rest(), None);
        pace.last -= 2 * REST;
        assert_eq!(pace.at_rest(), Some(1));
        assert_eq!(pace.at_rest(), None);
    }

    #[test]
    fn where_each_fault_is_an_event_nothing_is_set() {
        let mut pace = Pace::new(1);
        pace.last -= 2 * REST;
        let set = [pace.at_rest(), pace.after(true), pace.after(false)];
        assert_eq!(set, [None; 3]);
    }
}
