//! What an image of a large process costs: how long it takes to open it and to take the census
//! from it, and how much memory that needs beside the map. Each run is a process of its own.
//!
//! `cargo bench -p onlooker --bench heap_image`, with `-- MEBIBYTES RUNS` (1024 5)

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{Scratch, any, onlooker_command, workspace};

const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A process with objects of so many mebibytes, when it has them.
fn store(mebibytes: &str) -> Child {
    let program = workspace().join("benches/programs/store.py");
    let mut child = any()
        .command(&program, &[mebibytes])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    child
}

/// Runs to the end; how long it took, and the most memory of its own that was seen, in KiB.
fn watch(command: &mut Command) -> (Duration, u64) {
    let begin = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn().expect("starts");
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let own = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let own = own.and_then(|own| own.split_whitespace().next()?.parse().ok());
        peak = peak.max(own.unwrap_or(0));
        if let Some(status) = child.try_wait().expect("a child") {
            assert!(status.success(), "{command:?}: {status}");
            return (begin.elapsed(), peak);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn heap(args: &[&str]) -> Command {
    let mut command = onlooker_command();
    command.args(["heap", "--json"]).args(args);
    command
}

fn main() {
    let numbers: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word.bytes().all(|byte| byte.is_ascii_digit()))
        .collect();
    let mebibytes = numbers.first().map_or("1024", String::as_str);
    let runs = numbers.get(1).map_or(5, |runs| runs.parse().expect("runs"));
    let scratch = Scratch::new("heap_image");
    let path = scratch.join("store.olkh");
    let path: &Path = &path;
    let text = path.to_str().expect("UTF-8");
    let mut child = store(mebibytes);
    let (elapsed, _) = watch(&mut heap(&["-p", &child.id().to_string(), "-o", text]));
    drop(child.stdin.take());
    child.wait().expect("a child");
    let bytes = std::fs::metadata(path).expect("an image").len();
    println!(
        "an image of {} MiB, written within {:.2} s (copy, census and file)",
        bytes >> 20,
        elapsed.as_secs_f64()
    );
    println!(
        "{:>22}{:>22}{:>10}",
        "open and census (s)", "beside the map (MiB)", "share"
    );
    for _ in 0..runs {
        let (elapsed, peak) = watch(&mut heap(&[text]));
        println!(
            "{:>22.2}{:>22.1}{:>9.1} %",
            elapsed.as_secs_f64(),
            peak as f64 / 1024.0,
            (peak << 10) as f64 * 100.0 / bytes as f64
        );
    }
}
