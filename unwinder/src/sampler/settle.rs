//! One thread that moves, looked at until it was caught, with nothing walked in between.
//!
//! One call reads the thread state and the top of the stack again and again, and then the rest:
//!
//! ```text
//! state top | state top | state top | … | rest of the stack
//! └ attempt ─┘ and its later copies ┘
//! ```
//! An attempt is good when the top is the same in the next one (and, where there is time for it,
//! in a second copy right behind the first: two distances, so that a program whose turns take as
//! long as one of them does not look as if it stood still). Whether it is, is seen without a walk,
//! along the links of its frames. So a new attempt costs two segments and no call.
//! What is left of a call when one was good serves the tries of the same sample; where as many
//! samples are wanted as there can be, also the next samples, each of an instant of its own.
//!
//! A top that is not where it was expected is looked for first (`aim.rs`).

use super::Sampler;
use super::lay_out::is_array;
use crate::datastack::DataStackState;
use crate::layout::{Frames, InterpreterFrame};
use crate::memory::{Lookup, ReadError, ReadMemory, RemoteAddr, u64_at};
use crate::plan::{Group, Purpose, ReadPlan, Slot};
use crate::threads::{self, Root};

/// Attempts of one call, where they are short.
const ATTEMPTS: usize = 12;
/// Attempts of the first call that tries again: mostly they are enough.
const FEW_ATTEMPTS: usize = 4;

/// What the copies of a thread say at first sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// They agree.
    Settled,
    /// A frame was pushed or popped.
    Moved,
    /// The newest frame is not in all of them: the plan was made for another top.
    Astray,
    /// Only the walk can tell.
    Unknown,
}

impl<M: ReadMemory> Sampler<M> {
    /// Reads the plan of some threads. Where that is one thread that moves, reads it until its
    /// copies agree, `tries` times in all; how often it was read.
    pub(super) fn settle(&mut self, some: &[usize], tries: usize) -> Result<usize, ReadError> {
        let &[index] = some else {
            self.lay_out_some(some, 1);
            let groups = self.threads.len() + 1;
            let plan = &self.some_plan;
            self.snapshot.take(&mut self.memory, plan, groups)?;
            return Ok(1);
        };
        let mut used = 0;
        if self.next_attempt != usize::MAX && self.look(index, tries, &mut used)? {
            return Ok(used);
        }
        if self.threads[index].top.sweeps() {
            self.aim(index)?;
        }
        loop {
            let attempts = match used {
                _ if self.ahead => ATTEMPTS,
                0 => 1,
                1..=FEW_ATTEMPTS => FEW_ATTEMPTS,
                _ => ATTEMPTS,
            };
            self.lay_out_some(some, attempts);
            self.forget_attempts();
            let groups = self.threads.len() + 1;
            let plan = &self.some_plan;
            let done = self.snapshot.begin(&mut self.memory, plan, groups)?;
            if self.is_outside_missing(done) {
                // Gone for good: the walk says what it still needs, and the next plan lacks it.
                let rest = &self.some_plan.slots()[done..];
                self.snapshot.fetch(&mut self.memory, rest)?;
                return Ok(used + 1);
            }
            self.next_attempt = 0;
            if self.look(index, tries, &mut used)? {
                return self.fetch_rest(done).map(|()| used);
            }
        }
    }

    /// Whether the call ended at a frame outside of the chunks: memory of one was given back.
    fn is_outside_missing(&self, done: usize) -> bool {
        let slots = self.some_plan.slots();
        let last = done.checked_sub(1).and_then(|last| slots.get(last));
        self.snapshot.bytes() < self.some_plan.bytes()
            && last.is_some_and(|slot| slot.purpose == Purpose::Frame)
    }

    /// Reads what lies behind a piece that could not be read. The attempts that are left would be
    /// of another instant.
    fn fetch_rest(&mut self, done: usize) -> Result<(), ReadError> {
        let rest = &self.some_plan.slots()[done..];
        if !rest.is_empty() {
            self.next_attempt = usize::MAX;
            self.snapshot.fetch(&mut self.memory, rest)?;
        }
        Ok(())
    }

    fn lay_out_some(&mut self, some: &[usize], attempts: usize) {
        if self.some_dirty || self.some_attempts != attempts {
            self.some_dirty = false;
            self.some_attempts = attempts;
            let mut plan = std::mem::take(&mut self.some_plan);
            self.lay_out(&mut plan, Some(some), attempts);
            self.some_plan = plan;
        }
    }

