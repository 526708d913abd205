//! Which kernel thread a thread state belongs to, and what it is called.
//!
//! Both are asked after the sample that has seen the thread, when it may have ended and given
//! its ident, its `Thread` object and its `struct pthread` to another. So a label belongs to the
//! identity of a thread state (its address and what tells it from a later one there), the names
//! are read twice, and the lists of threads are followed once more behind all that: a
//! state that still stands there with that number had its thread for the whole time. What
//! cannot be shown to be its own is left out; a thread has no name rather than another's.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use onlooker_unwinder::layout::Layout;
use onlooker_unwinder::memory::{ReadMemory, RemoteAddr};
use onlooker_unwinder::sampler::{Sampler, Thread};
use onlooker_unwinder::threads::{self, MAX_LIST, ThreadState};

use super::thread_names::{self, Names};
use super::tids::Tids;
use crate::target;

/// Names of a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadLabel {
    /// The kernel's id as we see it.
    pub os_thread_id: Option<i32>,
    /// Python's name, else the kernel's.
    pub name: Option<String>,
}

/// Address of a thread state, and what tells it from another one there: its number and its
/// interpreter's, whose ids are never used again. One thread that enters interpreter after
/// interpreter has the same number at the same address in each.
type Identity = (RemoteAddr, u64, i64);

/// The labels of one process.
#[derive(Debug)]
pub(super) struct Labels {
    pid: i32,
    tids: Tids,
    known: HashMap<Identity, ThreadLabel>,
    asked: Option<Instant>,
}

impl Labels {
    pub(super) fn new(pid: i32) -> Self {
        Self {
            pid,
            tids: Tids::new(pid),
            known: HashMap::new(),
            asked: None,
        }
    }

    /// The kernel's id of a thread of the last sample.
    pub(super) fn os_thread_id<M: ReadMemory>(
        &mut self,
        sampler: &mut Sampler<M>,
        tstate: RemoteAddr,
    ) -> Option<i32> {
        let threads = sampler.threads();
        let state = threads.iter().find(|t| t.tstate == tstate)?.state?;
        self.tids.of(sampler.memory_mut(), &state)
    }

    /// The label of a thread of the last sample, which was begun at `sampled`. One question
    /// serves all threads that are new in it.
    pub(super) fn of<M: ReadMemory>(
        &mut self,
        sampler: &mut Sampler<M>,
        tstate: RemoteAddr,
        sampled: Instant,
    ) -> ThreadLabel {
        let thread = sampler.threads().iter().find(|t| t.tstate == tstate);
        let Some(identity) = thread.and_then(identity) else {
            return ThreadLabel::default();
        };
        if !self.known.contains_key(&identity) && self.asked.is_none_or(|asked| asked < sampled) {
            self.asked = Some(Instant::now());
            self.ask(sampler);
        }
        self.known.get(&identity).cloned().unwrap_or_default()
    }

    /// Finds the labels of all threads of the last sample that have none.
    fn ask<M: ReadMemory>(&mut self, sampler: &mut Sampler<M>) {
        let threads = sampler.threads();
        let current: HashSet<Identity> = threads.iter().filter_map(identity).collect();
        self.known.retain(|identity, _| current.contains(identity));
        let new: Vec<(Identity, ThreadState)> = threads
            .iter()
            .filter(|thread| !is_being_made(sampler, thread))
            .filter_map(|thread| Some((identity(thread)?, thread.state?)))
            .filter(|(identity, _)| !self.known.contains_key(identity))
            .collect();
        let interpreters: Vec<(RemoteAddr, i64)> = sampler
            .interpreters()
            .iter()
            .map(|i| (i.addr, i.id))
            .collect();
        let addrs: Vec<RemoteAddr> = interpreters.iter().map(|(addr, _)| *addr).collect();
        let layout = sampler.layout().clone();
        let memory = sampler.memory_mut();
        // A failure means that the process is gone, which the next sample will tell.
        let mut read = || thread_names::read(memory, &layout, &addrs).unwrap_or_default();
        let (names, again) = (read(), read());
        let found: Vec<_> = new
            .into_iter()
            .map(|(identity, state)| {
                let os_thread_id = self.tids.of(memory, &state);
                let name = self.name(&state, os_thread_id, &names, &again);
                let label = ThreadLabel { os_thread_id, name };
                ((identity, state.thread_id), label)
            })
            .collect();
        let listed = listed(memory, &layout, &interpreters);
        let own = found.into_iter().filter(|(key, _)| listed.contains(key));
        self.known
            .extend(own.map(|((identity, _), label)| (identity, label)));
    }

    fn name(
        &self,
        state: &ThreadState,
        os_thread_id: Option<i32>,
        names: &Names,
        again: &Names,
    ) -> Option<String> {
        let inner = os_thread_id.and_then(|tid| self.tids.inner(tid));
        let key = (state.interp, state.thread_id);
        let own = names.get(&key).filter(|name| {
            // A child by fork may keep its parent's id in the one thread that it has.
            let same =
                (inner.is_some() && name.native_id == inner) || os_thread_id == Some(self.pid);
            same && again.get(&key) == Some(name)
        });
        own.map(|own| own.name.clone())
            .or_else(|| target::threads::comm(self.pid, os_thread_id?))
    }
}

fn identity(thread: &Thread) -> Option<Identity> {
    let state = thread.state?;
    Some((state.addr, state.unique, thread.interpreter_id))
}

/// The thread states that stand in the lists now, each with its `pthread_self()`. Only as far as
/// the lists can be followed; one read for each.
fn listed<M: ReadMemory>(
    memory: &mut M,
    layout: &Layout,
    interpreters: &[(RemoteAddr, i64)],
) -> HashSet<(Identity, u64)> {
    let mut found = HashSet::new();
    let mut bytes = vec![0; threads::thread_state_bytes(layout) as usize];
    for (interpreter, id) in interpreters {
        let mut word = [0; 8];
        let head = interpreter.offset(layout.interpreter.threads_head);
        if head.is_none_or(|head| memory.read_exact(head, &mut word).is_err()) {
            continue;
        }
        let mut next = RemoteAddr(u64::from_le_bytes(word));
        while !next.is_null() && found.len() < MAX_LIST {
            let read = memory.read_exact(next, &mut bytes).ok();
            let state = read.and_then(|()| threads::thread_state(layout, next, &bytes));
            let Some(state) = state.filter(|state| state.interp == *interpreter) else {
                break;
            };
            if !found.insert(((next, state.unique, *id), state.thread_id)) {
                // A circle.
                break;
            }
            next = state.next;
        }
    }
    found
}

/// Whether a thread state is not its thread's yet. Up to 3.11 the thread that starts another
/// makes the other's state and enters its own ids, which the new thread replaces
/// (`new_threadstate` in `Python/pystate.c`, `thread_run` in `Modules/_threadmodule.c`); later
/// ones say themselves which states are alive.
pub(super) fn is_being_made<M: ReadMemory>(sampler: &Sampler<M>, thread: &Thread) -> bool {
    let Some(state) = thread.state.filter(|_| thread.frames.is_empty()) else {
        return false;
    };
    let maker = |other: &Thread| {
        other.tstate != thread.tstate
            && other.interpreter == thread.interpreter
            && other.state.is_some_and(|o| o.thread_id == state.thread_id)
    };
    sampler.layout().thread.status.is_none() && sampler.threads().iter().any(maker)
}
