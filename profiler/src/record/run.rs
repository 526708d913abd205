//! The loop of a recording: wait for the beat, sample every process, see who came and went.

use std::time::Duration;

use onlooker_recording::tables::Totals;
use onlooker_recording::write::WriteError;

use super::between::Between;
use super::clock::{Beat, Clock};
use super::family::{Finder, Newcomer, News};
use super::kernel::FileBudget;
use super::kin::Orphans;
use super::own_cpu;
use super::recorder::Recorder;
use super::watched::{NO_INTERPRETER, Watched};
use crate::error::Error;
use crate::sys::slice;
use crate::target;

/// The loop looks at its surroundings so often, however slow the clock is. At most rates it looks
/// at every beat and never wakes for this.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A beat takes less.
const SLICE: Duration = Duration::from_micros(100);

/// What a recording does.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Samples a second; infinite for as fast as possible.
    pub rate_hz: f64,
    /// Seed of the clock's jitter.
    pub seed: u64,
    /// When it ends, if nothing else ends it before.
    pub duration: Option<Duration>,
    /// Whether descendants are sampled too.
    pub subprocesses: bool,
}

/// What ended a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The process has ended; with subprocesses, all have.
    Process,
    /// The time was over.
    Duration,
    /// Somebody asked for it.
    Interrupt,
}

/// What the loop asks and tells while it runs.
pub trait Surroundings {
    /// Whether the recording is to end.
    fn stop_asked(&mut self) -> bool;
    /// Whether the launched program has ended; false when none was launched.
    fn launched_ended(&mut self) -> bool;
    /// Told after each look around.
    fn progress(&mut self, totals: &Totals);
    /// A process could not be sampled, or not any longer.
    fn warn(&mut self, error: &Error);
}

/// Samples `root`, and its descendants where that is asked for, until something ends it; with
/// those that come to us as `orphans`.
/// `first` is the root when it is attached to already.
///
/// # Errors
/// When the output cannot be written.
pub fn run(
    settings: &Settings,
    root: i32,
    first: Option<Newcomer>,
    orphans: Option<Orphans>,
    recorder: &mut Recorder,
    around: &mut dyn Surroundings,
) -> Result<Ended, WriteError> {
    let attached = first.as_ref().map(|first| &first.attached);
    let finder = Finder::start(root, attached, settings.subprocesses, orphans);
    let mut clock = Clock::new(settings.rate_hz, settings.seed);
    let mut run = Run {
        settings,
        recorder,
        files: FileBudget::default(),
        watched: Vec::new(),
        between: Between::default(),
        earlier: Totals::default(),
        all_gone: false,
    };
    if let Some(first) = first {
        run.watch(first);
    }
    if settings.rate_hz.is_finite() {
        // A beat that waits behind others is missed. Where it is refused it waits as it would.
        let _ = slice::shorten(SLICE);
    }
    let ended = loop {
        let elapsed = Duration::from_nanos(clock.elapsed_ns());
        let left = settings.duration.map(|limit| limit.saturating_sub(elapsed));
        let beat = clock.wait(left.map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY)));
        let now = clock.elapsed_ns();
        if around.stop_asked() {
            break Ended::Interrupt;
        }
        let limit = settings.duration;
        if limit.is_some_and(|limit| u128::from(now) >= limit.as_nanos()) {
            break Ended::Duration;
        }
        if beat == Beat::Tick {
            run.tick(&finder, now, around);
        }
        run.hear(&finder, around);
        if run.watched.is_empty() {
            let alone = !settings.subprocesses && around.launched_ended();
            if run.all_gone || alone {
                break Ended::Process;
            }
        }
        if run.recorder.is_due(now) {
            run.count(now, clock.missed());
            run.recorder.send(now)?;
            around.progress(run.recorder.totals());
        }
    };
    let empty = run.watched.iter().map(Watched::empty_ticks);
    let undecided = run.between.rest() + empty.sum::<u64>();
    run.recorder.lost(NO_INTERPRETER, undecided);
    run.count(clock.elapsed_ns(), clock.missed());
    Ok(ended)
}

struct Run<'a> {
    settings: &'a Settings,
    recorder: &'a mut Recorder,
    files: FileBudget,
    watched: Vec<Watched>,
    /// Processes that have lost their interpreter and still run.
    between: Between,
    /// Costs of processes that are not watched any more.
    earlier: Totals,
    all_gone: bool,
}

impl Run<'_> {
    fn watch(&mut self, newcomer: Newcomer) {
        let rate_hz = self.settings.rate_hz;
        let mut watched = Watched::new(newcomer, self.recorder, rate_hz, &self.files);
        // They are losses when it is seen to run: at its end, too, an interpreter can be found.
        watched.had_none(self.between.renewed(watched.pid()));
        self.watched.push(watched);
    }

    fn tick(&mut self, finder: &Finder, now_ns: u64, around: &mut dyn Surroundings) {
        self.recorder.tick();
        let between = self.between.tick(now_ns);
        self.recorder.lost(NO_INTERPRETER, between.lost);
        self.all_gone |= between.ended && !self.settings.subprocesses;
        let mut index = 0;
        while let Some(watched) = self.watched.get_mut(index) {
            let pid = watched.pid();
            let (problem, this) = match watched.sample(self.recorder, now_ns) {
                Ok(true) => {
                    index += 1;
                    continue;
                }
                Ok(false) => (None, 0),
                Err(Error::Exited { .. } | Error::Read { .. }) => (None, 1),
                Err(error) => (Some(error), 1),
            };
            let empty = watched.empty_ticks() + this;
            let gone = self.watched.swap_remove(index);
            gone.add_cost(&mut self.earlier);
            gone.end(self.recorder);
            if target::is_alive(pid) {
                match problem {
                    // Not readable any more (it changed its user): what is there is kept.
                    Some(error) => {
                        around.warn(&error);
                        self.all_gone |= !self.settings.subprocesses;
                    }
                    None => {
                        self.between.add(pid, empty, now_ns);
                        finder.lost(pid);
                    }
                }
            } else if !self.settings.subprocesses {
                self.all_gone = true;
            }
        }
    }

    /// Takes in what the finder has found.
    fn hear(&mut self, finder: &Finder, around: &mut dyn Surroundings) {
        while let Ok(news) = finder.news.try_recv() {
            match news {
                News::Python(newcomer) => self.watch(*newcomer),
                News::Other(pid) => self.between.is_other(pid),
                News::Gone(pid) => self.between.gone(pid),
                News::Failed(error) => around.warn(&error),
                News::AllGone => self.all_gone = true,
            }
        }
    }

    /// Brings the counts up to date.
    fn count(&mut self, duration_ns: u64, missed: u64) {
        let mut costs = self.earlier.clone();
        for watched in &self.watched {
            watched.add_cost(&mut costs);
        }
        update(self.recorder.totals_mut(), &costs, duration_ns, missed);
    }
}

/// Brings the counts up to date that are not about single samples; `costs` has those of reading.
pub(super) fn update(totals: &mut Totals, costs: &Totals, duration_ns: u64, missed: u64) {
    totals.duration_ns = duration_ns;
    totals.missed_ticks = missed;
    totals.own_cpu_ns = own_cpu::used_ns();
    totals.retries = costs.retries;
    totals.read_calls = costs.read_calls;
    totals.read_segments = costs.read_segments;
    totals.read_bytes = costs.read_bytes;
    totals.code_calls = costs.code_calls;
    totals.code_bytes = costs.code_bytes;
}
