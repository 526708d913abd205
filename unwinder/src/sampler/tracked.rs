//! What a sampler keeps of one thread: the stack of the last sample and what to read next time.

use super::aim::Top;
use crate::datastack::{ChainEnd, Chunk, ChunkError, DataStackState};
use crate::frames::{Cursor, Cut, Known, RawFrame, is_entry};
use crate::layout::{Frames, Layout};
use crate::memory::RemoteAddr;
use crate::snapshot::{MAX_COPIES, Mark};
use crate::threads::{Root, ThreadState};

/// How the sample of one thread ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The walk reached the root.
    Whole,
    /// The frames up to here are good, what lies below is not known.
    Cut(Cut),
    /// The thread state is being made or torn down: it has no stack to show.
    NotAlive,
}

/// A piece of memory outside the chunks that the last samples needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outside {
    pub(super) addr: RemoteAddr,
    pub(super) len: u32,
    /// The thread's sample that needed it last.
    pub(super) needed: u64,
    /// Whether it is an entry frame on the C stack.
    pub(super) entry: bool,
}

/// What the next plan reads for a thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Learned {
    /// Newest first.
    pub(super) chunks: Vec<(RemoteAddr, u32)>,
    /// Sorted by address.
    pub(super) outside: Vec<Outside>,
    /// Greatest number of pieces that one of the last samples needed.
    pub(super) recently_needed: usize,
}

/// So often one `_PyCFrame` must have led nowhere.
const STALE_TIMES: u8 = 3;

/// A `_PyCFrame` that led to no whole stack: its address and what it said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stale {
    last: Option<(RemoteAddr, Option<u64>)>,
    times: u8,
}

impl Stale {
    /// Notes one; whether it was the same before, often enough to be believed.
    pub(super) fn is_again(&mut self, now: (RemoteAddr, Option<u64>)) -> bool {
        if self.last.replace(now) != Some(now) {
            self.times = 0;
        }
        self.times = (self.times + 1).min(STALE_TIMES);
        self.times == STALE_TIMES
    }
}

/// C frames are four hundred bytes apart or more for each call through C.
const ROAMING_BYTES: u64 = 256 << 10;
/// Samples of one turn of a [`Reach`].
const REACH_SAMPLES: u8 = 250;

/// Between which addresses the newest `_PyCFrame` lately stood (3.11, 3.12).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reach {
    /// Lowest and highest of this turn and of the one before.
    turns: [Option<(u64, u64)>; 2],
    /// Samples of this turn.
    samples: u8,
    thread_id: u64,
}

impl Reach {
    /// Notes where it stood in a sample of the thread with this `thread_id`.
    pub(super) fn note(&mut self, addr: RemoteAddr, thread_id: u64) {
        // A thread that ends leaves its state to another, which has a stack of its own.
        if self.thread_id != thread_id {
            *self = Self {
                thread_id,
                ..Self::default()
            };
        }
        if self.samples == REACH_SAMPLES {
            self.turns = [None, self.turns[0]];
            self.samples = 0;
        }
        self.samples += 1;
        let (low, high) = self.turns[0].unwrap_or((addr.0, addr.0));
        self.turns[0] = Some((low.min(addr.0), high.max(addr.0)));
    }

    /// Lowest and highest address; `None` where it was not seen yet, or that is too much to read.
    pub(super) fn span(&self) -> Option<(u64, u64)> {
        let turns = self.turns.iter().flatten().copied();
        let span = turns.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        span.filter(|(low, high)| high - low <= ROAMING_BYTES)
    }
}

/// What a sample adds whose newest frame was found through a `_PyCFrame` that the plan did not have.
const ROAMED: u8 = 16;

/// An instant of a thread, as its thread state told it in one short read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// Whose thread state it was: its `thread_id` and its `unique`. A thread that ends leaves its
    /// address to another.
    pub(super) thread: (u64, u64),
    /// The newest frame.
    pub(super) newest: RemoteAddr,
    /// Where the data stack ended.
    pub(super) stack: DataStackState,
}

/// The stack of an instant, as an attempt shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) moment: Moment,
    /// How far up what is read again and again was judged; `None` where that is all there is.
    pub(super) below: Option<Below>,
}

