//! Frame objects (3.8 – 3.10): the frames that were walked, once more.
//!
//! They lie anywhere, so no plan can know which will be in use: it has those that lately were. When
//! the walk has found the stack, a call of its own reads the frames of this stack alone, newest
//! first, as its later copies. Where these agree, the stack stood still from the first read of a
//! frame to the last, also where the walk had to ask for frames that the plan did not have. Small
//! plans have their copies themselves, in the same call.

use super::Sampler;
use super::copies::MOVING_FRAMES;
use super::tracked::Thread;
use crate::frames::objects;
use crate::layout::{Frames, ObjectFrame};
use crate::memory::{Lookup, MAX_SEGMENTS, ReadError, ReadMemory, RemoteAddr};
use crate::plan::{Group, Purpose, Slot};

/// So many newest frames are read again where all were in the plan: what is below frames that stood
/// still did so as well.
const AGAIN_FRAMES: usize = 32;

impl<M: ReadMemory> Sampler<M> {
    /// Reads the frames of thread `index` again, where the plan has no copies of them.
    pub(super) fn read_again(&mut self, index: usize) -> Result<(), ReadError> {
        let Frames::Objects(layout) = self.layout.frames else {
            return Ok(());
        };
        let group = Group::thread(index);
        let thread = &self.threads[index];
        let copies = thread.compared_copies();
        if copies < 2 || !thread.is_whole() {
            return Ok(());
        }
        let in_plan = self.snapshot.calls(group) <= 1;
        let count = match in_plan {
            true => thread.frames.len().min(AGAIN_FRAMES),
            false => thread.frames.len(),
        };
        let is_done = in_plan && self.has_copies(thread, group, &layout);
        if is_done || count * (copies - 1) > MAX_SEGMENTS {
            return Ok(());
        }
        let (from, len) = objects::needed(&layout);
        self.misses.clear();
        for copy in 1..copies as u8 {
            for frame in &thread.frames[..count] {
                let addr = RemoteAddr(frame.addr.0.wrapping_add(from));
                let slot = Slot::new(group, Purpose::Frame, addr, len as u32);
                self.misses.push(Slot { copy, ..slot });
            }
        }
        self.threads[index].again = true;
        self.snapshot.forget_copies(group);
        self.snapshot.fetch(&mut self.memory, &self.misses)
    }

    /// Whether those of its frames that move are in all copies.
    fn has_copies(&self, thread: &Thread, group: Group, layout: &ObjectFrame) -> bool {
        let (from, len) = objects::needed(layout);
        (1..thread.compared_copies() as u8).all(|copy| {
            let copy = self.snapshot.later_copy(group, copy);
            let has =
                |addr: RemoteAddr| copy.bytes(RemoteAddr(addr.0.wrapping_add(from)), len as usize);
            let mut moving = thread.frames.iter().take(MOVING_FRAMES);
            moving.all(|frame| has(frame.addr).is_some())
        })
    }
}
