//! The clock: absolute deadlines, jitter, missed beats counted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

/// Beats at a fixed mean rate. A beat that comes while an earlier one is still being worked on
/// is missed and counted; the clock never falls behind.
///
/// Time is cut into periods, and each has its beat at a random place: a target that does the
/// same thing once a period would otherwise be seen in the same place for ever, and the mean
/// rate is kept all the same. The first beat is at once.
#[derive(Debug)]
pub struct Clock {
    /// 0 for as fast as possible.
    period_ns: u64,
    start_ns: u64,
    /// Start of the period whose beat comes next, and the place of the beat in it.
    next_ns: u64,
    offset_ns: u64,
    missed: u64,
    random: u64,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// It is time for a sample.
    Tick,
    /// It is not: the wait was cut short by its limit or by a signal.
    Pause,
}

/// Monotonic time in nanoseconds.
#[must_use]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Time of day in nanoseconds since 1970.
#[must_use]
pub fn unix_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

impl Clock {
    /// A clock that starts now, at `rate_hz` (infinite for as fast as possible), with jitter
    /// that follows from `seed`.
    #[must_use]
    pub fn new(rate_hz: f64, seed: u64) -> Self {
        let now = now_ns();
        let period_ns = if rate_hz.is_finite() {
            ((1e9 / rate_hz) as u64).max(1)
        } else {
            0
        };
        Self {
            period_ns,
            start_ns: now,
            next_ns: now,
            offset_ns: 0,
            missed: 0,
            random: seed,
        }
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub fn elapsed_ns(&self) -> u64 {
        now_ns().saturating_sub(self.start_ns)
    }

    /// Beats that were missed so far.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Waits for the next beat, at most for `limit`, and not beyond a signal.
    pub fn wait(&mut self, limit: Duration) -> Beat {
        if self.period_ns == 0 {
            return Beat::Tick;
        }
        let now = now_ns();
        if now >= self.next_ns + self.period_ns {
            let behind = (now - self.next_ns) / self.period_ns;
            self.missed += behind;
            self.next_ns += behind * self.period_ns;
        }
        let beat = self.next_ns + self.offset_ns;
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let until = beat.min(now.saturating_add(limit));
        if now < until {
            let deadline = TimeSpec::from(Duration::from_nanos(until));
            let flags = ClockNanosleepFlags::TIMER_ABSTIME;
            // Interrupted by a signal: the caller looks at its flags.
            let slept = clock_nanosleep(ClockId::CLOCK_MONOTONIC, flags, &deadline);
            if slept.is_err() || until < beat {
                return Beat::Pause;
            }
        }
        self.next_ns += self.period_ns;
        self.offset_ns = self.random() % self.period_ns;
        Beat::Tick
    }

    /// SplitMix64: nothing here needs better.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn beats_that_pass_are_counted_not_made_up_for() {
        let mut clock = Clock::new(1000.0, 1);
        assert_eq!(clock.wait(LONG), Beat::Tick);
        clock.next_ns -= 10 * clock.period_ns;
        clock.wait(LONG);
        assert!(clock.missed() >= 8, "{}", clock.missed());
        let missed = clock.missed();
        clock.wait(LONG);
        assert!(clock.missed() <= missed + 1);
    }

    #[test]
    fn every_period_has_one_beat_and_beats_fall_everywhere_in_it() {
        let mut clock = Clock::new(1e9 / 64.0, 7);
        let mut places = [0_u32; 64];
        // The time that it takes plays no part: all beats lie in the past.
        for period in 0..64_000_u64 {
            clock.next_ns = now_ns() - clock.offset_ns - 1;
            let before = clock.next_ns;
            assert_eq!(clock.wait(LONG), Beat::Tick, "{period}");
            assert!(clock.next_ns > before);
            places[clock.offset_ns as usize] += 1;
        }
        assert!(places.iter().all(|n| (800..1200).contains(n)), "{places:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_beats() {
        let offsets = |seed| {
            let mut clock = Clock::new(1000.0, seed);
            [(); 4].map(|()| clock.random())
        };
        assert_eq!(offsets(3), offsets(3));
        assert_ne!(offsets(3), offsets(4));
    }

    #[test]
    fn a_slow_clock_can_be_left_early_and_a_free_one_never_waits() {
        let mut slow = Clock::new(0.01, 1);
        assert_eq!(slow.wait(LONG), Beat::Tick);
        slow.offset_ns = slow.period_ns / 2;
        assert_eq!(slow.wait(Duration::from_millis(1)), Beat::Pause);
        let mut free = Clock::new(f64::INFINITY, 1);
        for _ in 0..1000 {
            assert_eq!(free.wait(LONG), Beat::Tick);
        }
        assert_eq!(free.missed(), 0);
    }
}
