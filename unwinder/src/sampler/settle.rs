//! One thread that moves, looked at until it was caught, with nothing walked in between.
//!
//! One call reads the thread state and the top of the stack again and again, and then the rest:
//!
//! ```text
//! state top | state top | state top | … | rest of the stack
//! └ attempt ─┘ and its later copies ┘
//! ```
//! An attempt is good when it shows the stack below the newest frame of the instant that is wanted:
//! links that are proven, or the same in its later copies (`copies.rs`; two distances where there is
//! time, so that a program whose turns take as long as one of them does not look as if it stood
//! still). Whether it is, is seen without a walk. So a new attempt costs two segments and no call.
//! What is left of a call when one was good serves the tries of the same sample; where as many
//! samples are wanted as there can be, also the next samples, each of an instant of its own.
//!
//! A top that is not where it was expected is looked for first (`aim.rs`).

use std::ops::Range;

use super::Sampler;
use super::copies::Answer;
use super::lay_out::is_array;
use super::tracked::{Below, Moment, Shown};
use crate::frames::interpreter::{frame_in, is_live, is_root};
use crate::layout::{Frames, InterpreterFrame};
use crate::memory::{Lookup, ReadError, ReadMemory, RemoteAddr};
use crate::plan::{Group, Purpose, ReadPlan, Slot};
use crate::threads::{self, Root};

/// Attempts of one call, where they are short.
const ATTEMPTS: usize = 12;
/// Attempts of the first call that tries again: mostly they are enough.
const FEW_ATTEMPTS: usize = 4;
/// So many attempts are made for one instant before the sample takes another.
const SOUGHT: usize = 12;
/// The same where each attempt is a call of its own.
const SOUGHT_ALONE: usize = 2;
/// Where a call serves several samples, so many attempts behind one may show its stack.
const LOOK_BEHIND: usize = 3;
/// Links that are followed without a walk.
const MAX_TRACED: usize = 4096;

