//! What reading a stack costs, and the gate on it.

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{Interpreter, Scratch, Target, matrix, onlooker, onlooker_command, run};

fn reads(target: &Target, more: &[&str]) -> support::Run {
    let pid = target.pid().to_string();
    let mut args = vec!["reads", "-p", &pid, "--json", "--samples", "50"];
    args.extend(more);
    onlooker(&args)
}

fn figure(value: &Value, path: &str) -> u64 {
    value
        .pointer(path)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("no {path} in {value}"))
}

/// Frame objects of 3.8 – 3.10 are in the heap, one by one.
fn has_chunks(interpreter: &Interpreter) -> bool {
    interpreter.at_least(3, 11)
}

#[test]
fn a_thousand_plain_frames_stay_within_the_budget() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "plain1000.py", &["1000", "0"]);
        let measured = reads(&target, &[]).json();
        assert!(figure(&measured, "/frames") >= 1000);
        assert_eq!(figure(&measured, "/threads"), 1);
        assert_eq!(figure(&measured, "/warm/samples"), 50);
        let (warm, cold) = (
            figure(&measured, "/warm/calls/median"),
            figure(&measured, "/cold/calls"),
        );
        let (warm_bytes, cold_bytes) = (
            figure(&measured, "/warm/bytes/median"),
            figure(&measured, "/cold/bytes"),
        );
        if has_chunks(interpreter) {
            assert_eq!(warm, 1);
            let runs = figure(&measured, "/chunk_runs");
            assert!((1..=3).contains(&runs), "{measured}");
            assert!(cold <= 2 + runs, "{measured}");
            // The live bytes are not part of the output; a chunk holds no more than its size.
            let live = figure(&measured, "/chunks") * (16 << 10);
            assert!(warm_bytes <= live + (24 << 10), "{measured}");
            assert!(cold_bytes <= live + (192 << 10), "{measured}");
        } else {
            assert!(warm <= 2, "{measured}");
            assert!(cold <= 120 && cold_bytes <= 1 << 20, "{measured}");
        }
    });
}

#[test]
fn many_threads_and_frames_outside_chunks_stay_within_two_calls() {
    matrix(|interpreter| {
        for (program, args) in [
            ("plain1000.py", &["20", "64"][..]),
            ("generators.py", &[]),
            ("callbacks.py", &[]),
        ] {
            let target = Target::spawn(interpreter, program, args);
            let measured = reads(&target, &["--max-warm-calls", "2"]);
            assert_eq!(measured.code(), Some(0), "{program}: {}", measured.stderr);
        }
    });
}

#[test]
fn one_thread_is_measured_by_its_kernel_id() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "plain1000.py", &["100", "2"]);
        let worker = target
            .ready()
            .threads
            .iter()
            .find(|t| t.name.as_deref() != Some("MainThread"));
        let tid = target
            .os_thread_id(worker.expect("a worker").native_id)
            .to_string();
        let measured = reads(&target, &["--thread", &tid]).json();
        assert_eq!(figure(&measured, "/threads"), 1);
        assert_eq!(
            figure(&measured, "/frames") as usize,
            worker.expect("a worker").frames.len()
        );
        let missing = reads(&target, &["--thread", "1"]);
        assert_eq!(missing.code(), Some(3), "{}", missing.stderr);
    });
}

#[test]
fn the_gate_fails_when_only_the_newest_chunk_is_read_ahead() {
    matrix(|interpreter| {
        if !has_chunks(interpreter) {
            return;
        }
        let target = Target::spawn(interpreter, "plain1000.py", &["1000", "0"]);
        let good = reads(&target, &["--max-warm-calls", "1"]);
        assert_eq!(good.code(), Some(0), "{}", good.stderr);
        let limited = reads(&target, &["--newest-chunk-only", "--max-warm-calls", "1"]);
        assert_eq!(limited.code(), Some(1), "{}", limited.stderr);
        assert!(limited.stderr.contains("warm calls"), "{}", limited.stderr);
        let calls = figure(&limited.json(), "/warm/calls/median");
        assert!(calls > 500, "one call for nearly every frame, not {calls}");
    });
}

