//! `onlooker record` and `onlooker report`, from end to end.
//!
//! Longer than a file should be: all of it shares the launching and reading helpers below, and
//! each test binary more is linked and started over the whole matrix.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onlooker::error::exit;
use support::{
    Interpreter, Mode, Run, Scratch, Target, interpreters, matrix, onlooker, onlooker_command,
    program, run, say, workspace,
};

const LIMIT: Duration = Duration::from_secs(60);

/// Waits for something that must come.
#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// One interpreter, where the kind makes no difference.
fn any() -> Interpreter {
    let all = interpreters();
    let plain = all.iter().filter(|each| each.mode == Mode::Plain);
    plain
        .max_by_key(|each| each.version)
        .expect("one that is installed")
        .clone()
}

/// `onlooker record` in a directory of its own, while it runs.
struct Recording {
    child: Child,
    directory: PathBuf,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
}

impl Recording {
    fn start(directory: &Path, args: &[&str]) -> Self {
        let mut command = onlooker_command();
        command
            .args(["record", "-i"])
            .args(args)
            .current_dir(directory);
        Self::spawn(&mut command, directory)
    }

    fn spawn(command: &mut Command, directory: &Path) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("onlooker");
        Self {
            stdout: reader(child.stdout.take().expect("piped")),
            stderr: reader(child.stderr.take().expect("piped")),
            child,
            directory: directory.to_owned(),
        }
    }

    /// Waits until a recording of that name has more than `bytes`: more than its first block.
    fn wait_for(&self, name: &str, bytes: u64) {
        let path = self.directory.join(name);
        wait_until("samples on disk", || {
            std::fs::metadata(&path).is_ok_and(|meta| meta.len() > bytes)
        });
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).expect("signal");
    }

    #[track_caller]
    fn end(mut self) -> Run {
        let mut status = None;
        wait_until("the end of the recording", || {
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        Run {
            status: status.expect("ended"),
            stdout: self.stdout.join().expect("stdout"),
            stderr: String::from_utf8_lossy(&self.stderr.join().expect("stderr")).into_owned(),
        }
    }
}

/// Reads a pipe while its writer runs: a full one would stop it.
fn reader(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe");
        bytes
    })
}

/// Names in a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("directory").flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Stacks and counts of a collapsed report.
#[track_caller]
fn collapsed(text: &str) -> BTreeMap<String, u64> {
    let mut stacks = BTreeMap::new();
    for line in text.lines() {
        let (stack, count) = line.rsplit_once(' ').expect("a stack and a count");
        let count = count
            .parse()
            .unwrap_or_else(|_| panic!("no count in {line}"));
        assert!(
            stacks.insert(stack.to_owned(), count).is_none(),
            "twice: {line}"
        );
    }
    assert!(!stacks.is_empty(), "no stacks");
    stacks
}

fn report(file: &Path, args: &[&str]) -> Run {
    run(onlooker_command()
        .args(["report", "-i"])
        .arg(file)
        .args(args))
}

/// A stack of a target as the collapsed report has it, with whole file names.
fn expected_stack(thread: &support::Thread) -> String {
    let frames = thread.frames.iter().rev().map(|frame| {
        let text = format!("{} ({}:{})", frame.name, frame.filename, frame.line);
        text.replace(';', ",")
    });
    frames.collect::<Vec<_>>().join(";")
}

#[test]
fn resting_stacks_are_recorded_as_they_are() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "threads.py", &["5"]);
        let pid = target.pid().to_string();
        let scratch = Scratch::new("resting");
        let file = scratch.join("out.olk");
        let out = file.to_string_lossy();
        let recorded = onlooker(&[
            "record", "-i", "-d", "0.4", "-r", "50", "-o", &out, "-p", &pid,
        ]);
        let recorded = recorded.success();
        assert!(
            recorded.stderr.contains(" 0 unverified"),
            "{}",
            recorded.stderr
        );
        let raw = report(&file, &["-f", "raw", "--full-filenames"]).success();
        let stacks = collapsed(raw.text());
        let mut expected = BTreeMap::new();
        for thread in &target.ready().threads {
            *expected.entry(expected_stack(thread)).or_insert(0) += 1;
        }
        let ticks = stacks.values().sum::<u64>() / target.ready().threads.len() as u64;
        assert!((5..=21).contains(&ticks), "{ticks} ticks in 0.4 s at 50 Hz");
        expected.values_mut().for_each(|count| *count *= ticks);
        assert_eq!(stacks, expected);
    });
}

