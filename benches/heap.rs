//! What it costs to know where the memory goes: each figure beside the goal that it has.
//!
//! Times are of the whole program, from its start to its end, as a user waits for it; medians of
//! five. Memory is the most that a census takes beyond the copy of its target.
//!
//! `cargo bench -p onlooker --bench heap`

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::time::{Duration, Instant};

use onlooker::heap::{Limits, Options, take};
use serde_json::Value;
use support::{Interpreter, Target, interpreters, onlooker, workspace};

const RUNS: usize = 5;
const OBJECTS: &str = "1000000";
const RESIDENT_MIB: &str = "1024";
const TRACES: &str = "1000000";

fn main() {
    let Some(interpreter) = interpreters().into_iter().next() else {
        println!("no interpreter to look at");
        return;
    };
    println!("{}; medians of {RUNS}", interpreter.label);
    println!("{:<52}{:>12}{:>12}", "", "figure", "goal");
    let target = spawn(&interpreter, "objects", OBJECTS);
    let (time, census) = timed(&["heap", "--json"], &target);
    let objects = census["objects_live"].as_u64().unwrap_or_default();
    row(
        &format!("census of {objects} objects, {}", mib(resident(&census))),
        &seconds(time),
        "1 s",
    );
    // Told before, so that nothing is left of it in the figure.
    let beyond = beyond_copy(&target);
    row("  memory beyond the copy", &mib(beyond), "–");
    row(
        "  for each object",
        &format!("{} B", beyond / objects.max(1)),
        "–",
    );
    drop(target);

    let target = spawn(&interpreter, "resident", RESIDENT_MIB);
    let mut pauses = Vec::new();
    let mut bytes = 0;
    for _ in 0..RUNS {
        let census = report(&["heap", "--json", "--pause"], &target);
        pauses.push(census["pause_ns"].as_u64().unwrap_or_default());
        bytes = resident(&census);
    }
    let pause = Duration::from_nanos(median(pauses));
    let per_gib = pause.mul_f64(f64::from(1 << 30) / bytes as f64);
    row(
        &format!("copy under --pause of {}", mib(bytes)),
        &seconds(pause),
        "–",
    );
    row("  for each GiB resident", &seconds(per_gib), "0.3 s");
    drop(target);

    let target = spawn(&interpreter, "traced", TRACES);
    let (time, tables) = timed(&["tracemalloc", "--json"], &target);
    let traces = tables["count"].as_u64().unwrap_or_default();
    row(
        &format!("tracemalloc tables with {traces} traces"),
        &seconds(time),
        "1.5 s",
    );
}

fn spawn(interpreter: &Interpreter, what: &str, size: &str) -> Target {
    let program = workspace().join("benches/programs/heap.py");
    Target::spawn_command(&mut interpreter.command(&program, &[what, size]))
}

/// Runs `onlooker` on a target; what it reports.
fn report(args: &[&str], target: &Target) -> Value {
    let pid = target.pid().to_string();
    onlooker(&[args, &["-p", &pid]].concat()).success().json()
}

/// How long that takes, and one of the reports.
fn timed(args: &[&str], target: &Target) -> (Duration, Value) {
    let mut last = Value::Null;
    let times = (0..RUNS).map(|_| {
        let start = Instant::now();
        last = report(args, target);
        start.elapsed()
    });
    (median(times.collect()), last)
}

/// The most memory that a census takes in this process, less what it copied.
fn beyond_copy(target: &Target) -> u64 {
    let options = Options {
        limits: Limits {
            max_bytes: u64::MAX,
        },
        pause: false,
        keep: false,
    };
    // The high-water mark begins anew (proc(5), `clear_refs`).
    fs::write("/proc/self/clear_refs", "5").expect("clear_refs");
    let before = status("VmHWM:");
    let taken = take(target.pid().cast_signed(), options, |_, _| {}).expect("a census");
    let most = status("VmHWM:");
    most.saturating_sub(before)
        .saturating_sub(taken.image.space.len_bytes())
}

/// A figure of this process, in bytes.
fn status(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").expect("status");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<u64>().ok()).expect("a size") * 1024
}

fn resident(census: &Value) -> u64 {
    let total = census.pointer("/rss/total_bytes").and_then(Value::as_u64);
    total.expect("the resident bytes")
}

fn row(what: &str, figure: &str, goal: &str) {
    println!("{what:<52}{figure:>12}{goal:>12}");
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn median<T: Ord + Copy>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}
