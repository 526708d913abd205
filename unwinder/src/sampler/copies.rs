//! Two copies of the top of a stack, read one after the other in one call.
//!
//! The walk uses the first. Where every frame on its way has the same code, the same link and
//! (for callers) the same instruction in the second, no frame was pushed or popped there while
//! the rest was read. The newest frame's instruction moves all the time and proves nothing.

use super::Sampler;
use crate::frames::objects;
use crate::layout::{Frames, owner};
use crate::memory::{Lookup, RemoteAddr, i32_at, u64_at};
use crate::plan::Group;

impl<M> Sampler<M> {
    /// Compares the copies of thread `index`, if it was read twice.
    pub(super) fn compare_copies(&mut self, index: usize) {
        let thread = &self.threads[index];
        if !thread.twice {
            return;
        }
        let copy = self.snapshot.later_copies(Group::thread(index));
        let mut agree = true;
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
                continue;
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
    }
}