/// Starts `script` in an interpreter, under `onlooker record`.
fn launch(interpreter: &Interpreter, options: &[&str], script: &str) -> Command {
    let python = interpreter.bare_command();
    let mut command = onlooker_command();
    command.args(["record", "-i"]).args(options).arg("--");
    command.arg(python.get_program()).args(python.get_args());
    command.args(["-c", script]);
    for (name, value) in python.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

const SPIN: &str = "import os, sys, time
def spin(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
spin(1.5)
";

#[test]
fn launched_programs_pass_through() {
    matrix(|interpreter| {
        // There the interpreter is the child of what is launched.
        if interpreter.mode == Mode::Namespace {
            return;
        }
        let raw = ["-o", "/dev/null", "-f", "raw"];
        let go = |script: &str| run(&mut launch(interpreter, &raw, &(SPIN.to_owned() + script)));
        let zero = go("print('out'); print('err', file=sys.stderr)").success();
        assert_eq!(zero.text(), "out\n");
        assert!(zero.stderr.starts_with("err\n"), "{}", zero.stderr);
        assert!(zero.stderr.contains(" ticks, "), "{}", zero.stderr);
        assert!(zero.stderr.contains("spin (<string>)"), "{}", zero.stderr);
    });
    let ends = |script: &str| {
        let options = ["-o", "/dev/null", "-f", "raw"];
        let ended = run(&mut launch(&any(), &options, &(SPIN.to_owned() + script)));
        assert!(ended.stderr.contains(" ticks, "), "{}", ended.stderr);
        ended.code()
    };
    assert_eq!(ends("sys.exit(3)"), Some(3));
    assert_eq!(ends("os.kill(os.getpid(), 9)"), Some(137));
    assert_eq!(ends("os.kill(os.getpid(), 15)"), Some(143));
}

#[test]
fn formats_by_extension_and_by_name() {
    let target = Target::spawn(&any(), "busy.py", &["1"]);
    let pid = target.pid().to_string();
    let check = |output: &str, format: Option<&str>, check: &dyn Fn(&str, &Path)| {
        let scratch = Scratch::new("formats");
        let mut args = vec!["-d", "0.3", "-r", "200", "-p", &pid, "-o", output];
        args.extend(format.iter().flat_map(|format| ["-f", format]));
        let run = Recording::start(scratch.path(), &args).end().success();
        assert!(run.stdout.is_empty());
        assert!(run.stderr.contains("wrote "), "{}", run.stderr);
        assert_eq!(names(scratch.path()), [output], "and nothing beside it");
        let file = scratch.join(output);
        if format.is_some_and(|format| format == "olk") || output.ends_with("olk") {
            check("", &file);
        } else {
            check(&std::fs::read_to_string(&file).expect("UTF-8"), &file);
        }
    };
    let svg = |text: &str, _: &Path| {
        assert!(text.starts_with("<?xml"), "{text:.100}");
        assert!(text.trim_end().ends_with("</svg>"));
        for word in ["busy.py", "round", "größe", "search"] {
            assert!(text.to_lowercase().contains(word), "no {word}");
        }
    };
    check("out.svg", None, &svg);
    check("picture", Some("svg"), &svg);
    check("picture.txt", Some("flamegraph"), &svg);
    let raw = |text: &str, _: &Path| {
        let mut lines = [0, 0];
        for stack in collapsed(text).keys() {
            for frame in stack.split(';') {
                let (name, place) = frame.rsplit_once(" (").expect("name (file:line)");
                assert!(!name.is_empty() && place.ends_with(')'), "{stack}");
                assert!(!place.starts_with('/'), "short file names: {stack}");
                // An instruction that belongs to no line has none, as py-spy writes it.
                let line = place.trim_end_matches(')').rsplit_once(':');
                lines[usize::from(line.is_some())] += 1;
                assert!(
                    line.is_none_or(|(_, line)| line.parse::<u32>().is_ok()),
                    "{stack}"
                );
            }
        }
        assert!(
            lines[0] * 4 < lines[1],
            "frames without and with a line: {lines:?}"
        );
        assert!(text.contains("<module> (busy.py:"), "{text}");
    };
    check("out.txt", None, &raw);
    check("out.svg", Some("raw"), &raw);
    check("out", Some("txt"), &raw);
    let speedscope = |text: &str, _: &Path| {
        let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
        assert!(
            value["$schema"]
                .as_str()
                .is_some_and(|s| s.contains("speedscope"))
        );
        let frames = value["shared"]["frames"].as_array().expect("frames");
        assert!(
            frames.iter().any(|frame| frame["name"] == "größe"),
            "{frames:?}"
        );
        assert!(!value["profiles"].as_array().expect("profiles").is_empty());
    };
    check("out.speedscope.json", None, &speedscope);
    check("out.json", Some("speedscope"), &speedscope);
    let olk = |_: &str, file: &Path| {
        let text = report(file, &["-f", "raw"]).success();
        assert_eq!(text.stderr, "", "no warnings");
        collapsed(text.text());
    };
    check("out.olk", None, &olk);
    check("out", Some("olk"), &olk);
    // Whole names, and one root for each thread.
    let scratch = Scratch::new("formats");
    let args = [
        "-d",
        "0.3",
        "-p",
        &pid,
        "-f",
        "raw",
        "-o",
        "-",
        "-t",
        "--full-filenames",
    ];
    let whole = Recording::start(scratch.path(), &args).end().success();
    let stacks = collapsed(whole.text());
    assert!(
        stacks
            .keys()
            .any(|stack| stack.contains("/tests/programs/busy.py:"))
    );
    assert!(
        stacks
            .keys()
            .any(|stack| stack.split(';').next().is_some_and(|t| t.contains("stdin")))
    );
    assert!(names(scratch.path()).is_empty());
    assert!(target.finish().success(), "the target is unharmed");
}

#[test]
fn stdout_belongs_to_the_report() {
    let script = SPIN.to_owned() + "print('out')";
    let raw = run(&mut launch(&any(), &["-o", "-", "-f", "raw"], &script)).success();
    assert!(
        collapsed(raw.text())
            .keys()
            .any(|stack| stack.contains("spin (<string>:"))
    );
    assert!(!raw.text().contains("out\n"));
    assert!(raw.stderr.contains("out\n"), "{}", raw.stderr);
    let olk = run(&mut launch(&any(), &["-o", "-", "-f", "olk"], SPIN)).success();
    let scratch = Scratch::new("stdout");
    let file = scratch.join("piped.olk");
    std::fs::write(&file, olk.stdout).expect("write");
    report(&file, &["-o", &scratch.join("out.svg").to_string_lossy()]).success();
    // Nobody reads: no failure.
    let command = format!(
        "{} report {} -f raw | true",
        env!("CARGO_BIN_EXE_onlooker"),
        file.display()
    );
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!("set -o pipefail; {command}")]);
    let piped = run(&mut bash);
    assert_eq!((piped.code(), piped.stderr.as_str()), (Some(0), ""));
}

