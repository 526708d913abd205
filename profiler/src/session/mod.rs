//! Samples with names: a proven interpreter, watched over time.

mod attempts;
mod checks;
mod ending;
mod labels;
mod nested;
mod places;
mod resolve;
mod thread_names;
mod tids;

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use onlooker_symbols::PyVersion;
use onlooker_symbols::names::{CodeId, CodeObject, CodeSlot, CodeTable};
use onlooker_unwinder::frames::Cut;
use onlooker_unwinder::layout::gil;
use onlooker_unwinder::memory::{Class, Cost, ReadError, RemoteAddr};
use onlooker_unwinder::sampler::readahead::Mappings;
use onlooker_unwinder::sampler::{Outcome, Sampler};

use crate::attach::{Attached, read_error};
use crate::error::Error;
use crate::target::maps::Maps;
use crate::target::memory::TargetMemory;
use crate::target::rest::Rest;
pub(crate) use checks::CODE;
use checks::Evidence;
use labels::Labels;
pub use labels::ThreadLabel;
use nested::Stand;
use resolve::Resolved;

/// Mappings change when a program grows; read-ahead, of what the plan misses, only needs to know
/// roughly.
const MAPPINGS_EVERY: Duration = Duration::from_secs(1);
/// Beyond this rate the lists and the identities of code objects are not read with every sample.
const FAST_HZ: f64 = 2000.0;
/// Identities of code objects are read again at most so often while none was found to change.
const CODES_EVERY: Duration = Duration::from_micros(250);
/// A program that was seen to free code objects has them looked at with every sample for so
/// long.
const CODES_MOVE_FOR: Duration = Duration::from_secs(10);
/// A stack that moves is read so often in one call. Each copy costs time in which it moves on:
/// beyond [`FAST_HZ`] that time is what limits the rate.
const COPIES: u8 = 3;
const FAST_COPIES: u8 = 2;
/// A stack that did not change in so many attempts rests.
const CALM_AFTER: u8 = 8;

/// What a sample says of the names of earlier ones, where their code objects were not looked at
/// again themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Earlier {
    /// Nothing.
    Unchecked,
    /// Their code objects still are what they were, so they were when the stacks were read.
    Same,
    /// Some are not: stacks read since the last look may have the names of others.
    Replaced,
}

/// One frame that runs Python code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StackFrame {
    /// Its code object.
    pub code: CodeId,
    /// Where the table of code objects has it.
    pub slot: CodeSlot,
    /// Byte offset of its instruction.
    pub lasti: i32,
}

/// How sure a stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It passed every check.
    Verified,
    /// It is kept, but failed this check in every try.
    Unverified(&'static str),
    /// It is not whole; the frames that are there are good up to the cut.
    Cut(Cut),
}

impl Trust {
    /// The reason, for anything but a verified stack.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Verified => None,
            Self::Unverified(reason) => Some(reason),
            Self::Cut(cut) => Some(cut.name()),
        }
    }
}

/// The stack of one thread in one sample.
#[derive(Clone, Debug)]
pub struct ThreadStack {
    /// Address of its thread state: its identity within the process.
    pub tstate: RemoteAddr,
    /// Id of its interpreter, 0 for the main one.
    pub interpreter: i64,
    /// `threading.get_ident()`.
    pub thread_id: u64,
    /// What tells it from a later thread state at the same address.
    pub unique: u64,
    /// Whether it waits for the interpreter lock; `None` where the interpreter does not say.
    pub gil_requested: Option<bool>,
    /// Whether it held the interpreter lock.
    pub owns_gil: bool,
    /// How sure the frames are.
    pub trust: Trust,
    /// Whether its thread runs code of another interpreter, which was called from this stack.
    pub waits: bool,
    /// Whether it was seen in the current sample.
    current: bool,
    resolved: Resolved,
    /// Whether what was resolved must be looked up again in the next sample.
    stale: bool,
    /// Attempts in a row in which nothing changed.
    calm: u8,
}

impl ThreadStack {
    /// Its frames, newest first.
    #[must_use]
    pub fn frames(&self) -> &VecDeque<StackFrame> {
        &self.resolved.frames
    }
}

