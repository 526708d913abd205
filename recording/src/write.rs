//! Writing a recording.
//!
//! The [`Writer`] interns what the profiler sees and appends a block whenever it is told to. It
//! keeps each distinct row in memory, for it must know it again, and samples only until the next
//! block: its memory is bounded by what is distinct, not by time.

mod encode;
mod tail;
mod tails;

use crate::columns::time_unit_ns;
use crate::frame::{seal, stream_head};
use crate::limits::{BLOCK_BUDGET_BYTES, cut};
use crate::proto;
use crate::tables::{
    Header, Interner, Location, LocationId, Mapping, Process, ProcessId, RssPoint, Sample, StackId,
    StackNode, StringId, Thread, ThreadId, Totals,
};
use prost::Message;
use std::io::{self, Write};
use std::sync::Arc;
use tail::Budget;
use tails::Tails;
use thiserror::Error;

/// Longest time between two blocks while the caller asks [`Writer::block_due`].
const BLOCK_INTERVAL_NS: u64 = 1_000_000_000;

/// Samples that make a block due before its time.
const DUE_SAMPLES: usize = 16 << 10;

/// Fast enough to take no notice of, and blocks are too small for higher levels to gain much.
const COMPRESSION_LEVEL: i32 = 3;

/// Why a recording could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The output refused.
    #[error("cannot write the recording after {offset} bytes: {source}")]
    Io {
        /// Bytes written so far.
        offset: u64,
        /// What the output said.
        source: io::Error,
    },
    /// The compressor failed.
    #[error("cannot compress block {sequence} of the recording: {source}")]
    Compress {
        /// Number of the block.
        sequence: u32,
        /// What the compressor said.
        source: io::Error,
    },
}

/// Writes a recording to `W`.
///
/// Dropping it without [`finish`](Writer::finish) leaves what a killed writer leaves: a
/// recording that is readable up to its last block.
pub struct Writer<W: Write> {
    out: W,
    strings: Interner<Arc<str>>,
    locations: Interner<Location>,
    stacks: Interner<StackNode>,
    tails: Tails,
    samples: Vec<Sample>,
    rss: Vec<RssPoint>,
    samples_written: u64,
    sequence: u32,
    last_block_ns: u64,
    time_unit_ns: u64,
    compressor: zstd::bulk::Compressor<'static>,
    raw: Vec<u8>,
    /// The block that is being written; kept until the output has taken all of it.
    frame: Vec<u8>,
    bytes_written: u64,
}

impl<W: Write> Writer<W> {
    /// Starts a recording: writes and flushes a first block with `header`, so that an output
    /// that cannot be written is known before the work starts.
    ///
    /// # Errors
    /// When the output refuses.
    pub fn new(out: W, header: &Header) -> Result<Self, WriteError> {
        let compressor = zstd::bulk::Compressor::new(COMPRESSION_LEVEL).map_err(|source| {
            WriteError::Compress {
                sequence: 0,
                source,
            }
        })?;
        let mut writer = Self {
            out,
            strings: Interner::default(),
            locations: Interner::default(),
            stacks: Interner::default(),
            tails: Tails::default(),
            samples: Vec::new(),
            rss: Vec::new(),
            samples_written: 0,
            sequence: 0,
            last_block_ns: 0,
            time_unit_ns: time_unit_ns(header.rate_hz),
            compressor,
            raw: Vec::new(),
            frame: stream_head().to_vec(),
            bytes_written: 0,
        };
        writer.deliver()?;
        writer.tails.header.push(encode::cut_header(header.clone()));
        writer.write_block(0, &Totals::default())?;
        Ok(writer)
    }

    /// The id of a string. One of more than 64 KiB is cut there.
    pub fn string(&mut self, s: &str) -> StringId {
        let s = cut(s);
        if let Some(id) = self.strings.get(s) {
            return StringId(id);
        }
        let shared: Arc<str> = s.into();
        self.tails.strings.push(Arc::clone(&shared));
        StringId(self.strings.intern(shared).0)
    }

    /// The id of a location, whose strings are ids of this writer.
    pub fn location(&mut self, location: Location) -> LocationId {
        let (id, new) = self.locations.intern(location);
        if new {
            self.tails.locations.push(location);
        }
        LocationId(id)
    }

    /// The id of a frame at `location` called by `parent`.
    ///
    /// # Panics
    /// When `parent` is not an id that this writer gave.
    pub fn stack(&mut self, parent: Option<StackId>, location: LocationId) -> StackId {
        let node = StackNode { parent, location };
        let (id, new) = self.stacks.intern(node);
        if new {
            assert!(
                parent.is_none_or(|parent| parent.0 < id),
                "{parent:?} is not a stack of this recording, which has {id}"
            );
            self.tails.stacks.push(node);
        }
        StackId(id)
    }

    /// Adds a process: one row per call. Its strings are cut at 64 KiB each, its command line
    /// as a whole.
    pub fn process(&mut self, process: Process) -> ProcessId {
        ProcessId(self.tails.processes.push(encode::cut_process(process)))
    }

    /// Adds a thread: one row per call.
    pub fn thread(&mut self, thread: Thread) -> ThreadId {
        ThreadId(self.tails.threads.push(thread))
    }

    /// Adds a mapping.
    pub fn mapping(&mut self, mapping: Mapping) {
        self.tails.mappings.push(encode::cut_mapping(mapping));
    }

