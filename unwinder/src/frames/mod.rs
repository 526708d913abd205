//! The walk: from the newest frame of a thread to its root, over a snapshot.
//!
//! A walk does no reads of its own. It follows links until it reaches the root, an address
//! that the snapshot does not hold (a *miss*, after which it goes on where it stopped) or
//! something that cannot be (a [`Cut`]). It ends because every step adds a frame, the number
//! of frames has a limit, and a link that closes a circle is found.

pub(crate) mod calls;
pub(crate) mod interpreter;
pub(crate) mod objects;

use crate::memory::{Lookup, RemoteAddr};

pub use interpreter::is_entry;

/// More frames than any recursion limit in use; a longer chain is cut and says so.
pub const MAX_FRAMES: usize = 1 << 20;

/// One link of a frame chain, as it was in memory. Entry frames (3.12+), which run no Python
/// code, are among them: they cost reads and must be learnt, but are not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawFrame {
    /// Where the frame is.
    pub addr: RemoteAddr,
    /// Its code object, tag removed; NULL while the frame is being torn down.
    pub code: RemoteAddr,
    /// 3.11+: address of the instruction. 3.8 – 3.10: byte offset of it, sign-extended.
    pub instr: u64,
    /// `owner`; [`crate::layout::owner::THREAD`] for the frame objects of 3.8 – 3.10.
    pub owner: u8,
}

/// Why a stack is not whole. What was walked before is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cut {
    /// A link, an owner or an end that cannot be: the stack changed while it was read.
    Torn,
    /// A frame's memory is not readable.
    Unreadable,
    /// More than [`MAX_FRAMES`] frames.
    Limit,
    /// The chain of data-stack chunks is broken before the chunk of this frame.
    Chunks,
    /// The thread state itself is not readable, or is none.
    Thread,
    /// The stack was still incomplete after as many reads as one sample may make.
    Rounds,
}

impl Cut {
    /// Every value, for documentation.
    pub const ALL: [Self; 6] = [
        Self::Torn,
        Self::Unreadable,
        Self::Limit,
        Self::Chunks,
        Self::Thread,
        Self::Rounds,
    ];

    /// The name in JSON and in recordings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Torn => "torn",
            Self::Unreadable => "unreadable",
            Self::Limit => "limit",
            Self::Chunks => "chunks",
            Self::Thread => "thread",
            Self::Rounds => "rounds",
        }
    }
}

/// Where a walk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Reached the root: the stack is whole.
    Root,
    /// Needs `len` bytes at `addr`.
    Miss {
        /// Where.
        addr: RemoteAddr,
        /// How much.
        len: u64,
    },
    /// Cannot go on.
    Cut(Cut),
}

/// Where a walk goes on, and what it needs to notice a circle.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    next: RemoteAddr,
    /// Where a complete chain ends besides NULL: `base_frame` of 3.15.
    base: Option<RemoteAddr>,
    /// Brent: compared with every frame, moved on at powers of two.
    anchor: RemoteAddr,
    next_anchor: usize,
    steps: usize,
}

impl Cursor {
    /// A walk from `newest`. With a `base`, only reaching it is a complete walk.
    #[must_use]
    pub fn new(newest: RemoteAddr, base: Option<RemoteAddr>) -> Self {
        Self {
            next: newest,
            base,
            anchor: RemoteAddr::NULL,
            next_anchor: 1,
            steps: 0,
        }
    }

    /// The frame that the walk needs next.
    #[must_use]
    pub fn next(&self) -> RemoteAddr {
        self.next
    }

    /// `Some` when the walk must end at the frame that it needs next. Asked again after a miss.
    fn check(&self) -> Option<Progress> {
        if self.next == self.anchor || !self.next.is_plausible_pointer() {
            return Some(Progress::Cut(Cut::Torn));
        }
        (self.steps >= MAX_FRAMES).then_some(Progress::Cut(Cut::Limit))
    }

    /// Goes on to the frame's link.
    fn follow(&mut self, link: RemoteAddr) {
        if self.steps >= self.next_anchor {
            self.anchor = self.next;
            self.next_anchor = 2 * self.steps;
        }
        self.steps += 1;
        self.next = link;
    }

    /// Goes on behind `frames` frames that are known to be no circle.
    fn skip(&mut self, frames: usize, link: RemoteAddr) {
        self.steps += frames;
        self.next = link;
    }
}

/// The frames of the sample before. Nearly all of a stack is as it was, so a walk that meets one
/// of them compares those below with memory instead of making them anew.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Newest first, of a whole stack.
    frames: Vec<RawFrame>,
    /// Those that a walk may still meet begin here.
    at: usize,
    /// How many in a row, up to here, were met and are the same.
    same: usize,
}

/// So many frames of the last sample are looked through for the next one of this sample.
const LOOK_AHEAD: usize = 16;

impl Known {
    /// Takes the frames of a sample, newest first, and gives back empty memory for the next.
    /// Only a whole stack can be met: its end is where the walk ends.
    pub fn take(&mut self, frames: &mut Vec<RawFrame>, whole: bool) {
        std::mem::swap(&mut self.frames, frames);
        frames.clear();
        if !whole {
            self.frames.clear();
        }
        self.at = 0;
        self.same = 0;
    }

    /// Begins anew, with the same frames.
    pub(crate) fn restart(&mut self) {
        self.at = 0;
        self.same = 0;
    }

    /// How many frames, from the outermost on, are those of the sample before. Asked after a
    /// walk that reached the root.
    #[must_use]
    pub fn same(&self) -> usize {
        if self.at == self.frames.len() {
            self.same
        } else {
            0
        }
    }

    /// Notes the next frame of a walk; whether it is one of the last sample.
    fn meet(&mut self, frame: &RawFrame) -> bool {
        let ahead = self.frames[self.at..].iter().take(LOOK_AHEAD);
        let found = ahead
            .enumerate()
            .find(|(_, known)| known.addr == frame.addr);
        let Some((skipped, known)) = found else {
            self.same = 0;
            return false;
        };
        let same = known == frame;
        self.at += skipped + 1;
        self.same = match (same, skipped) {
            (true, 0) => self.same + 1,
            (true, _) => 1,
            (false, _) => 0,
        };
        same
    }
}

/// Walks on from `cursor` and appends to `frames`, newest first. `known` may be empty.
pub fn walk<L: Lookup>(
    view: &L,
    layout: &crate::layout::Frames,
    cursor: &mut Cursor,
    frames: &mut Vec<RawFrame>,
    known: &mut Known,
) -> Progress {
    match layout {
        crate::layout::Frames::Objects(layout) => {
            objects::walk(view, layout, cursor, frames, known)
        }
        crate::layout::Frames::Interpreter(layout) => {
            interpreter::walk(view, layout, cursor, frames, known)
        }
    }
}

#[cfg(test)]
mod tests;
