//! Whether a frame was called by the one below it, told by the two frames alone.
//!
//! A caller keeps what it has called on its value stack until the call is over, and says by its
//! stack pointer that it is in a call ([`Calls`]). So where the word there is the function that
//! the frame above runs, or the generator that it belongs to, the one has called the other, even
//! if both were read while others came and went: a frame that was left over from an earlier call
//! has another function, and a caller that goes on itself has no stack pointer. That a frame
//! links to another (`previous`) proves less, for whatever stands in its place links there too.

use super::RawFrame;
use crate::layout::{Calls, Frames, Instructions, InterpreterFrame, Layout, StackPointer, owner};
use crate::memory::{Lookup, RemoteAddr, i32_at, u64_at};

/// So much of the stack from the pointer on.
const STACK_BYTES: usize = 16;
/// No frame is longer.
const MAX_FRAME_BYTES: usize = 1 << 24;
/// The generator stays on the stack, below the pointer; 3.15 has one word above it.
const GENERATOR_WORDS: [i64; 2] = [-1, -2];

/// Whether memory says that `caller` is in a call of `callee`. It does of calls that the
/// interpreter makes itself; of a callee that C code has called it says nothing.
pub(crate) fn is_in_call<L: Lookup>(
    view: &L,
    layout: &Layout,
    caller: &RawFrame,
    callee: &RawFrame,
) -> bool {
    let Frames::Interpreter(frames) = &layout.frames else {
        return false;
    };
    let Some(calls) = &frames.calls else {
        return false;
    };
    if has_not_begun(layout, caller) {
        return false;
    }
    // The callee first: what was read twice is found in the piece where it was walked.
    let called = match callee.owner {
        owner::THREAD => function_of(view, layout, callee.addr).map(|function| function.0),
        owner::GENERATOR => callee.addr.0.checked_sub(calls.generator_frame),
        _ => None,
    };
    let Some(called) = called.filter(|called| *called != 0) else {
        return false;
    };
    let used = view
        .bytes(caller.addr, frames.header_bytes as usize)
        .and_then(|header| used_bytes(header, frames, calls, caller.addr));
    let Some(used) = used else {
        return false;
    };
    // In one piece with the caller, so that both are of one instant.
    let Some(bytes) = view.bytes(caller.addr, used + STACK_BYTES) else {
        return false;
    };
    let word = |number: i64| {
        let at = (used as u64).checked_add_signed(8 * number);
        let word = at.and_then(|at| u64_at(bytes, at));
        word.map(|word| word & !frames.code_tag_mask)
    };
    if callee.owner == owner::GENERATOR {
        return GENERATOR_WORDS.iter().any(|at| word(*at) == Some(called));
    }
    // Up to 3.12 the function stands behind the place of a method, which is empty then; the result
    // of the call is put there.
    word(0) == Some(called) || word(0) == Some(0) && word(1) == Some(called)
}

/// Whether `bytes`, which begin with the header of `caller`, are those of when it was walked, and it
/// keeps no stack pointer, though it has begun: it runs itself, or C code that it called.
pub(crate) fn runs_itself(bytes: &[u8], layout: &Layout, caller: &RawFrame) -> bool {
    let Frames::Interpreter(frames) = &layout.frames else {
        return false;
    };
    let Some(calls) = &frames.calls else {
        return false;
    };
    let code = u64_at(bytes, frames.code).map(|code| code & !frames.code_tag_mask);
    u64_at(bytes, frames.instr) == Some(caller.instr)
        && code == Some(caller.code.0)
        && !has_not_begun(layout, caller)
        && used_bytes(bytes, frames, calls, caller.addr).is_none()
}

/// The function object of a frame in a data stack; `None` where the interpreter's frames have none.
pub(crate) fn function_of<L: Lookup>(
    view: &L,
    layout: &Layout,
    frame: RemoteAddr,
) -> Option<RemoteAddr> {
    let Frames::Interpreter(frames) = &layout.frames else {
        return None;
    };
    let at = frame.offset(frames.calls.as_ref()?.function)?;
    Some(RemoteAddr(view.u64(at)? & !frames.code_tag_mask))
}

/// Whether a frame was pushed but has executed nothing: it has a stack pointer by then, and on its
/// stack what the frame before it in its place had there.
fn has_not_begun(layout: &Layout, frame: &RawFrame) -> bool {
    match layout.code.instructions {
        // 3.11 and 3.12 stand before the first instruction, newer ones at it.
        Instructions::Inline { start, .. } => frame.instr <= frame.code.0.saturating_add(start),
        Instructions::Bytes { .. } => false,
    }
}

