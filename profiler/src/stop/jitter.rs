//! Beats that are in step with nothing.
//!
//! A target that does the same once a period would otherwise be met doing it every time, or never.

/// Fractions of a period. Multiples of the golden ratio fill the range from 0 to 1 evenly however
/// many there are, so the mean is that of the range after a few already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jitter(u64);

/// 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Jitter {
    /// Begins anywhere, the same for the same number.
    pub(super) fn new(seed: i32) -> Self {
        Self(
            u64::from(seed.cast_unsigned())
                .wrapping_mul(STEP)
                .rotate_left(32),
        )
    }

    /// The next time below this one.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        ((u128::from(self.0) * u128::from(limit)) >> 64) as u64
    }

    /// A period that differs from this one by an eighth at most. A clock that runs out in the
    /// kernel begins the same period again: the narrow range keeps a thread that comes out of
    /// the kernel from being met too soon (by less than half a percent).
    pub(super) fn period(&mut self, period: u64) -> u64 {
        let eighth = period / 8;
        period - eighth + self.below(2 * eighth + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_stays_and_no_period_is_like_the_last() {
        let mut jitter = Jitter::new(4711);
        let periods: Vec<u64> = (0..1000).map(|_| jitter.period(10_000_000)).collect();
        assert!(periods.iter().all(|p| (8_750_000..=11_250_000).contains(p)));
        let mean = periods.iter().sum::<u64>() / 1000;
        assert!(mean.abs_diff(10_000_000) < 10_000, "{mean}");
        assert!(periods.windows(2).all(|p| p[0].abs_diff(p[1]) > 500_000));
    }

    #[test]
    fn beats_fall_everywhere_in_a_period() {
        let mut jitter = Jitter::new(1);
        let mut places = [0_u32; 64];
        (0..6400).for_each(|_| places[jitter.below(64) as usize] += 1);
        assert!(places.iter().all(|n| (90..110).contains(n)), "{places:?}");
    }
}
