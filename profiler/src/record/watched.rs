//! One process of a recording: its stacks, each with what its thread was doing.

use onlooker_recording::tables::{State, Totals};
use onlooker_unwinder::memory::{Class, Cost, RemoteAddr};

use super::crowd::Crowd;
use super::describe::place;
use super::family::Newcomer;
use super::kernel::{FileBudget, KernelThread};
use super::recorder::Recorder;
use super::rows::{Observed, ProcessRows, Weight};
use crate::error::Error;
use crate::session::{CODE, Earlier, Session, ThreadStack};

/// A stack that changed while it was read is taken again so often within a tick.
pub(crate) const TRIES: usize = 100;
/// What sleeping threads wait for is asked so often a second in all: some percent of a core.
const QUESTIONS_PER_SECOND: u64 = 10_000;

/// Why ticks of a process that has none are lost.
pub(super) const NO_INTERPRETER: &str = "no interpreter";
/// A list of threads may be torn once; a process without any in so many ticks has ended its
/// interpreter or become another program.
const EMPTY_TICKS: u64 = 3;

/// A process that is sampled.
pub(super) struct Watched {
    pub(super) session: Session,
    rows: ProcessRows,
    files: FileBudget,
    crowd: Crowd,
    /// Ticks in a row that saw no thread.
    empty_ticks: u64,
    /// When the names of all samples up to then were seen to be right.
    names_checked_ns: u64,
}

impl Watched {
    pub(super) fn new(
        newcomer: Newcomer,
        recorder: &mut Recorder,
        rate_hz: f64,
        files: &FileBudget,
    ) -> Self {
        Self {
            rows: recorder.process(newcomer.process, newcomer.mappings),
            crowd: Crowd::new(newcomer.attached.pid),
            session: Session::new(newcomer.attached, rate_hz),
            files: files.clone(),
            empty_ticks: 0,
            names_checked_ns: 0,
        }
    }

    pub(super) fn pid(&self) -> i32 {
        self.session.pid
    }

    /// It was found again after so many ticks in a row without an interpreter.
    pub(super) fn had_none(&mut self, ticks: u64) {
        self.empty_ticks = ticks;
    }

    /// The last ticks, in a row, that saw no thread; nobody has counted them.
    pub(super) fn empty_ticks(&self) -> u64 {
        self.empty_ticks
    }

    /// Takes a sample of all threads; false when the process runs no interpreter any more.
    pub(super) fn sample(&mut self, recorder: &mut Recorder, now_ns: u64) -> Result<bool, Error> {
        let seen = recorder.last_tick();
        self.crowd.look(&mut self.rows, seen, now_ns);
        if self.rows.all_sleep(seen, now_ns) {
            self.session.sample_if_it_ran(TRIES)?;
        } else {
            self.session.sample(TRIES)?;
        }
        self.judge_names(recorder, now_ns);
        if !self.session.has_interpreter() {
            // A thread that ends can tear the list under the read.
            self.session.sample(TRIES)?;
        }
        if !self.session.has_interpreter() {
            self.empty_ticks += 1;
            return Ok(self.empty_ticks < EMPTY_TICKS);
        }
        recorder.lost(NO_INTERPRETER, std::mem::take(&mut self.empty_ticks));
        self.meet_new_threads(recorder);
        let held = self.session.stacks().any(|stack| stack.owns_gil);
        let threads = self.session.stacks().count();
        let every_ns = questions_every_ns(threads);
        for stack in self.session.stacks() {
            if stack.waits {
                // Its thread has one sample: that of the innermost interpreter.
                recorder.seen(&mut self.rows, stack);
                continue;
            }
            let state = match self.rows.kernel(stack) {
                Some(kernel) => state(&self.session, stack, kernel, now_ns, held, every_ns),
                None => State {
                    holds_gil: stack.owns_gil,
                    waits_for_gil: stack.gil_requested == Some(true),
                    known: true,
                    ..State::default()
                },
            };
            let observed = Observed::from(state);
            recorder.sample(&mut self.rows, stack, observed, now_ns, |frame| {
                place(&self.session, frame)
            });
        }
        recorder.forget_threads(&mut self.rows, threads);
        Ok(true)
    }

    /// Beyond 2 kHz code objects are not looked at with every sample.
    fn judge_names(&mut self, recorder: &mut Recorder, now_ns: u64) {
        match self.session.earlier() {
            Earlier::Unchecked => return,
            Earlier::Same => {}
            Earlier::Replaced => recorder.distrust(&self.rows, self.names_checked_ns, CODE),
        }
        self.names_checked_ns = now_ns;
    }

