//! The end of an interpreter, which frees nearly all of its memory before the process ends.

use onlooker_unwinder::memory::{ReadMemory, RemoteAddr};

use super::Session;

impl Session {
    /// The word of eight bytes that the interpreter's end writes to before it takes anything down.
    #[must_use]
    pub fn end_word(&self) -> Option<RemoteAddr> {
        let offset = self.sampler.layout().runtime.finalizing;
        self.sampler.runtime().offset(offset)
    }

    /// Whether the interpreter has begun to end, or cannot be asked any more. A small read.
    pub fn is_ending(&mut self) -> bool {
        let mut word = [0; 8];
        let Some(at) = self.end_word() else {
            return true;
        };
        let read = self.sampler.memory_mut().read_exact(at, &mut word);
        read.is_err() || word != [0; 8]
    }
}
