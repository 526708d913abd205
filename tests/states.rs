//! What each thread was doing: idle threads never look busy, and reports choose by it.

#[path = "support/mod.rs"]
mod support;

use std::collections::HashSet;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onlooker::error::exit;
use onlooker_recording::tables::Tables;
use support::{Interpreter, Scratch, Target, any, load, matrix, onlooker, thread_name};

/// Records a resting or busy target.
fn record(target: &Target, seconds: &str, args: &[&str]) -> (Tables, String) {
    let scratch = Scratch::new("states");
    let out = scratch.join("x.olk");
    let (pid, out) = (target.pid().to_string(), out.to_string_lossy().into_owned());
    let mut all = vec!["record", "-p", &pid, "-d", seconds, "-o", &out];
    all.extend(args);
    let ran = onlooker(&all).success();
    (load(Path::new(&out)), ran.stderr)
}

#[test]
fn a_hundred_and_twenty_eight_idle_threads_are_never_active() {
    matrix(|interpreter: &Interpreter| {
        let target = Target::spawn(interpreter, "crowd.py", &["128", "2"]);
        let (tables, _) = record(&target, "1", &[]);
        let mut busy = 0;
        for sample in &tables.samples {
            let (name, state) = (thread_name(&tables, sample), sample.state);
            assert!(!(state.running && state.sleeping), "{name}: {state:?}");
            if name.starts_with("idle-") {
                assert!(state.sleeping, "{name}: {state:?}");
                assert!(
                    !state.holds_gil && !state.waits_for_gil,
                    "{name}: {state:?}"
                );
            } else if name.starts_with("busy-") {
                busy += u32::from(state.running);
            }
        }
        // One of the two runs at any time.
        assert!(busy > 5, "{busy} of {}", tables.counts().ticks);
    });
}

/// Before 3.15 the kernel says who waits for the lock, from then on the interpreter
/// (`gil_requested`). Two threads that never rest sleep for nothing else.
#[test]
fn a_busy_thread_that_sleeps_waits_for_the_lock() {
    matrix(|interpreter: &Interpreter| {
        let target = Target::spawn(interpreter, "crowd.py", &["0", "2"]);
        let (tables, _) = record(&target, "1", &["-r", "500"]);
        // While it is handed over nobody has it, and who gave it away sleeps until it is taken.
        let held: HashSet<u64> = tables
            .samples
            .iter()
            .filter(|sample| sample.state.holds_gil)
            .map(|sample| sample.time_ns)
            .collect();
        let (mut asleep, mut waits) = (0, 0);
        let mut rested = HashSet::new();
        for sample in &tables.samples {
            let (name, state) = (thread_name(&tables, sample), sample.state);
            assert!(
                !(state.holds_gil && state.waits_for_gil),
                "{name}: {state:?}"
            );
            if !name.starts_with("busy-") {
                // It waits once, to come back from the call that said that it is ready.
                let again = state.waits_for_gil && rested.contains(&sample.thread);
                assert!(!again, "{name}: {state:?}");
                if state.sleeping && !state.waits_for_gil {
                    rested.insert(sample.thread);
                }
                continue;
            }
            if target.minor() < 15 {
                assert!(state.sleeping || !state.waits_for_gil, "{name}: {state:?}");
            }
            if state.sleeping && !state.holds_gil && held.contains(&sample.time_ns) {
                asleep += 1;
                waits += u32::from(state.waits_for_gil);
            }
        }
        assert!(waits > 10, "{waits} of {}", tables.samples.len());
        if target.minor() >= 15 {
            // Asked of the interpreter with the stack; the kernel is asked twice, for whether a
            // thread sleeps and on what, and it can wake between.
            assert!(10 * waits > 9 * asleep, "{waits} waits, {asleep} asleep");
        }
        assert!(
            held.len() > 10,
            "{} of {}",
            held.len(),
            tables.samples.len()
        );
    });
}