/// How far a caller's stack is in use, from the beginning of its frame; `None` while it runs
/// itself.
fn used_bytes(
    header: &[u8],
    layout: &InterpreterFrame,
    calls: &Calls,
    caller: RemoteAddr,
) -> Option<usize> {
    match calls.stack_pointer {
        StackPointer::Words(offset) => {
            let words = u64::try_from(i32_at(header, offset)?).ok()?;
            usize::try_from(layout.header_bytes + 8 * words).ok()
        }
        StackPointer::Address(offset) => {
            let used = u64_at(header, offset)?.checked_sub(caller.0)?;
            usize::try_from(used)
                .ok()
                .filter(|used| *used < MAX_FRAME_BYTES)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Frames, Minor, tables};

    const CALLER: u64 = 0x1000;
    const CALLEE: u64 = 0x1080;
    const FUNCTION: u64 = 0x7f00_0000_1230;

    struct Bytes(Vec<u8>);

    impl Lookup for Bytes {
        fn bytes(&self, addr: RemoteAddr, len: usize) -> Option<&[u8]> {
            let at = usize::try_from(addr.0.checked_sub(CALLER)?).ok()?;
            self.0.get(at..at + len)
        }
    }

    fn frame(addr: u64, owner: u8) -> RawFrame {
        RawFrame {
            addr: RemoteAddr(addr),
            code: RemoteAddr(0x5000),
            instr: 0x5000 + 0x200,
            owner,
        }
    }

    fn layouts() -> [Layout; 2] {
        let with = |stack_pointer| {
            let mut layout = tables::for_version(Minor::new(3, 12)).expect("a table");
            if let Frames::Interpreter(frame) = &mut layout.frames {
                let calls = frame.calls.as_mut().expect("3.12 tells");
                calls.stack_pointer = stack_pointer;
            }
            layout
        };
        [StackPointer::Words(64), StackPointer::Address(64)].map(with)
    }

    fn frames(layout: &Layout) -> (InterpreterFrame, Calls) {
        match layout.frames {
            Frames::Interpreter(frames) => (frames, frames.calls.expect("3.12 tells")),
            Frames::Objects(_) => unreachable!("3.12 has no frame objects"),
        }
    }

    /// A caller with three words in use and `word` behind them.
    fn memory(layout: &Layout, running: bool, word: u64, function: u64) -> Bytes {
        let (frames, calls) = frames(layout);
        let mut bytes = vec![0; 0x200];
        let mut put = |at: u64, value: &[u8]| {
            let at = (at - CALLER) as usize;
            bytes[at..at + value.len()].copy_from_slice(value);
        };
        let stack = CALLER + frames.header_bytes + 24;
        match (calls.stack_pointer, running) {
            (StackPointer::Words(offset), true) => put(CALLER + offset, &(-1_i32).to_le_bytes()),
            (StackPointer::Words(offset), false) => put(CALLER + offset, &3_i32.to_le_bytes()),
            (StackPointer::Address(_), true) => {}
            (StackPointer::Address(offset), false) => put(CALLER + offset, &stack.to_le_bytes()),
        }
        put(stack, &word.to_le_bytes());
        put(CALLEE + 16, &function.to_le_bytes());
        Bytes(bytes)
    }

    #[test]
    fn a_caller_has_the_function_of_its_callee_on_its_stack() {
        for layout in layouts() {
            let (caller, callee) = (frame(CALLER, owner::THREAD), frame(CALLEE, owner::THREAD));
            let says = |view: &Bytes| is_in_call(view, &layout, &caller, &callee);
            assert!(says(&memory(&layout, false, FUNCTION, FUNCTION)));
            assert!(!says(&memory(&layout, true, FUNCTION, FUNCTION)), "it runs");
            assert!(
                !says(&memory(&layout, false, FUNCTION + 8, FUNCTION)),
                "of another"
            );
            assert!(
                !says(&memory(&layout, false, 0, 0)),
                "nothing is no function"
            );
            assert!(!says(&Bytes(Vec::new())), "not there");
            let fresh = RawFrame {
                instr: caller.code.0,
                ..caller
            };
            let left_over = memory(&layout, false, FUNCTION, FUNCTION);
            assert!(
                !is_in_call(&left_over, &layout, &fresh, &callee),
                "it has not begun"
            );
        }
    }

    #[test]
    fn a_generator_stays_on_the_stack_of_who_resumes_it() {
        for layout in layouts() {
            let caller = frame(CALLER, owner::THREAD);
            let callee = frame(0x9000, owner::GENERATOR);
            let generator = 0x9000 - frames(&layout).1.generator_frame;
            let mut view = memory(&layout, false, 0, 0);
            assert!(!is_in_call(&view, &layout, &caller, &callee));
            let at = frames(&layout).0.header_bytes as usize + 16;
            view.0[at..at + 8].copy_from_slice(&generator.to_le_bytes());
            assert!(is_in_call(&view, &layout, &caller, &callee));
        }
    }
}
