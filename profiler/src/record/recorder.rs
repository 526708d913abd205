//! Turns the stacks of sessions into batches for the writing thread.

#[cfg(test)]
mod tests;
mod threads;

use std::collections::HashMap;
use std::io::Write;
use std::mem;

use onlooker_recording::tables::{Header, Mapping, Process, Totals, WeightKind};
use onlooker_recording::write::WriteError;
use rustc_hash::FxHashMap;

use super::batch::{Batch, NewProcess, RawSample};
use super::describe::Place;
use super::queue::{Offer, Queue};
use super::rows::{Observed, ProcessRows, Weight, identity, location, same_program};
use crate::session::{StackFrame, ThreadStack, Trust};

/// Beyond so many places the cache of their keys is emptied; the rows themselves stay.
const MAX_CACHED_LOCATIONS: u32 = 1 << 20;
/// A batch is handed over when it has so many samples or frames, or is so old.
const BATCH_SAMPLES: usize = 4096;
const BATCH_FRAMES: usize = 1 << 18;
const BATCH_NS: u64 = 200_000_000;

/// A recording that is being made, seen from the sampling thread.
pub struct Recorder {
    /// `None` once writing has failed.
    queue: Option<Queue>,
    batch: Batch,
    totals: Totals,
    processes: u32,
    /// Each process with its key, so that none is added twice.
    by_pid: HashMap<i32, (Process, u32)>,
    threads: u32,
    /// Samples of growth so far.
    growths: u32,
    locations: u32,
    /// Changes when keys of locations begin again at 0.
    locations_epoch: u32,
    /// Changes when samples were dropped: what a thread's next sample builds on is gone.
    stacks_epoch: u32,
    sent_ns: u64,
}

impl Recorder {
    /// Starts a recording.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn new<W>(out: W, header: &Header) -> Result<Self, WriteError>
    where
        W: Write + Send + 'static,
    {
        Ok(Self {
            queue: Some(Queue::start(out, header)?),
            batch: Batch::default(),
            totals: Totals::default(),
            processes: 0,
            by_pid: HashMap::new(),
            threads: 0,
            growths: 0,
            locations: 0,
            locations_epoch: 0,
            stacks_epoch: 0,
            sent_ns: 0,
        })
    }

    /// Adds a process, once; again only when it has become another program by exec.
    pub fn process(&mut self, process: Process, mappings: Vec<Mapping>) -> ProcessRows {
        let key = match self.by_pid.get(&process.pid) {
            // It has made its interpreter anew, or the first look was too early.
            Some((known, key)) if same_program(known, &process) => *key,
            _ => {
                let key = self.processes;
                self.processes += 1;
                self.by_pid.insert(process.pid, (process.clone(), key));
                self.batch.processes.push(NewProcess { process, mappings });
                key
            }
        };
        ProcessRows {
            key,
            threads: FxHashMap::default(),
            locations: FxHashMap::default(),
            locations_epoch: self.locations_epoch,
        }
    }

    /// Begins a tick.
    pub fn tick(&mut self) {
        self.totals.ticks += 1;
    }

    /// The tick before this one.
    pub(super) fn last_tick(&self) -> u64 {
        self.totals.ticks.saturating_sub(1)
    }

    /// Adds the stack of a thread that [`thread`](Self::thread) has added.
    pub(super) fn sample(
        &mut self,
        rows: &mut ProcessRows,
        stack: &ThreadStack,
        observed: Observed,
        time_ns: u64,
        code: impl Fn(StackFrame) -> Option<Place>,
    ) {
        let reason = stack.trust.reason().or(observed.weight.reason);
        if stack.frames().is_empty() && matches!(stack.trust, Trust::Cut(_)) {
            // There is nothing to keep of it.
            let Weight { kind, amount, .. } = observed.weight;
            let count = if kind == WeightKind::Samples {
                amount
            } else {
                1
            };
            self.lost(reason.unwrap_or_default(), count);
            return;
        }
        if rows.locations_epoch != self.locations_epoch {
            rows.locations_epoch = self.locations_epoch;
            rows.locations.clear();
        }
        let Some(known) = rows.threads.get_mut(&identity(stack)) else {
            return;
        };
        known.seen = self.totals.ticks;
        if known.stacks_epoch != self.stacks_epoch {
            known.stacks_epoch = self.stacks_epoch;
            known.last.clear();
        }
        // The frames that are as they were keep their ids.
        let depth = stack.frames().len();
        let same = known
            .last
            .iter()
            .zip(stack.frames().iter().rev())
            .take_while(|(old, new)| old == new)
            .count();
        known.last.truncate(same);
        for frame in stack.frames().iter().take(depth - same).rev() {
            let key = *rows
                .locations
                .entry((frame.code, frame.lasti))
                .or_insert_with(|| {
                    self.batch.locations.push(location(code(*frame)));
                    self.locations += 1;
                    self.locations - 1
                });
            self.batch.frames.push(key);
            known.last.push(*frame);
        }
        self.batch.verified += u64::from(reason.is_none());
        self.batch.samples.push(RawSample {
            time_ns,
            thread: known.key,
            same: same as u32,
            own: (depth - same) as u32,
            state: observed.state,
            reason,
            weight_kind: observed.weight.kind,
            weight: observed.weight.amount,
            growth: observed.weight.growth,
        });
    }

