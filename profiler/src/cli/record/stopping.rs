//! `onlooker record --exact` and `--growth`: recordings that are made where threads stand still.

use std::fs;
use std::thread;
use std::time::Duration;

use super::plan::{Plan, Stops};
use super::spool::{Spool, Spooled};
use super::{Stop, progress_line};
use crate::error::Error;
use crate::record::clock::now_ns;
use crate::record::exact::Exact;
use crate::record::family::Newcomer;
use crate::record::growth::Growth;
use crate::record::run::Ended;
use crate::record::standing::StopRecording;
use crate::stop::{self, Request, StopThread};
use crate::sys::perf::Kind;

/// Ctrl-C and the end of the duration are noticed so late at most.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Without time samples there is still something to look up.
const BEAT_NS: u64 = 50_000_000;

/// How a recording has ended: an error when threads could not be stopped any more.
type How = Result<Ended, Error>;

/// Records until something ends it; what was seen is on disk then.
pub(super) fn sample(
    plan: &Plan,
    first: Newcomer,
    spool: Spool,
    asked: &Stop,
) -> Result<(Spooled, How), Error> {
    let rate_hz = plan.settings.rate_hz;
    let period_ns = (1e9 / rate_hz) as u64;
    let pid = first.attached.pid;
    let recorder = spool.recorder()?;
    match plan.stops {
        Some(Stops::Growth { period, times }) => {
            let stops = stop::Plan {
                pid,
                kind: Kind::PageFaults { period },
                beat_ns: if times { period_ns } else { BEAT_NS },
                huge_pages: has_huge_pages(),
            };
            let growth = Growth::new(first, recorder, rate_hz, period, times);
            let growth = growth.map_err(|error| Error::stop(pid, error));
            run(plan, stops, growth, spool, asked)
        }
        Some(Stops::Exact) | None => {
            let stops = stop::Plan {
                pid,
                kind: Kind::TaskClock { period_ns },
                beat_ns: period_ns,
                huge_pages: false,
            };
            let exact = Exact::new(first, recorder, rate_hz);
            run(plan, stops, Ok(exact), spool, asked)
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
    spool: Spool,
    asked: &Stop,
) -> Result<(Spooled, How), Error> {
    let start_ns = now_ns();
    let started = recording.and_then(|mut recording| {
        recording.begin()?;
        StopThread::start(stops, recording)
    });
    let stop_thread = started.inspect_err(|_| {
        // Nothing was recorded.
        let _ = fs::remove_file(&spool.path);
    })?;
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
    let (recording, how) = stop_thread.join();
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