/// A process that is being watched.
#[derive(Debug)]
pub struct Session {
    /// The process.
    pub pid: i32,
    /// The version of its interpreter.
    pub version: PyVersion,
    /// Its executable.
    pub executable: String,
    sampler: Sampler<TargetMemory>,
    codes: CodeTable,
    stacks: Vec<ThreadStack>,
    /// Where in `stacks` the threads of the sampler are.
    places: Vec<usize>,
    /// Threads of the sampler whose stacks are not accepted yet.
    pending: Vec<usize>,
    /// Those of them that wait for their turn.
    waiting: Vec<usize>,
    /// Where the stacks of the sample stand.
    stands: Vec<Stand>,
    /// Whether the threads of this sample stand still.
    standing: bool,
    /// Whether samples come so fast that not everything is read again for each of them.
    fast: bool,
    /// Whether a call may serve samples to come.
    ahead: bool,
    lists_read: Option<Instant>,
    codes_read: Option<Instant>,
    earlier: Earlier,
    codes_moved: Option<Instant>,
    labels: Labels,
    /// When the last sample was begun.
    sampled: Instant,
    mappings_read: Instant,
    /// Whether a sample took more than one call since.
    missed: bool,
    retries: u64,
    rest: Rest,
}

impl Session {
    /// Watches a proven interpreter, about `rate_hz` times a second.
    #[must_use]
    pub fn new(mut attached: Attached, rate_hz: f64) -> Self {
        attached.sampler.leave_locks(rate_hz > FAST_HZ);
        attached.sampler.read_ahead(rate_hz.is_infinite());
        let rate = if rate_hz.is_finite() {
            rate_hz.max(1.0) as usize
        } else {
            1000
        };
        Self {
            pid: attached.pid,
            version: attached.version,
            executable: attached.executable,
            sampler: attached.sampler,
            codes: CodeTable::new(rate),
            stacks: Vec::new(),
            places: Vec::new(),
            pending: Vec::new(),
            waiting: Vec::new(),
            stands: Vec::new(),
            standing: false,
            fast: rate_hz > FAST_HZ,
            ahead: rate_hz.is_infinite(),
            lists_read: None,
            codes_read: None,
            earlier: Earlier::Unchecked,
            codes_moved: None,
            labels: Labels::new(attached.pid),
            sampled: Instant::now(),
            mappings_read: Instant::now(),
            missed: false,
            retries: 0,
            rest: Rest::new(attached.pid),
        }
    }

    /// The sampler, to measure it.
    pub fn sampler_mut(&mut self) -> &mut Sampler<TargetMemory> {
        &mut self.sampler
    }

    /// What was read so far.
    #[must_use]
    pub fn cost(&self, class: Class) -> Cost {
        self.sampler.cost(class)
    }

    /// Reads that were repeated because a stack had changed under them.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// The code object of a frame of the last sample.
    #[must_use]
    pub fn code(&self, frame: StackFrame) -> Option<&CodeObject> {
        self.codes.find(frame.slot, frame.code)
    }

    /// The stacks of the last sample.
    pub fn stacks(&self) -> impl Iterator<Item = &ThreadStack> {
        self.stacks.iter().filter(|stack| stack.current)
    }

