//! How recordings begin and end: launched programs, their exit codes, durations, signals, exec.

#[path = "support/mod.rs"]
mod support;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onlooker::error::exit;
use support::{
    Mode, Recording, SPIN, Scratch, Target, any, collapsed, expected_stack, launch, load, matrix,
    names, onlooker_command, program, report, run, say, wait_until,
};

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

/// What a program does that cleans up after Ctrl-C: it takes a while, says so, and exits with 7.
fn cleans_up(seconds: f64) -> String {
    format!(
        "import sys, time
with open('begun', 'w') as file: file.write('x')
try:
    while True: sum(range(1000))
except KeyboardInterrupt:
    time.sleep({seconds})
    print('clean', flush=True)
    sys.exit(7)"
    )
}

#[test]
fn an_interrupted_program_ends_by_itself() {
    matrix(|interpreter| {
        // The others see another directory.
        if !matches!(interpreter.mode, Mode::Plain | Mode::Loader) {
            return;
        }
        let scratch = Scratch::new("clean-up");
        let options = ["-r", "200", "-o", "out.olk"];
        let mut command = launch(interpreter, &options, &cleans_up(0.3));
        command.current_dir(scratch.path()).process_group(0);
        let recording = Recording::spawn(&mut command, scratch.path());
        recording.wait_for("out.olk", 400);
        recording.wait_for("begun", 0);
        let group = Pid::from_raw(recording.child.id().cast_signed());
        nix::sys::signal::killpg(group, Signal::SIGINT).expect("signal");
        let run = recording.end();
        assert_eq!(run.code(), Some(7), "{}", run.stderr);
        assert_eq!(run.text(), "clean\n");
        assert!(run.stderr.contains(" ticks, "), "{}", run.stderr);
    });
}

/// It has not got the signal, so it does not end by itself.
#[test]
fn a_program_that_was_not_interrupted_is_ended() {
    for (signal, least) in [(Signal::SIGINT, 5), (Signal::SIGTERM, 0)] {
        let scratch = Scratch::new("alone");
        let options = ["-r", "200", "-o", "out.olk"];
        let mut command = launch(&any(), &options, &cleans_up(0.0));
        command.current_dir(scratch.path());
        let recording = Recording::spawn(&mut command, scratch.path());
        recording.wait_for("out.olk", 400);
        recording.wait_for("begun", 0);
        let begin = Instant::now();
        recording.signal(signal);
        let run = recording.end();
        assert_eq!(run.code(), Some(143), "{}", run.stderr);
        assert_eq!(run.text(), "");
        assert!(begin.elapsed() >= Duration::from_secs(least));
    }
}

/// What is typed in a terminal has reached the program: it has all the time it needs.
#[test]
fn ctrl_c_in_a_terminal_waits_for_the_program() {
    let scratch = Scratch::new("terminal");
    let inner = launch(&any(), &["-r", "200", "-o", "out.olk"], &cleans_up(6.0));
    let mut command = any().command::<&str>(&program("terminal.py"), &["out.olk,400,begun,0"]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.current_dir(scratch.path());
    let run = run(&mut command);
    assert_eq!(run.code(), Some(7), "{}\n{}", run.text(), run.stderr);
    assert!(
        run.text().contains("a second Ctrl-C leaves it"),
        "{}",
        run.text()
    );
    assert!(run.text().contains("clean"), "{}", run.text());
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

/// There is nothing to sample of a process that ends.
#[test]
fn the_end_of_a_target_is_no_loss() {
    matrix(|interpreter| {
        for rate in ["1000", "max"] {
            let target = Target::spawn(interpreter, "busy.py", &["1"]);
            let scratch = Scratch::new("end");
            let pid = target.pid().to_string();
            let args = ["-p", &pid, "-r", rate, "-o", "out.olk"];
            let recording = Recording::start(scratch.path(), &args);
            recording.wait_for("out.olk", 1000);
            target.finish();
            let run = recording.end().success();
            let tables = load(&scratch.join("out.olk"));
            let totals = tables.totals.as_ref().expect("an end");
            let none = |(reason, _): &&(String, u64)| reason == "no interpreter";
            let lost = totals.lost.iter().find(none);
            assert_eq!(lost, None, "{rate}: {}", run.stderr);
        }
    });
}

/// A thread that has ended has no stack to lose.
#[test]
fn the_end_of_a_thread_is_no_loss() {
    let script = "import threading, time
end = time.perf_counter() + 2
def rec(n): return n if n == 0 else rec(n - 1)
while time.perf_counter() < end:
    threads = [threading.Thread(target=rec, args=(30,)) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
";
    matrix(|interpreter| {
        if interpreter.mode == Mode::Namespace {
            return;
        }
        let scratch = Scratch::new("threads");
        let mut command = launch(interpreter, &["-r", "1000", "-o", "out.olk"], script);
        let run = run(command.current_dir(scratch.path())).success();
        let tables = load(&scratch.join("out.olk"));
        let totals = tables.totals.as_ref().expect("an end");
        let ended = |(reason, _): &&(String, u64)| reason == "thread";
        let lost = totals.lost.iter().find(ended);
        assert_eq!(lost, None, "{}", run.stderr);
        assert!(totals.verified > 100, "{}", run.stderr);
        say(&run.stderr);
    });
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
