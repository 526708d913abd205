//! Whether the stack that was walked is of one instant.
//!
//! The top of a stack is read several times in one call. A link between two frames holds when the
//! caller stands in a call of the frame above it (`frames::calls`), whatever moved since, or when
//! both frames are the same in every copy: the same code, the same link and (for callers) the same
//! instruction. Then no frame was pushed or popped there while the rest was read. The newest
//! frame's instruction moves all the time and proves nothing.

use super::Sampler;
use super::links::{Link, Links, Seen};
use super::sites::Sites;
use super::tracked::{Below, Thread};
use crate::frames::calls::{function_of, is_in_call};
use crate::frames::{RawFrame, is_entry, objects};
use crate::layout::{Frames, Layout, owner};
use crate::memory::{Lookup, ReadMemory, RemoteAddr, i32_at, u64_at};
use crate::plan::Group;
use crate::snapshot::{MAX_COPIES, View};
use crate::threads::{self, ThreadState};

/// So far up in what is read again and again frames must be the same in all attempts.
const JOINT_BYTES: u64 = 1 << 10;
/// Frames outside the chunks that are so near the top must be in all copies.
pub(super) const MOVING_FRAMES: usize = 16;

/// What memory says of a frame of a stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was there, in its place in the stack.
    Same,
    /// It was not, or not all the time.
    Other,
    /// The plan was made for another top: something near this one is not in the copies.
    Missing,
    /// It lies below the part that is read again, and so does everything older.
    Below,
}

/// Judges a stack frame by frame, newest first.
pub(super) struct Judge<'a> {
    view: View<'a>,
    later: [View<'a>; MAX_COPIES - 1],
    copies: usize,
    thread: &'a Thread,
    layout: &'a Layout,
    links: &'a Links,
    sites: &'a Sites,
    /// Which call of ours it is.
    now: u64,
    /// The thread state before each copy.
    states: [Option<ThreadState>; MAX_COPIES],
    /// How many frames were judged.
    at: usize,
    /// Whether the next frame is in a call of the one before; the newest need not be in any.
    calls: bool,
    /// The same of the frame that was judged last.
    called: bool,
}

impl Judge<'_> {
    /// Judges the next frame; `caller` is the one below it, where there is one.
    pub(super) fn next(&mut self, frame: &RawFrame, caller: Option<&RawFrame>) -> Answer {
        let at = self.at;
        self.at += 1;
        if at == 0 && !self.is_one_thread() {
            return Answer::Other;
        }
        let called = match (&self.layout.frames, caller) {
            (Frames::Interpreter(_), Some(caller)) => {
                is_in_call(&self.view, self.layout, caller, frame)
                    || self.sites.resumes(&self.view, self.layout, caller, frame)
            }
            (Frames::Interpreter(_), None) => at > 0,
            (Frames::Objects(_), _) => false,
        };
        let link = caller.and_then(|caller| link_of(&self.view, self.layout, frame, caller));
        let seen = link
            .filter(|_| called)
            .map(|link| self.links.look(link, self.now));
        // Halves of two frames look like a call that is never made.
        let called = called && seen != Some(Seen::Otherwise);
        self.called = self.calls;
        self.calls = called;
        let proven = self.called && called;
        if !called && self.was_popped(frame) {
            return Answer::Other;
        }
        let (from, len) = match &self.layout.frames {
            Frames::Objects(layout) => objects::needed(layout),
            Frames::Interpreter(layout) => (0, layout.header_bytes),
        };
        let start = RemoteAddr(frame.addr.0.wrapping_add(from));
        let later = &self.later[..self.copies - 1];
        if proven && at == 0 && frame.owner == owner::THREAD {
            if matches!(seen, Some(Seen::Before { .. })) {
                return Answer::Same;
            }
            // Its place is filled while it is pushed, so it must be seen twice.
            let mut copies = later
                .iter()
                .filter_map(|copy| copy.bytes(start, len as usize));
            let again = copies.any(|bytes| is_same(bytes, from, frame, caller, at, self.layout));
            return if again { Answer::Same } else { Answer::Other };
        }
        for copy in later {
            match copy.bytes(start, len as usize) {
                None => match absent(at, frame, self.thread, self.layout) {
                    Answer::Missing if proven => {}
                    answer => return answer,
                },
                Some(_) if proven => return Answer::Same,
                Some(bytes) if is_same(bytes, from, frame, caller, at, self.layout) => {}
                Some(_) => return Answer::Other,
            }
        }
        Answer::Same
    }

    /// Where that begins which is read once, after the answer that it does.
    pub(super) fn below(&self) -> Below {
        Below {
            at: self.at - 1,
            called: self.called,
        }
    }

    /// Whether no other thread took the thread state's place.
    fn is_one_thread(&self) -> bool {
        let states = self.states[..self.copies].iter().flatten();
        let mut threads = states.map(|state| (state.thread_id, state.unique));
        let first = threads.next();
        threads.all(|thread| Some(thread) == first)
    }

    /// Whether a frame lay above the end of the stack when a copy was read.
    fn was_popped(&self, frame: &RawFrame) -> bool {
        let states = self.states[..self.copies].iter().flatten();
        let mut ends = states.filter_map(|state| state.data_stack);
        ends.any(|end| frame.addr >= end.top && end.spans(frame.addr))
    }
}

