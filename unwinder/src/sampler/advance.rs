//! One thread, as far as the snapshot goes: thread state, chain of chunks, frames.

use super::tracked::{Outcome, Stale, Thread};
use super::{Sampler, readahead};
use crate::datastack::{self, ChainEnd, ChunkKind};
use crate::frames::{Cursor, Cut, Known, Progress, is_entry, walk};
use crate::layout::{FrameRoot, Frames};
use crate::memory::{Lookup, ReadMemory, RemoteAddr};
use crate::plan::{Group, Purpose, Slot};
use crate::threads::{self, Root, ThreadState};

const SLOT_BYTES: u64 = 8;
/// First read-ahead over entry frames, doubled with every further miss.
const ENTRY_READAHEAD_BYTES: u64 = 4096;
const MAX_ENTRY_READAHEAD_BYTES: u64 = 256 << 10;
/// `current_frame` and, behind it, `previous` of a `_PyCFrame` (Include/cpython/pystate.h, 3.11 and
/// 3.12).
pub(super) const CFRAME_BYTES: u32 = 16;
const PREVIOUS_BEHIND: u64 = 8;

/// Whether a walk goes on from the `_PyCFrame` before the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Back {
    /// It does.
    Taken,
    /// It would, if the newest had led nowhere more often.
    NotYet,
    /// There is none.
    None,
}

impl<M: ReadMemory> Sampler<M> {
    /// Takes thread `index` as far as it goes and notes what it misses.
    pub(super) fn advance(&mut self, index: usize) {
        if self.threads[index].outcome.is_some() || !self.threads[index].seen {
            return;
        }
        if self.threads[index].state.is_none() && !self.read_state(index) {
            return;
        }
        // Both misses, the chunk's and the C frame's, go into the same call.
        let chain_known = self.follow_chain(index);
        let root_known = self.find_root(index);
        if chain_known && root_known {
            self.walk_frames(index);
        }
    }

    fn miss(&mut self, index: usize, purpose: Purpose, (addr, len): (RemoteAddr, u32)) {
        self.misses
            .push(Slot::new(Group::thread(index), purpose, addr, len));
    }

    fn end(&mut self, index: usize, outcome: Outcome) {
        self.threads[index].outcome = Some(outcome);
    }

    fn read_state(&mut self, index: usize) -> bool {
        let view = self.snapshot.view(Group::thread(index));
        let tstate = self.threads[index].tstate;
        let len = threads::thread_state_bytes(&self.layout);
        let state = view
            .bytes(tstate, len as usize)
            .and_then(|bytes| threads::thread_state(&self.layout, tstate, bytes));
        let Some(state) = state else {
            if self.threads[index].last_miss == Some(tstate) {
                self.end(index, Outcome::Cut(Cut::Thread));
            } else {
                self.threads[index].last_miss = Some(tstate);
                let len = u32::try_from(len).unwrap_or(u32::MAX);
                self.miss(index, Purpose::ThreadState, (tstate, len));
            }
            return false;
        };
        let thread = &mut self.threads[index];
        thread.last_miss = None;
        let state = match thread.shown {
            Some(shown) => ThreadState {
                data_stack: Some(shown.moment.stack),
                ..state
            },
            None => state,
        };
        thread.state = Some(state);
        if state.interp != thread.interpreter {
            self.end(index, Outcome::Cut(Cut::Thread));
            return false;
        }
        if !state.alive {
            self.end(index, Outcome::NotAlive);
            return false;
        }
        true
    }

