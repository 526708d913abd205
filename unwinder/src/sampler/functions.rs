//! Which code belongs to which function, as frames showed it that were there for long enough.
//!
//! A frame is filled word by word while it is pushed (`_PyFrame_Initialize`,
//! `Include/internal/pycore_frame.h`), so one copy may show the code of the frame that stood there
//! before beside the function of the one that comes. With the code that its function is known to
//! have, a copy is of one frame.

use crate::memory::RemoteAddr;

/// So many functions are known at most; one that comes later takes the place of another.
const KNOWN: usize = 1 << 11;
/// Objects lie at multiples of so many bytes.
const ALIGNMENT: u64 = 16;

/// Functions and the code that each of them has.
#[derive(Debug)]
pub(super) struct Functions {
    known: Box<[(RemoteAddr, RemoteAddr)]>,
}

impl Default for Functions {
    fn default() -> Self {
        Self {
            known: vec![(RemoteAddr::NULL, RemoteAddr::NULL); KNOWN].into(),
        }
    }
}

impl Functions {
    /// Whether `function` is known to have this code.
    pub(super) fn has(&self, function: RemoteAddr, code: RemoteAddr) -> bool {
        !function.is_null() && self.known[place(function)] == (function, code)
    }

    /// Notes that it has.
    pub(super) fn note(&mut self, function: RemoteAddr, code: RemoteAddr) {
        self.known[place(function)] = (function, code);
    }
}

/// Neighbours lie in different places.
fn place(function: RemoteAddr) -> usize {
    (function.0 / ALIGNMENT) as usize % KNOWN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_has_the_code_that_was_noted_last() {
        let mut functions = Functions::default();
        let (function, code, other) = (RemoteAddr(0x7f10), RemoteAddr(0x5000), RemoteAddr(0x6000));
        assert!(!functions.has(RemoteAddr::NULL, RemoteAddr::NULL));
        assert!(!functions.has(function, code));
        functions.note(function, code);
        assert!(functions.has(function, code) && !functions.has(function, other));
        functions.note(function, other);
        assert!(functions.has(function, other) && !functions.has(function, code));
        let neighbour = RemoteAddr(0x7f20);
        functions.note(neighbour, code);
        assert!(functions.has(function, other) && functions.has(neighbour, code));
    }
}
