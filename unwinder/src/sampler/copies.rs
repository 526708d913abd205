//! Copies of the top of a stack, read one after the other in one call.
//!
//! The walk uses the first. Where every frame on its way has the same code, the same link and
//! (for callers) the same instruction in the others, no frame was pushed or popped there while
//! the rest was read. The newest frame's instruction moves all the time and proves nothing.

use super::Sampler;
use super::settle::top_slot;
use super::tracked::Thread;
use crate::frames::{RawFrame, is_entry, objects};
use crate::layout::{Frames, Layout};
use crate::memory::{Lookup, ReadMemory, RemoteAddr, i32_at, u64_at};
use crate::plan::Group;

/// So far up in what is read again and again frames must be the same in all attempts.
const JOINT_BYTES: u64 = 1 << 10;
/// Frames outside the chunks that are so near the top must be in all copies.
const MOVING_FRAMES: usize = 16;

/// What a copy says about the stack that was walked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Same,
    Other,
    /// The plan was made for another top: something near this one is not in the copy.
    Missing,
}

impl<M: ReadMemory> Sampler<M> {
    /// Compares the copies of thread `index`, if there are some.
    pub(super) fn compare_copies(&mut self, index: usize) {
        let thread = &self.threads[index];
        if thread.copies < 2 {
            return;
        }
        let answers = (1..thread.compared).map(|number| {
            let copy = self.snapshot.later_copy(Group::thread(index), number);
            compare(&copy, thread, &self.layout)
        });
        let answer = answers.into_iter().find(|answer| *answer != Answer::Same);
        let agree = answer.is_none() && self.is_joined(index);
        self.threads[index].copies_agree = Some(agree);
        if answer == Some(Answer::Missing) {
            self.changed();
        }
    }
}

impl<M: ReadMemory> Sampler<M> {
    /// What is read once, deeper in the stack, is read behind all attempts of a call. Whether it
    /// belongs to this one: the lowest frames above it were there from the one to the other.
    fn is_joined(&self, index: usize) -> bool {
        let thread = &self.threads[index];
        let (Some(last), Some(newest), Frames::Interpreter(layout)) = (
            self.snapshot.units().checked_sub(1),
            thread.chunks.first(),
            &self.layout.frames,
        ) else {
            return true;
        };
        let Some(top) = top_slot(&self.some_plan).map(|slot| slot.segment) else {
            return true;
        };
        if top.addr <= newest.addr && thread.chunks.len() == 1 {
            return true;
        }
        let view = self.snapshot.unit(Group::thread(index), last);
        let end = top.addr.0.saturating_add(u64::from(top.len));
        let mut inside = (1..thread.frames.len()).rev().filter(|at| {
            let addr = thread.frames[*at].addr;
            addr >= top.addr && addr.0 < end
        });
        // The lowest, and others as far up as they are near it.
        let Some(lowest) = inside.next() else {
            return true;
        };
        let near = |at: &usize| thread.frames[*at].addr.0 < top.addr.0 + JOINT_BYTES;
        std::iter::once(lowest)
            .chain(inside.take_while(near))
            .all(|at| {
                let frame = &thread.frames[at];
                let bytes = view.bytes(frame.addr, layout.header_bytes as usize);
                bytes.is_some_and(|bytes| {
                    let word = |offset| u64_at(bytes, offset).unwrap_or_default();
                    let code = word(layout.code) & !layout.code_tag_mask;
                    let next = thread.frames.get(at + 1);
                    (frame.code.is_null() || code == frame.code.0)
                        && word(layout.instr) == frame.instr
                        && next.is_none_or(|next| word(layout.previous) == next.addr.0)
                })
            })
    }
}

fn compare<L: Lookup>(copy: &L, thread: &Thread, layout: &Layout) -> Answer {
    let (from, len) = match &layout.frames {
        Frames::Objects(layout) => objects::needed(layout),
        Frames::Interpreter(layout) => (0, layout.header_bytes),
    };
    for (at, frame) in thread.frames.iter().enumerate() {
        let start = RemoteAddr(frame.addr.0.wrapping_add(from));
        let Some(bytes) = copy.bytes(start, len as usize) else {
            match absent(at, frame, thread, layout) {
                Absent::Below => break,
                Absent::Once => continue,
                Absent::Missing => return Answer::Missing,
            }
        };
        let word = |offset: u64| u64_at(bytes, offset - from).unwrap_or_default();
        let (code, link, instr) = match &layout.frames {
            Frames::Objects(layout) => {
                let lasti = i32_at(bytes, layout.lasti - from).unwrap_or_default();
                let instr = i64::from(lasti.saturating_mul(layout.lasti_unit)).cast_unsigned();
                (word(layout.code), word(layout.back), instr)
            }
            Frames::Interpreter(layout) => {
                let code = word(layout.code) & !layout.code_tag_mask;
                (code, word(layout.previous), word(layout.instr))
            }
        };
        let next = thread.frames.get(at + 1);
        let same = (frame.code.is_null() || code == frame.code.0)
            && next.is_none_or(|next| next.addr.0 == link)
            && (at == 0 || instr == frame.instr);
        if !same {
            return Answer::Other;
        }
    }
    Answer::Same
}

/// Why a frame is not in a later copy.
enum Absent {
    /// It lies below the part that is read again, and so does everything older.
    Below,
    /// It is read once by intent.
    Once,
    Missing,
}

fn absent(at: usize, frame: &RawFrame, thread: &Thread, layout: &Layout) -> Absent {
    let newest = thread.chunks.first();
    if newest.is_some_and(|chunk| chunk.spans(frame.addr)) {
        let depth = newest.map(|chunk| chunk.live_end.0.saturating_sub(frame.addr.0));
        return match depth {
            Some(depth) if depth < thread.top.below() / 2 => Absent::Missing,
            _ => Absent::Below,
        };
    }
    if thread.chunks.iter().any(|chunk| chunk.spans(frame.addr)) {
        return Absent::Below;
    }
    let entry = match &layout.frames {
        Frames::Objects(_) => false,
        Frames::Interpreter(layout) => is_entry(layout, frame.owner),
    };
    if at >= MOVING_FRAMES || entry {
        Absent::Once
    } else {
        Absent::Missing
    }
}
