//! When it is looked which pages are still there.
//!
//! A look at gigabytes takes long, and stops come first: it is made in pieces while nobody stands
//! still, and more seldom the longer it takes.

use std::time::{Duration, Instant};

use super::pages::{Look, Pages};

/// The shortest time between two looks.
const EVERY_NS: u64 = 100_000_000;
/// Looks take one part in so many of the time at most ...
const SHARE: u64 = 50;
/// ... but however long they take, this is the longest time between two.
const AT_LEAST_EVERY_NS: u64 = 900_000_000;
/// A piece: a stop is delayed by so much at most (and by two megabytes of pages, some microseconds).
const PIECE: Duration = Duration::from_micros(50);

/// The look that is under way, and when the next one begins.
#[derive(Debug, Default)]
pub(super) struct Looks {
    look: Option<Look>,
    took: Duration,
    next_ns: u64,
}

impl Looks {
    /// Begins a look when it is time for one.
    pub(super) fn begin(&mut self, now_ns: u64) {
        if self.look.is_none() && now_ns >= self.next_ns {
            self.look = Some(Look::default());
            self.took = Duration::ZERO;
        }
    }

    /// Whether there is more to look at.
    pub(super) fn is_under_way(&self) -> bool {
        self.look.is_some()
    }

    /// Looks on for a piece of time; the look when that was its last one.
    pub(super) fn go_on(&mut self, pages: &Pages, now_ns: u64) -> Option<Look> {
        let mut look = self.look.take()?;
        let start = Instant::now();
        pages.look(&mut look, || start.elapsed() < PIECE);
        self.took += start.elapsed();
        if !look.done {
            self.look = Some(look);
            return None;
        }
        let took = u64::try_from(self.took.as_nanos()).unwrap_or(u64::MAX);
        let pause = took.saturating_mul(SHARE);
        self.next_ns = now_ns + pause.clamp(EVERY_NS, AT_LEAST_EVERY_NS);
        Some(look)
    }
}