#[test]
fn a_baseline_is_of_one_version_and_one_depth() {
    let scratch = Scratch::new("baseline");
    let path = |name: &str| scratch.path().join(name).to_string_lossy().into_owned();
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "plain1000.py", &["200", "0"]);
        let label: String = interpreter
            .label
            .chars()
            .filter(|c| c.is_alphanumeric())
            .collect();
        let file = path(&label);
        let written = reads(&target, &["--write-baseline", &file]);
        assert_eq!(written.code(), Some(0), "{}", written.stderr);
        assert_eq!(reads(&target, &["--baseline", &file]).code(), Some(0));

        let deeper = Target::spawn(interpreter, "plain1000.py", &["201", "0"]);
        assert_eq!(reads(&deeper, &["--baseline", &file]).code(), Some(3));

        // Bytes may grow by a tenth, calls not at all.
        let mut base: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let bytes = figure(&base, "/warm/bytes/median");
        base["warm"]["bytes"]["median"] = (bytes * 100 / 111).into();
        fs::write(&file, base.to_string()).unwrap();
        let more = reads(&target, &["--baseline", &file]);
        assert_eq!(more.code(), Some(1), "{}", more.stderr);
        assert!(more.stderr.contains("warm bytes"));
        base["warm"]["bytes"]["median"] = bytes.into();
        base["warm"]["calls"]["median"] = 0.into();
        fs::write(&file, base.to_string()).unwrap();
        assert_eq!(reads(&target, &["--baseline", &file]).code(), Some(1));
    });
    // Of another version: any two that are there.
    matrix(|interpreter| {
        let (major, minor, _) = interpreter.version;
        let other = Path::new(&path("other")).to_owned();
        if other.exists() {
            let base: Value = serde_json::from_str(&fs::read_to_string(&other).unwrap()).unwrap();
            let version = format!("{major}.{minor}.");
            if !base["python"]
                .as_str()
                .unwrap_or_default()
                .starts_with(&version)
            {
                let target = Target::spawn(interpreter, "plain1000.py", &["200", "0"]);
                let answer = reads(&target, &["--baseline", &other.to_string_lossy()]);
                assert_eq!(answer.code(), Some(3), "{}", answer.stderr);
            }
        } else {
            let target = Target::spawn(interpreter, "plain1000.py", &["200", "0"]);
            reads(&target, &["--write-baseline", &other.to_string_lossy()]).json();
        }
    });
}

#[test]
fn a_command_is_measured_when_its_stack_stands_still() {
    matrix(|interpreter| {
        let mut python = interpreter.command(&support::program("plain1000.py"), &["50", "1"]);
        let mut command = onlooker_command();
        command.args(["reads", "--json", "--max-warm-calls", "2", "--"]);
        if matches!(interpreter.mode, support::Mode::Namespace) {
            // The command is `unshare`, which is no Python.
            return;
        }
        append(&mut command, &mut python);
        let measured = run(command.stdin(std::process::Stdio::piped()));
        assert_eq!(measured.code(), Some(0), "{}", measured.stderr);
        let json = measured.json();
        assert_eq!(figure(&json, "/threads"), 2);
    });
}

/// Adds a whole command line, with its environment, as arguments.
fn append(command: &mut Command, other: &mut Command) {
    command.arg(other.get_program());
    command.args(other.get_args());
    for (name, value) in other.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
}

/// The counts are what the kernel saw: strace counts the calls of one process, and Onlooker
/// makes exactly as many as it says.
#[test]
fn counts_equal_the_system_calls() {
    if !has_strace() {
        return;
    }
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "plain1000.py", &["1000", "0"]);
        let calls = |samples: u32| {
            let scratch = Scratch::new("strace");
            let log = scratch.path().join("log");
            let pid = target.pid().to_string();
            let mut command = Command::new("strace");
            command
                .args(["-f", "-qq", "-e", "trace=process_vm_readv", "-o"])
                .arg(&log);
            command.arg(env!("CARGO_BIN_EXE_onlooker"));
            command.args([
                "reads",
                "-p",
                &pid,
                "--json",
                "--samples",
                &samples.to_string(),
            ]);
            let run = run(&mut command);
            let text = fs::read_to_string(&log).expect("the log of strace");
            let bytes: Vec<u64> = text
                .lines()
                .filter(|line| line.contains("process_vm_readv("))
                .filter_map(|line| line.rsplit(" = ").next()?.trim().parse().ok())
                .collect();
            (bytes.len() as u64, bytes.iter().sum::<u64>(), run.json())
        };
        // Two runs that differ by a hundred warm samples and in nothing else.
        let (few, few_bytes, measured) = calls(10);
        let (many, many_bytes, _) = calls(110);
        let warm = figure(&measured, "/warm/calls/median");
        assert_eq!(many - few, 100 * warm, "{measured}");
        assert_eq!(
            many_bytes - few_bytes,
            100 * figure(&measured, "/warm/bytes/median")
        );
    });
}

/// A missing tool is told; in CI it is an error.
fn has_strace() -> bool {
    let there = Command::new("strace")
        .arg("-V")
        .output()
        .is_ok_and(|o| o.status.success());
    if !there {
        support::say("skipped: counts against system calls, strace is not installed");
        assert_ne!(
            std::env::var("ONLOOKER_REQUIRE_ALL").as_deref(),
            Ok("1"),
            "strace is needed"
        );
    }
    there
}