/// The first command of the README, with a second of the shop instead of five.
#[test]
fn the_first_command() {
    let scratch = Scratch::new("first");
    let Some(python) = path_of("python3") else {
        say("skipped: no python3 in the path");
        return;
    };
    let shop = workspace().join("examples/shop.py");
    let mut command = onlooker_command();
    command.current_dir(scratch.path());
    command
        .args(["record", "-o", "flame.svg", "--"])
        .arg(python)
        .arg(shop)
        .arg("1");
    let first = run(&mut command).success();
    assert_eq!(names(scratch.path()), ["flame.svg"]);
    let svg = std::fs::read_to_string(scratch.join("flame.svg")).expect("svg");
    for name in ["clerk", "main", "shop.py"] {
        assert!(svg.contains(name), "no {name} in the picture");
    }
    // One summary line and the ten hottest functions, with own and total share.
    let lines: Vec<&str> = first.stderr.lines().collect();
    let summary = lines
        .iter()
        .position(|line| line.contains(" ticks, "))
        .expect("summary");
    let header: Vec<&str> = lines[summary + 1].split_whitespace().collect();
    assert_eq!(header[..2], ["own", "total"], "{}", first.stderr);
    let rows = &lines[summary + 2..];
    assert_eq!(rows.len(), 10, "{}", first.stderr);
    for row in rows {
        let shares: Vec<f64> = row
            .split_whitespace()
            .filter_map(|word| word.strip_suffix('%')?.parse().ok())
            .collect();
        assert!(shares[0] <= shares[1] && shares[1] <= 100.0, "{row}");
    }
}