    /// Adds a sample. Its time is rounded down to thousandths of the period that the header's
    /// rate gives (10 microseconds at 100 Hz), but never more coarsely than that.
    ///
    /// Allocates only while more samples wait for a block than ever before.
    pub fn sample(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// Adds a point to the series of resident sizes. Its time is rounded as that of a sample.
    pub fn rss(&mut self, point: RssPoint) {
        self.rss.push(point);
    }

    /// Whether it is time for [`write_block`](Writer::write_block): a second has passed since
    /// the last one, or so many samples wait that memory is better freed.
    pub fn block_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.last_block_ns) >= BLOCK_INTERVAL_NS
            || self.samples.len() >= DUE_SAMPLES
            || self.rss.len() >= DUE_SAMPLES
    }

    /// Writes what was added since the last block, and the counts so far; flushes the output.
    ///
    /// Writes a block even when nothing was added, so that the counts stay fresh, and several
    /// where one would be larger than readers accept.
    ///
    /// # Errors
    /// When the output refuses. The block is kept and written again with the next call: a
    /// reader passes over the incomplete one.
    pub fn write_block(&mut self, now_ns: u64, totals: &Totals) -> Result<(), WriteError> {
        self.last_block_ns = now_ns;
        self.write_pending(totals, false)
    }

    /// Ends the recording properly and gives the output back.
    ///
    /// # Errors
    /// When the output refuses; the recording then lacks its end.
    pub fn finish(mut self, totals: &Totals) -> Result<W, WriteError> {
        if self.tails.pending() || !self.samples.is_empty() || !self.rss.is_empty() {
            self.write_pending(totals, false)?;
        }
        self.tails.end_recording();
        self.write_pending(totals, true)?;
        Ok(self.out)
    }

    /// Bytes that the output has taken.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    fn write_pending(&mut self, totals: &Totals, end: bool) -> Result<(), WriteError> {
        loop {
            self.deliver()?;
            let more = self.next_frame(totals, end)?;
            self.deliver()?;
            if !more {
                break;
            }
        }
        self.out.flush().map_err(|source| WriteError::Io {
            offset: self.bytes_written,
            source,
        })
    }

    /// Puts the next block into `frame`; whether something was left for another one.
    fn next_frame(&mut self, totals: &Totals, end: bool) -> Result<bool, WriteError> {
        let budget = &mut Budget(BLOCK_BUDGET_BYTES);
        let rows = self.tails.take_new(budget);
        let samples = budget.fit(&self.samples);
        let points = budget.fit(&self.rss);
        let again = self.tails.take_again(budget);
        let more = samples < self.samples.len() || points < self.rss.len() || self.tails.pending();
        let block = proto::Block {
            rows,
            again,
            samples: Some(encode::samples(
                self.time_unit_ns,
                self.samples_written,
                &self.samples[..samples],
            )),
            rss: encode::rss(self.time_unit_ns, &self.rss[..points]),
            totals: Some(encode::totals(totals)),
            last: end && !more,
        };
        self.samples.drain(..samples);
        self.rss.drain(..points);
        self.samples_written += samples as u64;
        self.tails.end_block();
        self.seal(&block)?;
        Ok(more)
    }

    fn seal(&mut self, block: &proto::Block) -> Result<(), WriteError> {
        let sequence = self.sequence;
        self.raw.clear();
        block
            .encode(&mut self.raw)
            .expect("a vector takes any message");
        let sealed = seal(&mut self.compressor, sequence, &self.raw, &mut self.frame);
        if let Err(source) = sealed {
            self.frame.clear();
            return Err(WriteError::Compress { sequence, source });
        }
        self.sequence += 1;
        Ok(())
    }

    /// Gives `frame` to the output.
    fn deliver(&mut self) -> Result<(), WriteError> {
        self.out
            .write_all(&self.frame)
            .map_err(|source| WriteError::Io {
                offset: self.bytes_written,
                source,
            })?;
        self.bytes_written += self.frame.len() as u64;
        self.frame.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::REPEAT_AFTER_BLOCKS;
    use crate::tables::{State, Trust, WeightKind};

    #[test]
    fn memory_is_bounded_by_what_is_distinct() {
        let mut writer = Writer::new(io::sink(), &Header::default()).unwrap();
        let name = writer.string("main");
        let mut capacity = 0;
        for block in 0..10 * REPEAT_AFTER_BLOCKS as u64 {
            for tick in 0..100 {
                writer.sample(Sample {
                    time_ns: block * BLOCK_INTERVAL_NS + tick,
                    thread: ThreadId(0),
                    stack: None,
                    state: State::default(),
                    trust: Trust::Unverified,
                    reason: Some(name),
                    weight_kind: WeightKind::Samples,
                    weight: 1,
                });
            }
            if block == 0 {
                capacity = writer.samples.capacity();
            }
            let totals = Totals::default();
            writer
                .write_block(block * BLOCK_INTERVAL_NS, &totals)
                .unwrap();
            assert_eq!(writer.samples.capacity(), capacity);
            assert!(writer.samples.is_empty());
        }
        assert_eq!(writer.tails.strings.kept(), 0);
        assert_eq!(writer.string("main"), name);
    }

    #[test]
    fn a_writer_can_move_to_another_thread() {
        fn movable<T: Send>() {}
        movable::<Writer<Vec<u8>>>();
    }
}
