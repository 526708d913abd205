//! The sample tables: what the profiler writes and every report reads.
//!
//! Strings, code locations and stacks are interned as small integer ids. A stack is a node of a
//! prefix tree (its caller's node plus one location), so that two samples that share their
//! outer frames share the nodes of these frames, and a sample stores one id. Tables only grow;
//! an id is the index of its row and never changes within one recording.

use std::collections::HashMap;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);
        impl $name {
            /// The row of this id in its table.
            #[must_use]
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(
    /// A row of [`Tables::strings`].
    StringId
);
id!(
    /// A row of [`Tables::locations`].
    LocationId
);
id!(
    /// A row of [`Tables::stacks`]: a frame together with all its callers.
    StackId
);
id!(
    /// A row of [`Tables::processes`].
    ProcessId
);
id!(
    /// A row of [`Tables::threads`].
    ThreadId
);

/// Where in a program's source a frame stands.
///
/// Lines are 1-based; columns are 0-based in UTF-8 bytes as in PEP 657. `None` where the
/// interpreter records nothing (no line for this instruction, columns before 3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// Qualified name from 3.11, plain name before.
    pub name: StringId,
    /// `co_filename`, unchanged.
    pub filename: StringId,
    /// Line of the instruction.
    pub line: Option<u32>,
    /// First column.
    pub column: Option<u32>,
    /// Last line.
    pub end_line: Option<u32>,
    /// Column after the last one.
    pub end_column: Option<u32>,
}

/// One node of the prefix tree of stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StackNode {
    /// The caller's node; `None` for the outermost frame. Always a smaller id than its own.
    pub parent: Option<StackId>,
    /// The frame itself.
    pub location: LocationId,
}

/// A process that was watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id as seen by the profiler.
    pub pid: i32,
    /// Parent's process id, when known.
    pub parent_pid: Option<i32>,
    /// Command line.
    pub command: Vec<String>,
    /// Interpreter version, `3.12.1`, or `3.12` where the patch release is unknown.
    pub python: String,
    /// Path of the executable.
    pub executable: String,
}

/// A thread of a watched process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its process.
    pub process: ProcessId,
    /// Kernel thread id as seen by the profiler; `None` where it could not be found.
    pub os_thread_id: Option<i32>,
    /// The interpreter's own id of the thread (`threading.get_ident()`).
    pub thread_id: u64,
    /// Id of the (sub-)interpreter, 0 for the main one.
    pub interpreter: i64,
    /// Name; empty where unknown.
    pub name: StringId,
}

/// What a thread was doing when it was sampled. Flags, for several can hold at once.
///
/// At most one of `running` and `sleeping` is set; neither when the kernel could not be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// On a CPU or runnable.
    pub running: bool,
    /// Asleep in the kernel, be it for input, a lock or a timer.
    pub sleeping: bool,
    /// Held the interpreter lock.
    pub holds_gil: bool,
    /// Waited for the interpreter lock, which is a way of sleeping.
    pub waits_for_gil: bool,
    /// Whether the holder of the interpreter lock was observed.
    pub known: bool,
}

/// How sure a sample is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Passed every check.
    Verified,
    /// Kept, but some check failed or could not be made; the sample's reason says which.
    Unverified,
}

/// What the weight of a sample counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WeightKind {
    /// Samples.
    Samples,
    /// Nanoseconds.
    Nanoseconds,
    /// Bytes that became resident.
    BytesGrown,
    /// Bytes that became resident and stayed.
    BytesKept,
    /// Bytes of files or shared memory that became resident.
    BytesFile,
}

/// One sample of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Nanoseconds since the start of the recording.
    pub time_ns: u64,
    /// The thread.
    pub thread: ThreadId,
    /// Innermost frame; `None` for an empty stack.
    pub stack: Option<StackId>,
    /// State of the thread.
    pub state: State,
    /// How sure the stack is.
    pub trust: Trust,
    /// Why it is unverified or where it was cut (`torn`, `unreadable`, `limit` …).
    pub reason: Option<StringId>,
    /// What `weight` counts.
    pub weight_kind: WeightKind,
    /// The weight.
    pub weight: u64,
}

/// Resident size of a process at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RssPoint {
    /// Nanoseconds since the start of the recording.
    pub time_ns: u64,
    /// The process.
    pub process: ProcessId,
    /// Resident bytes.
    pub rss_bytes: u64,
}

