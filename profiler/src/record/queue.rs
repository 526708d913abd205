//! The writing thread and the bounded queue before it.
//!
//! Giving ids, packing, compressing and writing happen there. A disk that stands still fills
//! the queue; samples are then lost and counted, and the sampling thread goes on.

use std::collections::HashMap;
use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use onlooker_recording::tables::{
    Header, Location, LocationId, Process, ProcessId, RssPoint, Sample, StackId, StringId, Thread,
    ThreadId, Totals, Trust, WeightKind,
};
use onlooker_recording::write::{WriteError, Writer};

use super::batch::Batch;

/// Batches that may wait, of a few thousand samples each: about a second at the highest rates.
const QUEUE: usize = 64;

/// The end of the queue that the sampling thread holds.
pub(super) struct Queue {
    sender: SyncSender<Batch>,
    writer: JoinHandle<Result<(), WriteError>>,
}

/// What came of a batch that was offered.
#[derive(Debug)]
pub(super) enum Offer {
    Taken,
    /// The queue is full.
    Full(Box<Batch>),
    /// The writing thread has failed.
    Gone,
}

impl Queue {
    /// Starts a recording into `out`. Its head is written before this returns.
    pub(super) fn start<W>(out: W, header: &Header) -> Result<Self, WriteError>
    where
        W: Write + Send + 'static,
    {
        let writer = Writer::new(out, header)?;
        let (sender, receiver) = sync_channel(QUEUE);
        let writer = thread::spawn(move || Rows::new(writer).write(&receiver));
        Ok(Self { sender, writer })
    }

    pub(super) fn offer(&self, batch: Batch) -> Offer {
        match self.sender.try_send(batch) {
            Ok(()) => Offer::Taken,
            Err(TrySendError::Full(batch)) => Offer::Full(Box::new(batch)),
            Err(TrySendError::Disconnected(_)) => Offer::Gone,
        }
    }

    /// Hands over the last batch, waiting as long as it takes, and ends the recording.
    pub(super) fn finish(self, last: Batch) -> Result<(), WriteError> {
        // A writer that is gone says why when it is joined.
        let _ = self.sender.send(last);
        self.join()
    }

    /// Waits for the end of the writing thread.
    pub(super) fn join(self) -> Result<(), WriteError> {
        drop(self.sender);
        match self.writer.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Keys of the sampling thread and the ids of the recording that they stand for.
struct Rows<W: Write> {
    writer: Writer<W>,
    processes: Vec<ProcessId>,
    /// With the stack of the last sample, outermost frame first.
    threads: HashMap<u32, (ThreadId, Vec<StackId>)>,
    locations: Vec<LocationId>,
    reasons: HashMap<&'static str, StringId>,
    /// Samples of growth that may keep something, by number.
    growths: HashMap<u32, Sample>,
    totals: Totals,
}

impl<W: Write> Rows<W> {
    fn new(writer: Writer<W>) -> Self {
        Self {
            writer,
            processes: Vec::new(),
            threads: HashMap::new(),
            locations: Vec::new(),
            reasons: HashMap::new(),
            growths: HashMap::new(),
            totals: Totals::default(),
        }
    }

    fn write(mut self, batches: &Receiver<Batch>) -> Result<(), WriteError> {
        for batch in batches {
            let now_ns = batch.time_ns;
            self.take(batch);
            if self.writer.block_due(now_ns) {
                self.writer.write_block(now_ns, &self.totals)?;
            }
        }
        self.writer.finish(&self.totals).map(drop)
    }

    fn take(&mut self, batch: Batch) {
        self.totals = batch.totals;
        if batch.forget_locations {
            self.locations.clear();
        }
        for new in batch.processes {
            self.process(new.process, new.mappings);
        }
        for new in batch.threads {
            let thread = Thread {
                process: self.processes[new.process as usize],
                os_thread_id: new.os_thread_id,
                thread_id: new.thread_id,
                interpreter: new.interpreter,
                name: self.writer.string(&new.name),
            };
            let id = self.writer.thread(thread);
            self.threads.insert(new.key, (id, Vec::new()));
        }
        for new in batch.locations {
            let location = Location {
                name: self.writer.string(&new.name),
                filename: self.writer.string(&new.filename),
                line: new.position.line,
                column: new.position.column,
                end_line: new.position.end_line,
                end_column: new.position.end_column,
            };
            self.locations.push(self.writer.location(location));
        }
        let mut frames = batch.frames.as_slice();
        for raw in batch.samples {
            let Some((id, stack)) = self.threads.get_mut(&raw.thread) else {
                continue;
            };
            stack.truncate(raw.same as usize);
            let (own, rest) = frames.split_at(raw.own as usize);
            frames = rest;
            for key in own {
                let location = self.locations[*key as usize];
                stack.push(self.writer.stack(stack.last().copied(), location));
            }
            let reason = raw.reason.map(|reason| {
                let writer = &mut self.writer;
                *self
                    .reasons
                    .entry(reason)
                    .or_insert_with(|| writer.string(reason))
            });
            let sample = Sample {
                time_ns: raw.time_ns,
                thread: *id,
                stack: stack.last().copied(),
                state: raw.state,
                trust: match raw.reason {
                    None => Trust::Verified,
                    Some(_) => Trust::Unverified,
                },
                reason,
                weight_kind: raw.weight_kind,
                weight: raw.weight,
            };
            self.writer.sample(sample);
            if let Some(number) = raw.growth {
                self.growths.insert(number, sample);
            }
        }
        for (process, time_ns, rss_bytes) in batch.rss {
            self.writer.rss(RssPoint {
                time_ns,
                process: self.processes[process as usize],
                rss_bytes,
            });
        }
        for number in batch.gone {
            self.growths.remove(&number);
        }
        for (number, bytes) in batch.kept {
            // A sample that was dropped is not there.
            if let Some(grown) = self.growths.remove(&number) {
                self.writer.sample(Sample {
                    time_ns: batch.time_ns,
                    weight_kind: WeightKind::BytesKept,
                    weight: bytes,
                    ..grown
                });
            }
        }
        for key in batch.ended {
            self.threads.remove(&key);
        }
    }

    fn process(&mut self, process: Process, mappings: Vec<onlooker_recording::tables::Mapping>) {
        let id = self.writer.process(process);
        self.processes.push(id);
        for mut mapping in mappings {
            mapping.process = id;
            self.writer.mapping(mapping);
        }
    }
}
