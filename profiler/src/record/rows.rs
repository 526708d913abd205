//! What the sampling thread knows of processes and threads between samples, and what a stack
//! stands for.

use onlooker_recording::tables::{Process, State, WeightKind};
use onlooker_symbols::linetable::Position;
use onlooker_symbols::names::CodeId;
use onlooker_unwinder::memory::RemoteAddr;
use rustc_hash::FxHashMap;

use super::batch::NewLocation;
use super::describe::Place;
use super::kernel::KernelThread;
use crate::session::{StackFrame, ThreadStack};

/// What is known of a stack besides its frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    /// What its thread was doing.
    pub(super) state: State,
    /// What it stands for.
    pub(super) weight: Weight,
}

/// What a stack stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    /// What is counted.
    pub(super) kind: WeightKind,
    /// How much of it.
    pub(super) amount: u64,
    /// Why it is not verified though it passed every check.
    pub(super) reason: Option<&'static str>,
    /// Its number among the samples of growth, by which [`Recorder::kept`](super::Recorder::kept) speaks of it.
    pub(super) growth: Option<u32>,
}

impl Weight {
    /// So many samples.
    pub(super) fn samples(amount: u64, reason: Option<&'static str>) -> Self {
        Self {
            kind: WeightKind::Samples,
            amount,
            reason,
            growth: None,
        }
    }
}

impl From<State> for Observed {
    /// One sample.
    fn from(state: State) -> Self {
        Self {
            state,
            weight: Weight::samples(1, None),
        }
    }
}

/// A thread state: its address, its number there, its interpreter. One thread that enters
/// interpreter after interpreter has the same number at the same address in each.
pub(super) type Identity = (RemoteAddr, u64, i64);

pub(super) fn identity(stack: &ThreadStack) -> Identity {
    (stack.tstate, stack.unique, stack.interpreter)
}

/// What is kept of one process between samples.
#[derive(Debug)]
pub struct ProcessRows {
    pub(super) key: u32,
    pub(super) threads: FxHashMap<Identity, KnownThread>,
    pub(super) locations: FxHashMap<(CodeId, i32), u32>,
    pub(super) locations_epoch: u32,
}

impl ProcessRows {
    /// Whether the thread of a stack was added already.
    #[must_use]
    pub fn knows(&self, stack: &ThreadStack) -> bool {
        self.threads.contains_key(&identity(stack))
    }

    /// How the kernel sees the thread of a stack; `None` where it could not be found.
    pub fn kernel(&mut self, stack: &ThreadStack) -> Option<&mut KernelThread> {
        let known = self.threads.get_mut(&identity(stack))?;
        known.kernel.as_mut()
    }

    /// Whether every thread that the tick `seen` has seen is known to the kernel and sleeps at this
    /// very moment.
    pub fn all_sleep(&mut self, seen: u64, now_ns: u64) -> bool {
        let mut any = false;
        self.current(seen).all(|thread| {
            any = true;
            let kernel = thread.kernel.as_mut();
            kernel.is_some_and(|kernel| kernel.sleeps_now(now_ns))
        }) && any
    }

    /// How the kernel sees the threads that the tick `seen` has seen, as far as it knows them.
    pub(super) fn kernels(&mut self, seen: u64) -> impl Iterator<Item = &mut KernelThread> {
        self.current(seen)
            .filter_map(|thread| thread.kernel.as_mut())
    }

    fn current(&mut self, seen: u64) -> impl Iterator<Item = &mut KnownThread> {
        let threads = self.threads.values_mut();
        threads.filter(move |thread| thread.seen == seen)
    }
}

/// What is kept of one thread between samples.
#[derive(Debug)]
pub(super) struct KnownThread {
    pub(super) key: u32,
    pub(super) kernel: Option<KernelThread>,
    /// The last stack, outermost frame first.
    pub(super) last: Vec<StackFrame>,
    pub(super) stacks_epoch: u32,
    /// Tick in which it was seen last.
    pub(super) seen: u64,
}

/// Whether two rows are of one process that runs one program. Its parent may have ended between
/// them, and another have taken it in.
pub(super) fn same_program(known: &Process, process: &Process) -> bool {
    let parent_pid = known.parent_pid;
    *known
        == Process {
            parent_pid,
            ..process.clone()
        }
}

/// The row of a place; `<unknown>` where the address of the code object has had another since.
pub(super) fn location(place: Option<Place>) -> NewLocation {
    let unknown = || Place {
        name: "<unknown>".to_owned(),
        filename: "<unknown>".to_owned(),
        position: Position::default(),
    };
    let Place {
        name,
        filename,
        position,
    } = place.unwrap_or_else(unknown);
    NewLocation {
        name,
        filename,
        position,
    }
}
