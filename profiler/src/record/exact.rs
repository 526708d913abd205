//! Exact samples: what is recorded when a thread is stopped, and when it sleeps.
//!
//! Time is counted once: on a CPU by the clock of the thread itself, which stops it (in user
//! mode) or meets it when it leaves the kernel, each beat one sample; asleep by our own clock at
//! the same rate. A thread that waits for a CPU has neither.

use std::collections::HashMap;
use std::mem;

use onlooker_recording::tables::Totals;
use onlooker_recording::write::WriteError;
use onlooker_unwinder::memory::RemoteAddr;

use super::clock::now_ns;
use super::family::Newcomer;
use super::kernel::FileBudget;
use super::recorder::Recorder;
use super::run;
use super::watched::Watched;
use crate::attach;
use crate::error::Error;
use crate::stop::{Sleeper, Watch};

/// A stopped stack fails a check only for a name that is new, so once or twice.
const TRIES: usize = 10;
/// Which threads are Python's is looked up so often; at once when an unknown one is stopped.
const SCAN_EVERY_NS: u64 = 100_000_000;
/// Between exec and a new interpreter: tried so often.
const ATTACH_EVERY_NS: u64 = 50_000_000;
/// Why a sample of a thread that worked in the kernel is not verified: it was read later. And why
/// it is lost: it did not stand still once since.
const LATER: &str = "later";

/// What a thread was seen at.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Whether it was on a CPU; it slept otherwise.
    running: bool,
    /// How many samples this stands for.
    weight: u64,
    /// Why it is not exact though it passed all checks.
    reason: Option<&'static str>,
}

/// Records what the stop thread meets.
pub struct Exact {
    watched: Watched,
    recorder: Recorder,
    files: FileBudget,
    /// What reading earlier programs of the process has cost.
    earlier: Totals,
    rate_hz: f64,
    start_ns: u64,
    /// Thread states of each kernel thread that runs Python.
    tstates: HashMap<i32, Vec<RemoteAddr>>,
    scanned_ns: u64,
    missed: u64,
    /// Whether the session is of the program that the process runs now.
    attached: bool,
    attach_tried_ns: u64,
    failed: Option<WriteError>,
}

impl Exact {
    /// Records a process.
    #[must_use]
    pub fn new(first: Newcomer, mut recorder: Recorder, rate_hz: f64) -> Self {
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
            attached: true,
            attach_tried_ns: 0,
            failed: None,
        }
    }

    /// Learns the threads, so that the first stop is short.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn begin(&mut self) -> Result<(), Error> {
        self.scan()
    }

    /// Ends the recording; its counts and how many processes it has.
    ///
    /// # Errors
    /// When it could not be written, now or earlier.
    pub fn finish(mut self) -> Result<(Totals, u32), WriteError> {
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

    fn now(&self) -> u64 {
        now_ns().saturating_sub(self.start_ns)
    }

    /// Finds out which kernel thread belongs to which thread states.
    fn scan(&mut self) -> Result<(), Error> {
        self.scanned_ns = self.now();
        self.watched.session.sample(1)?;
        self.tstates.clear();
        let seen: Vec<RemoteAddr> = self.watched.session.stacks().map(|s| s.tstate).collect();
        for tstate in seen {
            if let Some(tid) = self.watched.session.os_thread_id(tstate) {
                self.tstates.entry(tid).or_default().push(tstate);
            }
        }
        self.watched.forget_threads(&mut self.recorder);
        Ok(())
    }

    /// Records the stacks of a thread; whether it has any.
    fn observe(&mut self, tid: i32, seen: Seen) -> bool {
        if !self.attached {
            // A program that has just been started by exec: there may be one soon.
            return true;
        }
        if !self.tstates.contains_key(&tid) && self.scan().is_err() {
            return true;
        }
        let Some(tstates) = self.tstates.get(&tid).cloned() else {
            return false;
        };
        if self.watched.session.sample_of(&tstates, TRIES).is_err() {
            // The process ends, which the stop thread notices.
            return true;
        }
        self.record(tid, &tstates, seen);
        true
    }

    fn record(&mut self, tid: i32, tstates: &[RemoteAddr], seen: Seen) {
        let now = self.now();
        for tstate in tstates {
            if self.watched.session.os_thread_id(*tstate) == Some(tid) {
                let thread = (*tstate, seen.running);
                self.watched
                    .exact(&mut self.recorder, now, thread, (seen.weight, seen.reason));
            } else {
                // Another thread has got its memory.
                self.tstates.remove(&tid);
            }
        }
    }

    fn sleepers(&mut self, asleep: &[Sleeper], still: &mut dyn FnMut(&Sleeper) -> bool) {
        let known = asleep.iter().filter_map(|s| self.tstates.get(&s.tid));
        let tstates: Vec<RemoteAddr> = known.flatten().copied().collect();
        if tstates.is_empty() {
            return;
        }
        if self.watched.session.sample_of(&tstates, TRIES).is_err() {
            return;
        }
        for sleeper in asleep {
            let Some(tstates) = self.tstates.get(&sleeper.tid).cloned() else {
                continue;
            };
            let same = still(sleeper);
            if same {
                let seen = Seen {
                    running: false,
                    weight: 1,
                    reason: None,
                };
                self.record(sleeper.tid, &tstates, seen);
            }
            if sleeper.worked > 0 {
                let seen = Seen {
                    running: true,
                    weight: sleeper.worked,
                    reason: (!same).then_some(LATER),
                };
                self.record(sleeper.tid, &tstates, seen);
            }
        }
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

impl Watch for Exact {
    fn stopped(&mut self, tid: i32, weight: u64) -> bool {
        let seen = Seen {
            running: true,
            weight,
            reason: None,
        };
        self.observe(tid, seen)
    }

    fn missed(&mut self, tid: i32, weight: u64) {
        let seen = Seen {
            running: true,
            weight,
            reason: Some(LATER),
        };
        self.observe(tid, seen);
    }

    fn lost(&mut self, tid: i32, weight: u64) {
        if self.tstates.contains_key(&tid) {
            self.recorder.lost(LATER, weight);
        }
    }

    fn beat(
        &mut self,
        late: u64,
        asleep: &[Sleeper],
        still: &mut dyn FnMut(&Sleeper) -> bool,
    ) -> bool {
        self.missed += late;
        self.recorder.tick();
        if self.attached {
            self.sleepers(asleep, still);
            if self.now() > self.scanned_ns + SCAN_EVERY_NS {
                // A process that cannot be read any more ends soon.
                let _ = self.scan();
            }
        } else {
            self.attach_again();
        }
        let now = self.now();
        if self.recorder.is_due(now) {
            self.count(now);
            self.failed = self.recorder.send(now).err();
        }
        self.failed.is_none()
    }

    fn wants(&mut self, tid: i32) -> bool {
        self.tstates.contains_key(&tid)
    }

    fn exec(&mut self) {
        self.attached = false;
        self.tstates.clear();
    }
}
