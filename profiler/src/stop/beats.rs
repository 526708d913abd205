//! Beats on our side: one in each period, at a place that is in step with nothing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::jitter::Jitter;
use crate::record::clock::now_ns;

/// A timer whose descriptor is readable when there is a beat.
#[derive(Debug)]
pub(super) struct Beats {
    timer: TimerFd,
    period_ns: u64,
    /// Start of the period whose beat comes next.
    next_ns: u64,
    jitter: Jitter,
}

impl Beats {
    /// A timer that does not run yet.
    pub(super) fn new(period_ns: u64, seed: i32) -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Self {
            timer: TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?,
            period_ns: period_ns.max(1),
            next_ns: 0,
            jitter: Jitter::new(seed),
        })
    }

    /// Lets it run from now on.
    pub(super) fn start(&mut self) -> io::Result<()> {
        self.next_ns = now_ns();
        self.set()
    }

    /// Takes the beat, if there is one: how many have passed before it.
    pub(super) fn take(&mut self) -> Option<u64> {
        let mut expirations = [0; 8];
        nix::unistd::read(&self.timer, &mut expirations).ok()?;
        let behind = now_ns().saturating_sub(self.next_ns) / self.period_ns;
        self.next_ns += (behind + 1) * self.period_ns;
        // What could be set once can be set again.
        let _ = self.set();
        Some(behind)
    }

    fn set(&mut self) -> io::Result<()> {
        let at = self.next_ns + self.jitter.below(self.period_ns);
        // A time of zero would stop the timer; one that has passed rings at once.
        let at = Duration::from_nanos(at.max(1));
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
        Ok(self.timer.set(Expiration::OneShot(at.into()), flags)?)
    }
}

impl AsFd for Beats {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
