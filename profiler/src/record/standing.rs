//! What every recording of threads that stand still has: one process, its threads by kernel id,
//! the way to a new program after exec.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use onlooker_recording::tables::Totals;
use onlooker_recording::write::WriteError;
use onlooker_unwinder::memory::RemoteAddr;

use super::clock::now_ns;
use super::family::Newcomer;
use super::kernel::FileBudget;
use super::recorder::Recorder;
use super::run;
use super::watched::Watched;
use crate::attach::Seeker;
use crate::error::Error;
use crate::launch::START_LIMIT;
use crate::stop::Watch;

/// A stopped stack fails a check only for a name that is new, so once or twice.
const TRIES: usize = 10;
/// Which threads are Python's is looked up so often; at once when an unknown one is stopped.
const SCAN_EVERY_NS: u64 = 100_000_000;
/// The time between two looks for an interpreter at beats, from the first to the later ones: most
/// programs that are no Python never become it.
const FIRST_RETRY: Duration = Duration::from_millis(3);
const LAST_RETRY: Duration = Duration::from_millis(500);

/// A recording made by the stop thread.
pub trait StopRecording: Watch + Send + 'static {
    /// Learns the threads, so that the first stop is short.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    fn begin(&mut self) -> Result<(), Error>;

    /// The search for the interpreter of a program that was launched, where it never had one.
    fn without_interpreter(&mut self) -> Option<Sought>;

    /// Ends the recording; its counts and how many processes it has.
    ///
    /// # Errors
    /// When it could not be written, now or earlier.
    fn finish(self) -> Result<(Totals, u32), WriteError>;

    /// What else is to be told at the end, a line each.
    fn said(&self) -> Vec<String>;
}

/// What a recording begins with.
#[derive(Debug)]
pub enum Subject {
    /// A process whose interpreter is there.
    Running(Box<Newcomer>),
    /// A program that was launched and has not begun to run. The flag is set when its interpreter was found.
    Starting(i32, Arc<AtomicBool>),
}

impl Subject {
    /// The process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        match self {
            Self::Running(first) => first.attached.pid,
            Self::Starting(pid, _) => *pid,
        }
    }
}

/// A search that has found nothing.
#[derive(Debug)]
pub struct Sought {
    /// The search.
    pub seeker: Seeker,
    /// What waiting cannot mend.
    pub failed: Option<Error>,
}

/// One process whose threads are read while they stand still.
pub(super) struct Standing {
    pub(super) pid: i32,
    pub(super) program: Program,
    pub(super) recorder: Recorder,
    files: FileBudget,
    /// What reading earlier programs of the process has cost.
    earlier: Totals,
    rate_hz: f64,
    start_ns: u64,
    /// When the interpreter of this program was found.
    attached_ns: u64,
    found: Arc<AtomicBool>,
    /// Thread states of each kernel thread that runs Python.
    tstates: HashMap<i32, Vec<RemoteAddr>>,
    scanned_ns: u64,
    missed: u64,
    /// Whether a thread had less of a buffer than it wants.
    short_of_buffers: bool,
    failed: Option<WriteError>,
}

/// The program that the process runs now.
pub(super) enum Program {
    /// Its interpreter is known.
    Watched(Box<Watched>),
    /// It has just been started.
    Sought(Box<Search>),
}

/// Looks for the interpreter of a program that has just been started.
pub(super) struct Search {
    sought: Sought,
    next_ns: u64,
    wait: Duration,
}

impl Program {
    fn sought(pid: i32) -> Self {
        Self::Sought(Box::new(Search {
            sought: Sought {
                seeker: Seeker::eager(pid),
                failed: None,
            },
            next_ns: 0,
            wait: FIRST_RETRY,
        }))
    }

    /// The process as it is watched, where its interpreter is known.
    pub(super) fn watched(&mut self) -> Option<&mut Watched> {
        match self {
            Self::Watched(watched) => Some(watched),
            Self::Sought(_) => None,
        }
    }
}

/// The thread states of a thread that stands still.
#[derive(Debug)]
pub(super) enum Read {
    /// Their stacks were read.
    Stacks(Vec<RemoteAddr>),
    /// It runs no Python.
    NotPython,
    /// It, or its process, is about to end: there is nothing to read any more.
    Gone,
}

