//! A thread that runs several interpreters has a thread state and a stack in each, one inside the
//! other: code of the innermost runs, the others wait for its return.
//!
//! Which is innermost is told by the C stack, which grows down: it is the one whose newest call from C
//! into Python stands lowest there (3.11+). Up to 3.12 a thread state may be that of the thread which
//! has made the interpreter, while another runs it; that one is far away.

use onlooker_unwinder::memory::RemoteAddr;

use super::Session;

/// Calls further apart are of two C stacks.
const ONE_STACK_BYTES: u64 = 4 << 20;

/// Where a stack of the sample stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stand {
    thread_id: u64,
    c_stack: RemoteAddr,
    /// In the list of stacks.
    place: usize,
}

impl Session {
    /// Finds the stacks that wait for one further down on the same C stack.
    pub(super) fn find_nested(&mut self) {
        self.stacks.iter_mut().for_each(|stack| stack.waits = false);
        if self.sampler.interpreters().len() < 2 {
            return;
        }
        let layout = self.sampler.layout();
        self.stands.clear();
        for (index, thread) in self.sampler.threads().iter().enumerate() {
            let place = self.places[index];
            let stack = &self.stacks[place];
            if let Some(c_stack) = thread.c_stack(layout).filter(|_| stack.current) {
                let thread_id = stack.thread_id;
                self.stands.push(Stand {
                    thread_id,
                    c_stack,
                    place,
                });
            }
        }
        self.stands.sort_unstable();
        for pair in self.stands.windows(2) {
            let [inner, outer] = [pair[0], pair[1]];
            let apart = outer.c_stack.offset_from(inner.c_stack);
            if inner.thread_id == outer.thread_id && apart.is_some_and(|b| b < ONE_STACK_BYTES) {
                self.stacks[outer.place].waits = true;
            }
        }
    }
}
