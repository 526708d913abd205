//! One sample: read the plan, walk, fetch what was missed, learn.
//!
//! ```text
//! plan ── one vectored call ──▶ snapshot ── walk ──▶ whole stacks ── learn ──▶ next plan
//!                                   ▲           │
//!                                   └─ one call ┘ all misses of all threads
//! ```
//! The first sample of a thread is the same loop, starting from a plan with nothing but the
//! thread states, with read-ahead ([`readahead`]).

mod advance;
mod again;
mod aim;
mod copies;
mod lay_out;
mod learn;
mod links;
mod listed;
pub mod readahead;
mod settle;
mod sites;
mod tracked;

use crate::frames::{Cut, RawFrame};
use crate::layout::{Frames, Layout};
use crate::memory::{Class, Cost, Counting, Lookup, ReadError, ReadMemory, RemoteAddr};
use crate::plan::{Group, Purpose, ReadPlan, Slot};
use crate::snapshot::Snapshot;
use crate::threads::{self, InterpreterState, MAX_LIST};

use links::Links;
use readahead::Mappings;
use sites::Sites;
pub use tracked::{Outcome, Thread};

/// Calls that one sample may make before what is missing counts as out of reach. A thousand
/// generators seen for the first time, each on a page of its own, stay below it.
const MAX_ROUNDS: usize = 4096;
/// Bytes that one sample may copy before the same holds. Deeper than any stack in use, and
/// what bounds the buffer where the target's links and sizes do not.
const MAX_SAMPLE_BYTES: usize = 1 << 30;

/// Samples all threads of one process, or one of them.
#[derive(Debug)]
pub struct Sampler<M> {
    memory: Counting<M>,
    layout: Layout,
    runtime: RemoteAddr,
    only: Option<RemoteAddr>,
    plan: ReadPlan,
    dirty: bool,
    /// The threads of the last sample of some threads, and its plan.
    some: Vec<usize>,
    some_plan: ReadPlan,
    some_dirty: bool,
    /// How many attempts it is laid out for.
    some_attempts: usize,
    /// The first attempt of the last call that was not looked at.
    next_attempt: usize,
    /// Whether a call may serve samples to come.
    ahead: bool,
    /// Nothing but one thread state.
    aim_plan: ReadPlan,
    /// Whether samples of some threads leave out who holds the locks.
    leave_locks: bool,
    snapshot: Snapshot,
    interpreters: Vec<InterpreterState>,
    threads: Vec<Thread>,
    links: Links,
    sites: Sites,
    misses: Vec<Slot>,
    process_miss: Option<RemoteAddr>,
    lists_cut: Option<Cut>,
    holders: Vec<RemoteAddr>,
    mappings: Mappings,
    newest_chunk_only: bool,
}

impl<M: ReadMemory> Sampler<M> {
    /// A sampler of the interpreter whose `_PyRuntime` is at `runtime`.
    pub fn new(memory: M, layout: Layout, runtime: RemoteAddr) -> Self {
        Self {
            memory: Counting::new(memory),
            layout,
            runtime,
            only: None,
            plan: ReadPlan::default(),
            dirty: true,
            some: Vec::new(),
            some_plan: ReadPlan::default(),
            some_dirty: true,
            some_attempts: 1,
            next_attempt: usize::MAX,
            ahead: false,
            aim_plan: ReadPlan::default(),
            leave_locks: false,
            snapshot: Snapshot::default(),
            interpreters: Vec::new(),
            threads: Vec::new(),
            links: Links::default(),
            sites: Sites::default(),
            misses: Vec::new(),
            process_miss: None,
            lists_cut: None,
            holders: Vec::new(),
            mappings: Mappings::default(),
            newest_chunk_only: false,
        }
    }

    /// The layout that it reads with.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where the runtime is.
    #[must_use]
    pub fn runtime(&self) -> RemoteAddr {
        self.runtime
    }

    /// The memory, to read more than stacks; set the class of what you read.
    pub fn memory_mut(&mut self) -> &mut Counting<M> {
        &mut self.memory
    }

    /// What was read so far.
    #[must_use]
    pub fn cost(&self, class: Class) -> Cost {
        self.memory.cost(class)
    }

    /// Tells where anonymous memory is. Read-ahead stays inside of it: reading an untouched
    /// page of a mapped file would make it resident in the target.
    pub fn set_mappings(&mut self, mappings: Mappings) {
        self.mappings = mappings;
    }

    /// Restricts sampling to the thread with this thread state, which an earlier sample of all
    /// threads has seen.
    pub fn only(&mut self, tstate: RemoteAddr) {
        self.only = Some(tstate);
        self.threads.retain(|t| t.tstate == tstate);
        self.changed();
    }

