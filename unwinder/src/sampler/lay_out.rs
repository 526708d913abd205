//! Lays out a plan: the process, then thread by thread, what moves most first.

use super::Sampler;
use super::advance::CFRAME_BYTES;
use super::tracked::{Outside, Thread};
use crate::datastack::ChunkKind;
use crate::layout::{FrameRoot, Frames};
use crate::memory::{MAX_SEGMENTS, ReadMemory, RemoteAddr};
use crate::plan::{Group, Purpose, ReadPlan, Slot};
use crate::threads::{self, GIL_PIECE};

/// Pieces outside the chunks are read twice while they are so few runs of neighbours; beyond, so
/// many newest frames are.
const TWICE_RUNS: usize = 24;
const TWICE_FRAMES: usize = 32;
/// Chunks of one plan; what is beyond is read in pieces when it is missed.
const PLAN_CHUNKS_BYTES: u64 = 256 << 20;
/// What takes more segments is not read several times over in one call.
const MAX_UNIT_SLOTS: usize = 12;
/// The process, and the rest of the newest chunk.
const ONCE_SLOTS: usize = 16;
/// A call that reads more of them takes too long for what is read behind them.
const MAX_UNITS_BYTES: usize = 64 << 10;
/// Neighbours with a smaller gap are read as one segment: a segment costs as much as one page
/// more, or as copying some kilobytes.
const MERGE_GAP_BYTES: u64 = 2 << 10;
/// What a frame has behind its header, nearly always.
const FRAME_STACK_BYTES: u64 = 512;

impl<M: ReadMemory> Sampler<M> {
    /// All threads and the lists that lead to them, or some threads whose lists are known: one
    /// of them alone so often as `attempts` says, where that is more than 1.
    pub(super) fn lay_out(&self, plan: &mut ReadPlan, some: Option<&[usize]>, attempts: usize) {
        plan.clear();
        let lists = some.is_none() && self.only.is_none();
        let mut left = PLAN_CHUNKS_BYTES;
        if let (Some(&[index]), 2..) = (some, attempts) {
            self.lay_out_thread(plan, &mut left, index, attempts + 1);
            return self.lay_out_process(plan, lists);
        }
        self.lay_out_process(plan, lists);
        let mut thread = |index| self.lay_out_thread(plan, &mut left, index, 1);
        match some {
            Some(some) => some.iter().copied().for_each(thread),
            None => (0..self.threads.len()).for_each(&mut thread),
        }
    }

    fn lay_out_process(&self, plan: &mut ReadPlan, lists: bool) {
        if !lists && self.leave_locks {
            return;
        }
        let process = |addr: RemoteAddr, (offset, len): (u64, u64)| {
            let addr = RemoteAddr(addr.0.wrapping_add(offset));
            Slot::new(Group::PROCESS, Purpose::Process, addr, len as u32)
        };
        let runtime = &self.layout.runtime;
        if let Some(offset) = runtime.tstate_current {
            plan.push(process(self.runtime, (offset, 8)));
        }
        if lists {
            plan.push(process(self.runtime, (runtime.interpreters_head, 8)));
        }
        for interpreter in &self.interpreters {
            if lists {
                for piece in threads::interpreter_pieces(&self.layout) {
                    plan.push(process(interpreter.addr, piece));
                }
            }
            if let Some(gil) = interpreter.gil.filter(|gil| !gil.is_null()) {
                plan.push(process(gil, GIL_PIECE));
            }
        }
    }