/// What the copies of a thread say at first sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// They agree, as far as they go.
    Settled(Option<Below>),
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
            let sought = self.threads[index].sought;
            let attempts = match self.threads[index].wanted {
                _ if self.ahead => ATTEMPTS,
                None => 1,
                Some(_) if sought < FEW_ATTEMPTS => FEW_ATTEMPTS,
                Some(_) => ATTEMPTS,
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
            let attempt = self.next_attempt;
            self.next_attempt += 1;
            *used += 1;
            let last = *used >= tries;
            self.threads[index].shown = None;
            match self.sight(index, attempt..attempts) {
                Sight::Moved | Sight::Astray if last => return Ok(true),
                Sight::Moved => {}
                Sight::Astray => {
                    self.threads[index].top.widen();
                    self.forget_attempts();
                    self.aim(index)?;
                    return Ok(false);
                }
                Sight::Settled(below) => {
                    let thread = &mut self.threads[index];
                    thread.shown = thread.wanted.map(|moment| Shown { moment, below });
                    thread.top.settle();
                    return Ok(true);
                }
                Sight::Unknown => {
                    self.threads[index].top.settle();
                    return Ok(true);
                }
            }
        }
        self.forget_attempts();
        Ok(false)
    }

    /// Looks at the first of the attempts without a walk. Where a call serves several samples,
    /// each is of the instant of its own attempt, and those behind may show it as well.
    fn sight(&mut self, index: usize, attempts: Range<usize>) -> Sight {
        self.snapshot.select(attempts.start);
        if self.ahead {
            self.threads[index].wanted = None;
        }
        let now = self.moment(index);
        self.want(index, now);
        let sight = self.sight_of_wanted(index, now);
        if !self.ahead || sight != Sight::Moved {
            return sight;
        }
        for attempt in attempts.skip(1).take(LOOK_BEHIND) {
            self.snapshot.select(attempt);
            let sight = self.sight_of_wanted(index, self.moment(index));
            if matches!(sight, Sight::Settled(_)) {
                return sight;
            }
        }
        self.snapshot.select(self.next_attempt - 1);
        sight
    }

    /// Sees to it that a sample has an instant whose stack it is to show: that of the attempt that
    /// is looked at (`now`), unless there is one that can still be found.
    fn want(&mut self, index: usize, now: Option<Moment>) {
        let view = self.snapshot.view(Group::thread(index));
        let limit = match self.snapshot.units() {
            0 => SOUGHT_ALONE,
            _ => SOUGHT,
        };
        let thread = &self.threads[index];
        let found = thread.wanted.is_some_and(|wanted| {
            thread.sought < limit
                && now.is_some_and(|now| now.thread == wanted.thread)
                && (wanted.newest.is_null() || view.holds(wanted.newest))
        });
        let thread = &mut self.threads[index];
        if !found {
            thread.wanted = now;
            thread.sought = 0;
        }
        thread.sought += 1;
    }

    /// What the thread state that is looked at says of its instant.
    pub(super) fn moment(&self, index: usize) -> Option<Moment> {
        let tstate = self.threads[index].tstate;
        let view = self.snapshot.view(Group::thread(index));
        let len = threads::thread_state_bytes(&self.layout) as usize;
        let state = view
            .bytes(tstate, len)
            .and_then(|bytes| threads::thread_state(&self.layout, tstate, bytes))?;
        let newest = match state.root {
            Root::Frame { newest, .. } => newest,
            Root::CFrame(cframe) => self.current_frame(index, cframe)?,
        };
        let mut stack = state.data_stack?;
        // Up to 3.12 the two are read one after the other.
        if stack.spans(newest)
            && let Frames::Interpreter(frame) = &self.layout.frames
        {
            stack.top = stack.top.max(newest.offset(frame.header_bytes)?);
        }
        Some(Moment {
            thread: (state.thread_id, state.unique),
            newest,
            stack,
        })
    }

    /// Whether the attempt that is looked at, which is of the instant `now`, shows the stack of the
    /// one that is wanted.
    fn sight_of_wanted(&self, index: usize, now: Option<Moment>) -> Sight {
        let thread = &self.threads[index];
        let Frames::Interpreter(frame) = &self.layout.frames else {
            return Sight::Unknown;
        };
        if thread.copies < 2 || is_array(thread) {
            return Sight::Unknown;
        }
        let Some(wanted) = thread.wanted else {
            return Sight::Unknown;
        };
        let Moment { newest, stack, .. } = wanted;
        if newest.is_null() {
            return Sight::Unknown;
        }
        if now.is_none_or(|now| now.thread != wanted.thread) {
            // It has ended.
            return Sight::Moved;
        }
        if stack.spans(newest) {
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
        } else if thread.chunks.iter().any(|chunk| chunk.spans(newest)) {
            // A chunk is being pushed or popped.
            return Sight::Moved;
        }
        // What is not there yet must be walked to be asked for, but only where it is certain that
        // somebody links to it.
        let unknown = match now == thread.wanted {
            true => Sight::Unknown,
            false => Sight::Moved,
        };
        self.trace(index, frame, newest, unknown)
    }

    /// Follows the links from a frame on, as far as they are read again and again; `unknown` where
    /// a frame is not in the snapshot.
    fn trace(
        &self,
        index: usize,
        layout: &InterpreterFrame,
        newest: RemoteAddr,
        unknown: Sight,
    ) -> Sight {
        let view = self.snapshot.view(Group::thread(index));
        let find = |addr: RemoteAddr| {
            let bytes = view.bytes(addr, layout.header_bytes as usize)?;
            Some(frame_in(bytes, layout, addr))
        };
        let Some((mut frame, mut previous)) = find(newest) else {
            return unknown;
        };
        let mut judge = self.judge(index);
        for _ in 0..MAX_TRACED {
            let caller = find(previous);
            match judge.next(&frame, caller.as_ref().map(|(caller, _)| caller)) {
                Answer::Same => {}
                Answer::Other => return Sight::Moved,
                Answer::Missing => return Sight::Astray,
                Answer::Below => return Sight::Settled(Some(judge.below())),
            }
            match caller {
                Some((next, _)) if !is_live(layout, &next) => return Sight::Moved,
                Some((next, link)) => (frame, previous) = (next, link),
                None if !previous.is_null() => return unknown,
                None if is_root(layout, &frame) => return Sight::Settled(None),
                // It was suspended since, or is being pushed.
                None => return Sight::Moved,
            }
        }
        Sight::Unknown
    }
}

/// The slot that has the top of the newest chunk, first copy.
fn top_slot(plan: &ReadPlan) -> Option<&Slot> {
    let mut slots = plan.slots().iter();
    slots.find(|slot| slot.purpose == Purpose::Chunk && slot.copy == 0)
}
