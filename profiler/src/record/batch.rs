//! What the sampling thread hands to the writing thread: plain values, no process and no lock.
//!
//! Rows (processes, threads, locations) go by keys that the sampling thread gives in order, so
//! that it never waits for an id. A stack goes as the number of its outer frames that are those
//! of the thread's last sample, and the others: a thread that does not move costs nothing.

use onlooker_recording::tables::{Mapping, Process, State, Totals, WeightKind};
use onlooker_symbols::linetable::Position;

/// A piece of the recording.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Whether keys of locations begin at 0 again.
    pub(super) forget_locations: bool,
    pub(super) processes: Vec<NewProcess>,
    pub(super) threads: Vec<NewThread>,
    pub(super) locations: Vec<NewLocation>,
    /// Keys of threads that are gone.
    pub(super) ended: Vec<u32>,
    pub(super) samples: Vec<RawSample>,
    /// The frames of all samples, each a key of a location, outermost first within a sample.
    pub(super) frames: Vec<u32>,
    /// Key of a process, time in nanoseconds, resident bytes.
    pub(super) rss: Vec<(u32, u64, u64)>,
    /// Samples of growth that keep nothing.
    pub(super) gone: Vec<u32>,
    /// Bytes that are kept of samples of growth, at the end.
    pub(super) kept: Vec<(u32, u64)>,
    /// How many of the samples passed every check.
    pub(super) verified: u64,
    /// Counts of the recording, these samples included.
    pub(super) totals: Totals,
    pub(super) time_ns: u64,
}

/// A process and the files that it maps.
#[derive(Debug)]
pub(super) struct NewProcess {
    pub(super) process: Process,
    pub(super) mappings: Vec<Mapping>,
}

#[derive(Debug)]
pub(super) struct NewThread {
    pub(super) key: u32,
    /// Key of its process.
    pub(super) process: u32,
    pub(super) os_thread_id: Option<i32>,
    pub(super) thread_id: u64,
    pub(super) interpreter: i64,
    pub(super) name: String,
}

#[derive(Debug)]
pub(super) struct NewLocation {
    pub(super) name: String,
    pub(super) filename: String,
    pub(super) position: Position,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct RawSample {
    pub(super) time_ns: u64,
    /// Key of its thread.
    pub(super) thread: u32,
    /// Outer frames that are those of the thread's last sample.
    pub(super) same: u32,
    /// Frames of its own in [`Batch::frames`].
    pub(super) own: u32,
    pub(super) state: State,
    /// Why it is not verified; `None` for a verified one.
    pub(super) reason: Option<&'static str>,
    /// What the weight counts.
    pub(super) weight_kind: WeightKind,
    /// How much it stands for.
    pub(super) weight: u64,
    /// Its number, of a sample of growth.
    pub(super) growth: Option<u32>,
}

impl Batch {
    /// Marks the verified samples after `since_ns` of some threads, by their key.
    pub(super) fn distrust(
        &mut self,
        since_ns: u64,
        reason: &'static str,
        is_meant: impl Fn(u32) -> bool,
    ) {
        let samples = self.samples.iter_mut().rev();
        for sample in samples.take_while(|sample| sample.time_ns > since_ns) {
            if sample.reason.is_none() && is_meant(sample.thread) {
                sample.reason = Some(reason);
                self.verified -= 1;
            }
        }
    }

    /// Drops the samples, keeps the rows; how many samples were dropped.
    pub(super) fn drop_samples(&mut self) -> u64 {
        let dropped = self.samples.len() as u64;
        self.samples.clear();
        self.frames.clear();
        self.verified = 0;
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue_tests::sample;
    use super::*;

    #[test]
    fn what_was_sampled_since_is_marked() {
        let of = |time_ns, thread, reason| RawSample {
            time_ns,
            thread,
            reason,
            ..sample(0, 1)
        };
        let mut batch = Batch {
            samples: vec![
                of(1, 7, None),
                of(2, 7, None),
                of(3, 8, None),
                of(3, 7, Some("gap")),
                of(4, 7, None),
            ],
            verified: 4,
            ..Batch::default()
        };
        batch.distrust(1, "code", |thread| thread == 7);
        let reasons: Vec<_> = batch.samples.iter().map(|sample| sample.reason).collect();
        assert_eq!(
            reasons,
            [None, Some("code"), None, Some("gap"), Some("code")]
        );
        assert_eq!(batch.verified, 2);
    }
}
