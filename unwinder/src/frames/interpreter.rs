//! `_PyInterpreterFrame` chains of 3.11 and newer.

use super::{Cursor, Cut, Known, Progress, RawFrame};
use crate::layout::{InterpreterFrame, owner};
use crate::memory::{Lookup, RemoteAddr, u8_at, u64_at};

/// Whether a frame of this owner is an entry frame: it marks where C code called Python code
/// and has no code of its own.
#[must_use]
pub fn is_entry(layout: &InterpreterFrame, owner: u8) -> bool {
    layout.first_entry_owner.is_some_and(|first| owner >= first)
}

/// Whether a frame can be on a live chain. One owned by a frame object is a copy made when the
/// frame ended, and no value above the last exists (in 3.11, which has no entry frames, it is that
/// one).
pub(crate) fn is_live(layout: &InterpreterFrame, frame: &RawFrame) -> bool {
    let last = match layout.first_entry_owner {
        Some(_) => owner::LAST,
        None => owner::FRAME_OBJECT,
    };
    frame.owner != owner::FRAME_OBJECT && frame.owner <= last
}

/// Whether a frame that links to nothing can be the outermost: from 3.12 on that is an entry frame,
/// before it is one of the thread's own.
pub(crate) fn is_root(layout: &InterpreterFrame, frame: &RawFrame) -> bool {
    match layout.first_entry_owner {
        Some(_) => is_entry(layout, frame.owner),
        None => frame.owner == owner::THREAD,
    }
}

/// The frame whose header stands in `bytes`, and what it links to.
pub(crate) fn frame_in(
    bytes: &[u8],
    layout: &InterpreterFrame,
    addr: RemoteAddr,
) -> (RawFrame, RemoteAddr) {
    let word = |offset: u64| u64_at(bytes, offset).unwrap_or_default();
    let owner = u8_at(bytes, layout.owner).unwrap_or(u8::MAX);
    let code = if is_entry(layout, owner) {
        RemoteAddr::NULL
    } else {
        RemoteAddr(word(layout.code) & !layout.code_tag_mask)
    };
    let frame = RawFrame {
        addr,
        code,
        instr: word(layout.instr),
        owner,
    };
    (frame, RemoteAddr(word(layout.previous)))
}

pub(super) fn walk<L: Lookup>(
    view: &L,
    layout: &InterpreterFrame,
    cursor: &mut Cursor,
    frames: &mut Vec<RawFrame>,
    known: &mut Known,
) -> Progress {
    while !cursor.next.is_null() {
        if let Some(end) = cursor.check() {
            return end;
        }
        if Some(cursor.next) == cursor.base {
            return Progress::Root;
        }
        let addr = cursor.next;
        let len = layout.header_bytes;
        let Some(bytes) = view.bytes(addr, len as usize) else {
            return Progress::Miss { addr, len };
        };
        let (frame, previous) = frame_in(bytes, layout, addr);
        if !is_live(layout, &frame) {
            return Progress::Cut(Cut::Torn);
        }
        frames.push(frame);
        cursor.follow(previous);
        if known.meet(&frame) {
            follow_known(view, layout, cursor, frames, known);
        }
    }
    // With a base frame, a chain that ends in NULL was torn.
    match cursor.base {
        Some(_) => Progress::Cut(Cut::Torn),
        None => Progress::Root,
    }
}

/// Takes over the frames of the last sample, from the next one on, while memory says the same.
fn follow_known<L: Lookup>(
    view: &L,
    layout: &InterpreterFrame,
    cursor: &mut Cursor,
    frames: &mut Vec<RawFrame>,
    known: &mut Known,
) {
    let rest = &known.frames[known.at..];
    let mut next = cursor.next;
    let mut same = 0;
    for frame in rest
        .iter()
        .take_while(|frame| Some(frame.addr) != cursor.base)
    {
        let Some(bytes) = view.bytes(frame.addr, layout.header_bytes as usize) else {
            break;
        };
        let word = |offset: u64| u64_at(bytes, offset).unwrap_or_default();
        let is = frame.addr == next
            && word(layout.instr) == frame.instr
            && u8_at(bytes, layout.owner) == Some(frame.owner)
            && (word(layout.code) & !layout.code_tag_mask == frame.code.0
                || is_entry(layout, frame.owner));
        if !is {
            break;
        }
        next = RemoteAddr(word(layout.previous));
        same += 1;
    }
    frames.extend_from_slice(&rest[..same]);
    cursor.skip(same, next);
    known.at += same;
    known.same += same;
}
