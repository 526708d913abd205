//! After a sample: what the next plan reads.

use std::ops::Range;

use super::Sampler;
use super::advance::CFRAME_BYTES;
use super::tracked::{Learned, Outcome, Outside, Thread};
use crate::datastack::{Chunk, ChunkKind};
use crate::frames::{Cut, is_entry, objects};
use crate::layout::{FrameRoot, Frames, Layout};
use crate::memory::{ReadMemory, RemoteAddr};
use crate::plan::Group;
use crate::threads::Root;

/// So many pieces outside the chunks are read on although the last sample did not need them: a
/// generator that comes and goes, often at one of a few addresses, costs bytes then, not one
/// more call each time. Those that were needed last are kept. A thread that needs more at its
/// deepest (generators that delegate to generators; every frame up to 3.10) keeps twice as many.
const KEEP_PIECES: usize = 64;
/// No `PyThreadState` is longer.
const THREAD_STATE_BYTES: u64 = 1 << 10;
/// A piece that was not needed for so many samples is dropped in any case.
const KEEP_SAMPLES: u64 = 1024;
/// While nothing new is needed, what is not is looked for so seldom.
const REVIEW_EVERY: u64 = 64;
/// A live part that claims to be longer is read only as far as frames stand in it.
pub(super) const BELIEVED_LIVE_BYTES: u64 = 1 << 20;

impl Learned {
    /// Notes how much of the newest chunk may be in use now.
    pub(super) fn expect_live(&mut self, bytes: u64) {
        if let Some((_, len)) = self.chunks.first_mut() {
            *len = u32::try_from(bytes).unwrap_or(u32::MAX);
        }
    }
}

impl<M: ReadMemory> Sampler<M> {
    /// Drops threads that are gone.
    pub(super) fn drop_unseen(&mut self) {
        if self.lists_cut.is_none() && self.threads.iter().any(|t| !t.seen) {
            self.threads.retain(|t| t.seen);
            self.changed();
        }
    }

    /// Notes what a thread needs.
    pub(super) fn learn(&mut self, index: usize) {
        if self.snapshot.is_short(Group::thread(index)) {
            self.forget_missing(index);
        }
        let thread = &mut self.threads[index];
        // A cut stack says nothing about what a whole one needs, but for one that only took too
        // many calls: it goes on from there.
        if thread.is_whole() || thread.outcome == Some(Outcome::Cut(Cut::Rounds)) {
            let chunks = learn_chunks(thread, &self.layout);
            if learn_outside(thread, &self.layout) || chunks {
                self.changed();
            }
        }
    }
}

impl<M: ReadMemory> Sampler<M> {
    /// Drops pieces outside of the chunks that cannot be read any more: each of them would end a
    /// call.
    fn forget_missing(&mut self, index: usize) {
        let view = self.snapshot.view(Group::thread(index));
        let outside = &mut self.threads[index].learned.outside;
        let before = outside.len();
        outside.retain(|piece| view.holds(piece.addr));
        if outside.len() < before {
            self.changed();
        }
    }
}

/// Live parts of the chunks, newest first. Whether the plan changes.
fn learn_chunks(thread: &mut Thread, layout: &Layout) -> bool {
    let mut needed = std::mem::take(&mut thread.scratch);
    needed.clear();
    let slack = thread.top.above();
    for (i, chunk) in thread.chunks.iter().enumerate() {
        let live = live_bytes(chunk, thread, layout);
        match chunk.kind {
            ChunkKind::Linked => {
                // A little more, for the stack that grows before the next sample.
                let slack = if i == 0 { slack } else { 0 };
                let len = (live + slack).min(chunk.size);
                needed.push((chunk.addr, u32::try_from(len).unwrap_or(u32::MAX)));
            }
            ChunkKind::Array => {
                needed.push((chunk.addr, crate::datastack::HEADER_BYTES as u32));
            }
        }
    }
    // In the array layout only the frames themselves tell which part of a chunk is in use.
    if let (Some(newest), Frames::Interpreter(frame)) = (thread.chunks.first(), layout.frames)
        && newest.kind == ChunkKind::Array
    {
        for (i, chunk) in thread.chunks.iter().enumerate() {
            let inside = || {
                thread
                    .frames
                    .iter()
                    .filter(|f| chunk.holds(f.addr, frame.header_bytes))
            };
            let (Some(low), Some(high)) = (
                inside().map(|f| f.addr.0).min(),
                inside().map(|f| f.addr.0).max(),
            ) else {
                continue;
            };
            let mut end = high + frame.header_bytes;
            if i == 0 {
                end = (end + slack).min(chunk.addr.0 + chunk.size);
            }
            needed.push((
                RemoteAddr(low),
                u32::try_from(end - low).unwrap_or(u32::MAX),
            ));
        }
    }
    let known = &thread.learned.chunks;
    // A newest chunk whose planned length still fits is left as it is: the top of a running
    // thread moves with every sample.
    let first_fits = match (known.first(), thread.chunks.first(), needed.first()) {
        (Some((addr, len)), Some(chunk), Some(_)) if chunk.kind == ChunkKind::Linked => {
            let live = live_bytes(chunk, thread, layout);
            *addr == chunk.addr && u64::from(*len) >= live && u64::from(*len) <= live + 4 * slack
        }
        (Some(a), _, Some(b)) => a == b,
        (None, _, None) => true,
        _ => false,
    };
    let same = first_fits && known.get(1..) == needed.get(1..);
    if !same {
        thread.learned.chunks.clone_from(&needed);
    }
    thread.scratch = needed;
    !same
}