#[test]
fn a_sleeping_program_says_how_to_see_it() {
    matrix(|interpreter: &Interpreter| {
        let target = Target::spawn(interpreter, "threads.py", &["3", "5"]);
        let (tables, stderr) = record(&target, "0.4", &[]);
        assert!(tables.samples.iter().all(|sample| sample.state.sleeping));
        assert!(stderr.contains("-i shows them"), "{stderr}");
        assert!(!stderr.contains("down"), "nothing hot: {stderr}");
        let (_, stderr) = record(&target, "0.4", &["-i"]);
        assert!(!stderr.contains("-i shows them"), "{stderr}");
        assert!(stderr.contains("down"), "the hottest with -i: {stderr}");
        let (_, stderr) = record(&target, "0.4", &["--mode", "gil"]);
        assert!(!stderr.contains("down"), "nobody has the lock: {stderr}");
    });
}

#[test]
fn a_stopped_program_says_how_it_goes_on() {
    let target = Target::spawn(&any(), "busy.py", &[]);
    let pid = Pid::from_raw(target.pid().cast_signed());
    kill(pid, Signal::SIGSTOP).expect("stop");
    let (_, stderr) = record(&target, "0.4", &[]);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it is there");
    kill(pid, Signal::SIGCONT).expect("go on");
    let told = format!("process {pid} is stopped (state T); `kill -CONT {pid}` lets it go on");
    assert!(stderr.contains(&told), "{stderr}");
    assert!(status.contains("State:\tT"), "it is left as it was");
    let (_, stderr) = record(&target, "0.4", &[]);
    assert!(!stderr.contains("is stopped"), "{stderr}");
    assert!(target.finish().success(), "the target is unharmed");
}

#[test]
fn two_ways_to_choose_are_refused() {
    for args in [["-i", "-g"], ["-i", "--mode=cpu"], ["-g", "--mode=wall"]] {
        for command in [&["record", "-p", "1"][..], &["report", "x.olk"]] {
            let run = onlooker(&[command, &args].concat());
            assert_eq!(run.code(), Some(exit::USAGE.into()), "{}", run.stderr);
            assert!(run.stderr.contains("cannot be used with"), "{}", run.stderr);
        }
    }
}

/// A process at rest is not read again: its stacks must be those of its last work, however short
/// that was.
#[test]
fn a_thread_that_wakes_for_a_moment_never_rests_in_an_old_stack() {
    let mut target = Target::spawn(&any(), "bursts.py", &[]);
    let (tables, said) = record(&target, "3", &["-r", "200"]);
    target.close();
    let slept: Vec<(usize, i64, i64)> = serde_json::from_str(&target.next_line()).expect("a list");
    let began = tables.header.started_unix_ns as i64;
    // Each sample of a sleep, with the nearest sleep in that function: a turn of all takes half
    // a second, and the recording's clock starts some milliseconds after its header.
    let mut seen = Vec::new();
    for sample in &tables.samples {
        let names = tables.frames(sample.stack).map(|f| tables.string(f.name));
        let number = names.filter_map(|name| name.strip_prefix("sleep_")).next();
        let Some(number) = number.map(|n| n.parse::<usize>().expect("a number")) else {
            continue;
        };
        let at = began + sample.time_ns as i64;
        let same = slept.iter().enumerate().filter(|(_, s)| s.0 == number);
        let nearest = same.min_by_key(|(_, s)| (at - (s.1 + s.2) / 2).abs());
        seen.push((nearest.expect("one of them").0, at));
    }
    // A sample is at its time or a moment later. So the clocks differ by no more than the
    // soonest sample of any sleep, and no sample of a sleep is later than its end.
    let apart = seen.iter().map(|(sleep, at)| at - slept[*sleep].1).min();
    let apart = apart.expect("samples of sleeps");
    for (sleep, at) in &seen {
        let late = at - apart - slept[*sleep].2;
        assert!(late <= 0, "{late} ns after its end: {said}");
    }
    let met: HashSet<usize> = seen.iter().map(|(sleep, _)| *sleep).collect();
    assert!(met.len() > 10, "{} sleeps; {said}", met.len());
}
