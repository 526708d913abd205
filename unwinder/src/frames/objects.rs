//! `PyFrameObject` chains of 3.8 – 3.10.

use super::{Cursor, Cut, Known, Progress, RawFrame};
use crate::layout::{ObjectFrame, owner};
use crate::memory::{Lookup, RemoteAddr, i32_at, u8_at, u64_at};

/// First byte of a frame object that a walk needs, and how many.
pub(crate) fn needed(layout: &ObjectFrame) -> (u64, u64) {
    let from = layout.back.min(layout.code).min(layout.lasti);
    let to = (layout.back + 8).max(layout.code + 8).max(layout.lasti + 4);
    let to = to.max(layout.state + 1);
    (from, to - from)
}

/// Whether the frame whose needed bytes these are can stand on a stack: it runs, or has been pushed
/// and not begun. One that was popped keeps its code and, for a while, its link.
pub(crate) fn is_live(bytes: &[u8], layout: &ObjectFrame) -> bool {
    let (from, _) = needed(layout);
    runs(bytes, layout) || i32_at(bytes, layout.lasti - from).is_some_and(|lasti| lasti < 0)
}

fn runs(bytes: &[u8], layout: &ObjectFrame) -> bool {
    let (from, _) = needed(layout);
    let state = u8_at(bytes, layout.state - from);
    state.is_some_and(|state| layout.running.contains(&state))
}

pub(super) fn walk<L: Lookup>(
    view: &L,
    layout: &ObjectFrame,
    cursor: &mut Cursor,
    frames: &mut Vec<RawFrame>,
    known: &mut Known,
) -> Progress {
    let (from, len) = needed(layout);
    let mut is_root = true;
    while !cursor.next.is_null() {
        if let Some(end) = cursor.check() {
            return end;
        }
        let Some(start) = cursor.next.offset(from) else {
            return Progress::Cut(Cut::Torn);
        };
        let Some(bytes) = view.bytes(start, len as usize) else {
            return Progress::Miss { addr: start, len };
        };
        let word = |offset: u64| u64_at(bytes, offset - from).unwrap_or_default();
        let lasti = i32_at(bytes, layout.lasti - from).unwrap_or_default();
        let frame = RawFrame {
            addr: cursor.next,
            code: RemoteAddr(word(layout.code)),
            instr: i64::from(lasti.saturating_mul(layout.lasti_unit)).cast_unsigned(),
            owner: owner::THREAD,
        };
        if !is_live(bytes, layout) {
            if cursor.steps > 0 {
                return Progress::Cut(Cut::Torn);
            }
            // The newest: it has returned and is popped next, or is a generator that is entered
            // (`exit_eval_frame`, Python/ceval.c). Its caller is the newest that runs.
            is_root = false;
            cursor.follow(RemoteAddr(word(layout.back)));
            continue;
        }
        // A frame that was popped has no caller either, until its memory is used again.
        is_root = runs(bytes, layout);
        known.meet(&frame);
        frames.push(frame);
        cursor.follow(RemoteAddr(word(layout.back)));
    }
    if is_root {
        Progress::Root
    } else {
        Progress::Cut(Cut::Torn)
    }
}
