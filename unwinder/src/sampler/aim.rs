//! Where the top of a stack is expected, and a look for one that was not there: the thread state
//! alone is read, and the next call is laid out around what it says, wider.

use super::Sampler;
use super::learn::BELIEVED_LIVE_BYTES;
use super::tracked::Thread;
use crate::datastack::{Chunk, ChunkKind, DataStackState, HEADER_BYTES};
use crate::memory::{Lookup, ReadError, ReadMemory, RemoteAddr};
use crate::plan::{Group, Purpose, Slot};
use crate::threads;

/// Chunks that are pushed between two looks at a thread.
const MAX_PUSHED: usize = 16;
/// Bytes around a top that was where it was expected.
const ABOVE_BYTES: u64 = 1 << 10;
const BELOW_BYTES: u64 = 3 << 10;
/// The whole of a usual chunk of 16 KiB.
const WIDEST: u8 = 3;
const RESTLESS_FOR: u8 = 8;
const NARROW_AFTER: u8 = 200;

/// Where a thread's top is expected: how far around the place where it was seen last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Top {
    /// Doublings of both distances.
    wide: u8,
    /// Samples until it is expected to stand still again.
    restless: u8,
    /// Samples until it is made less wide.
    narrow_in: u8,
}

impl Default for Top {
    fn default() -> Self {
        Self {
            wide: 0,
            restless: 0,
            narrow_in: NARROW_AFTER,
        }
    }
}

impl Top {
    /// Bytes above the top that are read with it.
    pub(super) fn above(self) -> u64 {
        ABOVE_BYTES << self.wide
    }

    /// Bytes below the top that are read several times. That frames further down stay as long is
    /// seen at the lowest of these (`copies.rs`).
    pub(super) fn below(self) -> u64 {
        BELOW_BYTES << self.wide
    }

    /// Whether it moves so far that it must be looked for before each read.
    pub(super) fn sweeps(self) -> bool {
        self.restless > 0
    }

    /// It was not where it was expected.
    pub(super) fn widen(&mut self) {
        self.wide = (self.wide + 1).min(WIDEST);
        self.restless = RESTLESS_FOR;
        self.narrow_in = NARROW_AFTER;
    }

    /// It was.
    pub(super) fn settle(&mut self) {
        self.restless = self.restless.saturating_sub(1);
        self.narrow_in -= 1;
        if self.narrow_in == 0 {
            self.wide = self.wide.saturating_sub(1);
            self.narrow_in = NARROW_AFTER;
        }
    }
}

impl<M: ReadMemory> Sampler<M> {
    /// Reads the thread state alone and lays the plan out for the top that it tells.
    pub(super) fn aim(&mut self, index: usize) -> Result<(), ReadError> {
        let tstate = self.threads[index].tstate;
        let len = threads::thread_state_bytes(&self.layout) as u32;
        self.aim_plan.clear();
        let group = Group::thread(index);
        self.aim_plan
            .push(Slot::new(group, Purpose::ThreadState, tstate, len));
        let groups = self.threads.len() + 1;
        self.snapshot
            .take(&mut self.memory, &self.aim_plan, groups)?;
        let view = self.snapshot.view(group);
        let state = view
            .bytes(tstate, len as usize)
            .and_then(|bytes| threads::thread_state(&self.layout, tstate, bytes));
        let Some(stack) = state.and_then(|state| state.data_stack) else {
            return Ok(());
        };
        let thread = &mut self.threads[index];
        // Chunks that were pushed since, newest first, down to one that is known.
        let mut pushed = [RemoteAddr::NULL; MAX_PUSHED];
        let mut count = 0;
        let mut addr = stack.chunk;
        while thread.chunks.iter().all(|chunk| chunk.addr != addr) {
            let Some(place) = pushed.get_mut(count) else {
                return Ok(());
            };
            *place = addr;
            count += 1;
            let header = Slot::new(group, Purpose::Chunk, addr, HEADER_BYTES as u32);
            self.snapshot.fetch(&mut self.memory, &[header])?;
            let previous = self.snapshot.view(group).u64(addr);
            match previous.map(RemoteAddr) {
                Some(previous) if previous.is_plausible_pointer() => addr = previous,
                _ => return Ok(()),
            }
        }
        expect_chunks(thread, &stack, addr, &pushed[..count]);
        expect_top(thread, &stack);
        self.changed();
        Ok(())
    }
}

/// Takes over that chunks, newest first, were pushed on top of a known one.
fn expect_chunks(
    thread: &mut Thread,
    stack: &DataStackState,
    known: RemoteAddr,
    pushed: &[RemoteAddr],
) {
    let at = thread.chunks.iter().position(|c| c.addr == known);
    let learned = thread
        .learned
        .chunks
        .iter()
        .position(|(addr, _)| *addr == known);
    let (Some(at), Some(learned)) = (at, learned) else {
        return;
    };
    thread.chunks.drain(..at);
    thread.learned.chunks.drain(..learned);
    for addr in pushed.iter().rev() {
        // What has another on top is as full as it gets.
        let below = thread.chunks[0].size;
        thread.learned.expect_live(below);
        let size = match *addr == stack.chunk {
            true => stack.end().offset_from(*addr).unwrap_or_default(),
            false => below,
        };
        let chunk = Chunk {
            addr: *addr,
            size,
            live_end: RemoteAddr(addr.0.saturating_add(size)),
            kind: ChunkKind::Linked,
        };
        thread.chunks.insert(0, chunk);
        thread.learned.chunks.insert(0, (*addr, 0));
    }
}

/// Takes over where the stack ends now, as far as a plan needs to know it.
fn expect_top(thread: &mut Thread, stack: &DataStackState) {
    let offset = |to: RemoteAddr| to.offset_from(stack.chunk);
    let (Some(live), Some(size)) = (offset(stack.top), offset(stack.end())) else {
        return;
    };
    let known = thread.chunks.iter().position(|c| c.addr == stack.chunk);
    let learned = thread
        .learned
        .chunks
        .iter()
        .position(|(addr, _)| *addr == stack.chunk);
    let (Some(known), Some(learned)) = (known, learned) else {
        return;
    };
    // A torn state may claim anything.
    let absurd = live > size || live > BELIEVED_LIVE_BYTES;
    if absurd || thread.chunks[known].kind == ChunkKind::Array {
        return;
    }
    thread.chunks.drain(..known);
    thread.learned.chunks.drain(..learned);
    thread.chunks[0].live_end = stack.top;
    let above = thread.top.above();
    thread.learned.expect_live((live + above).min(size));
}
