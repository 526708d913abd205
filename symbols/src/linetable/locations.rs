//! `co_linetable` since CPython 3.11 (PEP 657, Objects/locations.md; the kinds of entries
//! are `enum _PyCodeLocationInfoKind` in Include/internal/pycore_code.h).
//!
//! An entry is a byte with its highest bit set (four bits of kind, three of length) and
//! what follows it up to the next such byte. So a table can be cut into entries without
//! understanding them, and one that is damaged costs only its own range, unless its line
//! delta is lost: then no later line can be trusted and the table ends there.

use super::{Position, Range};

/// Entries count code in units of an instruction word.
const CODE_UNIT_BYTES: u32 = 2;

const START_OF_ENTRY: u8 = 0x80;
const KIND_LAST_SHORT: u8 = 9;
const KIND_ONE_LINE_0: u8 = 10;
const KIND_ONE_LINE_2: u8 = 12;
const KIND_NO_COLUMNS: u8 = 13;
const KIND_LONG: u8 = 14;

pub(super) struct Ranges<'a> {
    rest: &'a [u8],
    end: u32,
    line: i32,
}

impl<'a> Ranges<'a> {
    pub(super) fn new(table: &'a [u8], first_line: i32) -> Self {
        Self {
            rest: table,
            end: 0,
            line: first_line,
        }
    }

    /// Cuts the next entry off: its first byte and the bytes that belong to it.
    fn entry(&mut self) -> Option<(u8, &'a [u8])> {
        let (&first, rest) = self.rest.split_first()?;
        let payload = rest.iter().position(|byte| byte & START_OF_ENTRY != 0);
        let (payload, rest) = rest.split_at(payload.unwrap_or(rest.len()));
        self.rest = rest;
        (first & START_OF_ENTRY != 0).then_some((first, payload))
    }

    /// The position of an entry; moves the line. `None` where the line is lost.
    fn position(&mut self, kind: u8, payload: &[u8]) -> Option<Position> {
        let mut payload = Payload(payload);
        match kind {
            0..=KIND_LAST_SHORT => {
                let columns = payload.byte();
                let start = columns.map(|byte| u32::from(kind) * 8 + u32::from(byte >> 4));
                let end = start.zip(columns);
                let end = end.map(|(start, byte)| start + u32::from(byte & 15));
                Some(self.on_line(self.line, start, end))
            }
            KIND_ONE_LINE_0..=KIND_ONE_LINE_2 => {
                self.line = self.line.checked_add(i32::from(kind - KIND_ONE_LINE_0))?;
                let start = payload.byte().map(u32::from);
                let end = payload.byte().map(u32::from);
                Some(self.on_line(self.line, start, end))
            }
            KIND_NO_COLUMNS => {
                self.line = self.line.checked_add(payload.signed_varint()?)?;
                Some(self.on_line(self.line, None, None))
            }
            KIND_LONG => {
                self.line = self.line.checked_add(payload.signed_varint()?)?;
                let lines = payload.varint().and_then(|lines| i32::try_from(lines).ok());
                let end_line = lines.and_then(|lines| self.line.checked_add(lines));
                // Columns are stored plus one, so that 0 says that there is none.
                let start = payload.varint().and_then(|column| column.checked_sub(1));
                let end = payload.varint().and_then(|column| column.checked_sub(1));
                Some(self.on_line(end_line.unwrap_or(-1), start, end))
            }
            _ => Some(Position::default()),
        }
    }

    fn on_line(&self, end_line: i32, column: Option<u32>, end_column: Option<u32>) -> Position {
        let Ok(line) = u32::try_from(self.line) else {
            return Position::default();
        };
        let end_line = u32::try_from(end_line).ok();
        Position {
            line: Some(line),
            column,
            end_line,
            end_column: end_line.and(end_column),
        }
    }
}

impl Iterator for Ranges<'_> {
    type Item = Range;

    fn next(&mut self) -> Option<Range> {
        let (first, payload) = self.entry()?;
        let units = u32::from(first & 7) + 1;
        self.end = self.end.checked_add(units * CODE_UNIT_BYTES)?;
        let Some(position) = self.position((first >> 3) & 15, payload) else {
            self.rest = &[];
            return None;
        };
        Some(Range {
            end: self.end,
            position,
        })
    }
}

/// What follows the first byte of an entry; every byte is below 128.
struct Payload<'a>(&'a [u8]);

impl Payload<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    /// Groups of six bits, lowest first; bit 6 says that more follow. `None` when the entry
    /// ends before the number or the number does not fit.
    fn varint(&mut self) -> Option<u32> {
        let mut value: u32 = 0;
        for shift in (0..u32::BITS).step_by(6) {
            let byte = self.byte()?;
            let group = u32::from(byte & 63);
            let shifted = group << shift;
            if shifted >> shift != group {
                return None;
            }
            value |= shifted;
            if byte & 64 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A varint whose lowest bit is the sign.
    fn signed_varint(&mut self) -> Option<i32> {
        let value = self.varint()?;
        let magnitude = i32::try_from(value >> 1).ok()?;
        Some(if value & 1 == 0 {
            magnitude
        } else {
            -magnitude
        })
    }
}