impl<M: ReadMemory> Sampler<M> {
    /// Judges stacks of thread `index` by the attempt that is looked at.
    pub(super) fn judge(&self, index: usize) -> Judge<'_> {
        let (group, thread) = (Group::thread(index), &self.threads[index]);
        let view = self.snapshot.view(group);
        let later = [1, 2].map(|number| self.snapshot.later_copy(group, number));
        let bytes = threads::thread_state_bytes(&self.layout) as usize;
        let copies = thread.compared_copies();
        let mut states = [None; MAX_COPIES];
        let views = std::iter::once(&view).chain(&later);
        for (state, view) in states.iter_mut().zip(views).take(copies) {
            let bytes = view.bytes(thread.tstate, bytes);
            *state = bytes.and_then(|b| threads::thread_state(&self.layout, thread.tstate, b));
        }
        Judge {
            states,
            view,
            later,
            copies,
            thread,
            layout: &self.layout,
            links: &self.links,
            sites: &self.sites,
            now: self.snapshot.serial(),
            at: 0,
            calls: true,
            called: true,
        }
    }

    /// Compares the copies of thread `index`, if there are some.
    pub(super) fn compare_copies(&mut self, index: usize) {
        let thread = &mut self.threads[index];
        if thread.doubted {
            thread.copies_agree = Some(false);
            return;
        }
        let thread = &self.threads[index];
        if thread.copies < 2 {
            return;
        }
        let depth = thread.frames.len();
        let (answer, below) = match thread.shown {
            // That was judged along the same links, where the walk came as far.
            Some(shown) if shown.below.is_none_or(|below| below.at < depth) => {
                (Answer::Same, shown.below)
            }
            _ => self.judge_frames(index),
        };
        let agree = answer == Answer::Same
            && below
                .is_none_or(|below| self.is_joined(index, below) && self.is_sound(index, below.at));
        self.threads[index].copies_agree = Some(agree);
        if agree && self.threads[index].is_whole() {
            self.note_links(index, below.map_or(usize::MAX, |below| below.at));
        }
        if answer == Answer::Missing {
            self.changed();
        }
    }

    /// Notes the calls of thread `index` that are not those of its sample before, `judged` frames
    /// from the newest on. Its copies agreed.
    fn note_links(&mut self, index: usize, judged: usize) {
        let (group, now) = (Group::thread(index), self.snapshot.serial());
        let view = self.snapshot.view(group);
        let later = [1, 2].map(|number| self.snapshot.later_copy(group, number));
        let thread = &self.threads[index];
        let later = &later[..thread.compared_copies() - 1];
        let frames = &thread.frames;
        let new = frames.len() - thread.same.min(frames.len());
        for (at, pair) in frames.windows(2).enumerate().take(new.min(judged)) {
            let Some(link) = link_of(&view, &self.layout, &pair[0], &pair[1]) else {
                let is_new = self.sites.is_new(&view, &self.layout, &pair[1], &pair[0]);
                if is_new && stood_still(later, at, frames, &self.layout) {
                    self.sites.learn(&view, &self.layout, &pair[1], &pair[0]);
                }
                continue;
            };
            let worth = match self.links.look(link, now) {
                Seen::Before { long_ago: false } => false,
                // What was believed for it proves nothing anew.
                Seen::Before { long_ago: true } => stood_still(later, at, frames, &self.layout),
                Seen::Otherwise | Seen::Never => true,
            };
            if worth && is_in_call(&view, &self.layout, &pair[1], &pair[0]) {
                self.links.note(link, now);
            }
        }
    }

    /// Judges the frames that were walked, as far up as they are read again and again.
    fn judge_frames(&self, index: usize) -> (Answer, Option<Below>) {
        let frames = &self.threads[index].frames;
        let mut judge = self.judge(index);
        for (at, frame) in frames.iter().enumerate() {
            match judge.next(frame, frames.get(at + 1)) {
                Answer::Same => {}
                Answer::Below => return (Answer::Same, Some(judge.below())),
                answer => return (answer, None),
            }
        }
        (Answer::Same, None)
    }

    /// What is read once, deeper in the stack, is read behind all copies of its top. Whether it
    /// belongs to that which was walked: its newest frame, at `below`, is in a call of the one
    /// above it (`called`); or an earlier call saw that frame too, or C code stands there, and the
    /// lowest frames above it were there from the one to the other.
    fn is_joined(&self, index: usize, below: Below) -> bool {
        let thread = &self.threads[index];
        let Below { at: below, called } = below;
        let (Some(above), Frames::Interpreter(layout)) =
            (below.checked_sub(1), &self.layout.frames)
        else {
            return false;
        };
        let (group, frames) = (Group::thread(index), &thread.frames);
        if called {
            return true;
        }
        let known = below + self.read_before(index) >= frames.len();
        let by_c = [above, below].map(|at| is_entry(layout, frames[at].owner));
        if layout.calls.is_some() && !known && by_c == [false; 2] {
            return false;
        }
        let last = match self.snapshot.units().checked_sub(1) {
            Some(unit) => self.snapshot.unit(group, unit),
            None => self.snapshot.later_copy(group, thread.compared - 1),
        };
        let again = |at: usize| last.bytes(frames[at].addr, layout.header_bytes as usize);
        // The lowest that is read again, and others as far up as they are near it.
        let mut inside = (1..below).rev().filter(|at| again(*at).is_some());
        let Some(lowest) = inside.next() else {
            return true;
        };
        let end = frames[lowest].addr.0.saturating_add(JOINT_BYTES);
        let near = |at: &usize| frames[*at].addr.0 < end;
        std::iter::once(lowest)
            .chain(inside.take_while(near))
            .all(|at| {
                let caller = frames.get(at + 1);
                again(at)
                    .is_some_and(|bytes| is_same(bytes, 0, &frames[at], caller, at, &self.layout))
            })
    }
}

