//! What each thread was doing: idle threads never look busy, and reports choose by it.

#[path = "support/mod.rs"]
mod support;

use std::path::Path;

use onlooker_recording::tables::Tables;
use support::{Interpreter, Scratch, Target, load, matrix, onlooker, thread_name};

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
        let (mut asleep, mut waits, mut holds) = (0, 0, 0);
        for sample in &tables.samples {
            let (name, state) = (thread_name(&tables, sample), sample.state);
            assert!(
                !(state.holds_gil && state.waits_for_gil),
                "{name}: {state:?}"
            );
            if !name.starts_with("busy-") {
                assert!(!state.waits_for_gil, "{name}: {state:?}");
                continue;
            }
            if target.minor() < 15 {
                assert!(state.sleeping || !state.waits_for_gil, "{name}: {state:?}");
            }
            asleep += u32::from(state.sleeping && !state.holds_gil);
            waits += u32::from(state.sleeping && state.waits_for_gil);
            holds += u32::from(state.holds_gil);
        }
        // Whether it sleeps and for what are two questions; it can wake between them.
        assert!(asleep > 10, "{asleep} of {}", tables.samples.len());
        assert!(5 * waits > 4 * asleep, "{waits} waits, {asleep} asleep");
        assert!(holds > 10, "{holds} of {}", tables.samples.len());
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
