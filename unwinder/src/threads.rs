//! Interpreters and thread states, and who holds the interpreter lock: pure functions over
//! bytes that were copied.

use crate::layout::{FrameRoot, Layout, gil};
use crate::memory::{Lookup, RemoteAddr, i32_at, u32_at, u64_at};

/// More interpreters or threads than any process has; a longer list is torn.
pub const MAX_LIST: usize = 1 << 17;

/// What one interpreter state says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterpreterState {
    /// Where it is.
    pub addr: RemoteAddr,
    /// 0 for the main interpreter.
    pub id: i64,
    /// The next (older) interpreter.
    pub next: RemoteAddr,
    /// Its newest thread state.
    pub threads_head: RemoteAddr,
    /// Its lock (3.12+).
    pub gil: Option<RemoteAddr>,
}

/// The two pieces of an interpreter state that a sample reads: offset and length.
#[must_use]
pub fn interpreter_pieces(layout: &Layout) -> [(u64, u64); 2] {
    let i = &layout.interpreter;
    let from = i.next.min(i.id).min(i.threads_head);
    let to = i.next.max(i.id).max(i.threads_head) + 8;
    [(from, to - from), i.gil.map_or((0, 0), |gil| (gil, 8))]
}

/// Reads an interpreter state.
///
/// # Errors
/// The piece (address, length) that the view does not hold.
pub fn interpreter<L: Lookup>(
    view: &L,
    layout: &Layout,
    addr: RemoteAddr,
) -> Result<InterpreterState, (RemoteAddr, u64)> {
    let [(from, len), (gil_offset, gil_len)] = interpreter_pieces(layout);
    let piece = |offset: u64, len: u64| {
        let start = RemoteAddr(addr.0.wrapping_add(offset));
        view.bytes(start, len as usize).ok_or((start, len))
    };
    let links = piece(from, len)?;
    let word = |offset: u64| u64_at(links, offset - from).unwrap_or_default();
    let gil = match layout.interpreter.gil {
        Some(_) => {
            let bytes = piece(gil_offset, gil_len)?;
            Some(RemoteAddr(u64_at(bytes, 0).unwrap_or_default()))
        }
        None => None,
    };
    let i = &layout.interpreter;
    Ok(InterpreterState {
        addr,
        id: word(i.id).cast_signed(),
        next: RemoteAddr(word(i.next)),
        threads_head: RemoteAddr(word(i.threads_head)),
        gil,
    })
}

/// The piece of a lock (3.12+) that tells its holder: offset and length.
pub const GIL_PIECE: (u64, u64) = (gil::LAST_HOLDER, gil::LOCKED + 4 - gil::LAST_HOLDER);

/// The thread state that holds the lock at `gil`; NULL when nobody does.
///
/// # Errors
/// The piece that the view does not hold.
pub fn gil_holder<L: Lookup>(view: &L, gil: RemoteAddr) -> Result<RemoteAddr, (RemoteAddr, u64)> {
    let (offset, len) = GIL_PIECE;
    let start = RemoteAddr(gil.0.wrapping_add(offset));
    let bytes = view.bytes(start, len as usize).ok_or((start, len))?;
    let locked = i32_at(bytes, gil::LOCKED - offset).unwrap_or_default();
    // `last_holder` keeps its value after the lock is released.
    Ok(if locked == 1 {
        RemoteAddr(u64_at(bytes, 0).unwrap_or_default())
    } else {
        RemoteAddr::NULL
    })
}

/// What one thread state says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadState {
    /// Where it is.
    pub addr: RemoteAddr,
    /// The next (older) thread state of the interpreter.
    pub next: RemoteAddr,
    /// The interpreter that it says it belongs to.
    pub interp: RemoteAddr,
    /// `pthread_self()`, which is `threading.get_ident()`.
    pub thread_id: u64,
    /// Kernel thread id in the target's PID namespace (3.11+).
    pub native_thread_id: Option<u64>,
    /// What tells this thread state from a later one at the same address: the kernel's id, up to
    /// 3.10 a number that the interpreter gives once.
    pub unique: u64,
    /// Whether it waits for the interpreter lock; `None` where the interpreter does not say
    /// (before 3.15).
    pub gil_requested: Option<bool>,
    /// Whether its stack may be looked at: initialised, bound to a thread, not torn down.
    pub alive: bool,
    /// Where the frames start.
    pub root: Root,
    /// The data stack (3.11+).
    pub data_stack: Option<crate::datastack::DataStackState>,
    /// Depth of the recursion as the interpreter counts it: a hint for read-ahead.
    pub depth_hint: Option<u32>,
}

