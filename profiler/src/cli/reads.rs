//! `onlooker reads`: what reading a stack costs, and whether that is too much.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use onlooker_unwinder::memory::{Class, Cost};
use serde::{Deserialize, Serialize};

use super::args::ReadsArgs;
use super::output::Output;
use crate::attach::{self, read_error};
use crate::error::Error;
use crate::launch::{Launched, START_LIMIT};
use crate::session::Session;

/// Fresh starts whose median is the cold cost.
const COLD_STARTS: usize = 5;
/// Samples that make a stack known before the warm ones are counted.
const WARM_UP: usize = 3;
/// A stack that has been the same for so long stands still.
const STILL: Duration = Duration::from_secs(1);
const STILL_POLL: Duration = Duration::from_millis(20);
/// A program that never stands still so long is not measured without `--after`.
const STILL_LIMIT: Duration = Duration::from_secs(60);
/// Exit code of a run over its budget.
const OVER_BUDGET: u8 = 1;
/// Bytes may grow by so much over a baseline before it fails.
const BYTES_TOLERANCE_PERCENT: u64 = 10;

/// What was measured. The format of `--json` and of baselines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Measured {
    python: String,
    frames: u64,
    chunks: u64,
    chunk_runs: u64,
    threads: u64,
    cold: Reads,
    warm: Warm,
    code: CodeReads,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reads {
    calls: u64,
    segments: u64,
    bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Warm {
    samples: u64,
    calls: Spread,
    segments: Spread,
    bytes: Spread,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Spread {
    min: u64,
    median: u64,
    max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CodeReads {
    calls: u64,
    bytes: u64,
}

impl Spread {
    fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        let last = values.len().saturating_sub(1);
        Self {
            min: at(0),
            median: at(last / 2),
            max: at(last),
        }
    }
}

pub(super) fn run(args: &ReadsArgs) -> Result<u8, Error> {
    let baseline = args.baseline.as_deref().map(load_baseline).transpose()?;
    // Checked before anything is touched.
    let output = args
        .write_baseline
        .as_deref()
        .map(Output::open)
        .transpose()?;
    let mut launched = None;
    let attached = match (args.pid, args.command.is_empty()) {
        (Some(pid), _) => attach::attach(pid, attach::STARTING)?,
        (None, true) => {
            return Err(Error::Usage("reads needs -p PID or -- COMMAND".to_owned()));
        }
        (None, false) => {
            // stdout is for what was measured.
            let child = Launched::start(&args.command, Stdio::from(io::stderr()))?;
            launched.insert(child).attach(START_LIMIT, || false)?
        }
    };
    let mut session = Session::new(attached, 1.0);
    if launched.is_some() {
        settle(&mut session, args.after)?;
    }
    let measured = measure(&mut session, args).map_err(not_measured)?;
    drop(launched);
    let text = if args.json {
        to_json(&measured)?
    } else {
        render(&measured)
    };
    let _ = io::stdout().write_all(text.as_bytes());
    let exceeded = exceeded(&measured, args, baseline.as_ref())?;
    if !exceeded.is_empty() {
        let _ = io::stderr().write_all(table(&exceeded).as_bytes());
        return Ok(OVER_BUDGET);
    }
    if let Some(output) = output {
        let json = to_json(&measured)?;
        let path = output.path().to_owned();
        let written = output.write(|out| out.write_all(json.as_bytes()));
        written.map_err(|error| Error::Write {
            path,
            error,
            kept: String::new(),
        })?;
    }
    Ok(0)
}

/// A process that goes away while it is measured is not an attach error.
fn not_measured(error: Error) -> Error {
    match error {
        Error::Exited { pid } => {
            Error::NotMeasured(format!("process {pid} exited while it was measured"))
        }
        error => error,
    }
}

/// Waits until the stacks have been the same for a second, or for `after`.
fn settle(session: &mut Session, after: Option<f64>) -> Result<(), Error> {
    if let Some(seconds) = after {
        thread::sleep(Duration::from_secs_f64(seconds));
        return Ok(());
    }
    let start = Instant::now();
    let mut since = Instant::now();
    let mut last = Vec::new();
    while since.elapsed() < STILL {
        if start.elapsed() > STILL_LIMIT {
            return Err(Error::NotMeasured(format!(
                "the stacks did not stand still for {} s within {} s; measure a running program \
                 with --after SECONDS",
                STILL.as_secs(),
                STILL_LIMIT.as_secs()
            )));
        }
        thread::sleep(STILL_POLL);
        session.sample(1).map_err(not_measured)?;
        let now: Vec<_> = session
            .stacks()
            .map(|s| (s.tstate, s.frames().clone()))
            .collect();
        if now != last {
            last = now;
            since = Instant::now();
        }
    }
    Ok(())
}

fn measure(session: &mut Session, args: &ReadsArgs) -> Result<Measured, Error> {
    let pid = session.pid;
    session.sample(WARM_UP)?;
    if let Some(tid) = args.thread {
        let states: Vec<_> = session.stacks().map(|stack| stack.tstate).collect();
        let tstate = states
            .into_iter()
            .find(|tstate| session.label(*tstate).os_thread_id == Some(tid))
            .ok_or_else(|| {
                let what = format!("process {pid} has no Python thread with kernel id {tid}");
                Error::NotMeasured(what)
            })?;
        session.sampler_mut().only(tstate);
    }
    if args.newest_chunk_only {
        session.sampler_mut().limit_to_newest_chunk();
    }
    let fail = |error| read_error(pid, error);
    let mut cold = Vec::new();
    for _ in 0..COLD_STARTS {
        let sampler = session.sampler_mut();
        sampler.forget_stacks();
        let before = sampler.cost(Class::Stacks);
        sampler.sample().map_err(fail)?;
        cold.push(sampler.cost(Class::Stacks).since(before));
    }
    for _ in 0..WARM_UP {
        session.sampler_mut().sample().map_err(fail)?;
    }
    let mut warm = Vec::with_capacity(args.samples as usize);
    for _ in 0..args.samples {
        let sampler = session.sampler_mut();
        let before = sampler.cost(Class::Stacks);
        sampler.sample().map_err(fail)?;
        warm.push(sampler.cost(Class::Stacks).since(before));
    }
    // Names are known by now: what remains is reading the identities again.
    session.sample(1)?;
    let before = session.cost(Class::Code);
    session.sample(1)?;
    let code = session.cost(Class::Code).since(before);
    let frames = session
        .stacks()
        .map(|stack| stack.frames().len() as u64)
        .sum();
    let threads = session.sampler_mut().threads();
    let whole = threads.iter().filter(|t| t.is_whole());
    if whole.count() == 0 {
        return Err(Error::NotMeasured(format!(
            "no stack of process {pid} could be read whole"
        )));
    }
    let field =
        |field: fn(&Cost) -> u64, costs: &[Cost]| Spread::of(costs.iter().map(field).collect());
    Ok(Measured {
        frames,
        chunks: threads.iter().map(|t| t.chunks.len() as u64).sum(),
        chunk_runs: threads.iter().map(|t| t.chunk_runs() as u64).sum(),
        threads: threads.len() as u64,
        cold: Reads {
            calls: field(|c| c.calls, &cold).median,
            segments: field(|c| c.segments, &cold).median,
            bytes: field(|c| c.bytes, &cold).median,
        },
        warm: Warm {
            samples: warm.len() as u64,
            calls: field(|c| c.calls, &warm),
            segments: field(|c| c.segments, &warm),
            bytes: field(|c| c.bytes, &warm),
        },
        code: CodeReads {
            calls: code.calls,
            bytes: code.bytes,
        },
        python: session.version.to_string(),
    })
}

/// One figure that is too large.
struct Exceeded {
    what: &'static str,
    measured: u64,
    allowed: u64,
}

fn exceeded(
    measured: &Measured,
    args: &ReadsArgs,
    baseline: Option<&Measured>,
) -> Result<Vec<Exceeded>, Error> {
    let mut found = Vec::new();
    let mut check = |what, measured, allowed: Option<u64>| {
        if let Some(allowed) = allowed.filter(|allowed| measured > *allowed) {
            found.push(Exceeded {
                what,
                measured,
                allowed,
            });
        }
    };
    check("cold calls", measured.cold.calls, args.max_cold_calls);
    check(
        "warm calls",
        measured.warm.calls.median,
        args.max_warm_calls,
    );
    check("warm bytes", measured.warm.bytes.median, args.max_bytes);
    if let Some(base) = baseline {
        if minor(&base.python) != minor(&measured.python) {
            return Err(Error::NotMeasured(format!(
                "the baseline is of Python {}, this is {}; write a new one with --write-baseline",
                base.python, measured.python
            )));
        }
        if base.frames != measured.frames {
            return Err(Error::NotMeasured(format!(
                "the baseline has {} frames, this stack has {}; measure the same stack, or write \
                 a new one with --write-baseline",
                base.frames, measured.frames
            )));
        }
        let bytes = base.warm.bytes.median;
        check(
            "warm calls (baseline)",
            measured.warm.calls.median,
            Some(base.warm.calls.median),
        );
        check(
            "warm bytes (baseline)",
            measured.warm.bytes.median,
            Some(bytes + bytes * BYTES_TOLERANCE_PERCENT / 100),
        );
    }
    Ok(found)
}

fn minor(version: &str) -> Vec<&str> {
    version.split('.').take(2).collect()
}

fn load_baseline(path: &Path) -> Result<Measured, Error> {
    let text = fs::read_to_string(path).map_err(|error| Error::NoInput {
        path: path.to_owned(),
        error,
    })?;
    serde_json::from_str(&text).map_err(|error| Error::Data {
        path: path.to_owned(),
        error: format!("not a baseline of `onlooker reads --write-baseline`: {error}"),
    })
}

fn to_json(measured: &Measured) -> Result<String, Error> {
    let json = serde_json::to_string(measured);
    json.map(|json| json + "\n")
        .map_err(|error| Error::Report(error.to_string()))
}

fn table(exceeded: &[Exceeded]) -> String {
    let mut text = String::from("onlooker: the read budget is exceeded\n");
    let _ = writeln!(
        text,
        "{:<24}{:>12}{:>12}{:>12}",
        "", "measured", "allowed", "over by"
    );
    for Exceeded {
        what,
        measured,
        allowed,
    } in exceeded
    {
        let over = measured - allowed;
        let _ = writeln!(text, "{what:<24}{measured:>12}{allowed:>12}{over:>12}");
    }
    text
}

fn render(measured: &Measured) -> String {
    let Measured {
        python,
        frames,
        chunks,
        chunk_runs,
        threads,
        cold,
        warm,
        code,
    } = measured;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "Python {python}: {threads} thread(s), {frames} frames, {chunks} chunks in {chunk_runs} \
         run(s)"
    );
    let _ = writeln!(
        text,
        "{:<14}{:>8}{:>10}{:>12}",
        "", "calls", "segments", "bytes"
    );
    let mut row = |what: &str, calls, segments, bytes, note: &str| {
        let line = format!("{what:<14}{calls:>8}{segments:>10}{bytes:>12}  {note}");
        let _ = writeln!(text, "{}", line.trim_end());
    };
    let note = format!("median of {COLD_STARTS} fresh starts");
    row("cold", cold.calls, cold.segments, cold.bytes, &note);
    let note = format!("of {} samples", warm.samples);
    let Warm {
        calls: c,
        segments: s,
        bytes: b,
        ..
    } = warm;
    row("warm min", c.min, s.min, b.min, &note);
    row("warm median", c.median, s.median, b.median, "");
    row("warm max", c.max, s.max, b.max, "");
    let _ = writeln!(
        text,
        "code objects  {:>8}{:>10}{:>12}  identities of one warm sample, not in the rows above",
        code.calls, "", code.bytes
    );
    text
}