/// A mapping of a file in a watched process, for native frames later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The process.
    pub process: ProcessId,
    /// First address.
    pub start: u64,
    /// Address after the last one.
    pub end: u64,
    /// Offset in the file.
    pub file_offset: u64,
    /// Path as the kernel shows it.
    pub path: String,
    /// GNU build id in hex; empty where unknown.
    pub build_id: String,
}

/// What is known when a recording starts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Header {
    /// Version of Onlooker that wrote it.
    pub onlooker_version: String,
    /// The command line of the profiler.
    pub command_line: Vec<String>,
    /// Title for reports: the program that was watched.
    pub program: String,
    /// Start, nanoseconds since the Unix epoch.
    pub started_unix_ns: u64,
    /// Rate that was asked for; `f64::INFINITY` means as fast as possible.
    pub rate_hz: f64,
}

/// Counts that end a recording; written again with every block, so that a recording whose
/// writer was killed still has nearly right ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Time from the first to the last tick.
    pub duration_ns: u64,
    /// Beats of the clock at which a sample was tried.
    pub ticks: u64,
    /// Beats that passed while an earlier one was still being worked on.
    pub missed_ticks: u64,
    /// Thread samples that passed every check.
    pub verified: u64,
    /// Thread samples kept with a mark.
    pub unverified: u64,
    /// The same by reason; empty where the recording does not tell.
    pub unverified_by: Vec<(String, u64)>,
    /// Thread samples that gave no stack, by reason.
    pub lost: Vec<(String, u64)>,
    /// Reads that were repeated within a tick.
    pub retries: u64,
    /// System calls that read stacks.
    pub read_calls: u64,
    /// Segments of these calls.
    pub read_segments: u64,
    /// Bytes that these calls read.
    pub read_bytes: u64,
    /// System calls that read code objects and names.
    pub code_calls: u64,
    /// Bytes that these calls read.
    pub code_bytes: u64,
    /// Own CPU time of the profiler.
    pub own_cpu_ns: u64,
}

/// Every table of a recording.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tables {
    /// What was known at the start.
    pub header: Header,
    /// Distinct strings.
    pub strings: Vec<String>,
    /// Distinct locations.
    pub locations: Vec<Location>,
    /// Prefix tree of stacks.
    pub stacks: Vec<StackNode>,
    /// Watched processes.
    pub processes: Vec<Process>,
    /// Their threads.
    pub threads: Vec<Thread>,
    /// Samples in the order in which they were taken.
    pub samples: Vec<Sample>,
    /// Series of resident sizes.
    pub rss: Vec<RssPoint>,
    /// Mappings of files.
    pub mappings: Vec<Mapping>,
    /// Final counts; `None` when the writer did not get to the end (the last block's counts
    /// are then in [`Tables::running_totals`]).
    pub totals: Option<Totals>,
    /// Counts as of the last block.
    pub running_totals: Totals,
}

impl Tables {
    /// The string of an id.
    #[must_use]
    pub fn string(&self, id: StringId) -> &str {
        &self.strings[id.index()]
    }

    /// The frames of a stack, innermost first.
    pub fn frames(&self, stack: Option<StackId>) -> impl Iterator<Item = &Location> + '_ {
        std::iter::successors(stack, |id| self.stacks[id.index()].parent)
            .map(|id| &self.locations[self.stacks[id.index()].location.index()])
    }

    /// Final counts, or those of the last block of an unfinished recording.
    #[must_use]
    pub fn counts(&self) -> &Totals {
        self.totals.as_ref().unwrap_or(&self.running_totals)
    }
}

/// Gives each distinct row one id, in the order in which rows are first seen.
#[derive(Clone, Debug)]
pub struct Interner<K> {
    ids: HashMap<K, u32>,
}

impl<K> Default for Interner<K> {
    fn default() -> Self {
        Self {
            ids: HashMap::new(),
        }
    }
}

impl<K: std::hash::Hash + Eq> Interner<K> {
    /// The id of `key`, if it has one; for keys whose owned form costs an allocation.
    pub fn get<Q>(&self, key: &Q) -> Option<u32>
    where
        K: std::borrow::Borrow<Q>,
        Q: std::hash::Hash + Eq + ?Sized,
    {
        self.ids.get(key).copied()
    }

    /// The id of `key`, and whether it was new.
    pub fn intern(&mut self, key: K) -> (u32, bool) {
        let next = u32::try_from(self.ids.len()).expect("fewer than 2^32 distinct rows");
        match self.ids.entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => (*entry.get(), false),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(next);
                (next, true)
            }
        }
    }
}