impl<M: ReadMemory> Sampler<M> {
    /// How many frames, from the outermost on, an earlier call read as well. All walks of one call
    /// see the same of what it reads once.
    fn read_before(&self, index: usize) -> usize {
        let thread = &self.threads[index];
        match thread.sound {
            (sound, call) if call == self.snapshot.serial() => thread.same.min(sound),
            _ => thread.same,
        }
    }

    /// What is read once may have changed while it was read. It has not where every link in it
    /// holds that an earlier call did not read as well.
    fn is_sound(&mut self, index: usize, below: usize) -> bool {
        let Frames::Interpreter(layout) = &self.layout.frames else {
            return true;
        };
        if layout.calls.is_none() {
            return true;
        }
        let (frames, serial) = (&self.threads[index].frames, self.snapshot.serial());
        let view = self.snapshot.view(Group::thread(index));
        let before = self.read_before(index);
        let new = frames.len() - before.min(frames.len());
        let holds = |link: &[RawFrame]| {
            let by_c = link.iter().any(|frame| is_entry(layout, frame.owner));
            by_c || is_in_call(&view, &self.layout, &link[1], &link[0])
                || self.sites.resumes(&view, &self.layout, &link[1], &link[0])
        };
        let sound = frames.windows(2).take(new).skip(below).all(holds);
        let count = if sound { frames.len() } else { before };
        self.threads[index].sound = (count, serial);
        sound
    }
}