fn path_of(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|d| d.join(program))
        .find(|file| file.is_file())
}

#[test]
fn the_default_name() {
    let scratch = Scratch::new("default");
    let python = any().executable;
    let script = scratch.join("my job.py");
    std::fs::write(&script, SPIN).expect("write");
    let mut command = onlooker_command();
    command
        .current_dir(scratch.path())
        .args(["record", "--"])
        .arg(python)
        .arg(&script);
    let run = run(&mut command).success();
    std::fs::remove_file(script).expect("remove");
    let names = names(scratch.path());
    let [name] = names.as_slice() else {
        panic!("{names:?}")
    };
    let parts: Vec<&str> = name
        .strip_suffix(".olk")
        .expect("olk")
        .rsplitn(3, '-')
        .collect();
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .expect("time")
        .as_secs();
    let time: u64 = parts[0].parse().expect("a time");
    assert!(now.abs_diff(time) < 100, "{name}");
    assert!(parts[1].parse::<u32>().is_ok(), "{name}");
    assert!(!parts[2].is_empty() && !parts[2].contains('/'), "{name}");
    let words = format!("onlooker report {name} -o flame.svg");
    assert!(run.stderr.contains(&words), "{}", run.stderr);
}

#[test]
fn a_duration_ends_the_program() {
    let line = "import sys, time, signal, os\nprint(os.getpid(), flush=True)\n";
    let ask = |keep: &[&str], script: &str| {
        let options = [&["-d", "0.5", "-o", "/dev/null", "-f", "raw"], keep].concat();
        let begin = Instant::now();
        let run = run(&mut launch(&any(), &options, &(line.to_owned() + script)));
        let pid: i32 = run.text().trim().parse().expect("a pid");
        (run, Pid::from_raw(pid), begin.elapsed())
    };
    let (ended, pid, took) = ask(&[], "while True: pass");
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(kill(pid, None).is_err(), "it runs on");
    assert!(took < Duration::from_secs(10), "{took:?}");
    // What does not listen is killed after two seconds.
    let deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass";
    let (ended, pid, took) = ask(&[], deaf);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(kill(pid, None).is_err(), "it runs on");
    assert!(took >= Duration::from_millis(2400), "{took:?}");
    // What ends by SIGTERM can clean up.
    let scratch = Scratch::new("clean");
    let mark = scratch.join("mark");
    let clean = format!(
        "signal.signal(signal.SIGTERM, lambda *_: (open({mark:?}, 'w').close(), os._exit(5)))\n\
         while True: pass"
    );
    let (ended, ..) = ask(&[], &clean);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(mark.exists(), "no SIGTERM");
}

