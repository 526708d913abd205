//! `co_lnotab`, CPython 3.9 and older (Objects/lnotab_notes.txt).
//!
//! Pairs of bytes: so many bytes of code later, so many lines further. A step that does not
//! fit into a byte is several pairs. The code before the first pair belongs to
//! `co_firstlineno`, the code behind the last one to the last line, however long it is.
//!
//! Line deltas are signed since 3.6; before that, code that went back in lines was given
//! the higher line.

use super::{Position, Range};

pub(super) struct Ranges<'a> {
    /// `None` once the last, endless range has been given.
    pairs: Option<std::slice::ChunksExact<'a, u8>>,
    line_delta: fn(u8) -> i32,
    addr: u32,
    line: i32,
}

impl<'a> Ranges<'a> {
    /// `line_delta` says what the second byte of a pair means.
    pub(super) fn new(table: &'a [u8], first_line: i32, line_delta: fn(u8) -> i32) -> Self {
        Self {
            pairs: Some(table.chunks_exact(2)),
            line_delta,
            addr: 0,
            line: first_line,
        }
    }
}

impl Iterator for Ranges<'_> {
    type Item = Range;

    fn next(&mut self) -> Option<Range> {
        let pairs = self.pairs.as_mut()?;
        let position = Position::line_only(self.line);
        // A line that leaves the range of C's int makes the rest of the table meaningless.
        let step = pairs.next().and_then(|pair| {
            let addr = self.addr.checked_add(u32::from(pair[0]))?;
            let line = self.line.checked_add((self.line_delta)(pair[1]))?;
            Some((addr, line))
        });
        let Some((addr, line)) = step else {
            self.pairs = None;
            return Some(Range {
                end: u32::MAX,
                position,
            });
        };
        self.addr = addr;
        self.line = line;
        Some(Range {
            end: addr,
            position,
        })
    }
}
