//! `onlooker selfcheck`: how many of the sampled calls the program really makes.

mod table;

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::args::{Seconds, SelfcheckArgs};
use super::stdout;
use crate::error::{Error, exit};
use crate::selfcheck::edges::{FunctionId, Oracle, Tally};
use crate::selfcheck::oracle::{self, Watched};
use crate::selfcheck::{self, Sampled};

/// A program runs slower under the oracle, so it gets so many times the duration.
const ORACLE_TIMES: u32 = 10;
/// How many impossible edges are shown.
const WORST: usize = 10;
/// Exit code when an impossible edge was seen.
const IMPOSSIBLE: u8 = 1;

/// The format of `--json`, documented in the README.
#[derive(Debug, Serialize)]
struct Report {
    command: Vec<String>,
    python: String,
    rate_hz: f64,
    duration_s: f64,
    oracle: OracleReport,
    ticks: u64,
    missed_ticks: u64,
    verified: u64,
    unverified: BTreeMap<&'static str, u64>,
    lost: BTreeMap<&'static str, u64>,
    retries: u64,
    calls: u64,
    bytes: u64,
    edges: Edges,
    unverified_edges: Edges,
    worst: Vec<Worst>,
}

#[derive(Debug, Serialize)]
struct OracleReport {
    way: String,
    runs: u32,
    duration_s: f64,
    edges: usize,
    ended_early: bool,
}

#[derive(Debug, Serialize)]
struct Edges {
    stacks: u64,
    outside: u64,
    seen: u64,
    different: usize,
    anywhere: u64,
    impossible: u64,
    impossible_share: f64,
    impossible_stacks: u64,
}

#[derive(Debug, Serialize)]
struct Worst {
    count: u64,
    caller: Option<Place>,
    callee: Place,
    example: Vec<Place>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Place {
    name: String,
    filename: String,
    first_line: i32,
}

pub(super) fn run(args: &SelfcheckArgs) -> Result<u8, Error> {
    let limit = match args.duration {
        Some(Seconds::Some(seconds)) => Some(Duration::from_secs_f64(seconds)),
        Some(Seconds::Unlimited) | None => None,
    };
    let stop = stop()?;
    let stopped = || stop.load(Ordering::Relaxed);
    say!("running the command under the oracle, which is slower");
    let oracle_limit = limit.map(|limit| limit * ORACLE_TIMES);
    let (mut oracle, watched) =
        oracle::watch(&args.command, args.oracle_runs, oracle_limit, &stopped)?;
    if stopped() {
        let what = "stopped before anything was sampled".to_owned();
        return Err(Error::Report(what));
    }
    if let Some(status) = watched.status.filter(|status| !status.success()) {
        complain(status);
    }
    say!("running it as it is, sampled");
    let edges = oracle.edges();
    let sampled = selfcheck::sample(
        &args.command,
        args.rate,
        crate::record::TRIES,
        limit,
        &mut oracle,
        &stopped,
    )?;
    if sampled.steps.steps == 0 {
        let what = "nothing to compare: no verified stack of the program was sampled; give it \
                    longer work or a higher -r";
        return Err(Error::Report(what.to_owned()));
    }
    let report = Report::new(args, &oracle, edges, watched, &sampled);
    stdout::print(&if args.json {
        stdout::json(&report)?
    } else {
        table::render(&report)
    })?;
    Ok(match sampled.steps.impossible {
        0 => 0,
        _ => IMPOSSIBLE,
    })
}

fn complain(status: ExitStatus) {
    say!("the command ended with {status} under the oracle; does it run by itself?");
}

/// The first Ctrl-C or SIGTERM ends the run and shows what there is, the second stops at once.
fn stop() -> Result<Arc<AtomicBool>, Error> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let code = exit::INTERRUPTED.into();
        signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .map_err(|error| Error::Report(format!("cannot catch signals: {error}")))?;
    }
    Ok(flag)
}

impl Report {
    fn new(
        args: &SelfcheckArgs,
        oracle: &Oracle,
        edges: usize,
        watched: Watched,
        sampled: &Sampled,
    ) -> Self {
        let place = |id: FunctionId| {
            let function = oracle.function(id);
            Place {
                name: function.name.clone(),
                filename: function.filename.clone(),
                first_line: function.line,
            }
        };
        let worst = sampled.steps.worst(WORST).into_iter();
        let worst = worst.map(|((caller, callee), impossible)| Worst {
            count: impossible.count,
            caller: caller.map(place),
            callee: place(callee),
            example: impossible.example.iter().copied().map(place).collect(),
        });
        let words = args.command.iter();
        Self {
            command: words
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
            python: sampled.python.clone(),
            rate_hz: args.rate,
            duration_s: sampled.duration.as_secs_f64(),
            oracle: OracleReport {
                way: watched.way,
                runs: watched.runs,
                duration_s: watched.took.as_secs_f64(),
                edges,
                ended_early: watched.ended_early,
            },
            ticks: sampled.ticks,
            missed_ticks: sampled.missed,
            verified: sampled.verified,
            unverified: sampled.unverified.clone(),
            lost: sampled.lost.clone(),
            retries: sampled.retries,
            calls: sampled.cost.calls,
            bytes: sampled.cost.bytes,
            edges: Edges::new(&sampled.steps),
            unverified_edges: Edges::new(&sampled.unverified_steps),
            worst: worst.collect(),
        }
    }
}

impl Edges {
    fn new(tally: &Tally) -> Self {
        Self {
            stacks: tally.stacks,
            outside: tally.outside,
            seen: tally.steps,
            different: tally.different(),
            anywhere: tally.anywhere,
            impossible: tally.impossible,
            impossible_share: tally.impossible_share(),
            impossible_stacks: tally.impossible_stacks,
        }
    }
}