#[test]
fn a_kept_program_runs_on() {
    let script = "import os, time\nprint(os.getpid(), flush=True)\nwhile True: time.sleep(0.01)";
    let options = ["-d", "0.5", "-o", "/dev/null", "-f", "raw", "--keep"];
    let mut command = launch(&any(), &options, script);
    // It keeps our end of the pipe open, so its output goes to a file.
    let scratch = Scratch::new("keep");
    let out = std::fs::File::create(scratch.join("out")).expect("create");
    let err = std::fs::File::create(scratch.join("err")).expect("create");
    let status = command.stdout(out).stderr(err).status().expect("onlooker");
    let said = std::fs::read_to_string(scratch.join("err")).expect("err");
    assert_eq!(status.code(), Some(0), "{said}");
    let text = std::fs::read_to_string(scratch.join("out")).expect("out");
    let pid = Pid::from_raw(text.trim().parse().expect("a pid"));
    let stat = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    kill(pid, Signal::SIGKILL).expect("kill");
    assert!(
        !stat.contains("State:\tZ") && !stat.contains("State:\tT"),
        "{stat}"
    );
}

#[test]
fn ctrl_c_finishes_the_file() {
    let target = Target::spawn(&any(), "busy.py", &[]);
    let pid = target.pid().to_string();
    for (name, spool) in [("out.svg", "out.svg.partial.olk"), ("out.olk", "out.olk")] {
        let scratch = Scratch::new("interrupt");
        let recording = Recording::start(scratch.path(), &["-p", &pid, "-o", name]);
        recording.wait_for(spool, 400);
        recording.signal(Signal::SIGINT);
        recording.end().success();
        assert_eq!(names(scratch.path()), [name]);
        if name == "out.olk" {
            let text = report(&scratch.join(name), &["-f", "raw"]).success();
            assert_eq!(text.stderr, "", "it is complete");
            collapsed(text.text());
        }
    }
    // The second one stops at once. SIGSTOP and SIGCONT so that both come before it looks.
    let scratch = Scratch::new("interrupt");
    let recording = Recording::start(scratch.path(), &["-p", &pid, "-r", "1", "-o", "out.svg"]);
    recording.wait_for("out.svg.partial.olk", 0);
    recording.signal(Signal::SIGINT);
    recording.signal(Signal::SIGTERM);
    let run = recording.end();
    assert!(
        matches!(run.code(), Some(130) | Some(0)),
        "{:?}",
        run.status
    );
    assert!(target.finish().success(), "the target is unharmed");
}

#[test]
fn a_target_that_ends_ends_the_recording() {
    let target = Target::spawn(&any(), "threads.py", &["2"]);
    let scratch = Scratch::new("ends");
    let pid = target.pid().to_string();
    let recording = Recording::start(scratch.path(), &["-p", &pid, "-o", "out.olk"]);
    recording.wait_for("out.olk", 400);
    target.finish();
    recording.end().success();
    let text = report(&scratch.join("out.olk"), &["-f", "raw"]).success();
    assert_eq!(text.stderr, "", "it is complete");
    collapsed(text.text());
}

#[test]
fn a_program_that_becomes_another() {
    matrix(|interpreter| {
        if interpreter.mode == Mode::Loader {
            return;
        }
        let mut command = interpreter.command::<&str>(&program("exec_launcher.py"), &[]);
        command.arg(interpreter.executable_inside());
        command
            .arg(interpreter.place(&program("plain1000.py")))
            .arg("10");
        let mut target = Target::spawn_command(&mut command);
        let scratch = Scratch::new("exec");
        let pid = target.pid().to_string();
        let args = ["-p", &pid, "-r", "200", "-o", "out.olk"];
        let recording = Recording::start(scratch.path(), &args);
        recording.wait_for("out.olk", 400);
        target.write(b"x");
        target.next_ready();
        // A block a second: the second one from now has samples of the second program.
        let size = || {
            std::fs::metadata(scratch.join("out.olk"))
                .expect("file")
                .len()
        };
        for _ in 0..2 {
            let before = size();
            wait_until("another block", || size() > before);
        }
        recording.signal(Signal::SIGINT);
        recording.end().success();
        let raw = report(&scratch.join("out.olk"), &["-f", "raw", "--full-filenames"]).success();
        let stacks = collapsed(raw.text());
        assert!(
            stacks
                .keys()
                .any(|stack| stack.contains("exec_launcher.py")),
            "{stacks:?}"
        );
        let after = expected_stack(&target.ready().threads[0]);
        // The stacks of the two programs stand apart, under a root each.
        let found = stacks.keys().any(|stack| stack.ends_with(&after));
        assert!(found, "no {after} in {stacks:?}");
    });
}

