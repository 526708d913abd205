//! `co_linetable` of CPython 3.10 (PEP 626, Objects/lnotab_notes.txt there).
//!
//! Pairs of bytes: the length of a range of code, and a signed line delta that applies to
//! the range itself. A delta of -128 says that the range has no line and leaves the line
//! that later deltas count from as it was.

use super::{Position, Range};

const NO_LINE: i8 = -128;

pub(super) struct Ranges<'a> {
    pairs: std::slice::ChunksExact<'a, u8>,
    end: u32,
    line: i32,
}

impl<'a> Ranges<'a> {
    pub(super) fn new(table: &'a [u8], first_line: i32) -> Self {
        Self {
            pairs: table.chunks_exact(2),
            end: 0,
            line: first_line,
        }
    }
}

impl Iterator for Ranges<'_> {
    type Item = Range;

    fn next(&mut self) -> Option<Range> {
        let pair = self.pairs.next()?;
        self.end = self.end.checked_add(u32::from(pair[0]))?;
        let position = match i8::from_le_bytes([pair[1]]) {
            NO_LINE => Position::default(),
            delta => {
                self.line = self.line.checked_add(i32::from(delta))?;
                Position::line_only(self.line)
            }
        };
        Some(Range {
            end: self.end,
            position,
        })
    }
}