    /// Adds one stack of the last sample, of a thread that was stopped while it ran or that sleeps
    /// since before it was read. A thread state that is being taken down, or is not its thread's
    /// yet, has no stack: such a sample is none.
    pub(super) fn exact(
        &mut self,
        recorder: &mut Recorder,
        now_ns: u64,
        (tstate, running): (RemoteAddr, bool),
        weight: Weight,
    ) {
        self.judge_names(recorder, now_ns);
        self.meet_new_threads(recorder);
        let mut stacks = self.session.stacks();
        let Some(stack) = stacks.find(|s| s.tstate == tstate && !s.waits) else {
            return;
        };
        let waits_for_gil = match self.rows.kernel(stack) {
            Some(kernel) if !running => {
                // The holder is not among the stacks of this sample.
                let every_ns = questions_every_ns(self.session.threads());
                waits_for_gil(&self.session, stack, kernel, now_ns, every_ns)
            }
            _ => false,
        };
        let state = State {
            running,
            sleeping: !running,
            holds_gil: stack.owns_gil,
            waits_for_gil,
            known: true,
        };
        let observed = Observed { state, weight };
        recorder.sample(&mut self.rows, stack, observed, now_ns, |frame| {
            place(&self.session, frame)
        });
    }

    /// Adds its resident size.
    pub(super) fn rss(&self, recorder: &mut Recorder, now_ns: u64, bytes: u64) {
        recorder.rss(&self.rows, now_ns, bytes);
    }

    /// Forgets the threads that a sample of all threads has not seen any more.
    pub(super) fn forget_threads(&mut self, recorder: &mut Recorder) {
        let mut current = 0;
        for stack in self.session.stacks() {
            recorder.seen(&mut self.rows, stack);
            current += 1;
        }
        recorder.forget_threads(&mut self.rows, current);
    }

    fn meet_new_threads(&mut self, recorder: &mut Recorder) {
        let mut stacks = self.session.stacks();
        let new: Vec<RemoteAddr> = match stacks.find(|stack| !self.rows.knows(stack)) {
            None => return,
            Some(first) => std::iter::once(first)
                .chain(stacks.filter(|stack| !self.rows.knows(stack)))
                .map(|stack| stack.tstate)
                .collect(),
        };
        for tstate in new {
            let label = self.session.label(tstate);
            let kernel = label
                .os_thread_id
                .map(|tid| KernelThread::new(self.session.pid, tid, &self.files));
            if let Some(stack) = self.session.stacks().find(|s| s.tstate == tstate) {
                recorder.thread(&mut self.rows, stack, label, kernel);
            }
        }
    }

    /// Adds what reading it has cost.
    pub(super) fn add_cost(&self, totals: &mut Totals) {
        let stacks = self.session.cost(Class::Stacks);
        let Cost { calls, bytes, .. } = self.session.cost(Class::Code);
        totals.retries += self.session.retries();
        totals.read_calls += stacks.calls;
        totals.read_segments += stacks.segments;
        totals.read_bytes += stacks.bytes;
        totals.code_calls += calls;
        totals.code_bytes += bytes;
    }

    /// Forgets it.
    pub(super) fn end(self, recorder: &mut Recorder) {
        recorder.process_ended(self.rows);
    }
}

/// What a thread is doing, from the kernel and from the interpreter's own fields.
fn state(
    session: &Session,
    stack: &ThreadStack,
    kernel: &mut KernelThread,
    now_ns: u64,
    held: bool,
    every_ns: u64,
) -> State {
    let runs = kernel.runs(now_ns);
    let sleeping = runs == Some(false);
    // While nobody has the lock nobody waits for it.
    let may_wait = stack.gil_requested.is_some() || (sleeping && held);
    let waits_for_gil = may_wait && waits_for_gil(session, stack, kernel, now_ns, every_ns);
    State {
        running: runs == Some(true),
        sleeping,
        holds_gil: stack.owns_gil,
        waits_for_gil,
        known: true,
    }
}

/// Whether a thread waits for the interpreter lock; before 3.15, whether one that sleeps does.
fn waits_for_gil(
    session: &Session,
    stack: &ThreadStack,
    kernel: &mut KernelThread,
    now_ns: u64,
    every_ns: u64,
) -> bool {
    match stack.gil_requested {
        _ if stack.owns_gil => false,
        Some(requested) => requested,
        // Nothing in the interpreter says who waits, but the kernel knows on what a thread sleeps.
        None => session
            .lock(stack.interpreter)
            .is_some_and(|lock| kernel.waits_in(now_ns, &lock, every_ns)),
    }
}

/// So seldom is it asked of each of so many threads what it waits for.
fn questions_every_ns(threads: usize) -> u64 {
    threads as u64 * (1_000_000_000 / QUESTIONS_PER_SECOND)
}
