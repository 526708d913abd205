//! Growth: who makes the process bigger, from the page faults of its threads.
//!
//! One fault in so many stops its thread at the instruction that touched new memory, or is met
//! when the thread leaves the kernel; it stands for all of them. What of it is still there at
//! the end is kept: the pages that were seen to come in are looked up again and again.

use std::fs;
use std::io;
use std::mem;

use onlooker_recording::tables::{Totals, WeightKind};
use onlooker_recording::write::WriteError;
use onlooker_symbols::names::CodeId;
use onlooker_unwinder::memory::RemoteAddr;

use super::clock::now_ns;
use super::family::Newcomer;
use super::pages::{Came, Pages, page_bytes};
use super::recorder::Recorder;
use super::rows::Weight;
use super::standing::{LATER, Read, Standing, StopRecording};
use super::stop_costs::StopCosts;
use crate::error::Error;
use crate::stop::{Sleeper, Watch};

/// The resident size is noted so often, and pages are looked up so often where that is cheap.
const LOOK_EVERY_NS: u64 = 100_000_000;
/// Looking pages up takes one part in so many of the time at most.
const LOOK_SHARE: u64 = 50;
/// However long it takes, it is done so often.
const LOOK_AT_LEAST_EVERY_NS: u64 = 900_000_000;
/// So many looks in a row may be doubtful (see [`Growth::doubts`]) before they count: the main
/// thread has begun to do something else, or it runs Python no more and the process lives on.
const MAX_DOUBTS_ELSEWHERE: u32 = 5;
const MAX_DOUBTS_NOWHERE: u32 = 100;

/// Records what the stop thread meets.
pub struct Growth {
    standing: Standing,
    pages: Pages,
    /// Faults that one event stands for.
    period: u64,
    /// Whether each beat takes time samples too.
    times: bool,
    look_next_ns: u64,
    rss_next_ns: u64,
    /// Outermost code object of the main thread at the last look that counted.
    outermost: Option<CodeId>,
    /// Looks in a row that found another. An interpreter that ends frees nearly all memory, with
    /// its main thread outside of the program: such looks do not count.
    doubts: u32,
    costs: StopCosts,
    /// What is to be recorded once the thread goes on.
    pending: Vec<Pending>,
    /// When the thread that stands still was stopped.
    since_ns: Option<u64>,
}

/// Faults whose stack was read.
#[derive(Debug)]
struct Pending {
    tid: i32,
    tstate: RemoteAddr,
    events: Vec<u64>,
    reason: Option<&'static str>,
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
        first: Newcomer,
        recorder: Recorder,
        rate_hz: f64,
        period: u64,
        times: bool,
    ) -> io::Result<Self> {
        Ok(Self {
            pages: Pages::open(first.attached.pid)?,
            standing: Standing::new(first, recorder, rate_hz),
            period,
            times,
            look_next_ns: 0,
            rss_next_ns: 0,
            outermost: None,
            doubts: 0,
            costs: StopCosts::default(),
            pending: Vec::new(),
            since_ns: None,
        })
    }

    /// Reads the stack of a thread that stands still, for these faults; whether it runs Python.
    fn observe(&mut self, tid: i32, events: &[u64], reason: Option<&'static str>) -> bool {
        let tstates = match self.standing.read(tid) {
            Read::Stacks(tstates) => tstates,
            Read::NotPython => return false,
            Read::Nothing => return true,
        };
        if let Some(tstate) = self.current(&tstates) {
            self.pending.push(Pending {
                tid,
                tstate,
                events: events.to_vec(),
                reason,
            });
        }
        true
    }

    /// The one thread state that runs, where a thread has several: memory is counted once.
    fn current(&self, tstates: &[RemoteAddr]) -> Option<RemoteAddr> {
        let stacks = self.standing.watched.session.stacks();
        let own = stacks.filter(|stack| tstates.contains(&stack.tstate));
        own.max_by_key(|stack| (stack.owns_gil, !stack.frames().is_empty()))
            .map(|stack| stack.tstate)
    }

    fn fault(&mut self, tid: i32, tstate: RemoteAddr, addr: u64, reason: Option<&'static str>) {
        let (kind, bytes) = match self.pages.classify(addr) {
            Came::Anonymous(bytes) => (WeightKind::BytesGrown, bytes),
            Came::File(bytes) => (WeightKind::BytesFile, bytes),
            Came::Nothing => return,
        };
        let bytes = bytes.saturating_mul(self.period);
        let id = (kind == WeightKind::BytesGrown).then(|| self.standing.recorder.next_growth());
        if let Some(id) = id {
            self.pages.came(addr, id, bytes);
        }
        let weight = Weight {
            kind,
            amount: bytes,
            reason,
            growth: id,
        };
        let now = self.standing.now();
        let running = self.standing.knows(tid);
        let recorder = &mut self.standing.recorder;
        let watched = &mut self.standing.watched;
        watched.exact(recorder, now, (tstate, running), weight);
    }

    /// Looks which pages are still there.
    fn look(&mut self) {
        let start = now_ns();
        let _ = self.standing.scan();
        let before = self.standing.outermost();
        let missing = self.pages.missing();
        let _ = self.standing.scan();
        if before == self.standing.outermost() && self.counts(before) {
            self.pages.forget(&missing);
        }
        let took = now_ns().saturating_sub(start);
        let pause = (took * LOOK_SHARE).clamp(LOOK_EVERY_NS, LOOK_AT_LEAST_EVERY_NS);
        self.look_next_ns = self.standing.now() + pause;
    }

    /// Whether a look counts at which this was the outermost code of the main thread.
    fn counts(&mut self, outermost: Option<CodeId>) -> bool {
        let most = match outermost {
            Some(_) => MAX_DOUBTS_ELSEWHERE,
            None => MAX_DOUBTS_NOWHERE,
        };
        if outermost != self.outermost && self.outermost.is_some() && self.doubts < most {
            self.doubts += 1;
            return false;
        }
        self.outermost = outermost;
        self.doubts = 0;
        true
    }

    fn note_rss(&mut self, now: u64) {
        self.rss_next_ns = now + LOOK_EVERY_NS;
        let pid = self.standing.watched.session.pid;
        if let Some(bytes) = rss_bytes(pid) {
            let recorder = &mut self.standing.recorder;
            self.standing.watched.rss(recorder, now, bytes);
        }
    }
}