    /// Looks through the attempts of the last call, up to the first that is worth a walk; whether
    /// there is one.
    fn look(&mut self, index: usize, tries: usize, used: &mut usize) -> Result<bool, ReadError> {
        let copies = usize::from(self.threads[index].compared);
        let attempts = self.snapshot.attempts(copies).max(1);
        while self.next_attempt < attempts {
            self.snapshot.select(self.next_attempt);
            self.next_attempt += 1;
            *used += 1;
            let last = *used >= tries;
            match self.sight(index) {
                Sight::Moved | Sight::Astray if last => return Ok(true),
                Sight::Moved => {}
                Sight::Astray => {
                    self.threads[index].top.widen();
                    self.forget_attempts();
                    self.aim(index)?;
                    return Ok(false);
                }
                Sight::Settled | Sight::Unknown => {
                    self.threads[index].top.settle();
                    return Ok(true);
                }
            }
        }
        self.forget_attempts();
        Ok(false)
    }

    /// Looks at the copies of a thread without a walk.
    fn sight(&self, index: usize) -> Sight {
        let thread = &self.threads[index];
        let Frames::Interpreter(frame) = &self.layout.frames else {
            return Sight::Unknown;
        };
        if thread.copies < 2 || is_array(thread) {
            return Sight::Unknown;
        }
        let view = self.snapshot.view(Group::thread(index));
        let len = threads::thread_state_bytes(&self.layout) as usize;
        let state = view
            .bytes(thread.tstate, len)
            .and_then(|bytes| threads::thread_state(&self.layout, thread.tstate, bytes));
        let Some(state) = state else {
            return Sight::Unknown;
        };
        let newest = match state.root {
            Root::Frame { newest, .. } => newest,
            Root::CFrame(cframe) => match self.current_frame(index, cframe) {
                Some(newest) => newest,
                None => return Sight::Unknown,
            },
        };
        let Some(stack) = state.data_stack else {
            return Sight::Unknown;
        };
        if !in_newest_chunk(newest, &stack) {
            // A chunk is being pushed or popped, or a generator runs.
            return match thread.chunks.iter().any(|chunk| chunk.spans(newest)) {
                true => Sight::Moved,
                false => Sight::Unknown,
            };
        }
        let Some(slot) = top_slot(&self.some_plan) else {
            return Sight::Astray;
        };
        let start = slot.segment.addr.0;
        let end = start + u64::from(slot.segment.len);
        // Enough below the newest frame must be in all copies, or everything that there is.
        let lowest = match start > stack.chunk.0 {
            true => start + thread.top.below() / 2,
            false => start,
        };
        if newest.0 < lowest || newest.0 + frame.header_bytes > end {
            return Sight::Astray;
        }
        let len = slot.segment.len as usize;
        let Some(first) = view.bytes(slot.segment.addr, len) else {
            return Sight::Astray;
        };
        for number in 1..thread.compared {
            let copy = self.snapshot.later_copy(Group::thread(index), number);
            match copy.bytes(slot.segment.addr, len) {
                None => return Sight::Astray,
                Some(later) if !same_stack(frame, (start, first), later, newest.0 - start) => {
                    return Sight::Moved;
                }
                Some(_) => {}
            }
        }
        Sight::Settled
    }
}

fn in_newest_chunk(addr: RemoteAddr, stack: &DataStackState) -> bool {
    addr >= stack.chunk && addr < stack.limit
}

/// The slot that has the top of the newest chunk, first copy.
pub(super) fn top_slot(plan: &ReadPlan) -> Option<&Slot> {
    let mut slots = plan.slots().iter();
    slots.find(|slot| slot.purpose == Purpose::Chunk && slot.copy == 0)
}

/// Offsets of the frames in a piece of a chunk that begins at `start`, from the one at `newest`
/// down. Callers in the same chunk stand below; what is elsewhere ends it.
fn chain<'a>(
    layout: &'a InterpreterFrame,
    (start, bytes): (u64, &'a [u8]),
    newest: u64,
) -> impl Iterator<Item = u64> + 'a {
    std::iter::successors(Some(newest), move |at| {
        let below = u64_at(bytes, at + layout.previous)?.checked_sub(start)?;
        (below < *at).then_some(below)
    })
}

/// Whether two copies of a part of a chunk show the same frames from the one at `newest` down:
/// the same code, caller and, but for that one, which may run, instruction.
fn same_stack(
    layout: &InterpreterFrame,
    (start, first): (u64, &[u8]),
    later: &[u8],
    newest: u64,
) -> bool {
    let same = |at: u64, offset: u64| u64_at(first, at + offset) == u64_at(later, at + offset);
    chain(layout, (start, first), newest).all(|at| {
        same(at, layout.code)
            && same(at, layout.previous)
            && (at == newest || same(at, layout.instr))
    })
}
