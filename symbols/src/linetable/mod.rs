//! From an instruction to its source position: the line tables of code objects.
//!
//! CPython has had four formats; each file of this module decodes one of them into a
//! sequence of ranges of instructions. What is answered is what a traceback would show
//! (`PyCode_Addr2Line`, Objects/codeobject.c), columns included where the format has them.
//!
//! Tables are copied out of another process and may be torn or hostile. A decoder reads
//! each byte once, so it ends; whatever does not decode has no position; sums that leave
//! `i32`, in which CPython counts lines, have no position either.

mod lnotab;
mod locations;
mod pep626;

/// How the bytes of a line table are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LineTableFormat {
    /// `co_lnotab` up to 3.5: lines only ever grow.
    LnotabUnsigned,
    /// `co_lnotab` of 3.6 to 3.9: line deltas are signed.
    LnotabSigned,
    /// `co_linetable` of 3.10 (PEP 626): ranges, some of which have no line.
    Pep626,
    /// `co_linetable` since 3.11 (PEP 657): ranges with columns.
    Locations,
}

impl LineTableFormat {
    /// The format that CPython `major.minor` writes.
    pub fn of_version(major: u8, minor: u8) -> Self {
        match (major, minor) {
            (0..=2, _) | (3, 0..=5) => Self::LnotabUnsigned,
            (3, 6..=9) => Self::LnotabSigned,
            (3, 10) => Self::Pep626,
            _ => Self::Locations,
        }
    }
}

/// A place in a source file. What is unknown is `None`; then what depends on it is too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// The line, as counted by the compiler: from 1, but the start of a module is line 0
    /// since 3.11. `None` for instructions that belong to no line.
    pub line: Option<u32>,
    /// Where in `line` the expression begins: from 0, in bytes of UTF-8.
    pub column: Option<u32>,
    /// The line where the expression ends; `None` before 3.11.
    pub end_line: Option<u32>,
    /// Where in `end_line` the expression ends: one past the last byte.
    pub end_column: Option<u32>,
}

impl Position {
    /// A position of which only the line is known; a negative line is none.
    fn line_only(line: i32) -> Self {
        Self {
            line: u32::try_from(line).ok(),
            ..Self::default()
        }
    }
}

/// Instructions up to `end` (a byte offset, exclusive) that come from one position.
/// A range begins where the one before it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Range {
    end: u32,
    position: Position,
}

/// Decodes ranges in order; their ends never decrease.
fn ranges<'a>(
    format: LineTableFormat,
    table: &'a [u8],
    first_line: i32,
) -> Box<dyn Iterator<Item = Range> + 'a> {
    match format {
        LineTableFormat::LnotabUnsigned => {
            Box::new(lnotab::Ranges::new(table, first_line, i32::from))
        }
        LineTableFormat::LnotabSigned => {
            let signed = |delta: u8| i32::from(i8::from_le_bytes([delta]));
            Box::new(lnotab::Ranges::new(table, first_line, signed))
        }
        LineTableFormat::Pep626 => Box::new(pep626::Ranges::new(table, first_line)),
        LineTableFormat::Locations => Box::new(locations::Ranges::new(table, first_line)),
    }
}

/// The position of the instruction at `lasti`, decoding only as far as needed.
///
/// `lasti` is the byte offset of the instruction from the start of the code (3.10 stores
/// an index of two-byte units: double it). A negative one means that the frame has not
/// started; its line is `first_line`, as in a traceback. Behind the last range the
/// position is unknown, except in `lnotab`, whose last line has no end.
pub fn locate(format: LineTableFormat, table: &[u8], first_line: i32, lasti: i32) -> Position {
    let Ok(lasti) = u32::try_from(lasti) else {
        return Position::line_only(first_line);
    };
    ranges(format, table, first_line)
        .find(|range| lasti < range.end)
        .map_or_else(Position::default, |range| range.position)
}

/// A decoded table, for many lookups in one code object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LineTable {
    first_line: i32,
    /// Ends strictly increase, and neighbours differ in position.
    ranges: Vec<Range>,
}

impl LineTable {
    /// Decodes a whole table. Takes at most one range of 40 bytes per byte of the table.
    pub fn new(format: LineTableFormat, table: &[u8], first_line: i32) -> Self {
        let mut merged: Vec<Range> = Vec::new();
        let mut end = 0;
        for range in ranges(format, table, first_line) {
            if range.end <= end {
                continue;
            }
            end = range.end;
            match merged.last_mut() {
                Some(last) if last.position == range.position => last.end = end,
                _ => merged.push(range),
            }
        }
        Self {
            first_line,
            ranges: merged,
        }
    }

    /// The same answer as [`locate`], by binary search.
    pub fn locate(&self, lasti: i32) -> Position {
        let Ok(lasti) = u32::try_from(lasti) else {
            return Position::line_only(self.first_line);
        };
        let index = self.ranges.partition_point(|range| range.end <= lasti);
        self.ranges
            .get(index)
            .map_or_else(Position::default, |range| range.position)
    }
}

#[cfg(test)]
mod tests;
