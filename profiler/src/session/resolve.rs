//! From links to frames with code, kept from sample to sample.
//!
//! Nearly all of a stack is as it was in the sample before. What is the same from the outermost
//! frame on keeps what was found out about it; only the rest is looked up and judged. Whether
//! every frame so far is sound is carried from link to link, so that the newest link answers
//! for the whole stack.

use std::collections::VecDeque;

use onlooker_symbols::names::{CodeSlot, CodeTable};
use onlooker_unwinder::code::{CodeRange, Position};
use onlooker_unwinder::frames::RawFrame;
use onlooker_unwinder::layout::owner;
use onlooker_unwinder::memory::{ReadMemory, RemoteAddr};
use onlooker_unwinder::sampler::Sampler;

use super::StackFrame;
use super::places::{End, Place, Places};

/// What is wrong with a stack up to some link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// An instruction lies outside of its code object.
    pub(super) instruction: bool,
    /// A frame of a chunk does not begin where it must.
    pub(super) gap: bool,
    /// A code object is not known (yet, or it is none).
    pub(super) code: bool,
    /// That, or something else without which links cannot be judged: the code object of a frame that
    /// is no link, the chunk of one that is.
    pub(super) unknown: bool,
}

/// What was found out about one link.
#[derive(Clone, Copy, Debug)]
struct Link {
    slot: Option<CodeSlot>,
    /// Whether it is shown: one frame of [`Resolved::frames`].
    shown: bool,
    /// Faults of this link and all older ones.
    faults: Faults,
    /// The newest chunk frame so far.
    end: Option<End>,
    /// A code object without which it cannot be judged.
    wanted: RemoteAddr,
}

/// So many links are noted before those of the same code object are taken together.
const MANY_USED: usize = 1 << 10;

/// The resolved stack of one thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Resolved {
    /// Outermost first.
    raw: Vec<RawFrame>,
    links: Vec<Link>,
    /// Newest first.
    pub(super) frames: VecDeque<StackFrame>,
    /// Whether the last update changed a link.
    pub(super) changed: bool,
    /// Which of the thread's samples that was.
    samples: u64,
    /// Code objects of links that were judged since their identities were read.
    used: Vec<CodeSlot>,
}

impl Resolved {
    /// Forgets everything: the code table has changed.
    pub(super) fn clear(&mut self) {
        self.truncate(0);
        self.used.clear();
    }

    /// Faults of the whole stack.
    pub(super) fn faults(&self) -> Faults {
        self.links
            .last()
            .map(|link| link.faults)
            .unwrap_or_default()
    }

    /// The outermost link and its code object, where it has one.
    pub(super) fn outermost(&self) -> Option<(RawFrame, Option<CodeSlot>)> {
        Some((*self.raw.first()?, self.links.first()?.slot))
    }

    /// Notes every code object of the stack, newest first, to be read again, and before them those of
    /// the stacks that it was since this was done last.
    pub(super) fn want(&mut self, codes: &mut CodeTable) {
        for slot in self.used.drain(..).rev() {
            codes.want_slot(slot);
        }
        for (raw, link) in self.raw.iter().zip(&self.links).rev() {
            match link.slot {
                Some(slot) => codes.want_slot(slot),
                None if raw.code.is_null() => {}
                None => codes.want(raw.code),
            }
            if !link.wanted.is_null() {
                codes.want(link.wanted);
            }
        }
    }

    fn truncate(&mut self, len: usize) {
        while self.links.len() > len {
            if self.links.pop().is_some_and(|link| link.shown) {
                self.frames.pop_front();
            }
        }
        self.raw.truncate(len);
    }

    /// Takes over the links of thread `index`'s sample. Links from the first on whose code object is
    /// not known are looked up again by the next update.
    pub(super) fn update<M: ReadMemory>(
        &mut self,
        sampler: &Sampler<M>,
        index: usize,
        codes: &CodeTable,
    ) {
        let thread = &sampler.threads()[index];
        let (links, chunks) = (&thread.frames, &thread.chunks);
        // What the walk has compared need not be compared again.
        let compared = match thread.samples.checked_sub(self.samples) {
            Some(0) => self.raw.len(),
            Some(1) => thread.same.min(self.raw.len()),
            _ => 0,
        };
        self.samples = thread.samples;
        let rest = self.raw[compared..].iter();
        let rest = rest.zip(links.iter().rev().skip(compared));
        let same = compared + rest.take_while(|(old, new)| old == new).count();
        self.changed = same < links.len() || same < self.raw.len();
        // A fault of a link is one of all newer ones.
        let known = self.links[..same].partition_point(|link| !link.faults.unknown);
        self.truncate(known);
        let places = Places {
            chunks,
            codes,
            code_at: &|frame| sampler.code_at(index, frame),
        };
        for raw in links[..links.len() - known].iter().rev() {
            let link = self.link(raw, &places);
            self.raw.push(*raw);
            self.links.push(link);
        }
    }

    /// Judges one more link.
    fn link(&mut self, raw: &RawFrame, places: &Places<'_>) -> Link {
        let codes = places.codes;
        if self.used.len() >= MANY_USED {
            self.used.sort_unstable();
            self.used.dedup();
        }
        let before = self.links.last().copied();
        let mut link = Link {
            slot: None,
            shown: false,
            faults: before.map(|b| b.faults).unwrap_or_default(),
            end: before.and_then(|b| b.end),
            wanted: RemoteAddr::NULL,
        };
        // An entry frame, or one that is being torn down: nothing to show.
        if raw.code.is_null() {
            return link;
        }
        link.slot = codes.slot(raw.code);
        let Some(slot) = link.slot else {
            link.faults.code = true;
            link.faults.unknown = true;
            return link;
        };
        self.used.push(slot);
        let code = codes.at(slot);
        let generator = raw.owner == owner::GENERATOR;
        let lasti = match code.header.position(raw.instr, generator) {
            Position::At(lasti) => Some(lasti),
            Position::Incomplete => None,
            Position::Outside => {
                link.faults.instruction = true;
                Some(-1)
            }
        };
        if let CodeRange::Inline { frame_words, .. } = code.header.range
            && raw.owner == owner::THREAD
        {
            let length = 8 * frame_words;
            place(&mut link, raw.addr, length, places);
        }
        if let Some(lasti) = lasti {
            link.shown = true;
            let frame = StackFrame {
                code: code.id,
                slot,
                lasti,
            };
            self.frames.push_front(frame);
        }
        link
    }
}

/// Judges where the frame of a link begins, where it is known where the one below it ends.
fn place(link: &mut Link, frame: RemoteAddr, length: u64, places: &Places<'_>) {
    let below_is_known = !link.faults.unknown;
    let Some(chunk) = places.chunk_of(frame) else {
        // The chain of chunks is not whole.
        link.faults.unknown = true;
        return;
    };
    if below_is_known {
        match places.judge(frame, chunk, link.end) {
            Place::Right => {}
            Place::Wrong => link.faults.gap = true,
            Place::Unknown(wanted) => {
                link.faults.gap = true;
                link.faults.unknown = true;
                link.wanted = wanted;
            }
        }
    }
    link.end = Some(End {
        chunk: places.chunks[chunk].addr,
        next: frame.0.saturating_add(length),
    });
}
