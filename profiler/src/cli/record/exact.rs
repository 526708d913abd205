//! `onlooker record --exact`: the same recording, made at the instants that threads are stopped at.

use std::fs;
use std::io::{self, BufWriter};
use std::thread;
use std::time::Duration;

use onlooker_recording::write::WriteError;

use super::plan::Plan;
use super::spool::{Spool, Spooled};
use super::{Stop, progress_line};
use crate::error::Error;
use crate::record::Recorder;
use crate::record::clock::now_ns;
use crate::record::exact::Exact;
use crate::record::family::Newcomer;
use crate::record::run::Ended;
use crate::stop::{self, Request, StopThread};
use crate::sys::perf::Kind;

/// Ctrl-C and the end of the duration are noticed so late at most.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Samples until something ends it; what was seen is on disk then.
pub(super) fn sample(
    plan: &Plan,
    first: Newcomer,
    spool: Spool,
    asked: &Stop,
) -> Result<(Spooled, Ended), Error> {
    let Spool {
        file,
        path,
        becomes,
        header,
    } = spool;
    let stopped = |error: io::Error| Error::Write {
        path: path.clone(),
        error,
        kept: format!("; what was recorded before is in {}", path.display()),
    };
    let failed = |error: WriteError| stopped(io::Error::other(error.to_string()));
    let settings = &plan.settings;
    let period_ns = (1e9 / settings.rate_hz) as u64;
    let stops = stop::Plan {
        pid: first.attached.pid,
        kind: Kind::TaskClock { period_ns },
        beat_ns: period_ns,
        kernel: true,
    };
    let written = BufWriter::new(file.try_clone().map_err(stopped)?);
    let recorder = Recorder::new(written, &header).map_err(failed)?;
    let start_ns = now_ns();
    let mut exact = Exact::new(first, recorder, settings.rate_hz);
    let stop_thread = match exact.begin() {
        Ok(()) => StopThread::start(stops, exact),
        Err(error) => Err(error),
    };
    let stop_thread = stop_thread.inspect_err(|_| {
        // Nothing was recorded.
        let _ = fs::remove_file(&path);
    })?;
    let progress = progress_line();
    let ended = loop {
        if stop_thread.is_finished() {
            break Ended::Process;
        }
        if asked.asked() {
            break Ended::Interrupt;
        }
        let elapsed = Duration::from_nanos(now_ns().saturating_sub(start_ns));
        if settings.duration.is_some_and(|limit| elapsed >= limit) {
            break Ended::Duration;
        }
        if let Some(bar) = &progress {
            bar.set_message("exact samples (Ctrl-C to finish)");
        }
        thread::sleep(LOOK_EVERY);
    };
    if let Some(bar) = progress {
        bar.finish_and_clear();
    }
    stop_thread.ask(Request::End);
    let (exact, how) = stop_thread.join();
    if let stop::Ended::Failed(error) = how {
        // What is there is kept.
        eprintln!("onlooker: {error}");
    }
    let (totals, processes) = exact.finish().map_err(failed)?;
    let spooled = Spooled {
        file,
        path,
        becomes,
        totals,
        processes,
    };
    Ok((spooled, ended))
}
