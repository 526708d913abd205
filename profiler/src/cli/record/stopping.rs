//! `onlooker record --exact` and `--growth`: recordings that are made where threads stand still.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::plan::{Plan, Stops};
use super::spool::{Spool, Spooled};
use super::{Stop, interrupted, progress_line};
use crate::error::Error;
use crate::launch::Launched;
use crate::record::clock::now_ns;
use crate::record::exact::Exact;
use crate::record::growth::Growth;
use crate::record::run::Ended;
use crate::record::standing::{StopRecording, Subject};
use crate::stop::{self, Request, StopThread};
use crate::sys::perf::Kind;

/// Ctrl-C and the end of the duration are noticed so late at most.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Without time samples there is still something to look up.
const BEAT_NS: u64 = 50_000_000;

/// How a recording has ended: an error when threads could not be stopped any more.
type How = Result<Ended, Error>;

/// A program that is watched from its beginning: it is held until it is traced.
pub(super) struct Starting<'a> {
    launched: &'a mut Launched,
    /// Set when its interpreter was found.
    found: Arc<AtomicBool>,
}

impl<'a> Starting<'a> {
    /// The program, and what a recording of it begins with.
    pub(super) fn new(launched: &'a mut Launched) -> (Self, Subject) {
        let found = Arc::new(AtomicBool::new(false));
        let subject = Subject::Starting(launched.pid(), Arc::clone(&found));
        (Self { launched, found }, subject)
    }

    /// Whether its interpreter was found. From then on an error, a full disk or a panic leaves the
    /// program running.
    fn is_found(&mut self) -> bool {
        let found = self.found.load(Ordering::Relaxed);
        if found {
            self.launched.keep_running();
        }
        found
    }
}

/// Records until something ends it; what was seen is on disk then.
pub(super) fn sample(
    plan: &Plan,
    subject: Subject,
    starting: Option<Starting<'_>>,
    spool: Spool,
    asked: &Stop,
) -> Result<(Spooled, How), Error> {
    let rate_hz = plan.settings.rate_hz;
    let period_ns = (1e9 / rate_hz) as u64;
    let pid = subject.pid();
    let recorder = spool.recorder()?;
    match plan.stops {
        Some(Stops::Growth { period, times }) => {
            let stops = stop::Plan {
                pid,
                kind: Kind::PageFaults { period },
                beat_ns: if times { period_ns } else { BEAT_NS },
                huge_pages: has_huge_pages(),
            };
            let growth = Growth::new(subject, recorder, rate_hz, period, times);
            let growth = growth.map_err(|error| Error::stop(pid, error));
            run(plan, stops, growth, starting, spool, asked)
        }
        Some(Stops::Exact) | None => {
            let stops = stop::Plan {
                pid,
                kind: Kind::TaskClock { period_ns },
                beat_ns: period_ns,
                huge_pages: false,
            };
            let exact = Exact::new(subject, recorder, rate_hz);
            run(plan, stops, Ok(exact), starting, spool, asked)
        }
    }
}

/// Whether the kernel gives huge pages to anybody, or to whoever asks for them.
fn has_huge_pages() -> bool {
    let enabled = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    enabled.is_ok_and(|enabled| !enabled.contains("[never]"))
}

fn run<R: StopRecording>(
    plan: &Plan,
    stops: stop::Plan,
    recording: Result<R, Error>,
    mut starting: Option<Starting<'_>>,
    spool: Spool,
    asked: &Stop,
) -> Result<(Spooled, How), Error> {
    let started = recording.and_then(|mut recording| {
        recording.begin()?;
        StopThread::start(stops, recording)
    });
    let nothing = |_: &Error| {
        // Nothing was recorded.
        let _ = fs::remove_file(&spool.path);
    };
    let stop_thread = started.inspect_err(nothing)?;
    if let Some(starting) = &mut starting {
        starting.launched.let_go().inspect_err(nothing)?;
    }
    // The duration is that of the recording, which begins with an interpreter.
    let mut start_ns = now_ns();
    let progress = progress_line();
    if let Some(bar) = &progress {
        bar.set_message("threads are stopped for a moment now and then (Ctrl-C to finish)");
    }
    let limit = plan.settings.duration;
    let ended = loop {
        if stop_thread.is_finished() {
            break Ended::Process;
        }
        if asked.asked() {
            break Ended::Interrupt;
        }
        if starting
            .as_mut()
            .is_some_and(|starting| !starting.is_found())
        {
            start_ns = now_ns();
        }
        let elapsed = Duration::from_nanos(now_ns().saturating_sub(start_ns));
        if limit.is_some_and(|limit| elapsed >= limit) {
            break Ended::Duration;
        }
        let left = limit.map_or(LOOK_EVERY, |limit| limit.saturating_sub(elapsed));
        thread::sleep(LOOK_EVERY.min(left));
    };
    if let Some(bar) = progress {
        bar.finish_and_clear();
    }
    stop_thread.ask(Request::End);
    let (mut recording, how) = stop_thread.join();
    if let Some(mut starting) = starting
        && !starting.is_found()
        && let Some(sought) = recording.without_interpreter()
    {
        let _ = fs::remove_file(&spool.path);
        let launched = starting.launched;
        // Nobody traces it any more.
        let ended = launched.ended().is_some();
        if asked.asked() {
            interrupted(launched, asked);
        }
        return Err(match (how, sought.failed) {
            (stop::Ended::Failed(error), _) => error,
            (_, Some(error)) if !ended => error,
            _ => launched.without_interpreter(sought.seeker, ended),
        });
    }
    let how = match how {
        stop::Ended::Failed(error) => Err(error),
        stop::Ended::Asked | stop::Ended::Process => Ok(ended),
    };
    for said in recording.said() {
        say!("{said}");
    }
    let (totals, processes) = recording.finish().map_err(|error| spool.failed(&error))?;
    Ok((spool.done(totals, processes), how))
}