/// The pointer that leads to the newest frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// It points to the newest frame. `base` ends the chain (3.15).
    Frame {
        /// The newest frame, NULL for an empty stack.
        newest: RemoteAddr,
        /// `base_frame`.
        base: Option<RemoteAddr>,
    },
    /// It points to a `_PyCFrame`, which points to the newest frame (3.11, 3.12).
    CFrame(RemoteAddr),
}

/// Bytes of a thread state that a sample reads, from its start.
#[must_use]
pub fn thread_state_bytes(layout: &Layout) -> u64 {
    let t = &layout.thread;
    let root = match t.root {
        FrameRoot::FrameObject { frame } => frame,
        FrameRoot::CFrame { cframe, .. } => cframe,
        FrameRoot::Direct {
            current_frame,
            base_frame,
        } => current_frame.max(base_frame.unwrap_or_default()),
    };
    [
        t.next,
        t.interp,
        t.thread_id,
        t.native_thread_id.unwrap_or_default(),
        t.id.unwrap_or_default(),
        t.gil_requested.unwrap_or_default(),
        root,
        t.data_stack.map_or(0, |d| d.chunk.max(d.top).max(d.limit)),
        t.status.map_or(0, |s| s.word),
        t.recursion.map_or(0, |r| r.remaining.max(r.limit)),
    ]
    .into_iter()
    .max()
    .unwrap_or_default()
        + 8
}

/// Reads a thread state from its bytes; `None` when there are too few.
#[must_use]
pub fn thread_state(layout: &Layout, addr: RemoteAddr, bytes: &[u8]) -> Option<ThreadState> {
    let t = &layout.thread;
    let word = |offset| u64_at(bytes, offset);
    let pointer = |offset| u64_at(bytes, offset).map(RemoteAddr);
    let root = match t.root {
        FrameRoot::FrameObject { frame } => Root::Frame {
            newest: pointer(frame)?,
            base: None,
        },
        FrameRoot::CFrame { cframe, .. } => Root::CFrame(pointer(cframe)?),
        FrameRoot::Direct {
            current_frame,
            base_frame,
        } => {
            let base = match base_frame {
                Some(offset) => Some(pointer(offset)?),
                None => None,
            };
            Root::Frame {
                newest: pointer(current_frame)?,
                base,
            }
        }
    };
    let alive = match t.status {
        None => true,
        Some(status) => {
            let bits = u32_at(bytes, status.word)?;
            bits & status.alive == status.alive && bits & status.dead == 0
        }
    };
    let depth_hint = t.recursion.and_then(|r| {
        let depth = i32_at(bytes, r.limit)?.checked_sub(i32_at(bytes, r.remaining)?)?;
        u32::try_from(depth).ok()
    });
    let data_stack = match t.data_stack {
        None => None,
        Some(d) => Some(crate::datastack::DataStackState {
            chunk: pointer(d.chunk)?,
            top: pointer(d.top)?,
            limit: pointer(d.limit)?,
        }),
    };
    Some(ThreadState {
        addr,
        next: pointer(t.next)?,
        interp: pointer(t.interp)?,
        thread_id: word(t.thread_id)?,
        native_thread_id: match t.native_thread_id {
            None => None,
            Some(offset) => Some(word(offset)?),
        },
        unique: match t.native_thread_id.or(t.id) {
            None => 0,
            Some(offset) => word(offset)?,
        },
        gil_requested: match t.gil_requested {
            None => None,
            Some(offset) => Some(i32_at(bytes, offset)? != 0),
        },
        alive,
        root,
        data_stack,
        depth_hint,
    })
}

#[cfg(test)]
mod tests;