    /// For comparison only: read no chunk but the newest ahead of the walk, as readers do that
    /// know one chunk a thread.
    pub fn limit_to_newest_chunk(&mut self) {
        self.newest_chunk_only = true;
        self.changed();
    }

    /// Forgets every stack and keeps the list of thread states: the next sample is a cold one.
    pub fn forget_stacks(&mut self) {
        self.threads.iter_mut().for_each(Thread::forget);
        self.changed();
    }

    /// What a sample of some threads asks for, to compare its cost with that of a bare read.
    #[must_use]
    pub fn plan_of_some(&self) -> &ReadPlan {
        &self.some_plan
    }

    /// The threads of the last sample, newest first within each interpreter.
    #[must_use]
    pub fn threads(&self) -> &[Thread] {
        &self.threads
    }

    /// The interpreters of the last sample, newest first.
    #[must_use]
    pub fn interpreters(&self) -> &[InterpreterState] {
        &self.interpreters
    }

    /// Why the lists of interpreters and threads are not whole; `None` when they are.
    #[must_use]
    pub fn lists_cut(&self) -> Option<Cut> {
        self.lists_cut
    }

    /// Whether the thread state at `tstate` held its interpreter's lock.
    #[must_use]
    pub fn holds_gil(&self, tstate: RemoteAddr) -> bool {
        !tstate.is_null() && self.holders.contains(&tstate)
    }

    /// How many calls the stack of thread `index` took in the last sample, without those that read
    /// it again.
    #[must_use]
    pub fn calls_of(&self, index: usize) -> u32 {
        self.threads.get(index).map_or(0, |thread| thread.calls)
    }

    /// Whether what was read of thread `index` in the last sample can be of one instant: one call
    /// read it, or others read it again.
    #[must_use]
    pub fn is_one_window(&self, index: usize) -> bool {
        let again = self.threads.get(index).is_some_and(|thread| thread.again);
        again || self.calls_of(index) <= 1
    }

    /// The code object of what stands at `frame` as a frame of thread `index` (3.11+), link of its
    /// stack or not, as far as the last sample has read it.
    #[must_use]
    pub fn code_at(&self, index: usize, frame: RemoteAddr) -> Option<RemoteAddr> {
        let Frames::Interpreter(layout) = &self.layout.frames else {
            return None;
        };
        let view = self.snapshot.view(Group::thread(index));
        let word = view.u64(frame.offset(layout.code)?)?;
        Some(RemoteAddr(word & !layout.code_tag_mask))
    }