/// The call of a frame of the thread's own; `None` for a generator, which has a new address each
/// time that it is made.
fn link_of<L: Lookup>(
    view: &L,
    layout: &Layout,
    frame: &RawFrame,
    caller: &RawFrame,
) -> Option<Link> {
    if frame.owner != owner::THREAD {
        return None;
    }
    Some(Link {
        site: caller.instr,
        function: function_of(view, layout, frame.addr)?,
        code: frame.code,
    })
}

/// Whether two of `frames`, from `at` on, are the same in all later copies.
fn stood_still(later: &[View<'_>], at: usize, frames: &[RawFrame], layout: &Layout) -> bool {
    let Frames::Interpreter(header) = &layout.frames else {
        return false;
    };
    let is_there = |copy: &View<'_>, at: usize| {
        let bytes = copy.bytes(frames[at].addr, header.header_bytes as usize);
        bytes.is_some_and(|b| is_same(b, 0, &frames[at], frames.get(at + 1), at, layout))
    };
    later
        .iter()
        .all(|copy| is_there(copy, at) && is_there(copy, at + 1))
}

/// Whether `bytes`, which begin `from` bytes behind the start of a frame, show it as it was walked.
fn is_same(
    bytes: &[u8],
    from: u64,
    frame: &RawFrame,
    caller: Option<&RawFrame>,
    at: usize,
    layout: &Layout,
) -> bool {
    let word = |offset: u64| u64_at(bytes, offset - from).unwrap_or_default();
    let (code, link, instr) = match &layout.frames {
        Frames::Objects(layout) if !objects::is_live(bytes, layout) => return false,
        Frames::Objects(layout) => {
            let lasti = i32_at(bytes, layout.lasti - from).unwrap_or_default();
            let instr = i64::from(lasti.saturating_mul(layout.lasti_unit)).cast_unsigned();
            (word(layout.code), word(layout.back), instr)
        }
        Frames::Interpreter(layout) => {
            let code = word(layout.code) & !layout.code_tag_mask;
            (code, word(layout.previous), word(layout.instr))
        }
    };
    (frame.code.is_null() || code == frame.code.0)
        && caller.is_none_or(|caller| caller.addr.0 == link)
        && (at == 0 || instr == frame.instr)
}

/// What it means that a frame is not in a later copy. One that is read once by intent is `Same`.
fn absent(at: usize, frame: &RawFrame, thread: &Thread, layout: &Layout) -> Answer {
    let newest = thread.chunks.first();
    if newest.is_some_and(|chunk| chunk.spans(frame.addr)) {
        let depth = newest.map(|chunk| chunk.live_end.0.saturating_sub(frame.addr.0));
        return match depth {
            Some(depth) if depth < thread.top.below() / 2 => Answer::Missing,
            _ => Answer::Below,
        };
    }
    if thread.chunks.iter().any(|chunk| chunk.spans(frame.addr)) {
        return Answer::Below;
    }
    let entry = match &layout.frames {
        Frames::Objects(_) => false,
        Frames::Interpreter(layout) => is_entry(layout, frame.owner),
    };
    if at >= MOVING_FRAMES || entry {
        Answer::Same
    } else {
        Answer::Missing
    }
}