    fn lay_out_thread(&self, plan: &mut ReadPlan, left: &mut u64, index: usize, units: usize) {
        let thread = &self.threads[index];
        let group = Group::thread(index);
        let mut fill = Filler { plan, left, group };
        let state_bytes = threads::thread_state_bytes(&self.layout) as u32;
        fill.push(0, Purpose::ThreadState, thread.tstate, state_bytes);
        let chunks = &thread.learned.chunks;
        let older = chunks.get(1..).unwrap_or_default();
        let top = chunks.first().map(|newest| top_of(thread, *newest));
        let outside = &thread.learned.outside;
        let is_entry = |piece: &&Outside| piece.entry;
        let end = |high: u64| high + u64::from(CFRAME_BYTES);
        let roaming = thread.roaming();
        let roaming = roaming.filter(|(low, high)| self.mappings.holds(*low, end(*high)));
        let roaming = roaming.map(|(low, high)| Outside {
            addr: RemoteAddr(low),
            len: (end(high) - low) as u32,
            entry: true,
            ..Outside::default()
        });
        let entries = |push: &mut dyn FnMut(RemoteAddr, u32)| {
            let start = roaming
                .as_ref()
                .map_or(RemoteAddr::NULL, |whole| whole.addr);
            let (below, above) =
                outside.split_at(outside.partition_point(|piece| piece.addr < start));
            let pieces = below.iter().chain(&roaming).chain(above);
            for_merged_outside(pieces.filter(is_entry), push);
        };
        let others = |push: &mut dyn FnMut(RemoteAddr, u32)| {
            for_merged_outside(outside.iter().filter(|piece| !piece.entry), push);
        };
        let rooted = matches!(self.layout.thread.root, FrameRoot::CFrame { .. });
        if rooted {
            // The newest frame is found through one of them.
            entries(&mut |addr, len| fill.push(0, Purpose::CFrame, addr, len));
        }
        if let Some((addr, len)) = top {
            fill.push(0, Purpose::Chunk, addr, len);
        }
        others(&mut |addr, len| fill.push(0, Purpose::Frame, addr, len));
        let mut runs = 0;
        others(&mut |_, _| runs += 1);
        let slots = fill.plan.slots().len();
        if units > 1 && slots <= MAX_UNIT_SLOTS && !is_array(thread) {
            let most = MAX_UNITS_BYTES / fill.plan.bytes().max(1);
            // What is read once must fit into the same call.
            let mut once = ONCE_SLOTS;
            if !rooted {
                entries(&mut |_, _| once += 1);
            }
            for_merged_chunks(older, |_, _| once += 1);
            let room = MAX_SEGMENTS.saturating_sub(once) / slots.max(1);
            fill.plan.repeat(units.min(most.min(room).max(2)));
        }
        for copy in 1..thread.copies {
            if fill.plan.unit().count > 0 {
                break;
            }
            if self.layout.thread.data_stack.is_some() {
                fill.push(copy, Purpose::ThreadState, thread.tstate, state_bytes);
            }
            if let Some((addr, len)) = top {
                fill.push(copy, Purpose::Chunk, addr, len);
            }
            if runs <= TWICE_RUNS {
                others(&mut |addr, len| fill.push(copy, Purpose::Frame, addr, len));
            } else if let Frames::Interpreter(_) = &self.layout.frames {
                self.newest_outside(thread, &mut |addr, len| {
                    fill.push(copy, Purpose::Frame, addr, len);
                });
            }
            if is_array(thread) {
                // Its first piece is a header; the frames are in the pieces behind.
                for (addr, len) in older {
                    fill.push(copy, Purpose::Chunk, *addr, *len);
                }
            }
        }
        if !rooted {
            // An entry frame is not read twice: its neighbours in the chunk are, and where they
            // lie side by side, what is between them is what it was.
            entries(&mut |addr, len| fill.push(0, Purpose::Frame, addr, len));
        }
        // The rest of the newest chunk, its header among it. One frame more than is needed, so
        // that one which begins below the top is whole in one piece, with its stack.
        if let (Some((top, _)), Some((start, len))) = (top, chunks.first())
            && top > *start
        {
            let frame = match self.layout.frames {
                Frames::Interpreter(frame) => frame.header_bytes + FRAME_STACK_BYTES,
                Frames::Objects(_) => 0,
            };
            let below = (top.0 - start.0 + frame).min(u64::from(*len));
            fill.push(0, Purpose::Chunk, *start, below as u32);
        }
        if !self.newest_chunk_only {
            for_merged_chunks(older, |addr, len| fill.push(0, Purpose::Chunk, addr, len));
        }
    }

