//! What the arguments of `record` mean.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use onlooker_flamegraph::{Format, Options, Target};

use super::super::args::{RecordArgs, Seconds};
use super::super::output::Output;
use super::super::{refuse, report};
use crate::error::Error;
use crate::record::run::Settings;

/// What the arguments mean.
pub(super) struct Plan {
    /// What to make of the recording; `None` for the recording itself.
    pub(super) report: Option<Format>,
    pub(super) output: Option<Output>,
    pub(super) settings: Settings,
    pub(super) options: Options,
}

impl Plan {
    /// Checks everything that can be checked before the work starts.
    pub(super) fn new(args: &RecordArgs) -> Result<Self, Error> {
        refuse(args.foreign.given())?;
        if args.pid.is_none() && args.command.is_empty() {
            let needed = "record needs -p PID or -- COMMAND".to_owned();
            return Err(Error::Usage(needed));
        }
        if args.exact && args.subprocesses {
            let refused = "--exact watches one process; use it without -s".to_owned();
            return Err(Error::Usage(refused));
        }
        if args.exact && !args.rate.is_finite() {
            let refused = "--exact needs a rate; -r max is for samples that stop nothing";
            return Err(Error::Usage(refused.to_owned()));
        }
        let target = report::target(args.output.as_deref(), args.format.as_deref())?;
        let report = match target {
            Some(Target::Report(format)) => Some(format),
            Some(Target::Recording) | None => None,
        };
        if report.is_some() && args.output.is_none() {
            return Err(Error::Usage("a report needs -o FILE (or -o -)".to_owned()));
        }
        let output = match args.output.as_deref() {
            Some(path) => Some(Output::open(path)?),
            None => {
                // The name is known when the process is; that the folder can be written, now.
                drop(Output::open(Path::new("onlooker.olk"))?);
                None
            }
        };
        let duration = match args.duration {
            Some(Seconds::Some(seconds)) => Some(Duration::from_secs_f64(seconds)),
            Some(Seconds::Unlimited) | None => None,
        };
        Ok(Self {
            report,
            output,
            settings: Settings {
                rate_hz: args.rate,
                seed: unix_ns(),
                duration,
                subprocesses: args.subprocesses,
            },
            options: Options {
                selection: args.states.selection(),
                threads: args.threads,
                full_filenames: args.full_filenames,
            },
        })
    }
}

/// Now, in nanoseconds since the Unix epoch.
pub(super) fn unix_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}
