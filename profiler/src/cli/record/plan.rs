//! What the arguments of `record` mean.

use std::path::Path;
use std::time::Duration;

use onlooker_flamegraph::{By, Options, Selection};
use onlooker_recording::tables::WeightKind;

use super::super::args::{RecordArgs, Seconds};
use super::super::output::Output;
use super::super::refuse;
use super::super::report::{self, Report, Wanted};
use crate::error::Error;
use crate::record::clock::unix_ns;
use crate::record::growth;
use crate::record::run::Settings;

/// What the arguments mean.
pub(super) struct Plan {
    /// What to make of the recording; `None` for the recording itself.
    pub(super) report: Option<Report>,
    pub(super) output: Option<Output>,
    pub(super) settings: Settings,
    /// For what threads are stopped; `None` for samples that stop nothing.
    pub(super) stops: Option<Stops>,
    pub(super) options: Options,
}

/// For what threads are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stops {
    /// Exact samples.
    Exact,
    /// Growth, at one page fault in so many, with time samples or without.
    Growth {
        /// Faults between two stops.
        period: u64,
        /// Whether there are time samples.
        times: bool,
    },
}

/// Samples a second, where nothing else is asked for.
const RATE_HZ: f64 = 100.0;

impl Plan {
    /// Whether a program that is launched is watched from its first instruction on.
    pub(super) fn begins_with_program(&self) -> bool {
        matches!(self.stops, Some(Stops::Growth { .. }))
    }

    /// Checks everything that can be checked before the work starts.
    pub(super) fn new(args: &RecordArgs) -> Result<Self, Error> {
        refuse(args.foreign.given())?;
        if args.pid.is_none() && args.command.is_empty() {
            let needed = "record needs -p PID or -- COMMAND".to_owned();
            return Err(Error::Usage(needed));
        }
        if args.weight.is_some_and(|of| of != WeightKind::Samples) && !args.growth {
            let needed = "--weight grown, kept and files are weights of --growth".to_owned();
            return Err(Error::Usage(needed));
        }
        let stops = stops(args)?;
        let by = args.growth.then(By::default);
        let target = report::target(args.output.as_deref(), args.format.as_deref(), by)?;
        let report = match target {
            Some(Wanted::Report(report)) => Some(report),
            Some(Wanted::Recording) | None => None,
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
                rate_hz: args.rate.unwrap_or(RATE_HZ),
                seed: unix_ns(),
                duration,
                subprocesses: args.subprocesses,
            },
            stops,
            options: Options {
                selection: Selection {
                    weight: args.weight.unwrap_or(if args.growth {
                        WeightKind::BytesKept
                    } else {
                        WeightKind::Samples
                    }),
                    ..args.states.selection()
                },
                threads: args.threads,
                full_filenames: args.full_filenames,
            },
        })
    }
}

/// For what threads are to be stopped.
fn stops(args: &RecordArgs) -> Result<Option<Stops>, Error> {
    let option = match (args.exact, args.growth) {
        (true, _) => "--exact",
        (false, true) => "--growth",
        (false, false) => return Ok(None),
    };
    if args.subprocesses {
        let refused = format!("{option} watches one process; use it without -s");
        return Err(Error::Usage(refused));
    }
    if args.rate.is_some_and(f64::is_infinite) {
        let refused = format!("{option} needs a rate; -r max is for samples that stop nothing");
        return Err(Error::Usage(refused));
    }
    Ok(Some(if args.exact {
        Stops::Exact
    } else {
        Stops::Growth {
            period: growth::faults(args.growth_every),
            times: args.rate.is_some(),
        }
    }))
}