impl StopRecording for Growth {
    fn begin(&mut self) -> Result<(), Error> {
        self.standing.scan()?;
        self.note_rss(self.standing.now());
        Ok(())
    }

    fn finish(mut self) -> Result<(Totals, u32), WriteError> {
        // A process that is gone has no pages to look up, and the last look counts.
        self.look();
        self.note_rss(self.standing.now());
        let gone = self.pages.take_gone();
        self.standing.recorder.gone(gone);
        self.standing.recorder.kept(self.pages.kept());
        self.standing.finish()
    }

    fn said(&self) -> Option<String> {
        self.costs.said()
    }
}

impl Watch for Growth {
    fn stopped(&mut self, tid: i32, events: &[u64], since_ns: Option<u64>) -> bool {
        self.since_ns = since_ns;
        self.observe(tid, events, None)
    }

    fn went_on(&mut self) {
        if let Some(since_ns) = self.since_ns.take() {
            self.costs.add(now_ns().saturating_sub(since_ns));
        }
        for pending in mem::take(&mut self.pending) {
            for addr in &pending.events {
                self.fault(pending.tid, pending.tstate, *addr, pending.reason);
            }
        }
    }

    fn missed(&mut self, tid: i32, events: &[u64]) {
        self.observe(tid, events, Some(LATER));
    }

    fn lost(&mut self, tid: i32, events: &[u64]) {
        if self.standing.knows(tid) {
            self.standing.recorder.lost(LATER, events.len() as u64);
        }
    }

    fn beat(
        &mut self,
        late: u64,
        asleep: &[Sleeper],
        still: &mut dyn FnMut(&Sleeper) -> bool,
    ) -> bool {
        self.standing.recorder.tick();
        for sleeper in asleep.iter().filter(|s| !s.worked.is_empty()) {
            // One by one, for few sleep in a call that makes the process bigger.
            if let Read::Stacks(tstates) = self.standing.read(sleeper.tid)
                && let Some(tstate) = self.current(&tstates)
            {
                let reason = (!still(sleeper)).then_some(LATER);
                for addr in &sleeper.worked {
                    self.fault(sleeper.tid, tstate, *addr, reason);
                }
            }
        }
        let now = self.standing.now();
        if self.standing.is_attached() {
            if self.times {
                let recorder = &mut self.standing.recorder;
                // A process that cannot be read any more ends soon.
                let _ = self.standing.watched.sample(recorder, now);
            }
            if now >= self.look_next_ns {
                self.look();
            }
        }
        if now >= self.rss_next_ns {
            self.note_rss(now);
        }
        let gone = self.pages.take_gone();
        self.standing.recorder.gone(gone);
        self.standing.beat(late)
    }

    fn wants(&mut self, tid: i32) -> bool {
        self.standing.knows(tid)
    }

    fn exec(&mut self) {
        self.pages.begin_again(self.standing.watched.session.pid);
        self.outermost = None;
        self.standing.exec();
    }
}

/// The resident size of a process, in bytes (`statm`, in pages).
fn rss_bytes(pid: i32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    (pages > 0).then_some(pages * page_bytes())
}
