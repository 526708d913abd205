//! Growth: who makes the process bigger, from the page faults of its threads.
//!
//! One fault in so many stops its thread at the instruction that touched new memory, or is met
//! when the thread leaves the kernel; it stands for all of them. What of it is still there at
//! the end is kept: the pages that were seen to come in are looked up again and again, for the last
//! time when the interpreter begins to end, which frees nearly all memory.

use onlooker_flamegraph::units::bytes;
use onlooker_recording::tables::{Totals, WeightKind};
use onlooker_recording::write::WriteError;
use onlooker_unwinder::memory::RemoteAddr;
use std::fs;
use std::io;
use std::mem;

use super::clock::now_ns;
use super::looks::Looks;
use super::moves::{self, Moves};
use super::pages::{Came, Look, Pages, page_bytes};
use super::recorder::Recorder;
use super::rows::Weight;
use super::standing::{Read, Sought, Standing, StopRecording, Subject};
use super::stop_costs::StopCosts;
use crate::error::Error;
use crate::stop::why::{GONE, LATER};
use crate::stop::{Sleeper, Touch, Watch};
use crate::sys::remap::Remap;

/// A short program is met by a breakpoint when its interpreter begins to end; one that has run for
/// so long has had looks enough. In a virtual machine a breakpoint makes each switch between
/// threads slower, and with it each stop by some 10 µs.
const END_AWAITED_NS: u64 = 1_000_000_000;
/// The resident size is noted so often.
const RSS_EVERY_NS: u64 = 100_000_000;
/// While a program starts its interpreter is looked for at one fault in so many: 256 KiB.
const SEEK_EVERY: u64 = 64;
/// Records what the stop thread meets.
pub struct Growth {
    standing: Standing,
    pages: Pages,
    looks: Looks,
    moves: Moves,
    /// Faults that an event stands for where that is not counted.
    period: u64,
    /// Whether a huge page came in, and that was not told.
    huge: bool,
    /// Whether each beat takes time samples too.
    times: bool,
    rss_next_ns: u64,
    /// Whether the program was launched: it is watched from its beginning.
    launched: bool,
    /// Anonymous memory that was there when the events began, or when the interpreter was found, in
    /// bytes.
    before: Option<u64>,
    /// Faults since the interpreter of a program that starts was looked for.
    unsought: u64,
    /// Stops at which it was.
    searches: StopCosts,
    costs: StopCosts,
    /// What is to be recorded once the thread goes on.
    pending: Vec<Pending>,
    /// When the thread that stands still was stopped.
    since_ns: Option<u64>,
}

/// Whose stack was read.
#[derive(Clone, Copy, Debug)]
struct Who {
    tid: i32,
    tstate: RemoteAddr,
    /// Why it may be that of a later instant.
    reason: Option<&'static str>,
}

/// Faults whose stack was read.
#[derive(Debug)]
struct Pending {
    who: Who,
    events: Vec<Touch>,
    /// When the last one happened, or later; by CLOCK_MONOTONIC.
    at_ns: u64,
}

/// Faults that stand for so many bytes of ordinary pages.
#[must_use]
pub fn faults(every_bytes: u64) -> u64 {
    (every_bytes / page_bytes()).max(1)
}

impl Growth {
    /// Records a process, of whose page faults every `period`th is an event; with time samples of
    /// all threads, taken without a stop at each beat, where `times`.
    ///
    /// # Errors
    /// When the process is gone or its page map may not be read.
    pub fn new(
        subject: Subject,
        recorder: Recorder,
        rate_hz: f64,
        period: u64,
        times: bool,
    ) -> io::Result<Self> {
        Ok(Self {
            pages: Pages::open(subject.pid())?,
            launched: matches!(subject, Subject::Starting(..)),
            standing: Standing::new(subject, recorder, rate_hz),
            period,
            huge: false,
            times,
            looks: Looks::default(),
            moves: Moves::new(),
            rss_next_ns: 0,
            before: None,
            unsought: 0,
            searches: StopCosts::default(),
            costs: StopCosts::default(),
            pending: Vec::new(),
            since_ns: None,
        })
    }

    /// Reads the stack of a thread that stands still, for these faults; whether it runs Python.
    fn observe(
        &mut self,
        tid: i32,
        events: &[Touch],
        at_ns: u64,
        reason: Option<&'static str>,
    ) -> bool {
        if !self.standing.is_attached() {
            self.seek(events);
            return self.standing.is_attached() || self.standing.is_starting();
        }
        let tstates = match self.standing.read(tid) {
            Read::Stacks(tstates) => tstates,
            Read::NotPython => return false,
            Read::Gone => {
                self.standing.lost(tid, events.len() as u64, GONE);
                return true;
            }
        };
        // A thread state that is being taken down has no stack: its events are none.
        if let Some(tstate) = self.current(&tstates) {
            self.pending.push(Pending {
                who: Who {
                    tid,
                    tstate,
                    reason,
                },
                events: events.to_vec(),
                at_ns,
            });
        }
        true
    }