    /// How many threads the last sample of all threads has seen.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.sampler.threads().len()
    }

    /// How many interpreters the last sample of all threads has seen.
    #[must_use]
    pub fn interpreters(&self) -> usize {
        self.sampler.interpreters().len()
    }

    /// Where the runtime of its interpreter is.
    #[must_use]
    pub fn runtime(&self) -> RemoteAddr {
        self.sampler.runtime()
    }

    /// Whether a thread held its interpreter's lock at the sample's last read: one instant for
    /// all threads, so that a lock has one holder at most. ([`ThreadStack::owns_gil`] belongs to
    /// the instant of the stack, which may be that of an earlier try.)
    #[must_use]
    pub fn holds_gil(&self, tstate: RemoteAddr) -> bool {
        self.sampler.holds_gil(tstate)
    }

    /// Whether the last sample found an interpreter with threads. It does not while the process
    /// starts or ends, and not after an exec, which moves the runtime.
    #[must_use]
    pub fn has_interpreter(&self) -> bool {
        self.sampler.lists_cut() != Some(Cut::Unreadable) && self.stacks().next().is_some()
    }

    /// What the last sample says of the names of those before it.
    #[must_use]
    pub fn earlier(&self) -> Earlier {
        self.earlier
    }

    /// Takes a sample of all threads. A stack that fails a check is taken again at once, at
    /// most `tries` times in all; then it is kept with the reason.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn sample(&mut self, tries: usize) -> Result<(), Error> {
        self.rest = Rest::new(self.pid);
        self.take(tries)
    }

    /// The same for a process all of whose threads were just seen to sleep: where none of them has
    /// run since the last sample, that one stands for this one and nothing is read.
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    pub fn sample_if_it_ran(&mut self, tries: usize) -> Result<(), Error> {
        if !self.fast && self.rest.continues() {
            return Ok(());
        }
        self.take(tries)
    }

    fn take(&mut self, tries: usize) -> Result<(), Error> {
        self.standing = false;
        self.sampled = Instant::now();
        self.earlier = Earlier::Unchecked;
        let calls = self.cost(Class::Stacks).calls;
        if self.missed && self.sampled - self.mappings_read > MAPPINGS_EVERY {
            self.missed = false;
            self.mappings_read = self.sampled;
            if let Ok(maps) = Maps::read(self.pid) {
                self.sampler.set_mappings(Mappings::new(maps.anonymous));
            }
        }
        let evicted = self.codes.evict();
        for stack in &mut self.stacks {
            stack.current = false;
            if evicted || stack.stale {
                stack.resolved.clear();
                stack.stale = false;
            }
        }
        let result = self.attempts(tries.max(1));
        result.map_err(|error| read_error(self.pid, error))?;
        self.find_nested();
        self.missed |= self.cost(Class::Stacks).calls - calls > 1;
        self.rest
            .keep(self.pending.is_empty() && self.sampler.lists_cut().is_none());
        // A thread that has ended keeps nothing.
        if self.stacks.len() > 2 * self.sampler.threads().len() + 16 {
            self.stacks.retain(|stack| stack.current);
        }
        Ok(())
    }

    /// Takes a sample of these thread states only, which an earlier sample of all threads has
    /// seen; the lists of threads are not followed. Their threads stand still meanwhile.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn sample_of(&mut self, tstates: &[RemoteAddr], tries: usize) -> Result<(), Error> {
        self.standing = true;
        self.sampled = Instant::now();
        self.earlier = Earlier::Unchecked;
        self.sampler.begin();
        self.rest.keep(false);
        for stack in &mut self.stacks {
            stack.current = false;
        }
        let threads = self.sampler.threads().iter().enumerate();
        let chosen = threads.filter(|(_, thread)| tstates.contains(&thread.tstate));
        self.pending.clear();
        self.pending.extend(chosen.map(|(index, _)| index));
        for index in &self.pending {
            self.sampler.read_copies(*index, 1);
        }
        let result = self.attempts_of_pending(self.sampled, tries.max(1), 0);
        result.map_err(|error| read_error(self.pid, error))?;
        self.find_nested();
        Ok(())
    }

    /// Brings `places` up to date with the threads of the sampler.
    fn find_places(&mut self) {
        for (index, thread) in self.sampler.threads().iter().enumerate() {
            let known = self.places.get(index).copied();
            let place = known
                .filter(|at| {
                    self.stacks
                        .get(*at)
                        .is_some_and(|s| s.tstate == thread.tstate)
                })
                .or_else(|| self.stacks.iter().position(|s| s.tstate == thread.tstate))
                .unwrap_or_else(|| {
                    self.stacks.push(ThreadStack::new(thread.tstate));
                    self.stacks.len() - 1
                });
            self.places.truncate(index);
            self.places.push(place);
            if thread.samples <= 1 {
                // Another thread state stood here before: nothing of it was compared.
                self.stacks[place].resolved.clear();
            }
        }
        self.places.truncate(self.sampler.threads().len());
    }

    /// Takes over what the sampler read of the pending threads, and keeps those pending whose
    /// stacks fail a check.
    fn judge(&mut self, now: Instant, last_try: bool) -> Result<(), ReadError> {
        let mut unknown = false;
        for index in &self.pending {
            let resolved = &mut self.stacks[self.places[*index]].resolved;
            resolved.update(&self.sampler, *index, &self.codes);
            unknown |= resolved.faults().unknown;
        }
        let lately = |at: Option<Instant>, within| at.is_some_and(|at| now - at < within);
        let due = unknown
            || !self.fast
            || !lately(self.codes_read, CODES_EVERY)
            || lately(self.codes_moved, CODES_MOVE_FOR);
        let mut wanted = false;
        if due {
            self.codes.begin();
            for index in &self.pending {
                // The code of a stack that is taken again anyhow is not asked for.
                let agree = self.sampler.threads()[*index].copies_agree != Some(false);
                let is_one = self.standing || self.sampler.is_one_window(*index);
                if last_try || agree && is_one {
                    let stack = &mut self.stacks[self.places[*index]];
                    stack.resolved.want(&mut self.codes);
                    wanted = true;
                }
            }
        }
        let moved = wanted && self.refresh_codes(now)?;
        if wanted && self.earlier == Earlier::Unchecked {
            self.earlier = match moved {
                true => Earlier::Replaced,
                false => Earlier::Same,
            };
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.retain(|index| !self.accept(*index, moved));
        self.pending = pending;
        Ok(())
    }

    /// Reads the identities of the wanted code objects again, and the names of new ones. Whether
    /// one that was known is gone or another.
    fn refresh_codes(&mut self, now: Instant) -> Result<bool, ReadError> {
        self.codes_read = Some(now);
        let layout = self.sampler.layout().clone();
        let memory = self.sampler.memory_mut();
        let class = memory.set_class(Class::Code);
        let refreshed = self.codes.refresh(memory, &layout);
        memory.set_class(class);
        let refreshed = refreshed?;
        if refreshed.slots_changed || refreshed.new > 0 || refreshed.invalid > 0 {
            // What was read before is not to be shown under names that came after it.
            self.sampler.forget_attempts();
        }
        if refreshed.slots_changed {
            self.codes_moved = Some(now);
            self.stacks
                .iter_mut()
                .for_each(|stack| stack.resolved.clear());
        }
        Ok(refreshed.slots_changed)
    }

    /// Judges the stack of one thread; whether it needs no further try.
    fn accept(&mut self, index: usize, codes_moved: bool) -> bool {
        let thread = &self.sampler.threads()[index];
        let stack = &mut self.stacks[self.places[index]];
        if thread.outcome == Some(Outcome::NotAlive) || labels::is_being_made(&self.sampler, thread)
        {
            stack.current = false;
            return true;
        }
        stack.current = true;
        stack.interpreter = thread.interpreter_id;
        stack.thread_id = thread.state.map(|s| s.thread_id).unwrap_or_default();
        stack.unique = thread.state.map(|s| s.unique).unwrap_or_default();
        stack.gil_requested = thread.state.and_then(|s| s.gil_requested);
        stack.owns_gil = self.sampler.holds_gil(thread.tstate);
        // Names that were read after the stack serve to show it, not to trust it.
        let new_codes = codes_moved || stack.resolved.faults().code;
        if new_codes {
            let changed = stack.resolved.changed;
            stack.resolved.update(&self.sampler, index, &self.codes);
            stack.resolved.changed |= changed;
        }
        let evidence = Evidence {
            thread,
            resolved: &stack.resolved,
            layout: self.sampler.layout(),
            codes: &self.codes,
            stands: self.standing,
            one_window: self.sampler.is_one_window(index),
            new_codes,
        };
        let (trust, of_two) = match thread.outcome {
            Some(Outcome::Cut(cut)) => (Trust::Cut(cut), matches!(cut, Cut::Torn | Cut::Chunks)),
            _ => match checks::first_failure(&evidence) {
                Some(check) => (Trust::Unverified(check.reason), check.of_two),
                None => (Trust::Verified, false),
            },
        };
        stack.trust = trust;
        // A stack that moves is read several times in one call; one that rests is compared with
        // itself.
        stack.calm = if stack.resolved.changed {
            0
        } else {
            stack.calm.saturating_add(1)
        };
        let copies = match (stack.calm < CALM_AFTER, self.fast) {
            _ if self.standing => 1,
            (false, _) => 1,
            (true, true) => FAST_COPIES,
            (true, false) => COPIES,
        };
        self.sampler.read_copies(index, copies);
        if of_two {
            self.sampler.seek_another(index);
        }
        trust == Trust::Verified
    }

    /// The kernel's id, as we see it, of the thread that a thread state of the last sample
    /// belongs to now. Up to 3.10 this is a small read.
    pub fn os_thread_id(&mut self, tstate: RemoteAddr) -> Option<i32> {
        self.labels.os_thread_id(&mut self.sampler, tstate)
    }

    /// Kernel id and name of a thread of the last sample, as far as they are surely its own.
    /// Reads, and asks the kernel, when the thread is new.
    pub fn label(&mut self, tstate: RemoteAddr) -> ThreadLabel {
        self.labels.of(&mut self.sampler, tstate, self.sampled)
    }

    /// Where the lock of an interpreter is, and what threads that want it wait on.
    #[must_use]
    pub fn lock(&self, interpreter: i64) -> Option<Range<u64>> {
        let of_interpreter = || {
            let mut all = self.sampler.interpreters().iter();
            all.find(|i| i.id == interpreter)?.gil
        };
        let start = match self.sampler.layout().runtime.gil {
            Some(offset) => self.sampler.runtime().offset(offset),
            None => of_interpreter(),
        };
        let start = start.filter(|start| !start.is_null())?.0;
        Some(start.checked_add(gil::COND)?..start.checked_add(gil::BYTES)?)
    }
}

impl ThreadStack {
    fn new(tstate: RemoteAddr) -> Self {
        Self {
            tstate,
            interpreter: 0,
            thread_id: 0,
            unique: 0,
            gil_requested: None,
            owns_gil: false,
            trust: Trust::Verified,
            waits: false,
            current: false,
            resolved: Resolved::default(),
            stale: false,
            calm: 0,
        }
    }
}
