//! Whether a thread is still there: one more look at the lists, without stacks.

use super::Sampler;
use crate::memory::{Class, ReadError, ReadMemory, RemoteAddr};
use crate::threads::MAX_LIST;

impl<M: ReadMemory> Sampler<M> {
    /// Whether thread `index` is in the list of its interpreter, or may be: a list that cannot be
    /// followed to its end does not say that a thread has ended. Some short calls, one for each
    /// newer thread.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn is_listed(&mut self, index: usize) -> Result<bool, ReadError> {
        let class = self.memory.set_class(Class::Stacks);
        let listed = self.find_listed(index);
        self.memory.set_class(class);
        match listed {
            Err(ReadError::Unmapped(_)) => Ok(true),
            listed => listed,
        }
    }

    fn find_listed(&mut self, index: usize) -> Result<bool, ReadError> {
        let (interpreter, tstate) = {
            let thread = &self.threads[index];
            (thread.interpreter, thread.tstate)
        };
        let (runtime, links) = (self.layout.runtime, self.layout.interpreter);
        let next = self.layout.thread.next;
        let head = self.runtime;
        // An interpreter that has ended has taken its threads with it.
        match self.find_in_list(head, runtime.interpreters_head, links.next, interpreter)? {
            true => self.find_in_list(interpreter, links.threads_head, next, tstate),
            false => Ok(false),
        }
    }

    /// Whether `wanted` is in the list whose head is at offset `head` of `owner`.
    fn find_in_list(
        &mut self,
        owner: RemoteAddr,
        head: u64,
        next: u64,
        wanted: RemoteAddr,
    ) -> Result<bool, ReadError> {
        let (mut at, mut offset) = (owner, head);
        for _ in 0..MAX_LIST {
            let field = at.offset(offset).ok_or(ReadError::Unmapped(at))?;
            at = RemoteAddr(self.memory.read_u64(field)?);
            if at == wanted || at.is_null() {
                return Ok(at == wanted);
            }
            offset = next;
        }
        Ok(true)
    }
}