    /// Looks for the interpreter of a program that starts, while its thread stands still: so none of its
    /// code runs unseen. What has come in until it is found belongs to no site.
    fn seek(&mut self, events: &[Touch]) {
        let period = self.period;
        let faults = |touch: &Touch| {
            if touch.faults == 0 {
                period
            } else {
                touch.faults
            }
        };
        self.unsought += events.iter().map(faults).sum::<u64>();
        if self.unsought < SEEK_EVERY {
            return;
        }
        self.unsought = 0;
        if self.standing.seek() {
            self.begins();
        }
        if let Some(since_ns) = self.since_ns.take() {
            self.searches.add(now_ns().saturating_sub(since_ns));
        }
    }

    /// The one thread state that runs, where a thread has several: memory is counted once.
    fn current(&mut self, tstates: &[RemoteAddr]) -> Option<RemoteAddr> {
        let stacks = self.standing.program.watched()?.session.stacks();
        let own = stacks.filter(|stack| tstates.contains(&stack.tstate));
        own.max_by_key(|stack| (!stack.waits, stack.owns_gil, !stack.frames().is_empty()))
            .map(|stack| stack.tstate)
    }

    /// Follows the memory that the process has moved since the last call.
    fn follow(&mut self) -> Vec<Remap> {
        let moves = self.moves.take();
        for remap in &moves {
            self.pages.moved(remap);
        }
        moves
    }

    fn fault(&mut self, who: Who, touch: Touch) {
        if touch.was_there {
            // It is copied, or may only be written to again: the process is no bigger.
            return;
        }
        let faults = match touch.faults {
            0 => self.period,
            faults => faults,
        };
        match self.pages.classify(touch.addr, faults) {
            Came::Anonymous(bytes) => {
                let bytes = bytes.saturating_mul(faults);
                let id = self.standing.recorder.next_growth();
                self.pages.came(touch.addr, id, bytes);
                self.record(who, WeightKind::BytesGrown, bytes, Some(id));
            }
            Came::Huge(pages) => {
                self.huge = true;
                for start in pages {
                    let id = self.standing.recorder.next_growth();
                    let bytes = self.pages.huge_came(start, id);
                    self.record(who, WeightKind::BytesGrown, bytes, Some(id));
                }
            }
            Came::File(bytes) => {
                let bytes = bytes.saturating_mul(faults);
                self.record(who, WeightKind::BytesFile, bytes, None);
            }
            Came::Nothing => {}
        }
    }

    fn record(&mut self, who: Who, kind: WeightKind, amount: u64, growth: Option<u32>) {
        let weight = Weight {
            kind,
            amount,
            reason: who.reason,
            growth,
        };
        let now = self.standing.now();
        let running = self.standing.knows(who.tid);
        let recorder = &mut self.standing.recorder;
        if let Some(watched) = self.standing.program.watched() {
            watched.exact(recorder, now, (who.tstate, running), weight);
        }
    }

    /// Looks at all pages at once. `ends`: the interpreter begins to end, and has freed nothing.
    fn look_at_all(&mut self, ends: bool) {
        self.follow();
        let look = self.pages.look_at_all();
        // What an interpreter frees at its end counts as kept.
        if ends || !self.is_ending() {
            self.take_in(look);
        }
        self.note_rss(self.standing.now());
    }

    /// Whether the interpreter has begun to end.
    fn is_ending(&mut self) -> bool {
        let watched = self.standing.program.watched();
        watched.is_some_and(|watched| watched.session.is_ending())
    }

    fn take_in(&mut self, look: Look) {
        // What it has missed may be elsewhere.
        self.follow();
        let size = Size::of(self.standing.pid);
        self.pages.forget(look, size.map(|size| size.anonymous));
    }

    fn note_rss(&mut self, now: u64) {
        self.rss_next_ns = now + RSS_EVERY_NS;
        let recorder = &mut self.standing.recorder;
        if let Some(watched) = self.standing.program.watched()
            && let Some(Size { resident, .. }) = Size::of(watched.pid())
        {
            watched.rss(recorder, now, resident);
        }
    }
}

impl StopRecording for Growth {
    fn begin(&mut self) -> Result<(), Error> {
        self.standing.scan()?;
        self.note_rss(self.standing.now());
        Ok(())
    }

    fn without_interpreter(&mut self) -> Option<Sought> {
        self.standing.without_interpreter()
    }

    fn finish(mut self) -> Result<(Totals, u32), WriteError> {
        // A process that is gone has no pages to look up, and the last look counts.
        self.look_at_all(false);
        let gone = self.pages.take_gone();
        self.standing.recorder.gone(gone);
        self.standing.recorder.kept(self.pages.kept());
        self.standing.finish()
    }

