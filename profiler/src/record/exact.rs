//! Exact samples: what is recorded when a thread is stopped, and when it sleeps.
//!
//! Time is counted once: on a CPU by the clock of the thread itself, which stops it (in user
//! mode) or meets it when it leaves the kernel, each beat one sample; asleep by our own clock at
//! the same rate. A thread that waits for a CPU has neither.

use onlooker_recording::tables::Totals;
use onlooker_recording::write::WriteError;
use onlooker_unwinder::memory::RemoteAddr;

use super::recorder::Recorder;
use super::rows::Weight;
use super::standing::{Read, Sought, Standing, StopRecording, Subject};
use super::watched::Watched;
use crate::error::Error;
use crate::stop::why::{GONE, LATER};
use crate::stop::{Sleeper, Touch, Watch};

/// Records what the stop thread meets.
pub struct Exact(Standing);

impl Exact {
    /// Records a process.
    #[must_use]
    pub fn new(subject: Subject, recorder: Recorder, rate_hz: f64) -> Self {
        Self(Standing::new(subject, recorder, rate_hz))
    }

    /// Records so many samples of a thread that stands still; whether it runs Python.
    fn observe(&mut self, tid: i32, beats: usize, reason: Option<&'static str>) -> bool {
        match self.0.read(tid) {
            Read::Stacks(tstates) => {
                self.record(&tstates, true, beats, reason);
                true
            }
            Read::NotPython => false,
            Read::Gone => {
                self.0.recorder.lost(GONE, beats as u64);
                true
            }
        }
    }

    fn record(
        &mut self,
        tstates: &[RemoteAddr],
        running: bool,
        beats: usize,
        reason: Option<&'static str>,
    ) {
        let now = self.0.now();
        let weight = Weight::samples(beats as u64, reason);
        for tstate in tstates {
            let recorder = &mut self.0.recorder;
            if let Some(watched) = self.0.program.watched() {
                watched.exact(recorder, now, (*tstate, running), weight);
            }
        }
    }

    fn sleepers(&mut self, asleep: &[Sleeper], still: &mut dyn FnMut(&Sleeper) -> bool) {
        let known = asleep.iter().filter_map(|s| self.0.of(s.tid));
        let tstates: Vec<RemoteAddr> = known.flatten().copied().collect();
        if tstates.is_empty() {
            return;
        }
        if !self.0.read_all(&tstates) {
            // The process ends: its sleep counts no more, its work was done before.
            for sleeper in asleep {
                self.0.lost(sleeper.tid, sleeper.worked.len() as u64, GONE);
            }
            return;
        }
        for sleeper in asleep {
            // Beats of a thread that runs no Python are none.
            let Some(tstates) = self.0.of(sleeper.tid).cloned() else {
                continue;
            };
            let Some(Watched { session, .. }) = self.0.program.watched() else {
                return;
            };
            let own = tstates.into_iter();
            let own: Vec<_> = own
                .filter(|t| session.os_thread_id(*t) == Some(sleeper.tid))
                .collect();
            // One that has run since is met by its own clock.
            let same = still(sleeper);
            if same {
                self.record(&own, false, 1, None);
            }
            if !sleeper.worked.is_empty() {
                self.record(&own, true, sleeper.worked.len(), (!same).then_some(LATER));
            }
        }
    }
}

impl StopRecording for Exact {
    fn begin(&mut self) -> Result<(), Error> {
        self.0.scan()
    }

    fn without_interpreter(&mut self) -> Option<Sought> {
        self.0.without_interpreter()
    }

    fn finish(self) -> Result<(Totals, u32), WriteError> {
        self.0.finish()
    }

    fn said(&self) -> Vec<String> {
        self.0.said()
    }
}

impl Watch for Exact {
    fn stopped(&mut self, tid: i32, events: &[Touch], _: Option<u64>) -> bool {
        self.observe(tid, events.len(), None)
    }

    fn missed(&mut self, tid: i32, events: &[Touch]) {
        self.observe(tid, events.len(), Some(LATER));
    }

    fn lost(&mut self, tid: i32, count: u64, why: &'static str) {
        self.0.lost(tid, count, why);
    }

    fn short_of_buffers(&mut self) {
        self.0.short_of_buffers();
    }

    fn beat(
        &mut self,
        late: u64,
        asleep: &[Sleeper],
        still: &mut dyn FnMut(&Sleeper) -> bool,
    ) -> bool {
        self.0.recorder.tick();
        if self.0.is_attached() {
            self.sleepers(asleep, still);
        }
        self.0.beat(late)
    }

    fn wants(&mut self, tid: i32) -> bool {
        self.0.knows(tid)
    }

    fn exec(&mut self) {
        self.0.exec();
    }
}
