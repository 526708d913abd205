//! What every recording of threads that stand still has: one process, its threads by kernel id,
//! the way to a new program after exec.

use std::collections::HashMap;
use std::mem;

use onlooker_recording::tables::Totals;
use onlooker_recording::write::WriteError;
use onlooker_symbols::names::CodeId;
use onlooker_unwinder::memory::RemoteAddr;

use super::clock::now_ns;
use super::family::Newcomer;
use super::kernel::FileBudget;
use super::recorder::Recorder;
use super::run;
use super::watched::Watched;
use crate::attach;
use crate::error::Error;
use crate::session::ThreadStack;
use crate::stop::Watch;

/// A stopped stack fails a check only for a name that is new, so once or twice.
const TRIES: usize = 10;
/// Which threads are Python's is looked up so often; at once when an unknown one is stopped.
const SCAN_EVERY_NS: u64 = 100_000_000;
/// Between exec and a new interpreter: tried so often.
const ATTACH_EVERY_NS: u64 = 50_000_000;
/// Why a sample of a thread that worked in the kernel is not verified: it was read later. And why
/// it is lost: it did not stand still once since.
pub(super) const LATER: &str = "later";

/// A recording made by the stop thread.
pub trait StopRecording: Watch + Send + 'static {
    /// Learns the threads, so that the first stop is short.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    fn begin(&mut self) -> Result<(), Error>;

    /// Ends the recording; its counts and how many processes it has.
    ///
    /// # Errors
    /// When it could not be written, now or earlier.
    fn finish(self) -> Result<(Totals, u32), WriteError>;

    /// What else is to be told at the end.
    fn said(&self) -> Option<String> {
        None
    }
}

/// One process whose threads are read while they stand still.
pub(super) struct Standing {
    pub(super) watched: Watched,
    pub(super) recorder: Recorder,
    files: FileBudget,
    /// What reading earlier programs of the process has cost.
    earlier: Totals,
    rate_hz: f64,
    start_ns: u64,
    /// Thread states of each kernel thread that runs Python.
    tstates: HashMap<i32, Vec<RemoteAddr>>,
    /// Outermost code object of the main thread at the last scan.
    outermost: Option<CodeId>,
    scanned_ns: u64,
    missed: u64,
    /// Whether the session is of the program that the process runs now.
    attached: bool,
    attach_tried_ns: u64,
    failed: Option<WriteError>,
}

/// The thread states of a thread that stands still.
#[derive(Debug)]
pub(super) enum Read {
    /// Their stacks were read.
    Stacks(Vec<RemoteAddr>),
    /// It runs no Python.
    NotPython,
    /// There is nothing to read just now: between two programs, or at the end.
    Nothing,
}

impl Standing {
    pub(super) fn new(first: Newcomer, mut recorder: Recorder, rate_hz: f64) -> Self {
        let files = FileBudget::default();
        Self {
            watched: Watched::new(first, &mut recorder, rate_hz, &files),
            recorder,
            files,
            earlier: Totals::default(),
            rate_hz,
            start_ns: now_ns(),
            tstates: HashMap::new(),
            outermost: None,
            scanned_ns: 0,
            missed: 0,
            attached: true,
            attach_tried_ns: 0,
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
        self.watched.add_cost(&mut costs);
        run::update(self.recorder.totals_mut(), &costs, now_ns, self.missed);
    }

    /// Nanoseconds since the start.
    pub(super) fn now(&self) -> u64 {
        now_ns().saturating_sub(self.start_ns)
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
        self.watched.session.sample(1)?;
        self.tstates.clear();
        self.outermost = None;
        let outermost = |s: &ThreadStack| (s.tstate, s.frames().back().map(|f| f.code));
        let seen: Vec<_> = self.watched.session.stacks().map(outermost).collect();
        for (tstate, code) in seen {
            if let Some(tid) = self.watched.session.os_thread_id(tstate) {
                self.tstates.entry(tid).or_default().push(tstate);
                if tid == self.watched.session.pid {
                    self.outermost = self.outermost.or(code);
                }
            }
        }
        self.watched.forget_threads(&mut self.recorder);
        Ok(())
    }

    /// The outermost code object of the main thread at the last scan; `None` when it ran no
    /// Python.
    pub(super) fn outermost(&self) -> Option<CodeId> {
        self.outermost
    }

    /// Reads the stacks of a thread that stands still.
    pub(super) fn read(&mut self, tid: i32) -> Read {
        if !self.attached {
            // A program that has just been started by exec: there may be one soon, which turns
            // the events of its threads on again.
            return Read::NotPython;
        }
        if !self.knows(tid) && self.scan().is_err() {
            return Read::Nothing;
        }
        let Some(tstates) = self.tstates.get(&tid).cloned() else {
            return Read::NotPython;
        };
        if !self.read_all(&tstates) {
            // The process ends, which the stop thread notices.
            return Read::Nothing;
        }
        let session = &mut self.watched.session;
        let own = tstates.iter().copied();
        let own: Vec<_> = own
            .filter(|t| session.os_thread_id(*t) == Some(tid))
            .collect();
        if own.len() < tstates.len() {
            // Another thread has got the memory of one.
            self.tstates.remove(&tid);
        }
        Read::Stacks(own)
    }

    /// Reads stacks of threads that stand still or sleep; false when the process is gone.
    pub(super) fn read_all(&mut self, tstates: &[RemoteAddr]) -> bool {
        self.watched.session.sample_of(tstates, TRIES).is_ok()
    }

    /// A beat: scans when that is due, or looks for the interpreter of a new program; hands over
    /// what there is. Answers whether to go on.
    pub(super) fn beat(&mut self, late: u64) -> bool {
        self.missed += late;
        if !self.attached {
            self.attach_again();
        } else if self.now() > self.scanned_ns + SCAN_EVERY_NS {
            // A process that cannot be read any more ends soon.
            let _ = self.scan();
        }
        let now = self.now();
        if self.recorder.is_due(now) {
            self.count(now);
            self.failed = self.recorder.send(now).err();
        }
        self.failed.is_none()
    }

    /// Whether the session is of the program that the process runs now.
    pub(super) fn is_attached(&self) -> bool {
        self.attached
    }

    /// The process has become another program by exec.
    pub(super) fn exec(&mut self) {
        self.attached = false;
        self.tstates.clear();
    }

    /// After exec: the interpreter of the new program, once there is one.
    fn attach_again(&mut self) {
        let now = self.now();
        if now < self.attach_tried_ns + ATTACH_EVERY_NS {
            return;
        }
        self.attach_tried_ns = now;
        if let Ok(attached) = attach::attach_once(self.watched.session.pid) {
            let newcomer = Newcomer::new(attached);
            let watched = Watched::new(newcomer, &mut self.recorder, self.rate_hz, &self.files);
            let old = mem::replace(&mut self.watched, watched);
            old.add_cost(&mut self.earlier);
            old.end(&mut self.recorder);
            self.attached = true;
            // Without threads yet, the first stop looks again.
            let _ = self.scan();
        }
    }
}
