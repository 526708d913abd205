//! Frames, of which only a part holds references, and the objects that own one.

use onlooker_unwinder::layout::{Frames, Minor, owner};
use onlooker_unwinder::memory::Lookup;

use super::kinds::Fields;
use super::{Visits, Worth};
use crate::objects::Object;

/// Words in front of the frame in a generator (3.11+): `gi_origin_or_finalizer`, and the byte
/// `gi_frame_state` (`_PyGenObject_HEAD`, `Include/cpython/genobject.h`).
pub(super) const BEFORE_FRAME_ORIGIN: u64 = 16;
pub(super) const BEFORE_FRAME_STATE: u64 = 5;
/// `PyFrameObject.f_frame` (3.11+).
pub(super) const FRAME_DATA: u64 = 24;

/// The frame within a generator or a frame object, as far as it holds references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inside {
    pub(super) start: u64,
    /// End of the live part of its stack; `None` while it runs, when nobody knows.
    end: Option<u64>,
}

impl<B: AsRef<[u8]>> Visits<'_, B> {
    /// `_f_frame_data`: three words in 3.11 and 3.12, five in 3.13, six after it.
    pub(super) fn frame_room(&self) -> u64 {
        match self.layout.version.minor {
            ..=12 => 48,
            13 => 64,
            _ => 72,
        }
    }

    /// The frame in an object that owns one, if it holds references.
    pub(super) fn inside(&self, object: &Object, known: Fields) -> Option<Inside> {
        let Frames::Interpreter(frame) = self.layout.frames else {
            return None;
        };
        let start = match known {
            Fields::Generator(start, _) => start,
            Fields::Frame => {
                let data = self.references.word(object.addr, FRAME_DATA);
                data.checked_sub(object.addr.0)
                    .filter(|start| *start == self.frame_room())?
            }
            _ => return None,
        };
        let byte = |offset| {
            let at = object.addr.offset(offset)?;
            Some(self.space.bytes(at, 1)?[0])
        };
        let version = self.layout.version;
        let is_alive = if known == Fields::Frame {
            byte(start + frame.owner) == Some(owner::FRAME_OBJECT)
        } else {
            // `FRAME_COMPLETED`, `FRAME_CLEARED` (`pycore_frame.h`): the fields of such a frame are
            // stale. 3.14 empties them.
            let state = byte(start - BEFORE_FRAME_STATE)?.cast_signed();
            version >= Minor::new(3, 14) || state <= 0
        };
        // `stackpointer` (3.14+) or `stacktop`, a number, stand behind the instruction.
        let top = self.references.word(object.addr, start + frame.instr + 8);
        let stack = start + frame.header_bytes;
        let end = if version >= Minor::new(3, 14) {
            top.checked_sub(object.addr.0)
        } else {
            let slots = u64::try_from((top as u32).cast_signed()).ok();
            slots.map(|slots| stack + 8 * slots)
        };
        let end = end.filter(|end| (stack..stack + object.block.bytes).contains(end));
        is_alive.then_some(Inside { start, end })
    }

    /// A word of an interpreter's frame (`_PyFrame_Traverse`, `Python/frame.c`).
    pub(super) fn frame(&self, inside: Inside, at: u64) -> Worth {
        let Frames::Interpreter(frame) = self.layout.frames else {
            return Worth::Perhaps;
        };
        let field = at - inside.start;
        if field >= frame.header_bytes {
            return match inside.end {
                Some(end) if at < end => Worth::Counted,
                Some(_) => Worth::Nothing,
                None => Worth::Followed,
            };
        }
        // Function, locals, code, frame object; those between are borrowed.
        let strong = if self.layout.version == Minor::new(3, 11) {
            [0, 24, 32, 40]
        } else {
            [0, 16, 40, 48]
        };
        if strong.contains(&field) {
            Worth::Counted
        } else {
            Worth::Followed
        }
    }

    /// A word of a frame object of 3.8 – 3.10 (`frame_traverse`, `Objects/frameobject.c`).
    pub(super) fn frame_object(&self, object: &Object, at: u64) -> Worth {
        const FIRST_STRONG: std::ops::Range<u64> = 24..64;
        const VALUE_STACK: u64 = 64;
        let is_310 = self.layout.version == Minor::new(3, 10);
        // 3.10 has a depth in place of `f_stacktop`, behind `f_trace`.
        let (trace, generator, locals) = if is_310 { (72, 88, 352) } else { (80, 96, 360) };
        if FIRST_STRONG.contains(&at) || at == trace {
            return Worth::Counted;
        }
        if at < locals {
            // `f_gen` is borrowed.
            return if at == generator {
                Worth::Nothing
            } else {
                Worth::Followed
            };
        }
        let word = |offset| self.references.word(object.addr, offset);
        let stack = word(VALUE_STACK).saturating_sub(object.addr.0);
        let end = if is_310 {
            let depth = (word(80) as u32).cast_signed();
            u64::try_from(depth)
                .ok()
                .map(|depth| stack.saturating_add(8 * depth))
        } else {
            word(72).checked_sub(object.addr.0)
        };
        match end {
            _ if at < stack => Worth::Counted,
            Some(end) if at < end => Worth::Counted,
            Some(_) => Worth::Nothing,
            None => Worth::Followed,
        }
    }
}
