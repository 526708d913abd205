//! A sample is tried until it is accepted: all threads at once, then each that was not alone.

use std::time::{Duration, Instant};

use onlooker_unwinder::frames::Cut;
use onlooker_unwinder::memory::{Class, ReadError};
use onlooker_unwinder::sampler::Outcome;

use super::Session;

/// The lists of interpreters and threads are followed at most so often, however high the rate.
const LISTS_EVERY: Duration = Duration::from_millis(1);
/// Tries before a stack is judged although its copies differ.
const TRIES_AT_ONCE: usize = 16;
/// Calls for one thread in one sample: a target that changes its mappings all the time makes each
/// of them wait.
const CALLS_FOR_ONE: u64 = 120;
impl Session {
    /// All threads once, then those again that were not accepted.
    pub(super) fn attempts(&mut self, tries: usize) -> Result<(), ReadError> {
        let now = Instant::now();
        if !self.ahead {
            self.sampler.begin();
        }
        let known = self.fast && self.lists_read.is_some_and(|read| now - read < LISTS_EVERY);
        if known {
            self.pending.clear();
            self.pending.extend(0..self.sampler.threads().len());
            return self.attempts_of_pending(now, tries, 0);
        }
        self.lists_read = Some(now);
        self.sampler.sample()?;
        self.pending.clear();
        self.pending.extend(0..self.sampler.threads().len());
        self.find_places();
        self.judge(now, tries == 1)?;
        self.attempts_of_pending(now, tries, 1)
    }

    /// The pending threads, until all are accepted or `tries` are used for one, of which `used`
    /// are: together at first, then each alone.
    pub(super) fn attempts_of_pending(
        &mut self,
        now: Instant,
        tries: usize,
        used: usize,
    ) -> Result<(), ReadError> {
        let mut waiting = std::mem::take(&mut self.waiting);
        let mut used = used;
        if used == 0 && self.pending.len() > 1 {
            self.sampler.sample_some(&self.pending, 1)?;
            used = 1;
            self.judge(now, used == tries)?;
        }
        waiting.clone_from(&self.pending);
        let mut result = Ok(());
        waiting.retain(|index| {
            if result.is_ok() {
                self.pending.clear();
                self.pending.push(*index);
                result = self.attempts_of_one(now, tries, used);
            }
            !self.pending.is_empty()
        });
        std::mem::swap(&mut self.pending, &mut waiting);
        self.waiting = waiting;
        result
    }

    /// The one thread that is pending, until it is accepted.
    fn attempts_of_one(
        &mut self,
        now: Instant,
        tries: usize,
        mut used: usize,
    ) -> Result<(), ReadError> {
        let before = self.cost(Class::Stacks).calls;
        let mut last = used >= tries;
        while !last && !self.pending.is_empty() {
            if self.drop_ended()? {
                break;
            }
            let next = TRIES_AT_ONCE.min(tries - used);
            used += self.sampler.sample_some(&self.pending, next)?;
            last = used >= tries || self.cost(Class::Stacks).calls - before >= CALLS_FOR_ONE;
            self.judge(now, last)?;
        }
        self.retries += used.saturating_sub(1) as u64;
        // It may have ended in the last try.
        self.drop_ended().map(drop)
    }

    /// Whether the one thread that is pending has ended since the lists were read: that is no
    /// failure, and there is nothing to try again.
    fn drop_ended(&mut self) -> Result<bool, ReadError> {
        let Some(&index) = self.pending.first() else {
            return Ok(false);
        };
        let outcome = self.sampler.threads()[index].outcome;
        if outcome != Some(Outcome::Cut(Cut::Thread)) || self.sampler.is_listed(index)? {
            return Ok(false);
        }
        self.stacks[self.places[index]].current = false;
        self.pending.clear();
        Ok(true)
    }
}