    /// Takes one sample of all threads: the plan in one call, then all misses, until every
    /// stack is whole or cut. Look at [`threads`](Self::threads) afterwards.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn sample(&mut self) -> Result<(), ReadError> {
        let class = self.memory.set_class(Class::Stacks);
        let result = self.sample_stacks();
        self.memory.set_class(class);
        result
    }

    /// Whether [`sample_some`](Self::sample_some) leaves out who holds the locks: then that is as
    /// it was in the last sample of all threads.
    pub fn leave_locks(&mut self, leave: bool) {
        self.leave_locks = leave;
        self.some_dirty = true;
    }

    /// Whether a call may serve several samples of one thread: as many as there can be in a
    /// time, each at an instant of its own, a microsecond apart.
    pub fn read_ahead(&mut self, ahead: bool) {
        self.ahead = ahead;
    }

    /// Begins a new sample: it is of another instant than those before.
    pub fn begin(&mut self) {
        self.forget_attempts();
        self.threads
            .iter_mut()
            .for_each(|thread| thread.wanted = None);
    }

    /// Gives up the instant that a thread's sample is to show: the next attempt is of another.
    pub fn seek_another(&mut self, index: usize) {
        self.threads[index].wanted = None;
    }

    /// What was read before is not looked at any more.
    pub fn forget_attempts(&mut self) {
        self.next_attempt = usize::MAX;
    }

    /// Takes one more sample of some of the threads of the last one, by their index, without
    /// following the lists: one short call. One thread that moves meanwhile is read again, up
    /// to `tries` times in all; how often it was read is the answer.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn sample_some(&mut self, threads: &[usize], tries: usize) -> Result<usize, ReadError> {
        if self.some != threads {
            self.some.clear();
            self.some.extend_from_slice(threads);
            self.some_dirty = true;
        }
        if self.some_dirty {
            self.next_attempt = usize::MAX;
        }
        let class = self.memory.set_class(Class::Stacks);
        let result = self.sample_chosen(tries);
        self.memory.set_class(class);
        result
    }

    /// How often to read the top of a thread's stack in one call, 1 to 3, each copy after
    /// everything that moves: where all agree, nothing moved in between.
    pub fn read_copies(&mut self, index: usize, copies: u8) {
        let thread = &mut self.threads[index];
        if thread.copies != copies {
            thread.copies = copies;
            self.changed();
        }
    }

    /// Both plans must be laid out anew.
    fn changed(&mut self) {
        self.dirty = true;
        self.some_dirty = true;
    }

    fn sample_stacks(&mut self) -> Result<(), ReadError> {
        self.begin();
        if self.dirty {
            self.dirty = false;
            let mut plan = std::mem::take(&mut self.plan);
            self.lay_out(&mut plan, None, 1);
            self.plan = plan;
        }
        self.threads.iter_mut().for_each(Thread::begin);
        self.process_miss = None;
        self.snapshot
            .take(&mut self.memory, &self.plan, self.threads.len() + 1)?;
        for _ in 0..MAX_ROUNDS {
            self.misses.clear();
            self.walk_lists();
            for index in 0..self.threads.len() {
                self.advance(index);
            }
            if self.snapshot.bytes() > MAX_SAMPLE_BYTES {
                break;
            }
            if self.misses.is_empty() {
                // Nothing more was asked for: the list ends at a thread state that did not come.
                if self.lists_cut == Some(Cut::Rounds) {
                    self.lists_cut = Some(Cut::Unreadable);
                }
                break;
            }
            self.fetch_misses()?;
        }
        if self.threads.len() == 1 {
            self.read_again(0)?;
        }
        for index in 0..self.threads.len() {
            self.conclude(index);
        }
        self.drop_unseen();
        for index in 0..self.threads.len() {
            self.learn(index);
        }
        Ok(())
    }

    fn sample_chosen(&mut self, tries: usize) -> Result<usize, ReadError> {
        let some = std::mem::take(&mut self.some);
        for index in &some {
            self.threads[*index].begin();
            self.threads[*index].seen = true;
        }
        let result = self.sample_known(&some, tries);
        self.some = some;
        result
    }

    fn sample_known(&mut self, some: &[usize], tries: usize) -> Result<usize, ReadError> {
        let used = self.settle(some, tries)?;
        for _ in 0..MAX_ROUNDS {
            self.misses.clear();
            if !self.leave_locks {
                // A holder that could not be read is none.
                let _ = self.read_holders();
            }
            for index in some {
                self.advance(*index);
            }
            if self.misses.is_empty() || self.snapshot.bytes() > MAX_SAMPLE_BYTES {
                break;
            }
            // What is left of the call would be walked with pieces of another instant.
            self.forget_attempts();
            self.fetch_misses()?;
        }
        if let &[index] = some {
            self.read_again(index)?;
        }
        for index in some {
            self.conclude(*index);
            self.learn(*index);
        }
        Ok(used)
    }

    /// What the snapshot says about a thread, before threads that are gone are dropped and the
    /// others change their places.
    fn conclude(&mut self, index: usize) {
        self.threads[index].give_up();
        self.threads[index].calls = self.snapshot.calls(Group::thread(index));
        self.compare_copies(index);
        if self.threads[index].wanted.is_none() {
            self.threads[index].wanted = self.moment(index);
            self.threads[index].sought = 0;
        }
    }

    fn fetch_misses(&mut self) -> Result<(), ReadError> {
        self.snapshot.ensure_groups(self.threads.len() + 1);
        // Slots of one group must stand together, and threads were found in any order.
        self.misses
            .sort_unstable_by_key(|slot| (slot.group, slot.segment.addr));
        self.snapshot.fetch(&mut self.memory, &self.misses)
    }

    /// Who holds the locks of the interpreters that are known.
    fn read_holders(&mut self) -> Result<(), ListStop> {
        let view = self.snapshot.view(Group::PROCESS);
        self.holders.clear();
        if let Some(offset) = self.layout.runtime.tstate_current {
            let addr = self.runtime.offset(offset).ok_or(ListStop::Torn)?;
            let holder = view.u64(addr).ok_or(ListStop::Miss(addr, 8))?;
            self.holders.push(RemoteAddr(holder));
        }
        for interpreter in &self.interpreters {
            if let Some(gil) = interpreter.gil.filter(|gil| !gil.is_null()) {
                self.holders.push(threads::gil_holder(&view, gil)?);
            }
        }
        Ok(())
    }

    /// Follows the lists of interpreters and threads as far as the snapshot goes.
    fn walk_lists(&mut self) {
        self.lists_cut = None;
        match self.follow_lists() {
            Ok(()) => {}
            Err(ListStop::Miss(addr, len)) => {
                if self.process_miss == Some(addr) {
                    self.lists_cut = Some(Cut::Unreadable);
                } else {
                    self.process_miss = Some(addr);
                    // Until the next round finds it.
                    self.lists_cut = Some(Cut::Rounds);
                    let len = u32::try_from(len).unwrap_or(u32::MAX);
                    self.misses
                        .push(Slot::new(Group::PROCESS, Purpose::Process, addr, len));
                }
            }
            // The thread state that is missing asks for itself.
            Err(ListStop::Thread) => self.lists_cut = Some(Cut::Rounds),
            Err(ListStop::Unreadable) => self.lists_cut = Some(Cut::Unreadable),
            Err(ListStop::Torn) => self.lists_cut = Some(Cut::Torn),
        }
    }

    fn follow_lists(&mut self) -> Result<(), ListStop> {
        if self.only.is_some() {
            // The lists are not followed: the thread and its interpreter are known.
            self.threads.iter_mut().for_each(|t| t.seen = true);
            return self.read_holders();
        }
        let view = self.snapshot.view(Group::PROCESS);
        let word = |addr: RemoteAddr| view.u64(addr).ok_or(ListStop::Miss(addr, 8));
        self.holders.clear();
        if let Some(offset) = self.layout.runtime.tstate_current {
            let addr = self.runtime.offset(offset).ok_or(ListStop::Torn)?;
            self.holders.push(RemoteAddr(word(addr)?));
        }
        let head = self
            .runtime
            .offset(self.layout.runtime.interpreters_head)
            .ok_or(ListStop::Torn)?;
        let mut addr = RemoteAddr(word(head)?);
        self.interpreters.clear();
        let mut expected = 0;
        while !addr.is_null() {
            if !addr.is_plausible_pointer() || self.interpreters.len() >= MAX_LIST {
                return Err(ListStop::Torn);
            }
            let state = threads::interpreter(&view, &self.layout, addr)?;
            if self.interpreters.iter().any(|known| known.addr == addr) {
                return Err(ListStop::Torn);
            }
            self.interpreters.push(state);
            if let Some(gil) = state.gil.filter(|gil| !gil.is_null()) {
                self.holders.push(threads::gil_holder(&view, gil)?);
            }
            let mut tstate = state.threads_head;
            let mut steps = 0;
            while !tstate.is_null() {
                steps += 1;
                // Every state is among the known ones, so more steps than those are a circle.
                let most = MAX_LIST.min(self.threads.len() + 1);
                if !tstate.is_plausible_pointer() || steps > most {
                    return Err(ListStop::Torn);
                }
                // Nearly always the same threads in the same order as in the last sample.
                let known = match self.threads.get(expected) {
                    Some(thread) if thread.tstate == tstate => Some(expected),
                    _ => self.threads.iter().position(|t| t.tstate == tstate),
                };
                let index = known.unwrap_or_else(|| {
                    self.threads.push(Thread::new(tstate));
                    self.dirty = true;
                    self.some_dirty = true;
                    self.threads.len() - 1
                });
                let thread = &mut self.threads[index];
                thread.interpreter_id = state.id;
                thread.interpreter = addr;
                thread.seen = true;
                expected = index + 1;
                match thread.state {
                    Some(state) => tstate = state.next,
                    None if thread.outcome.is_some() => return Err(ListStop::Unreadable),
                    None => {
                        let bytes = threads::thread_state_bytes(&self.layout) as usize;
                        let view = self.snapshot.view(Group::thread(index));
                        let Some(state) = view
                            .bytes(tstate, bytes)
                            .and_then(|b| threads::thread_state(&self.layout, tstate, b))
                        else {
                            return Err(ListStop::Thread);
                        };
                        tstate = state.next;
                    }
                }
            }
            addr = state.next;
        }
        Ok(())
    }
}

/// Why a list was not followed to its end.
enum ListStop {
    Miss(RemoteAddr, u64),
    Thread,
    Unreadable,
    Torn,
}

impl From<(RemoteAddr, u64)> for ListStop {
    fn from((addr, len): (RemoteAddr, u64)) -> Self {
        Self::Miss(addr, len)
    }
}

impl<M> Sampler<M> {
    /// The frames of a thread that run Python code, newest first. Entry frames are left out;
    /// frames that are still being built can be told only with their code object.
    pub fn python_frames<'a>(&self, thread: &'a Thread) -> impl Iterator<Item = &'a RawFrame> {
        thread.frames.iter().filter(|f| !f.code.is_null())
    }
}