    /// The newest frames outside the chunks.
    fn newest_outside(&self, thread: &Thread, push: &mut dyn FnMut(RemoteAddr, u32)) {
        let (from, len) = match &self.layout.frames {
            Frames::Objects(frame) => crate::frames::objects::needed(frame),
            Frames::Interpreter(frame) => (0, frame.header_bytes),
        };
        let mut pieces = [Outside::default(); TWICE_FRAMES];
        let mut count = 0;
        for frame in thread.frames.iter().take(TWICE_FRAMES) {
            if !thread.chunks.iter().any(|chunk| chunk.spans(frame.addr)) {
                pieces[count].addr = RemoteAddr(frame.addr.0.wrapping_add(from));
                pieces[count].len = len as u32;
                count += 1;
            }
        }
        let pieces = &mut pieces[..count];
        pieces.sort_unstable_by_key(|piece| piece.addr);
        for_merged_outside(pieces.iter(), push);
    }
}

/// Fills a plan with the slots of one thread.
struct Filler<'a> {
    plan: &'a mut ReadPlan,
    /// Bytes of chunks that the plan may still have.
    left: &'a mut u64,
    group: Group,
}

impl Filler<'_> {
    fn push(&mut self, copy: u8, purpose: Purpose, addr: RemoteAddr, len: u32) {
        if purpose == Purpose::Chunk {
            let Some(rest) = self.left.checked_sub(u64::from(len)) else {
                return;
            };
            *self.left = rest;
        }
        self.plan.push(Slot {
            copy,
            ..Slot::new(self.group, purpose, addr, len)
        });
    }
}

pub(super) fn is_array(thread: &Thread) -> bool {
    thread
        .chunks
        .first()
        .is_some_and(|chunk| chunk.kind == ChunkKind::Array)
}

/// The part of the newest chunk that is read first, and twice: its top, or all of it when the
/// thread is read once.
fn top_of(thread: &Thread, (addr, len): (RemoteAddr, u32)) -> (RemoteAddr, u32) {
    if thread.copies < 2 || is_array(thread) {
        return (addr, len);
    }
    let end = addr.0 + u64::from(len);
    let top = thread
        .chunks
        .first()
        .map_or(end, |chunk| chunk.live_end.0.min(end));
    let below = thread.top.below();
    let start = top.saturating_sub(below).max(addr.0) & !7;
    // A few bytes more are cheaper than one segment more.
    let start = if start - addr.0 < below / 2 {
        addr.0
    } else {
        start
    };
    (
        RemoteAddr(start),
        u32::try_from(end - start).unwrap_or(u32::MAX),
    )
}

/// Calls `push` for runs of pieces whose gaps are small; `pieces` are sorted by address.
fn for_merged_outside<'a>(
    pieces: impl Iterator<Item = &'a Outside>,
    push: &mut dyn FnMut(RemoteAddr, u32),
) {
    let mut run: Option<(u64, u64)> = None;
    let mut push = |(from, to): (u64, u64)| {
        push(
            RemoteAddr(from),
            u32::try_from(to - from).unwrap_or(u32::MAX),
        );
    };
    for piece in pieces {
        let (start, end) = (piece.addr.0, piece.addr.0 + u64::from(piece.len));
        run = match run {
            Some((from, to)) if start <= to + MERGE_GAP_BYTES => Some((from, end.max(to))),
            Some(run) => {
                push(run);
                Some((start, end))
            }
            None => Some((start, end)),
        };
    }
    if let Some(run) = run {
        push(run);
    }
}

/// The same for older chunks, newest first, which lie one above the other.
fn for_merged_chunks(chunks: &[(RemoteAddr, u32)], mut push: impl FnMut(RemoteAddr, u32)) {
    let mut run: Option<(u64, u64)> = None;
    for (addr, len) in chunks {
        let (start, end) = (addr.0, addr.0 + u64::from(*len));
        if let Some((from, to)) = &mut run {
            if start >= *to && start - *to <= MERGE_GAP_BYTES {
                *to = end;
                continue;
            }
            push(
                RemoteAddr(*from),
                u32::try_from(*to - *from).unwrap_or(u32::MAX),
            );
        }
        run = Some((start, end));
    }
    if let Some((from, to)) = run {
        push(
            RemoteAddr(from),
            u32::try_from(to - from).unwrap_or(u32::MAX),
        );
    }
}
