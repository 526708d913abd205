//! The header of a code object: identity, instructions, frame size.
//!
//! Code objects are cached by identity and not only by address: a freed one whose address is
//! used again differs in its identity, which is read again and compared.

use crate::layout::{FrameSize, Instructions, Layout, fields};
use crate::memory::{RemoteAddr, i32_at, u32_at, u64_at};

/// No function has a larger code or frame; more is a torn header.
const MAX_CODE_UNITS: u64 = 1 << 26;
const MAX_FRAME_WORDS: u64 = 1 << 24;

/// What tells one code object from another at the same address: a fingerprint of its type, of
/// everything that it points to, and from 3.12 of `co_version`, which is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity(u64);

impl Identity {
    /// Mixes one more word in.
    #[must_use]
    pub fn with(self, word: u64) -> Self {
        // FNV-1a over words, with a rotation so that high bits reach low ones. It has to tell
        // accidents apart, not attackers.
        Self((self.0.rotate_left(23) ^ word).wrapping_mul(0x0000_0100_0000_01b3))
    }
}

/// The header of one code object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeHeader {
    /// Where it is.
    pub addr: RemoteAddr,
    /// Its identity as far as the header tells.
    pub identity: Identity,
    /// `ob_type`: the same for every code object of a process.
    pub ob_type: RemoteAddr,
    /// `co_flags`.
    pub flags: u32,
    /// `co_firstlineno`.
    pub first_line: i32,
    /// `co_filename`, a `str`.
    pub filename: RemoteAddr,
    /// `co_name`, a `str`.
    pub name: RemoteAddr,
    /// `co_qualname` (3.11+), a `str`.
    pub qualname: Option<RemoteAddr>,
    /// The line table, a `bytes`.
    pub line_table: RemoteAddr,
    /// Where the instructions are.
    pub range: CodeRange,
}

/// The instructions of a code object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeRange {
    /// 3.8 – 3.10: in a `bytes` object; frames hold offsets.
    Bytes(RemoteAddr),
    /// 3.11+: inside the code object; frames hold addresses.
    Inline {
        /// First instruction.
        start: RemoteAddr,
        /// Code units of two bytes.
        units: u64,
        /// A frame before this code unit is still being built.
        first_traceable: i32,
        /// Words from a frame of this code to the next one in its chunk.
        frame_words: u64,
    },
}

/// `CO_GENERATOR`, `CO_COROUTINE`, `CO_ASYNC_GENERATOR` (`Include/cpython/code.h`): its frames
/// belong to an object and outlive a call.
const FLAGS_GENERATOR: u32 = 0x20 | 0x80 | 0x200;

/// Where an instruction pointer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// At this byte offset; -1 or -2 before the first instruction.
    At(i32),
    /// Before the first traceable instruction: the frame is a shim or still being built.
    Incomplete,
    /// Outside of the code: torn, or another code object by now.
    Outside,
}

impl CodeHeader {
    /// Reads a header; `None` where there are too few bytes or a field that no code object has.
    #[must_use]
    pub fn parse(layout: &Layout, addr: RemoteAddr, bytes: &[u8]) -> Option<Self> {
        let c = &layout.code;
        let pointer = |offset| {
            let pointer = RemoteAddr(u64_at(bytes, offset)?);
            pointer.is_plausible_pointer().then_some(pointer)
        };
        let ob_type = pointer(fields::OB_TYPE)?;
        let filename = pointer(c.filename)?;
        let name = pointer(c.name)?;
        let qualname = match c.qualname {
            Some(offset) => Some(pointer(offset)?),
            None => None,
        };
        let line_table = pointer(c.line_table)?;
        let first_line = i32_at(bytes, c.first_line)?;
        let flags = u32_at(bytes, c.flags)?;
        let range = match c.instructions {
            Instructions::Bytes { code } => CodeRange::Bytes(pointer(code)?),
            Instructions::Inline {
                start,
                first_traceable,
                units,
                frame_size,
            } => {
                let units = u64_at(bytes, units).filter(|u| *u > 0 && *u <= MAX_CODE_UNITS)?;
                let word = |offset| i32_at(bytes, offset).and_then(|w| u64::try_from(w).ok());
                let frame_words = match frame_size {
                    FrameSize::Field(offset) => word(offset)?,
                    FrameSize::Sum {
                        locals,
                        stack,
                        specials,
                    } => word(locals)? + word(stack)? + specials,
                };
                let first_traceable = i32_at(bytes, first_traceable)?;
                if frame_words > MAX_FRAME_WORDS || first_traceable < 0 {
                    return None;
                }
                CodeRange::Inline {
                    start: addr.offset(start)?,
                    units,
                    first_traceable,
                    frame_words,
                }
            }
        };
        let mut identity = Identity(0xcbf2_9ce4_8422_2325)
            .with(ob_type.0)
            .with(filename.0)
            .with(name.0)
            .with(qualname.unwrap_or_default().0)
            .with(line_table.0)
            .with(u64_at(bytes, c.consts)?)
            .with(u64_at(bytes, c.names)?)
            .with(u64::from(flags))
            .with(u64::from(first_line.cast_unsigned()));
        identity = match range {
            CodeRange::Bytes(code) => identity.with(code.0),
            CodeRange::Inline {
                units, frame_words, ..
            } => identity.with(units << 24 | frame_words),
        };
        if let Some(offset) = c.version {
            identity = identity.with(u64::from(u32_at(bytes, offset)?));
        }
        Some(Self {
            addr,
            identity,
            ob_type,
            flags,
            first_line,
            filename,
            name,
            qualname,
            line_table,
            range,
        })
    }

    /// Whether it is the code of a generator or coroutine.
    #[must_use]
    pub fn is_generator(&self) -> bool {
        self.flags & FLAGS_GENERATOR != 0
    }

    /// Where the instruction of a frame of this code stands. `instr` is a frame's `instr`;
    /// `generator` frames are complete from the start.
    #[must_use]
    pub fn position(&self, instr: u64, generator: bool) -> Position {
        match self.range {
            CodeRange::Bytes(_) => match i32::try_from(instr.cast_signed()) {
                Ok(offset) if offset >= -2 => Position::At(offset),
                _ => Position::Outside,
            },
            CodeRange::Inline {
                start,
                units,
                first_traceable,
                ..
            } => {
                // 3.11 and 3.12 point at the code unit before the next instruction: two bytes
                // before the start for a frame that has not run.
                let offset = instr.wrapping_sub(start.0).cast_signed();
                if offset < -2 || offset >= (2 * units).cast_signed() || offset % 2 != 0 {
                    return Position::Outside;
                }
                if !generator && offset < 2 * i64::from(first_traceable) {
                    return Position::Incomplete;
                }
                i32::try_from(offset).map_or(Position::Outside, Position::At)
            }
        }
    }
}

#[cfg(test)]
mod tests;
