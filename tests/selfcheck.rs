//! `onlooker selfcheck`: the oracle sees every call, gets out of the program's way, and finds
//! the one that it did not see.

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::{Interpreter, Mode, Run, Scratch, matrix, onlooker_command, program, run};

/// `onlooker selfcheck ARGS -- COMMAND`, or `None` where the command is no Python or cannot see
/// our files.
fn selfcheck(interpreter: &Interpreter, args: &[&str], python: &[&str]) -> Option<Run> {
    if matches!(interpreter.mode, Mode::Chroot | Mode::Namespace) {
        return None;
    }
    Some(run(&mut command(interpreter, args, python)))
}

fn command(interpreter: &Interpreter, args: &[&str], python: &[&str]) -> Command {
    let mut target = interpreter.bare_command();
    target.args(python);
    let mut command = onlooker_command();
    command.args(["selfcheck", "--json"]).args(args).arg("--");
    command.arg(target.get_program()).args(target.get_args());
    for (name, value) in target.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn figure(value: &Value, path: &str) -> u64 {
    value
        .pointer(path)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("no {path} in {value}"))
}

fn path(name: &str) -> String {
    program(name).to_string_lossy().into_owned()
}

/// A program of the comparison with other profilers.
fn bench(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/programs");
    folder.join(name).to_string_lossy().into_owned()
}

/// Two callers of two callees with equal frames, called in turn, and a recursion of 30 doing so:
/// whoever mixes two instants has steps in a tenth of all stacks that were never made.
#[test]
fn equal_frames_in_turn_are_not_mixed() {
    matrix(|interpreter| {
        if !interpreter.is_pyenv() {
            return;
        }
        for depth in ["0", "30"] {
            let checked = selfcheck(interpreter, &[], &[&bench("pairs.py"), "2", depth]);
            let json = checked.expect("a plain interpreter").json();
            let stacks = figure(&json, "/edges/stacks");
            assert!(stacks > 100, "{json}");
            let impossible = figure(&json, "/edges/impossible");
            assert!(impossible * 200 <= stacks.max(600), "{json:#}");
            let unverified = stacks - figure(&json, "/verified").min(stacks);
            assert!(unverified * 20 <= stacks, "{json:#}");
        }
    });
}

#[test]
fn real_code_is_sampled_as_it_is() {
    matrix(|interpreter| {
        let Some(checked) = selfcheck(interpreter, &[], &[&path("realcode.py"), "1.5", "1"]) else {
            return;
        };
        let json = checked.json();
        assert!(figure(&json, "/edges/stacks") > 100, "{json}");
        // None in 300 000 steps was measured; here are some 30 000.
        let impossible = figure(&json, "/edges/impossible");
        assert!(impossible <= 3, "{json:#}");
        assert_eq!(checked.code(), Some(i32::from(impossible > 0)), "{json}");
        assert!(figure(&json, "/oracle/edges") > 300, "{json}");
        let expected = if interpreter.at_least(3, 12) {
            "monitoring"
        } else {
            "setprofile"
        };
        assert_eq!(json["oracle"]["way"], expected);
        assert_eq!(json["oracle"]["ended_early"], false);
        assert_eq!(json["python"], interpreter.full_version());
    });
}

/// Destructors run above the frame of a function that has returned, and bodies of classes above C
/// code: neither looks like a stack that is torn, and none ends where C code stands.
#[test]
fn frames_that_are_no_link_any_more_are_told_from_missing_ones() {
    matrix(|interpreter| {
        let args = ["-r", "1000"];
        let Some(checked) = selfcheck(interpreter, &args, &[&path("unlinked.py"), "1"]) else {
            return;
        };
        let json = checked.json();
        let stacks = figure(&json, "/edges/stacks");
        assert!(stacks > 300, "{json}");
        assert_eq!(figure(&json, "/edges/impossible"), 0, "{json:#}");
        let gaps = json.pointer("/unverified/gap").and_then(Value::as_u64);
        assert!(gaps.unwrap_or_default() * 50 <= stacks, "{json:#}");
    });
}

/// A stack that runs over the end of a chunk: while that is given back, the thread state has the
/// limit of the one and the top of the other.
#[test]
fn stacks_that_run_over_the_end_of_a_chunk_are_seen_whole() {
    matrix(|interpreter| {
        let args = ["-r", "500"];
        let Some(checked) = selfcheck(interpreter, &args, &[&path("swings.py"), "1"]) else {
            return;
        };
        let json = checked.json();
        assert!(figure(&json, "/verified") > 100, "{json}");
        assert_eq!(figure(&json, "/edges/impossible"), 0, "{json:#}");
        let unverified = json["unverified"].as_object().expect("by reason");
        let unverified: u64 = unverified.values().filter_map(Value::as_u64).sum();
        assert!(unverified * 20 <= figure(&json, "/verified"), "{json:#}");
    });
}

/// Seventy kinds of calls, generators and calls made by C, in stacks that stand still: what is
/// impossible there is a call that the oracle missed.
#[test]
fn the_oracle_sees_every_kind_of_call() {
    matrix(|interpreter| {
        if matches!(interpreter.mode, Mode::Chroot | Mode::Namespace) {
            return;
        }
        for (name, depth) in [
            ("mixed.py", None),
            ("generators.py", Some("100")),
            ("callbacks.py", Some("100")),
        ] {
            let script = path(name);
            let args: Vec<&str> = std::iter::once(script.as_str()).chain(depth).collect();
            let checked = at_rest(command(interpreter, &["-d", "1", "-r", "100"], &args));
            let json = checked.json();
            assert_eq!(json["oracle"]["ended_early"], false, "{}", checked.stderr);
            assert!(figure(&json, "/edges/seen") > 50, "{name}: {json}");
            assert_eq!(figure(&json, "/edges/impossible"), 0, "{name}: {json:#}");
        }
    });
}