    /// Marks what was sampled of a process after `since_ns`, as far as it was not handed over yet.
    pub(super) fn distrust(&mut self, rows: &ProcessRows, since_ns: u64, reason: &'static str) {
        let is_of_process = |thread| rows.threads.values().any(|known| known.key == thread);
        self.batch.distrust(since_ns, reason, is_of_process);
    }

    /// Adds the resident size of a process.
    pub(super) fn rss(&mut self, rows: &ProcessRows, time_ns: u64, bytes: u64) {
        self.batch.rss.push((rows.key, time_ns, bytes));
    }

    /// The number of the next sample of growth.
    pub(super) fn next_growth(&mut self) -> u32 {
        // The numbers of samples that keep something are far fewer than this.
        self.growths = self.growths.wrapping_add(1);
        self.growths
    }

    /// Tells which samples of growth keep nothing.
    pub(super) fn gone(&mut self, growths: Vec<u32>) {
        self.batch.gone.extend(growths);
    }

    /// Tells at the end how many bytes of which sample of growth are kept.
    pub(super) fn kept(&mut self, kept: Vec<(u32, u64)>) {
        self.batch.kept = kept;
    }

    /// Counts samples that gave nothing.
    pub fn lost(&mut self, reason: &str, count: u64) {
        if count > 0 {
            add(&mut self.totals.lost, reason, count);
        }
    }

    /// Whether a batch is due: only then are the counts worth bringing up to date.
    #[must_use]
    pub fn is_due(&self, now_ns: u64) -> bool {
        self.batch.samples.len() >= BATCH_SAMPLES
            || self.batch.frames.len() >= BATCH_FRAMES
            || now_ns >= self.sent_ns + BATCH_NS
    }

    /// Hands over what there is. When the writing thread cannot keep up, the samples are
    /// dropped and counted as lost (`queue`).
    ///
    /// # Errors
    /// When the output could not be written; nothing more can be recorded then.
    pub fn send(&mut self, now_ns: u64) -> Result<(), WriteError> {
        self.sent_ns = now_ns;
        let before = self.totals.clone();
        let batch = self.next_batch(now_ns);
        let offer = self.queue.as_ref().map(|queue| queue.offer(batch));
        match offer {
            None | Some(Offer::Taken) => {}
            Some(Offer::Full(mut batch)) => {
                self.totals = before;
                let dropped = batch.drop_samples();
                self.lost("queue", dropped);
                self.stacks_epoch += 1;
                self.batch = *batch;
            }
            Some(Offer::Gone) => return self.queue.take().map_or(Ok(()), Queue::join),
        }
        if self.locations > MAX_CACHED_LOCATIONS {
            self.locations = 0;
            self.locations_epoch += 1;
            // Those that were not taken yet belong to samples that were dropped.
            self.batch.locations.clear();
            self.batch.forget_locations = true;
        }
        Ok(())
    }

    /// Takes the batch and counts its samples.
    fn next_batch(&mut self, now_ns: u64) -> Batch {
        let mut batch = mem::take(&mut self.batch);
        let samples = batch.samples.len() as u64;
        self.totals.verified += batch.verified;
        self.totals.unverified += samples - batch.verified;
        if samples > batch.verified {
            for reason in batch.samples.iter().filter_map(|sample| sample.reason) {
                add(&mut self.totals.unverified_by, reason, 1);
            }
        }
        batch.totals = self.totals.clone();
        batch.time_ns = now_ns;
        batch
    }

    /// How many processes were added.
    #[must_use]
    pub fn processes(&self) -> u32 {
        self.processes
    }

    /// The counts so far, but for samples that wait to be handed over.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The counts that are not about single samples, to be brought up to date.
    pub fn totals_mut(&mut self) -> &mut Totals {
        &mut self.totals
    }

    /// Ends the recording.
    ///
    /// # Errors
    /// When the output could not be written.
    pub fn finish(mut self) -> Result<Totals, WriteError> {
        let last = self.next_batch(self.sent_ns);
        if let Some(queue) = self.queue {
            queue.finish(last)?;
        }
        Ok(self.totals)
    }
}

fn add(counts: &mut Vec<(String, u64)>, reason: &str, count: u64) {
    match counts.iter_mut().find(|(known, _)| known == reason) {
        Some((_, sum)) => *sum += count,
        None => counts.push((reason.to_owned(), count)),
    }
}
