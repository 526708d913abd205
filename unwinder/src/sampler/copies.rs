//! Two copies of the top of a stack, read one after the other in one call.
//!
//! The walk uses the first. Where every frame on its way has the same code, the same link and
//! (for callers) the same instruction in the second, no frame was pushed or popped there while
//! the rest was read. The newest frame's instruction moves all the time and proves nothing.

use super::Sampler;
use crate::frames::{RawFrame, is_entry, objects};
use crate::layout::{Frames, owner};
use crate::memory::{Lookup, ReadMemory, RemoteAddr, i32_at, u64_at};
use crate::plan::Group;

/// Frames outside the chunks that are so near the top must be in both copies.
const MOVING_FRAMES: usize = 16;

impl<M: ReadMemory> Sampler<M> {
    /// Compares the copies of thread `index`, if it was read twice.
    pub(super) fn compare_copies(&mut self, index: usize) {
        let thread = &self.threads[index];
        if !thread.twice {
            return;
        }
        let copy = self.snapshot.later_copies(Group::thread(index));
        let (mut agree, mut missing) = (true, false);
        let is_entry = |frame: &RawFrame| match &self.layout.frames {
            Frames::Objects(_) => false,
            Frames::Interpreter(layout) => is_entry(layout, frame.owner),
        };
        for (at, frame) in thread.frames.iter().enumerate() {
            let (from, len) = match &self.layout.frames {
                Frames::Objects(layout) => objects::needed(layout),
                Frames::Interpreter(layout) => (0, layout.header_bytes),
            };
            let start = RemoteAddr(frame.addr.0.wrapping_add(from));
            let Some(bytes) = copy.bytes(start, len as usize) else {
                let in_chunk = frame.owner == owner::THREAD && !thread.chunks.is_empty();
                if in_chunk {
                    // Below the top: everything older lies lower still.
                    break;
                }
                // Entry frames are read once. Another one that is new so near the top is not in
                // the second copy yet: nothing is known of it.
                if at >= MOVING_FRAMES || is_entry(frame) {
                    continue;
                }
                agree = false;
                missing = true;
                break;
            };
            let word = |offset: u64| u64_at(bytes, offset - from).unwrap_or_default();
            let (code, link, instr) = match &self.layout.frames {
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
            agree = (frame.code.is_null() || code == frame.code.0)
                && next.is_none_or(|next| next.addr.0 == link)
                && (at == 0 || instr == frame.instr);
            if !agree {
                break;
            }
        }
        self.threads[index].copies_agree = Some(agree);
        if missing {
            self.changed();
        }
    }
}
