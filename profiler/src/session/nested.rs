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
        for place in waiting(&self.stands) {
            self.stacks[place].waits = true;
        }
    }
}

/// The places of those, sorted, that stand above another on the same C stack.
fn waiting(stands: &[Stand]) -> impl Iterator<Item = usize> {
    stands.windows(2).filter_map(|pair| {
        let [inner, outer] = [pair[0], pair[1]];
        let apart = outer.c_stack.offset_from(inner.c_stack);
        let nested = inner.thread_id == outer.thread_id && apart? < ONE_STACK_BYTES;
        nested.then_some(outer.place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_above_on_the_same_stack_waits() {
        const TOP: u64 = 0x7f00_0000_0000;
        let stand = |thread_id, c_stack, place| Stand {
            thread_id,
            c_stack: RemoteAddr(c_stack),
            place,
        };
        let mut stands = [
            stand(7, TOP, 0),
            stand(3, TOP + 0x2000, 1),
            // Called by the first.
            stand(7, TOP - 0x800, 2),
            stand(7, TOP - 0x1000, 3),
            // Made by the first thread, run by another.
            stand(7, TOP - (64 << 20), 4),
        ];
        stands.sort_unstable();
        assert_eq!(waiting(&stands).collect::<Vec<_>>(), [2, 0]);
    }
}