    fn said(&self) -> Vec<String> {
        let mut said = self.standing.said();
        said.extend(self.costs.said());
        said.extend(self.moves.said());
        said.extend(self.searches.said().map(|stops| {
            format!("its interpreter was looked for while it started, which took {stops}")
        }));
        let since = if self.launched {
            "its interpreter was there"
        } else {
            "it was watched"
        };
        said.extend(self.before.map(|before| {
            let before = bytes(before as f64);
            format!("{before} of memory came in before {since} and belongs to no site")
        }));
        said
    }
}

impl Watch for Growth {
    fn begins(&mut self) {
        self.moves.watch_all(self.standing.pid);
        if self.standing.is_attached()
            && let Some(Size { anonymous, .. }) = Size::of(self.standing.pid)
        {
            *self.before.get_or_insert(0) += anonymous;
        }
    }

    fn joins(&mut self, tid: i32) {
        self.moves.watch(tid);
    }

    fn stopped(&mut self, tid: i32, events: &[Touch], since_ns: Option<u64>) -> bool {
        self.since_ns = since_ns.or(self.since_ns);
        let at_ns = since_ns.unwrap_or_else(now_ns);
        self.observe(tid, events, at_ns, None)
    }

    fn went_on(&mut self) -> bool {
        if let Some(since_ns) = self.since_ns.take() {
            self.costs.add(now_ns().saturating_sub(since_ns));
        }
        let moves = self.follow();
        for pending in mem::take(&mut self.pending) {
            for touch in &pending.events {
                let addr = moves::since(&moves, pending.at_ns, touch.addr);
                self.fault(pending.who, Touch { addr, ..*touch });
            }
        }
        mem::take(&mut self.huge)
    }

    fn missed(&mut self, tid: i32, events: &[Touch]) {
        self.observe(tid, events, now_ns(), Some(LATER));
    }

    fn lost(&mut self, tid: i32, count: u64, why: &'static str) {
        self.standing.lost(tid, count, why);
    }

    fn short_of_buffers(&mut self) {
        self.standing.short_of_buffers();
    }

    fn awaits(&mut self) -> Option<u64> {
        if self.standing.attached_for() > END_AWAITED_NS {
            return None;
        }
        let watched = self.standing.program.watched()?;
        watched.session.end_word().map(|at| at.0)
    }

    fn written(&mut self) {
        self.look_at_all(true);
    }

    fn idle(&mut self) -> bool {
        let now = self.standing.now();
        if let Some(look) = self.looks.go_on(&self.pages, now)
            && !self.is_ending()
        {
            self.take_in(look);
        }
        self.looks.is_under_way()
    }

    fn beat(
        &mut self,
        late: u64,
        asleep: &[Sleeper],
        still: &mut dyn FnMut(&Sleeper) -> bool,
    ) -> bool {
        self.standing.recorder.tick();
        self.follow();
        for sleeper in asleep.iter().filter(|s| !s.worked.is_empty()) {
            // One by one, for few sleep in a call that makes the process bigger.
            let tstate = match self.standing.read(sleeper.tid) {
                Read::Stacks(tstates) => self.current(&tstates),
                Read::NotPython => None,
                Read::Gone => {
                    let count = sleeper.worked.len() as u64;
                    self.standing.lost(sleeper.tid, count, GONE);
                    None
                }
            };
            if let Some(tstate) = tstate {
                let who = Who {
                    tid: sleeper.tid,
                    tstate,
                    reason: (!still(sleeper)).then_some(LATER),
                };
                for touch in &sleeper.worked {
                    self.fault(who, *touch);
                }
            }
        }
        let now = self.standing.now();
        let recorder = &mut self.standing.recorder;
        let attached = match self.standing.program.watched() {
            Some(watched) => {
                if self.times {
                    // A process that cannot be read any more ends soon.
                    let _ = watched.sample(recorder, now);
                }
                self.looks.begin(now);
                true
            }
            None => false,
        };
        if now >= self.rss_next_ns {
            self.note_rss(now);
            self.moves.drop_ended(self.standing.pid);
        }
        let gone = self.pages.take_gone();
        self.standing.recorder.gone(gone);
        let go_on = self.standing.beat(late);
        if !attached {
            // It may have been found.
            self.begins();
        }
        go_on
    }

    fn wants(&mut self, tid: i32) -> bool {
        self.standing.knows(tid)
    }

    fn exec(&mut self) {
        let pid = self.standing.pid;
        self.pages.begin_again(pid);
        self.moves.begin_again(pid);
        self.looks = Looks::default();
        self.standing.exec();
    }
}

/// How big a process is, in bytes.
struct Size {
    resident: u64,
    /// Without files and shared memory.
    anonymous: u64,
}

impl Size {
    /// The second and the third number of `statm`, in pages; `None` when the process is gone.
    fn of(pid: i32) -> Option<Self> {
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        let mut pages = statm.split_ascii_whitespace().skip(1);
        let mut bytes = || Some(pages.next()?.parse::<u64>().ok()? * page_bytes());
        let (resident, shared) = (bytes()?, bytes()?);
        (resident > 0).then_some(Self {
            resident,
            anonymous: resident.saturating_sub(shared),
        })
    }
}