    /// Whether the whole chain of chunks (or all of it that is good) is in the snapshot.
    fn follow_chain(&mut self, index: usize) -> bool {
        let thread = &mut self.threads[index];
        match thread.chain {
            Some(ChainEnd::Complete | ChainEnd::Broken(_)) => return true,
            Some(ChainEnd::Miss(_)) | None => {}
        }
        let Some((state, stack)) = thread.state.and_then(|s| s.data_stack.map(|d| (s, d))) else {
            return true;
        };
        let view = self.snapshot.view(Group::thread(index));
        let end = datastack::chain(&view, stack, &mut thread.chunks);
        let before = thread.chain.replace(end);
        match end {
            ChainEnd::Complete => true,
            ChainEnd::Broken(error) => {
                thread.chunk_error = Some(error);
                true
            }
            ChainEnd::Miss(_) if before == Some(end) => {
                // It was asked for and did not come: the chain ends in unreadable memory.
                let addr = match end {
                    ChainEnd::Miss(addr) => addr,
                    _ => RemoteAddr::NULL,
                };
                let error = datastack::ChunkError::Link(addr);
                thread.chunk_error = Some(error);
                thread.chain = Some(ChainEnd::Broken(error));
                true
            }
            ChainEnd::Miss(addr) if self.newest_chunk_only && !thread.chunks.is_empty() => {
                // The comparison: links are followed one header at a time, frames one by one.
                let len = datastack::HEADER_BYTES as u32;
                self.miss(index, Purpose::Chunk, (addr, len));
                false
            }
            ChainEnd::Miss(addr) => {
                let depth = state.depth_hint;
                let fetch = match thread.chunks.last().copied() {
                    None => {
                        let live = stack.top.offset_from(stack.chunk).unwrap_or_default();
                        let live = live.min(readahead::MAX_FETCH_BYTES);
                        let depth = if self.newest_chunk_only {
                            Some(0)
                        } else {
                            depth
                        };
                        let (newest, ahead) =
                            readahead::first_chunks(&self.mappings, addr, live, depth);
                        if let Some(ahead) = ahead {
                            self.miss(index, Purpose::Chunk, ahead);
                        }
                        newest
                    }
                    Some(last) => {
                        let (frames, bytes) = self.count_frames(index);
                        let (addr, len) =
                            readahead::next_chunks(&self.mappings, addr, depth, frames, bytes);
                        // An older array chunk is not longer than the one that replaced it.
                        let cap = match last.kind {
                            ChunkKind::Array => u32::try_from(last.size).unwrap_or(u32::MAX),
                            ChunkKind::Linked => u32::MAX,
                        };
                        (addr, len.min(cap))
                    }
                };
                self.miss(index, Purpose::Chunk, fetch);
                false
            }
        }
    }

    /// How many frames stand in the chunks that are known, and in how many bytes: what the
    /// next read-ahead is reckoned from. The frames themselves are walked when every chunk is
    /// there.
    fn count_frames(&mut self, index: usize) -> (u64, u64) {
        let bytes = self.threads[index].live_bytes();
        let Some(state) = self.threads[index].state else {
            return (0, 0);
        };
        let newest = match state.root {
            Root::Frame { newest, .. } => Some(newest),
            Root::CFrame(cframe) => self.current_frame(index, cframe),
        };
        let Some(newest) = newest else { return (0, 0) };
        let view = self.snapshot.view(Group::thread(index));
        let thread = &mut self.threads[index];
        let mut cursor = Cursor::new(newest, None);
        thread.frames.clear();
        let (frames, known) = (&mut thread.frames, &mut Known::default());
        walk(&view, &self.layout.frames, &mut cursor, frames, known);
        let frames = thread.frames.len() as u64;
        thread.frames.clear();
        (frames, bytes)
    }

    pub(super) fn current_frame(&self, index: usize, cframe: RemoteAddr) -> Option<RemoteAddr> {
        let FrameRoot::CFrame { current_frame, .. } = self.layout.thread.root else {
            return None;
        };
        let view = self.snapshot.view(Group::thread(index));
        view.u64(cframe.offset(current_frame)?).map(RemoteAddr)
    }