/// Where that begins which is read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Below {
    /// How many frames stand above it.
    pub(super) at: usize,
    /// Whether its newest frame is in a call of the one above.
    pub(super) called: bool,
}

/// One thread of the target.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Its thread state.
    pub tstate: RemoteAddr,
    /// Its interpreter.
    pub interpreter: RemoteAddr,
    /// The interpreter's id, 0 for the main one.
    pub interpreter_id: i64,
    /// The thread state as it was in the last sample; `None` where it could not be read.
    pub state: Option<ThreadState>,
    /// Chunks of its data stack, newest first.
    pub chunks: Vec<Chunk>,
    /// Why the chain of chunks is not whole.
    pub chunk_error: Option<ChunkError>,
    /// Every link of the frame chain, newest first, entry frames included.
    pub frames: Vec<RawFrame>,
    /// How the last sample ended; `None` before the first.
    pub outcome: Option<Outcome>,
    /// Whether the copies of the top of its stack agreed; `None` where only one was read.
    pub copies_agree: Option<bool>,
    /// Whether its frames were read again when all had been read. Where the copies agree, what was
    /// read in several calls is of one instant nevertheless.
    pub(super) again: bool,
    /// How many of its frames, from the outermost on, are as they were in its sample before.
    pub same: usize,
    /// Counts its samples.
    pub samples: u64,
    /// Calls that read bytes of it in the last sample.
    pub(super) calls: u32,
    /// How many of its outermost frames are proven or were read before, and in which call.
    pub(super) sound: (usize, u64),
    /// How often its stack is read in one call.
    pub(super) copies: u8,
    /// How many of these must agree.
    pub(super) compared: u8,
    /// Where its top is expected.
    pub(super) top: Top,
    /// The instant whose stack the sample is to show: the one at which it was read first. A sample
    /// that took whichever stack stood still long enough to be read would hardly ever show a short
    /// call.
    pub(super) wanted: Option<Moment>,
    /// Attempts that were made for it.
    pub(super) sought: usize,
    /// That instant, where the attempt that is walked shows its stack.
    pub(super) shown: Option<Shown>,
    pub(super) seen: bool,
    pub(super) chain: Option<ChainEnd>,
    pub(super) cursor: Option<Cursor>,
    pub(super) known: Known,
    pub(super) last_miss: Option<RemoteAddr>,
    pub(super) learned: Learned,
    pub(super) scratch: Vec<(RemoteAddr, u32)>,
    pub(super) idle_scratch: Vec<u64>,
    /// Length of the next read-ahead over entry frames.
    pub(super) entry_readahead: u64,
    /// The `_PyCFrame` before the newest, where that is not filled yet (3.11, 3.12).
    pub(super) before_unfilled: Option<RemoteAddr>,
    /// Whether its outermost frame cannot be one, and its newest `_PyCFrame` may yet turn out to be
    /// stale. The next plan is learnt from it all the same.
    pub(super) doubted: bool,
    /// What the newest `_PyCFrame` said when it led to no whole stack.
    pub(super) stale: Stale,
    /// What was there before its frames were looked for.
    pub(super) before_frames: Mark,
    /// How much the depth of the C stack changes from sample to sample, as far as plans had not
    /// foreseen it: [`ROAMED`] for each such sample, less one for each other.
    roamed: u8,
    /// Where the newest `_PyCFrame` stood.
    pub(super) reach: Reach,
    /// Frames that the walk has missed.
    pub(super) frames_missed: u32,
}

impl Thread {
    pub(super) fn new(tstate: RemoteAddr) -> Self {
        Self {
            tstate,
            interpreter: RemoteAddr::NULL,
            interpreter_id: 0,
            state: None,
            chunks: Vec::new(),
            chunk_error: None,
            frames: Vec::new(),
            outcome: None,
            copies_agree: None,
            again: false,
            same: 0,
            sound: (0, 0),
            samples: 0,
            calls: 0,
            copies: 1,
            compared: 1,
            top: Top::default(),
            wanted: None,
            sought: 0,
            shown: None,
            seen: false,
            chain: None,
            cursor: None,
            known: Known::default(),
            last_miss: None,
            learned: Learned::default(),
            scratch: Vec::new(),
            idle_scratch: Vec::new(),
            entry_readahead: 0,
            before_unfilled: None,
            doubted: false,
            stale: Stale::default(),
            before_frames: Mark::default(),
            roamed: 0,
            reach: Reach::default(),
            frames_missed: 0,
        }
    }