/// How much of a chunk is in use, from its start. A size of its header is believed only as far
/// as a usual chunk goes: it decides how much is allocated.
fn live_bytes(chunk: &Chunk, thread: &Thread, layout: &Layout) -> u64 {
    let live = chunk.live_end.0 - chunk.addr.0;
    match layout.frames {
        Frames::Interpreter(frame) if live > BELIEVED_LIVE_BYTES => thread
            .frames
            .iter()
            .filter(|f| chunk.holds(f.addr, frame.header_bytes))
            .map(|f| f.addr.0 + frame.header_bytes - chunk.addr.0)
            .max()
            .unwrap_or(crate::datastack::HEADER_BYTES as u64),
        _ => live,
    }
}

/// Frames outside the chunks. Whether the plan changes.
fn learn_outside(thread: &mut Thread, layout: &Layout) -> bool {
    let mut changed = false;
    if let Some((Root::CFrame(newest), thread_id)) = thread.state.map(|s| (s.root, s.thread_id))
        && let FrameRoot::CFrame { current_frame, .. } = layout.thread.root
    {
        for cframe in std::iter::once(newest).chain(thread.before_unfilled) {
            let Some(addr) = cframe.offset(current_frame).filter(|_| !cframe.is_null()) else {
                continue;
            };
            let piece = Outside {
                addr,
                len: CFRAME_BYTES,
                needed: thread.samples,
                entry: true,
            };
            // That of a thread without Python code is a part of the thread state.
            let root = thread.tstate.0..thread.tstate.0 + THREAD_STATE_BYTES;
            if !root.contains(&addr.0) && addr.is_plausible_pointer() {
                let before = thread.roaming();
                thread.reach.note(addr, thread_id);
                changed |= thread.roaming() != before;
            }
            changed |= need(&mut thread.learned.outside, piece);
        }
    }
    // What is as it was in the sample before was learnt then.
    let new = thread.frames.len() - thread.same;
    changed |= need_frames(thread, layout, 0..new);
    if changed || thread.samples.is_multiple_of(REVIEW_EVERY) {
        let all = new..thread.frames.len();
        need_frames(thread, layout, all);
        changed |= forget_outside(thread);
    }
    changed
}

/// Notes that these of the thread's frames were needed; whether some piece is new.
fn need_frames(thread: &mut Thread, layout: &Layout, frames: Range<usize>) -> bool {
    let mut changed = false;
    let (from, len) = match &layout.frames {
        Frames::Objects(frame) => objects::needed(frame),
        Frames::Interpreter(frame) => (0, frame.header_bytes),
    };
    let mut chunk = 0;
    for frame in &thread.frames[frames] {
        // Neighbours are nearly always in one chunk. A frame above the live slots was popped
        // meanwhile: it is no piece of its own.
        let spans = |chunk: &Chunk| chunk.spans(frame.addr);
        if thread.chunks.get(chunk).is_some_and(spans) {
            continue;
        }
        if let Some(at) = thread.chunks.iter().position(spans) {
            chunk = at;
            continue;
        }
        let entry = match &layout.frames {
            Frames::Interpreter(layout) => is_entry(layout, frame.owner),
            Frames::Objects(_) => false,
        };
        let piece = Outside {
            addr: RemoteAddr(frame.addr.0.wrapping_add(from)),
            len: len as u32,
            needed: thread.samples,
            entry,
        };
        changed |= need(&mut thread.learned.outside, piece);
    }
    changed
}

/// Drops pieces that were not needed for long; whether there were any.
fn forget_outside(thread: &mut Thread) -> bool {
    let now = thread.samples;
    let outside = &mut thread.learned.outside;
    let before = outside.len();
    let idle = outside.iter().filter(|o| o.needed < now).count();
    let recent = &mut thread.learned.recently_needed;
    // Forgotten slowly: by half in about forty reviews.
    *recent = (*recent - recent.div_ceil(64)).max(before - idle);
    let keep = KEEP_PIECES.max(2 * *recent);
    if idle > keep {
        // Half of what is not needed goes, so that this is rare.
        let scratch = &mut thread.idle_scratch;
        scratch.clear();
        scratch.extend(
            outside
                .iter()
                .map(|o| now - o.needed)
                .filter(|idle| *idle > 0),
        );
        scratch.sort_unstable();
        let limit = scratch[keep / 2];
        outside.retain(|o| now - o.needed < limit);
    }
    outside.retain(|o| now - o.needed <= KEEP_SAMPLES);
    outside.len() != before
}

/// Notes that a piece was needed; whether it is new.
fn need(outside: &mut Vec<Outside>, piece: Outside) -> bool {
    match outside.binary_search_by_key(&piece.addr, |o| o.addr) {
        Ok(at) => {
            outside[at].needed = piece.needed;
            outside[at].len = outside[at].len.max(piece.len);
            false
        }
        Err(at) => {
            outside.insert(at, piece);
            true
        }
    }
}