    /// Whether the newest frame is known.
    fn find_root(&mut self, index: usize) -> bool {
        let Some(state) = self.threads[index].state else {
            return false;
        };
        if self.threads[index].cursor.is_some() {
            return true;
        }
        let shown = self.threads[index].shown.map(|shown| shown.moment.newest);
        let (newest, base) = match (state.root, shown) {
            (Root::Frame { base, .. }, Some(shown)) => (shown, base),
            (Root::CFrame(_), Some(shown)) => (shown, None),
            (Root::Frame { newest, base }, None) => (newest, base),
            (Root::CFrame(cframe), None) if cframe.is_null() => (RemoteAddr::NULL, None),
            (Root::CFrame(newest), None) => {
                let cframe = self.threads[index].before_unfilled.unwrap_or(newest);
                match self.current_frame(index, cframe) {
                    Some(newest) => (newest, None),
                    None if self.threads[index].last_miss == Some(cframe) => {
                        self.end(index, Outcome::Cut(Cut::Unreadable));
                        return false;
                    }
                    None => {
                        let FrameRoot::CFrame { current_frame, .. } = self.layout.thread.root
                        else {
                            return false;
                        };
                        self.threads[index].last_miss = Some(cframe);
                        self.threads[index].has_roamed();
                        let addr = RemoteAddr(cframe.0.wrapping_add(current_frame));
                        self.miss(index, Purpose::CFrame, (addr, CFRAME_BYTES));
                        return false;
                    }
                }
            }
        };
        // A thread that runs no Python code has an empty stack, which is whole.
        let base = if newest.is_null() { None } else { base };
        self.threads[index].before_frames = self.snapshot.mark(Group::thread(index));
        self.threads[index].cursor = Some(Cursor::new(newest, base));
        self.threads[index].last_miss = None;
        true
    }

    fn walk_frames(&mut self, index: usize) {
        let view = self.snapshot.view(Group::thread(index));
        let thread = &mut self.threads[index];
        let Some(cursor) = &mut thread.cursor else {
            return;
        };
        let (frames, known) = (&mut thread.frames, &mut thread.known);
        match walk(&view, &self.layout.frames, cursor, frames, known) {
            Progress::Root => {
                let rooted = is_rooted(thread, &self.layout.frames);
                if rooted && thread.before_unfilled.is_none() {
                    thread.stale = Stale::default();
                }
                // What was gone back to is no stack of a thread that runs Python code.
                let void = thread.before_unfilled.is_some() && thread.frames.is_empty();
                let back = match rooted {
                    true => Back::None,
                    false => self.step_back(index),
                };
                match back {
                    Back::Taken => {}
                    Back::None if void => self.end(index, Outcome::Cut(Cut::Torn)),
                    Back::NotYet | Back::None => {
                        let thread = &mut self.threads[index];
                        thread.same = thread.known.same();
                        thread.doubted = back == Back::NotYet;
                        self.end(index, Outcome::Whole);
                    }
                }
            }
            Progress::Cut(cut) => {
                if cut != Cut::Torn || self.step_back(index) != Back::Taken {
                    self.end(index, Outcome::Cut(cut));
                }
            }
            Progress::Miss { addr, .. } if thread.last_miss == Some(addr) => {
                let cut = match thread.chunk_error {
                    Some(_) => Cut::Chunks,
                    None => Cut::Unreadable,
                };
                if self.step_back(index) != Back::Taken {
                    self.end(index, Outcome::Cut(cut));
                }
            }
            Progress::Miss { addr, len } => {
                thread.last_miss = Some(addr);
                thread.frames_missed = thread.frames_missed.saturating_add(1);
                let (purpose, fetch) = self.frame_fetch(index, addr, len);
                self.miss(index, purpose, fetch);
            }
        }
    }