impl Standing {
    pub(super) fn new(subject: Subject, mut recorder: Recorder, rate_hz: f64) -> Self {
        let files = FileBudget::default();
        let pid = subject.pid();
        let (program, found) = match subject {
            Subject::Running(first) => {
                let watched = Watched::new(*first, &mut recorder, rate_hz, &files);
                (Program::Watched(Box::new(watched)), Arc::default())
            }
            Subject::Starting(pid, found) => (Program::sought(pid), found),
        };
        Self {
            pid,
            program,
            recorder,
            files,
            earlier: Totals::default(),
            rate_hz,
            start_ns: now_ns(),
            attached_ns: 0,
            found,
            tstates: HashMap::new(),
            scanned_ns: 0,
            missed: 0,
            short_of_buffers: false,
            failed: None,
        }
    }

    pub(super) fn finish(mut self) -> Result<(Totals, u32), WriteError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.count(self.now());
        let processes = self.recorder.processes();
        Ok((self.recorder.finish()?, processes))
    }

    /// Brings the counts up to date.
    fn count(&mut self, now_ns: u64) {
        let mut costs = self.earlier.clone();
        if let Some(watched) = self.program.watched() {
            watched.add_cost(&mut costs);
        }
        run::update(self.recorder.totals_mut(), &costs, now_ns, self.missed);
    }

    /// Nanoseconds since the start.
    pub(super) fn now(&self) -> u64 {
        now_ns().saturating_sub(self.start_ns)
    }

    /// Nanoseconds since the interpreter of the program was found.
    pub(super) fn attached_for(&self) -> u64 {
        self.now().saturating_sub(self.attached_ns)
    }

    /// Whether the thread runs Python.
    pub(super) fn knows(&self, tid: i32) -> bool {
        self.tstates.contains_key(&tid)
    }

    /// The thread states of a thread that runs Python.
    pub(super) fn of(&self, tid: i32) -> Option<&Vec<RemoteAddr>> {
        self.tstates.get(&tid)
    }

    /// Finds out which kernel thread belongs to which thread states.
    pub(super) fn scan(&mut self) -> Result<(), Error> {
        self.scanned_ns = self.now();
        let Some(watched) = self.program.watched() else {
            return Ok(());
        };
        watched.session.sample(1)?;
        self.tstates.clear();
        let seen: Vec<_> = watched.session.stacks().map(|s| s.tstate).collect();
        for tstate in seen {
            if let Some(tid) = watched.session.os_thread_id(tstate) {
                self.tstates.entry(tid).or_default().push(tstate);
            }
        }
        watched.forget_threads(&mut self.recorder);
        Ok(())
    }

    /// Counts events that are met nowhere; those of a thread that runs no Python are none.
    pub(super) fn lost(&mut self, tid: i32, count: u64, why: &'static str) {
        if count > 0 && self.knows(tid) {
            self.recorder.lost(why, count);
        }
    }

    /// A thread has got less of a buffer for its events than it wants.
    pub(super) fn short_of_buffers(&mut self) {
        self.short_of_buffers = true;
    }

    /// What is to be told at the end.
    pub(super) fn said(&self) -> Vec<String> {
        let short = "the buffers of some threads' events are small or missing, so events may be \
                     lost (`buffer`): raise the limit with `sudo sysctl \
                     kernel.perf_event_mlock_kb=4096` or `ulimit -l`, or run as root";
        let short = self.short_of_buffers.then(|| short.to_owned());
        short.into_iter().collect()
    }

    /// Reads the stacks of a thread that stands still.
    pub(super) fn read(&mut self, tid: i32) -> Read {
        let Some(watched) = self.program.watched() else {
            // A program that has just been started by exec: there may be one soon, which turns
            // the events of its threads on again.
            return Read::NotPython;
        };
        let interpreters = watched.session.interpreters();
        // Again when another thread has got the memory of a thread state meanwhile.
        // With several interpreters the lists are followed at every stop: their memory is used again,
        // and a thread changes between them.
        let known = self.knows(tid) && interpreters <= 1;
        for known in [known, false] {
            if !known && self.scan().is_err() {
                return Read::Gone;
            }
            let Some(tstates) = self.tstates.get(&tid).cloned() else {
                return Read::NotPython;
            };
            if !self.read_all(&tstates) {
                // The process ends, which the stop thread notices.
                return Read::Gone;
            }
            let Some(Watched { session, .. }) = self.program.watched() else {
                return Read::NotPython;
            };
            let own = tstates.into_iter();
            let own: Vec<_> = own
                .filter(|t| session.os_thread_id(*t) == Some(tid))
                .collect();
            if !own.is_empty() {
                return Read::Stacks(own);
            }
        }
        Read::NotPython
    }

    /// Reads stacks of threads that stand still or sleep; false when the process is gone.
    pub(super) fn read_all(&mut self, tstates: &[RemoteAddr]) -> bool {
        let watched = self.program.watched();
        watched.is_some_and(|watched| watched.session.sample_of(tstates, TRIES).is_ok())
    }

    /// A beat: scans when that is due, or looks for the interpreter of a new program; hands over
    /// what there is. Answers whether to go on.
    pub(super) fn beat(&mut self, late: u64) -> bool {
        self.missed += late;
        let now = self.now();
        match &mut self.program {
            Program::Watched(_) if now > self.scanned_ns + SCAN_EVERY_NS => {
                // A process that cannot be read any more ends soon.
                let _ = self.scan();
            }
            Program::Watched(_) => {}
            Program::Sought(search) if now < search.next_ns => {}
            Program::Sought(search) => {
                let wait = search.wait.as_nanos();
                search.wait = (search.wait * 3 / 2).min(LAST_RETRY);
                search.next_ns = now.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX));
                self.seek();
            }
        }
        let now = self.now();
        if self.recorder.is_due(now) {
            self.count(now);
            self.failed = self.recorder.send(now).err();
        }
        self.failed.is_none() && !self.is_in_vain()
    }

    /// Whether the session is of the program that the process runs now.
    pub(super) fn is_attached(&self) -> bool {
        matches!(self.program, Program::Watched(_))
    }

    /// Whether the program has just been started: an interpreter may be there at any moment.
    pub(super) fn is_starting(&self) -> bool {
        match &self.program {
            Program::Watched(_) => false,
            Program::Sought(search) => search.sought.seeker.elapsed() < START_LIMIT,
        }
    }

    /// Whether a program that was launched has no interpreter and is not waited for any more.
    fn is_in_vain(&self) -> bool {
        match &self.program {
            Program::Watched(_) => false,
            Program::Sought(search) => {
                let failed = search.sought.failed.is_some() || !self.is_starting();
                failed && self.recorder.processes() == 0
            }
        }
    }

    /// As [`StopRecording::without_interpreter`].
    pub(super) fn without_interpreter(&mut self) -> Option<Sought> {
        if self.recorder.processes() > 0 {
            return None;
        }
        match std::mem::replace(&mut self.program, Program::sought(self.pid)) {
            Program::Watched(_) => None,
            Program::Sought(search) => Some(search.sought),
        }
    }

    /// The process has become another program by exec.
    pub(super) fn exec(&mut self) {
        self.tstates.clear();
        let new = Program::sought(self.pid);
        if let Program::Watched(old) = std::mem::replace(&mut self.program, new) {
            old.add_cost(&mut self.earlier);
            old.end(&mut self.recorder);
        }
    }

    /// Looks for the interpreter of a new program; whether it was found.
    pub(super) fn seek(&mut self) -> bool {
        let Program::Sought(search) = &mut self.program else {
            return false;
        };
        let sought = &mut search.sought;
        let attached = match sought.seeker.look(true) {
            Ok(Some(attached)) => attached,
            Ok(None) => return false,
            Err(error) => {
                sought.failed = Some(error);
                return false;
            }
        };
        let newcomer = Newcomer::new(attached);
        let watched = Watched::new(newcomer, &mut self.recorder, self.rate_hz, &self.files);
        self.program = Program::Watched(Box::new(watched));
        self.attached_ns = self.now();
        self.found.store(true, Ordering::Relaxed);
        // Without threads yet, the first stop looks again.
        let _ = self.scan();
        true
    }
}
