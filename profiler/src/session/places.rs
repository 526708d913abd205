//! Where the frames of a data stack must begin.
//!
//! The outermost frame begins at the second slot of the first chunk (`_PyThreadState_PopFrame` gives
//! a chunk back when its first slot is popped, `Python/pystate.c`), every other where the one that
//! was pushed before it ends, or at the first slot of a new chunk. Where a caller is missing, because
//! it was read when another stood in its place, the next frame does not begin there.
//!
//! Between two frames of a stack others may lie that are no part of it any more: what a function had
//! is destroyed when it has returned, and destructors run above its frame, which is given back after
//! them (`_PyEvalFrameClearAndPop`, `Python/ceval.c`). Such a frame still has its code object, and so
//! its length. Below the outermost frame there are none: there they could not be told from callers.

use onlooker_symbols::names::CodeTable;
use onlooker_unwinder::code::CodeRange;
use onlooker_unwinder::datastack::{Chunk, ChunkKind};
use onlooker_unwinder::memory::RemoteAddr;

/// Functions that have returned and whose destructors call such functions in turn, at most.
const MAX_RETURNED: usize = 16;
const SLOT_BYTES: u64 = 8;

/// Where the newest frame of a chunk so far ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// Its chunk.
    pub(super) chunk: RemoteAddr,
    /// Where the next one begins.
    pub(super) next: u64,
}

/// What is known of a frame's place.
pub(super) enum Place {
    /// It begins where it must.
    Right,
    /// It does not.
    Wrong,
    /// That depends on a code object which is not known.
    Unknown(RemoteAddr),
}

/// A data stack and what its frames run.
pub(super) struct Places<'a> {
    /// Newest first.
    pub(super) chunks: &'a [Chunk],
    pub(super) codes: &'a CodeTable,
    /// The code object of what stands at an address as a frame.
    pub(super) code_at: &'a dyn Fn(RemoteAddr) -> Option<RemoteAddr>,
}

impl Places<'_> {
    /// Which of the chunks has a frame. It may stand above the live slots of a state that was torn:
    /// the next sample, which takes its place over, may have a whole one.
    pub(super) fn chunk_of(&self, frame: RemoteAddr) -> Option<usize> {
        self.chunks.iter().rposition(|chunk| chunk.spans(frame))
    }

    /// Judges where a frame in a chunk begins; `end` is the end of the one below it.
    pub(super) fn judge(&self, frame: RemoteAddr, chunk: usize, end: Option<End>) -> Place {
        let Chunk { addr, kind, .. } = self.chunks[chunk];
        let first = addr.0 + kind.header_bytes();
        let begins = match (end, kind) {
            (Some(end), _) if end.chunk == addr => end.next,
            // Where the first frame of a chunk begins depends on the chunk before it.
            (_, ChunkKind::Array) => return Place::Right,
            (Some(_), ChunkKind::Linked) => first,
            (None, ChunkKind::Linked) => {
                let is_first = chunk + 1 == self.chunks.len();
                return match is_first && frame.0 == first + SLOT_BYTES {
                    true => Place::Right,
                    false => Place::Wrong,
                };
            }
        };
        self.judge_between(begins, frame.0)
    }

    /// Whether nothing but frames of functions that have returned lies between two addresses.
    fn judge_between(&self, mut from: u64, to: u64) -> Place {
        for _ in 0..MAX_RETURNED {
            if from >= to {
                break;
            }
            let code = (self.code_at)(RemoteAddr(from));
            let Some(code) = code.filter(|code| code.is_plausible_pointer()) else {
                return Place::Wrong;
            };
            let Some(slot) = self.codes.slot(code) else {
                return Place::Unknown(code);
            };
            let CodeRange::Inline { frame_words, .. } = self.codes.at(slot).header.range else {
                return Place::Wrong;
            };
            from = from.saturating_add(SLOT_BYTES * frame_words);
        }
        match from == to {
            true => Place::Right,
            false => Place::Wrong,
        }
    }
}