    /// Where the newest `_PyCFrame` led to no whole stack again and again, walks from the one before
    /// it. The interpreter links a new one first and fills it after that
    /// (`_PyEval_EvalFrameDefault`, Python/ceval.c, 3.11 and 3.12); a thread that is preempted in
    /// between runs the frame of the one before. So each is gone back from once, and only one. A
    /// stack that moves leads nowhere as well, but not from the same frame each time.
    fn step_back(&mut self, index: usize) -> Back {
        let FrameRoot::CFrame { current_frame, .. } = self.layout.thread.root else {
            return Back::None;
        };
        let view = self.snapshot.view(Group::thread(index));
        let thread = &mut self.threads[index];
        let Some(Root::CFrame(newest)) = thread.state.map(|state| state.root) else {
            return Back::None;
        };
        if thread.before_unfilled.is_some() || thread.shown.is_some() {
            return Back::None;
        }
        let previous = newest
            .offset(current_frame + PREVIOUS_BEHIND)
            .and_then(|at| view.u64(at));
        let Some(previous) = previous.map(RemoteAddr) else {
            return Back::None;
        };
        if previous == newest || !previous.is_plausible_pointer() {
            return Back::None;
        }
        let word = newest.offset(current_frame).and_then(|at| view.u64(at));
        if !thread.stale.is_again((newest, word)) {
            return Back::NotYet;
        }
        thread.before_unfilled = Some(previous);
        thread.frames_missed = 0;
        thread.frames.clear();
        thread.known.restart();
        thread.cursor = None;
        thread.last_miss = None;
        // What it led to is no part of the stack, and of a later instant.
        let mark = thread.before_frames;
        self.snapshot.forget_behind(Group::thread(index), mark);
        if self.find_root(index) {
            self.walk_frames(index);
        }
        Back::Taken
    }

    /// What to fetch for a frame that is not in the snapshot.
    fn frame_fetch(
        &mut self,
        index: usize,
        addr: RemoteAddr,
        len: u64,
    ) -> (Purpose, (RemoteAddr, u32)) {
        let need = (addr, len);
        let Frames::Interpreter(layout) = self.layout.frames else {
            return (
                Purpose::Frame,
                readahead::frame_objects(&self.mappings, need),
            );
        };
        let thread = &mut self.threads[index];
        let chunk = thread.chunks.iter().find(|c| c.holds(addr, len));
        if let Some(chunk) = chunk {
            if self.newest_chunk_only {
                return (
                    Purpose::Chunk,
                    (addr, u32::try_from(len).unwrap_or(u32::MAX)),
                );
            }
            let start = match chunk.kind {
                ChunkKind::Linked => chunk.addr.0,
                // Below the frames of a newer chunk lies a hole that nobody ever wrote; only
                // as much is read as one round of frames is likely to need.
                ChunkKind::Array => addr
                    .0
                    .saturating_sub(16 << 10)
                    .max(chunk.addr.0 + chunk.kind.header_bytes()),
            };
            let end = match chunk.kind {
                ChunkKind::Linked => chunk.live_end.0,
                ChunkKind::Array => addr.0.saturating_add(len),
            };
            return (Purpose::Chunk, readahead::chunk_body(start, end, need));
        }
        let above_entry = thread
            .frames
            .iter()
            .rev()
            .take(64)
            .find(|f| is_entry(&layout, f.owner))
            .is_some_and(|f| addr > f.addr && addr.0 - f.addr.0 < MAX_ENTRY_READAHEAD_BYTES);
        if above_entry {
            thread.entry_readahead = (thread.entry_readahead * 2)
                .clamp(ENTRY_READAHEAD_BYTES, MAX_ENTRY_READAHEAD_BYTES);
            let fetch = readahead::entry_frames(&self.mappings, need, thread.entry_readahead);
            return (Purpose::Frame, fetch);
        }
        let before = thread.frames_missed.saturating_sub(1);
        let fetch = readahead::frame_window(&self.mappings, need, before);
        (Purpose::Frame, fetch)
    }
}

/// Whether the outermost frame can be one. A frame that was pushed and is not linked yet has no
/// caller either.
fn is_rooted(thread: &Thread, layout: &Frames) -> bool {
    let (Frames::Interpreter(layout), Some(frame)) = (layout, thread.frames.last()) else {
        return true;
    };
    match (layout.first_entry_owner, thread.chunks.last()) {
        (Some(_), _) => is_entry(layout, frame.owner),
        // 3.11: the first chunk begins with an unused slot (`push_chunk`, Python/pystate.c).
        (None, Some(chunk)) if thread.chain == Some(ChainEnd::Complete) => {
            frame.addr.0 == chunk.addr.0 + chunk.kind.header_bytes() + SLOT_BYTES
        }
        (None, _) => true,
    }
}