/// What is on disk when the writer is killed can be reported, and the target does not notice.
#[test]
fn a_killed_recorder_leaves_a_readable_recording() {
    let target = Target::spawn(&any(), "busy.py", &["1"]);
    let pid = target.pid().to_string();
    let handles: Vec<_> = (0..4)
        .map(|n| {
            let pid = pid.clone();
            std::thread::spawn(move || {
                let scratch = Scratch::new("killed");
                let args = ["-p", &pid, "-r", "500", "-o", "out.svg"];
                let mut recording = Recording::start(scratch.path(), &args);
                let spool = "out.svg.partial.olk";
                recording.wait_for(spool, 400);
                std::thread::sleep(Duration::from_micros(n * 137_931));
                recording.signal(Signal::SIGKILL);
                let status = recording.child.wait().expect("wait");
                assert_eq!(status.signal(), Some(9));
                assert_eq!(names(scratch.path()), [spool], "no half a picture");
                let raw = report(&scratch.join(spool), &["-f", "raw"]).success();
                assert!(raw.stderr.contains("has no end"), "{}", raw.stderr);
                collapsed(raw.text());
            })
        })
        .collect();
    for handle in handles {
        handle.join().expect("a killed recording");
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    assert!(status.contains("TracerPid:\t0"), "{status}");
    assert!(
        !status.contains("State:\tT") && !status.contains("State:\tt"),
        "{status}"
    );
    assert!(target.finish().success(), "the target is unharmed");
}

#[test]
fn the_recording_is_kept_when_the_output_cannot_be_made() {
    let target = Target::spawn(&any(), "threads.py", &["2"]);
    let pid = target.pid().to_string();
    // The folder goes away meanwhile; the recording is saved elsewhere.
    let scratch = Scratch::new("gone");
    for name in ["out.svg", "out.olk"] {
        let folder = scratch.join("folder");
        std::fs::create_dir(&folder).expect("folder");
        let mut command = onlooker_command();
        let out = folder.join(name);
        command.env("TMPDIR", scratch.path());
        command.args(["record", "-i", "-p", &pid, "-o"]).arg(&out);
        let recording = Recording::spawn(&mut command, &folder);
        let spool = if name == "out.svg" {
            "out.svg.partial.olk"
        } else {
            name
        };
        recording.wait_for(spool, 400);
        std::fs::remove_dir_all(&folder).expect("remove");
        recording.signal(Signal::SIGINT);
        let run = recording.end();
        assert_eq!(run.code(), Some(exit::IO.into()), "{}", run.stderr);
        let saved = scratch.join(spool);
        let words = format!("the recording is in {}", saved.display());
        assert!(run.stderr.contains(&words), "{}", run.stderr);
        collapsed(report(&saved, &["-f", "raw"]).success().text());
        std::fs::remove_file(saved).expect("remove");
    }
    // Something that cannot be replaced stands in the way meanwhile.
    let recording = Recording::start(scratch.path(), &["-p", &pid, "-o", "out.svg"]);
    recording.wait_for("out.svg.partial.olk", 400);
    std::fs::create_dir(scratch.join("out.svg")).expect("directory");
    recording.signal(Signal::SIGINT);
    let run = recording.end();
    assert_eq!(run.code(), Some(exit::IO.into()), "{}", run.stderr);
    let words = "the recording is in ";
    assert!(
        run.stderr.contains(words) && run.stderr.contains("out.svg.partial.olk"),
        "{}",
        run.stderr
    );
    let spool = scratch.join("out.svg.partial.olk");
    collapsed(report(&spool, &["-f", "raw"]).success().text());
    assert_eq!(names(scratch.path()), ["out.svg", "out.svg.partial.olk"]);
    assert!(target.finish().success(), "the target is unharmed");
}

#[test]
fn a_full_disk() {
    let scratch = Scratch::new("full");
    let disk = scratch.join("disk");
    std::fs::create_dir(&disk).expect("directory");
    let mut mount = Command::new("mount");
    mount
        .args(["-t", "tmpfs", "-o", "size=32k", "none"])
        .arg(&disk);
    if !nix::unistd::geteuid().is_root() || !run(&mut mount).status.success() {
        say("skipped: a full disk: tmpfs cannot be mounted");
        return;
    }
    let target = Target::spawn(&any(), "busy.py", &["1"]);
    let pid = target.pid().to_string();
    let runs = [
        // The recording has room, the picture has not; then not even the recording has.
        vec!["-d", "1.5", "-r", "20", "-p", &pid, "-o", "out.svg"],
        vec!["-r", "5000", "-p", &pid, "-o", "out.olk"],
    ];
    let ends = runs.map(|args| {
        let end = Recording::start(&disk, &args).end();
        let left = names(&disk);
        let readable: Vec<Run> = left
            .iter()
            .map(|name| report(&disk.join(name), &["-f", "raw"]))
            .collect();
        for name in &left {
            std::fs::remove_file(disk.join(name)).expect("remove");
        }
        (end, left, readable)
    });
    let unmounted = run(Command::new("umount").arg(&disk));
    for ((end, left, readable), name) in ends.into_iter().zip(["out.svg.partial.olk", "out.olk"]) {
        assert_eq!(end.code(), Some(exit::IO.into()), "{}", end.stderr);
        assert_eq!(end.stderr.lines().count(), 1, "{}", end.stderr);
        assert!(end.stderr.contains("No space"), "{}", end.stderr);
        assert!(end.stderr.contains(name), "{}", end.stderr);
        assert_eq!(left, [name]);
        for text in readable {
            collapsed(text.success().text());
        }
    }
    unmounted.success();
    assert!(target.finish().success(), "the target is unharmed");
}

/// A recording and nothing else: the target is gone, the file has moved.
#[test]
fn reports_from_a_copied_recording() {
    let scratch = Scratch::new("copied");
    let target = Target::spawn(&any(), "deep.py", &["300"]);
    let expected = target.ready().threads.clone();
    let pid = target.pid().to_string();
    Recording::start(scratch.path(), &["-d", "1.5", "-p", &pid, "-o", "one.olk"])
        .end()
        .success();
    target.finish();
    let copy = scratch.join("elsewhere.olk");
    std::fs::rename(scratch.join("one.olk"), &copy).expect("rename");
    let out = |name: &str| scratch.join(name).to_string_lossy().into_owned();
    for (name, first) in [
        ("a.svg", "<?xml"),
        ("a.txt", "<module>"),
        ("a.speedscope.json", "{"),
    ] {
        let run = report(&copy, &["-o", &out(name), "--full-filenames"]).success();
        assert_eq!((run.text(), run.stderr.as_str()), ("", ""));
        let text = std::fs::read_to_string(out(name)).expect("report");
        assert!(
            text.starts_with(first) || name == "a.txt",
            "{name}: {text:.100}"
        );
    }
    let text = std::fs::read_to_string(out("a.txt")).expect("report");
    let stacks = collapsed(&text);
    for thread in &expected {
        assert!(
            stacks.contains_key(&expected_stack(thread)),
            "{:?}",
            thread.name
        );
    }
    // The same by name, on stdout; and a recording again.
    let raw = report(&copy, &["-f", "raw", "--full-filenames"]).success();
    assert_eq!(raw.text(), text);
    report(&copy, &["-o", &out("b.olk")]).success();
    assert_eq!(
        std::fs::read(&copy).expect("a"),
        std::fs::read(out("b.olk")).expect("b")
    );
    // Without -o and -f: the hottest functions.
    let table = report(&copy, &[]).success();
    assert!(
        table.text().contains("descend (deep.py)"),
        "{}",
        table.text()
    );
    assert!(table.stderr.contains(" ticks, "), "{}", table.stderr);

    // Damage.
    let good = std::fs::read(&copy).expect("recording");
    let damaged = |name: &str, bytes: &[u8]| {
        std::fs::write(out(name), bytes).expect("write");
        report(Path::new(&out(name)), &["-f", "raw"])
    };
    let cut = damaged("cut.olk", &good[..good.len() - 1]).success();
    assert!(
        cut.stderr.contains("onlooker: ") && cut.stderr.contains("no end"),
        "{}",
        cut.stderr
    );
    assert!(!collapsed(cut.text()).is_empty());
    let mut flipped = good.clone();
    let last = flipped.len() - 10;
    flipped[last] ^= 0x55;
    let flipped = damaged("flipped.olk", &flipped).success();
    assert!(flipped.stderr.contains("damaged"), "{}", flipped.stderr);
    let refuse = |name: &str, bytes: &[u8], code: u8, word: &str| {
        let run = damaged(name, bytes);
        assert_eq!(run.code(), Some(code.into()), "{}", run.stderr);
        assert!(run.stderr.contains(word), "{}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    };
    refuse(
        "foreign.olk",
        b"<?xml version=\"1.0\"?>",
        exit::DATA,
        "not an Onlooker recording",
    );
    refuse("empty.olk", b"", exit::DATA, "empty");
    let mut newer = good.clone();
    newer[8..12].copy_from_slice(&99_u32.to_le_bytes());
    refuse("newer.olk", &newer, exit::DATA, "99");
    let missing = report(Path::new(&out("missing.olk")), &[]);
    assert_eq!(
        missing.code(),
        Some(exit::NO_INPUT.into()),
        "{}",
        missing.stderr
    );
    // A failed report leaves a good one alone.
    let bad = report(Path::new(&out("foreign.olk")), &["-o", &out("a.txt")]);
    assert_eq!(bad.code(), Some(exit::DATA.into()));
    assert_eq!(std::fs::read_to_string(out("a.txt")).expect("good"), text);
}

/// What is launched must become Python in time, and what it says is shown meanwhile.
#[test]
fn launchers_are_followed() {
    let interpreter = any();
    let scratch = Scratch::new("launcher");
    let script = scratch.join("run.sh");
    let text = format!(
        "#!/bin/sh\necho from sh\nsleep 0.3\nexec {} -c \"$1\"\n",
        interpreter.executable.display()
    );
    std::fs::write(&script, text).expect("write");
    let mut command = onlooker_command();
    command
        .args(["record", "-o", "-", "-f", "raw", "--", "sh"])
        .arg(&script)
        .arg(SPIN);
    let run = run(&mut command).success();
    assert!(run.stderr.contains("from sh"), "{}", run.stderr);
    assert!(
        collapsed(run.text())
            .keys()
            .any(|stack| stack.contains("spin"))
    );
    let waits: [OsString; 2] = ["sleep".into(), "100".into()];
    let mut command = onlooker_command();
    command
        .args(["record", "-o", "/dev/null", "-f", "raw", "--"])
        .args(waits);
    command.process_group(0);
    let begin = Instant::now();
    let run = support::run(&mut command);
    assert_eq!(run.code(), Some(exit::NOT_PYTHON.into()), "{}", run.stderr);
    assert!(
        run.stderr
            .contains("did not start a CPython interpreter within 30 s"),
        "{}",
        run.stderr
    );
    assert!(begin.elapsed() < Duration::from_secs(40));
}