/// Nothing is traced while a trace function runs, so the oracle cannot see what it calls.
#[test]
fn what_trace_functions_call_is_set_apart() {
    matrix(|interpreter| {
        let Some(checked) = selfcheck(interpreter, &[], &[&path("tracing.py"), "1"]) else {
            return;
        };
        let json = checked.json();
        assert!(figure(&json, "/edges/anywhere") > 100, "{json:#}");
        // A torn stack may be among them, as in any program.
        assert!(figure(&json, "/edges/impossible") <= 3, "{json:#}");
    });
}

/// Runs a check of a program that rests until it can read a byte: the run under the oracle gets
/// it when the program is ready, the sampled one never.
fn at_rest(mut command: Command) -> Run {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let mut child = command
        .stdin(reader)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("onlooker");
    let mut lines = Vec::new();
    let mut asleep = true;
    for line in BufReader::new(child.stderr.take().expect("piped")).lines() {
        let line = line.expect("a line");
        if asleep && line.contains("\"ready\"") {
            asleep = false;
            writer.write_all(b"\n").expect("a byte");
        }
        lines.push(line);
    }
    let output = child.wait_with_output().expect("the end of onlooker");
    Run {
        status: output.status,
        stdout: output.stdout,
        stderr: lines.join("\n"),
    }
}

#[test]
fn the_program_does_not_see_the_oracle() {
    let scratch = Scratch::new("sitecustomize");
    let own = "import os; os.environ['OWN'] = os.environ.get('OWN', '') + 'sitecustomize'\n";
    fs::write(scratch.join("sitecustomize.py"), own).expect("a file");
    let code = "import os, sys, time\n\
                def work():\n\
                \x20   end = time.monotonic() + 0.3\n\
                \x20   while time.monotonic() < end: pass\n\
                work()\n\
                left = [v for v in ('ONLOOKER_ORACLE', 'ONLOOKER_PYTHONPATH') if v in os.environ]\n\
                print('state', os.environ.get('PYTHONPATH'), os.environ.get('OWN'), left, \
                [p for p in sys.path if 'onlooker-oracle' in p])\n";
    matrix(|interpreter| {
        for with_own in [true, false] {
            if matches!(interpreter.mode, Mode::Chroot | Mode::Namespace) {
                return;
            }
            let mut command = command(interpreter, &[], &["-c", code]);
            if with_own {
                command.env("PYTHONPATH", scratch.path());
            }
            let checked = run(&mut command);
            assert_eq!(checked.code(), Some(0), "{:#}", checked.json());
            let states: Vec<&str> = checked
                .stderr
                .lines()
                .filter(|line| line.starts_with("state "))
                .collect();
            assert_eq!(states.len(), 2, "{}", checked.stderr);
            assert_eq!(states[0], states[1]);
            assert!(states[0].ends_with("[] []"), "{}", states[0]);
            if with_own {
                assert!(states[0].contains("sitecustomize [] []"), "{}", states[0]);
            }
        }
    });
}

#[test]
fn a_call_that_the_oracle_did_not_see_is_found() {
    let scratch = Scratch::new("different");
    let flag = scratch.join("flag");
    let code = format!(
        "import os, time\n\
         def rest():\n\
         \x20   end = time.monotonic() + 1.0\n\
         \x20   while time.monotonic() < end: pass\n\
         def first(): rest()\n\
         def second(): rest()\n\
         (second if os.path.exists({flag:?}) else first)()\n\
         open({flag:?}, 'w')\n"
    );
    matrix(|interpreter| {
        let _ = fs::remove_file(&flag);
        let Some(checked) = selfcheck(interpreter, &[], &["-c", &code]) else {
            return;
        };
        assert_eq!(checked.code(), Some(1), "{}", checked.stderr);
        let json = checked.json();
        let worst = &json["worst"][0];
        let names = [&worst["caller"]["name"], &worst["callee"]["name"]];
        let [caller, callee] = names.map(|name| name.as_str().unwrap_or_default());
        assert!(
            [("<module>", "second"), ("second", "rest")].contains(&(caller, callee)),
            "{json:#}"
        );
        // How often is a question of when the profiler had a CPU.
        assert!(figure(worst, "/count") >= 1, "{worst}");
    });
}

#[test]
fn a_command_without_oracle_is_an_error() {
    matrix(|interpreter| {
        if let Some(checked) = selfcheck(interpreter, &[], &["-I", "-c", "pass"]) {
            assert_eq!(checked.code(), Some(79), "{}", checked.stderr);
            assert!(
                checked.stderr.contains("-I, -E or -S"),
                "{}",
                checked.stderr
            );
        }
    });
    let nothing = run(onlooker_command().args(["selfcheck"]));
    assert_eq!(nothing.code(), Some(64));
    let missing = run(onlooker_command().args(["selfcheck", "--", "/no/such/python"]));
    assert_eq!(missing.code(), Some(78), "{}", missing.stderr);
}