    /// Forgets what was learnt.
    pub(super) fn forget(&mut self) {
        self.learned = Learned::default();
        self.roamed = 0;
        self.reach = Reach::default();
        self.stale = Stale::default();
        // A frame that is as it was would not be learnt again.
        self.outcome = None;
    }

    /// Before a sample.
    pub(super) fn begin(&mut self) {
        let whole = self.is_whole();
        self.known.take(&mut self.frames, whole);
        self.same = 0;
        self.samples += 1;
        self.state = None;
        self.chunk_error = None;
        self.outcome = None;
        self.copies_agree = None;
        self.again = false;
        self.shown = None;
        // Where they are long, reading two takes as much time as three short ones.
        self.compared = self.copies.min(if self.top.sweeps() { 2 } else { u8::MAX });
        self.calls = 0;
        self.seen = false;
        self.chain = None;
        self.cursor = None;
        self.last_miss = None;
        self.entry_readahead = 0;
        self.before_unfilled = None;
        self.doubted = false;
        self.roamed = self.roamed.saturating_sub(1);
        self.frames_missed = 0;
    }

    /// After the last round.
    pub(super) fn give_up(&mut self) {
        if self.outcome.is_none() {
            // One that the cut list did not reach was not even looked at.
            let cut = if self.seen { Cut::Rounds } else { Cut::Thread };
            self.outcome = Some(Outcome::Cut(cut));
        }
    }

    /// Notes that the plan lacked the `_PyCFrame` of its newest frame, though it had others.
    pub(super) fn has_roamed(&mut self) {
        if self.learned.outside.iter().any(|piece| piece.entry) {
            self.roamed = self.roamed.saturating_add(ROAMED);
        }
    }

    /// Whether Python code calls Python code through C, deeper and less deep all the time (3.11,
    /// 3.12): then the next `_PyCFrame` is somewhere between those that were seen.
    fn roams(&self) -> bool {
        self.roamed > ROAMED
    }

    /// Where on the C stack the newest `_PyCFrame` of a thread that roams will be found: lowest and
    /// highest address.
    pub(super) fn roaming(&self) -> Option<(u64, u64)> {
        self.reach.span().filter(|_| self.roams())
    }

    /// How many copies of its stack are compared, the first among them.
    pub(super) fn compared_copies(&self) -> usize {
        usize::from(self.compared).clamp(1, MAX_COPIES)
    }

    /// Whether the walk reached the root.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.outcome == Some(Outcome::Whole)
    }

    /// Where on the C stack its newest call from C into Python stands: the `_PyCFrame` (3.11, 3.12)
    /// or the newest entry frame (3.13+). `None` where there is none, or none that is known.
    #[must_use]
    pub fn c_stack(&self, layout: &Layout) -> Option<RemoteAddr> {
        if self.frames.is_empty() {
            return None;
        }
        match (self.state?.root, &layout.frames) {
            (Root::CFrame(cframe), _) => Some(cframe),
            (Root::Frame { base, .. }, Frames::Interpreter(frame)) => {
                let mut entries = self.frames.iter().filter(|f| is_entry(frame, f.owner));
                entries.next().map(|f| f.addr).filter(|f| Some(*f) != base)
            }
            (Root::Frame { .. }, Frames::Objects(_)) => None,
        }
    }

    /// Runs of chunks that lie side by side.
    #[must_use]
    pub fn chunk_runs(&self) -> usize {
        let breaks = self
            .chunks
            .windows(2)
            .filter(|pair| pair[0].addr.0 + pair[0].size != pair[1].addr.0);
        if self.chunks.is_empty() {
            0
        } else {
            1 + breaks.count()
        }
    }

    /// Bytes of its chunks that are in use.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.chunks
            .iter()
            .map(|c| c.live_end.0.saturating_sub(c.addr.0))
            .sum()
    }
}
