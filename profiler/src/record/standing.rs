//! What every recording of threads that stand still has: one process, its threads by kernel id,
//! the way to a new program after exec.

use std::collections::HashMap;
use std::mem;

use onlooker_recording::tables::Totals;
use onlooker_recording::write::WriteError;
use onlooker_unwinder::memory::RemoteAddr;

use super::clock::now_ns;
use super::family::Newcomer;
use super::kernel::FileBudget;
use super::recorder::Recorder;
use super::renewal::Renewal;
use super::run;
use super::watched::Watched;
use crate::error::Error;
use crate::stop::Watch;

/// A stopped stack fails a check only for a name that is new, so once or twice.
const TRIES: usize = 10;
/// Which threads are Python's is looked up so often; at once when an unknown one is stopped.
const SCAN_EVERY_NS: u64 = 100_000_000;
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

    /// What else is to be told at the end, a line each.
    fn said(&self) -> Vec<String>;
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
    scanned_ns: u64,
    missed: u64,
    /// Looks for the interpreter of the program that the process runs now, while the session is
    /// of one before.
    renewal: Option<Renewal>,
    /// Whether a thread had less of a buffer than it wants.
    short_of_buffers: bool,
    failed: Option<WriteError>,
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
            scanned_ns: 0,
            missed: 0,
            renewal: None,
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
        let seen: Vec<_> = self.watched.session.stacks().map(|s| s.tstate).collect();
        for tstate in seen {
            if let Some(tid) = self.watched.session.os_thread_id(tstate) {
                self.tstates.entry(tid).or_default().push(tstate);
            }
        }
        self.watched.forget_threads(&mut self.recorder);
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
        if !self.is_attached() {
            // A program that has just been started by exec: there may be one soon, which turns
            // the events of its threads on again.
            return Read::NotPython;
        }
        // Again when another thread has got the memory of a thread state meanwhile.
        // With several interpreters the lists are followed at every stop: their memory is used again,
        // and a thread changes between them.
        let known = self.knows(tid) && self.watched.session.interpreters() <= 1;
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
            let session = &mut self.watched.session;
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
        self.watched.session.sample_of(tstates, TRIES).is_ok()
    }

    /// A beat: scans when that is due, or looks for the interpreter of a new program; hands over
    /// what there is. Answers whether to go on.
    pub(super) fn beat(&mut self, late: u64) -> bool {
        self.missed += late;
        if !self.is_attached() {
            self.renew();
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
        self.renewal.is_none()
    }

    /// The process has become another program by exec.
    pub(super) fn exec(&mut self) {
        self.tstates.clear();
        self.renewal = Some(Renewal::start(self.watched.session.pid));
    }

    /// After exec: takes over the interpreter of the new program, once there is one.
    fn renew(&mut self) {
        let Some(newcomer) = self.renewal.as_ref().and_then(Renewal::found) else {
            return;
        };
        let watched = Watched::new(newcomer, &mut self.recorder, self.rate_hz, &self.files);
        let old = mem::replace(&mut self.watched, watched);
        old.add_cost(&mut self.earlier);
        old.end(&mut self.recorder);
        self.renewal = None;
        // Without threads yet, the first stop looks again.
        let _ = self.scan();
    }
}
