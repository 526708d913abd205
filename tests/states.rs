//! What each thread was doing: idle threads never look busy, and reports choose by it.

#[path = "support/mod.rs"]
mod support;

use std::path::Path;

use onlooker_recording::tables::Tables;
use support::{Interpreter, Scratch, Target, load, matrix, onlooker, thread_name};

/// Records a resting or busy target for a second.
fn record(target: &Target, args: &[&str]) -> (Tables, String) {
    let scratch = Scratch::new("states");
    let out = scratch.join("x.olk");
    let (pid, out) = (target.pid().to_string(), out.to_string_lossy().into_owned());
    let mut all = vec!["record", "-p", &pid, "-d", "1", "-o", &out];
    all.extend(args);
    let ran = onlooker(&all).success();
    (load(Path::new(&out)), ran.stderr)
}

#[test]
fn a_hundred_and_twenty_eight_idle_threads_are_never_active() {
    matrix(|interpreter: &Interpreter| {
        let target = Target::spawn(interpreter, "crowd.py", &["128", "2"]);
        let (tables, _) = record(&target, &[]);
        let mut busy = 0;
        let mut waits = 0;
        for sample in &tables.samples {
            let state = sample.state;
            assert!(!(state.running && state.sleeping), "{state:?}");
            if thread_name(&tables, sample).starts_with("idle-") {
                assert!(
                    state.sleeping,
                    "{}: {state:?}",
                    thread_name(&tables, sample)
                );
                assert!(!state.holds_gil && !state.waits_for_gil, "{state:?}");
            } else if thread_name(&tables, sample).starts_with("busy-") {
                busy += u32::from(state.running);
                waits += u32::from(state.waits_for_gil);
            }
        }
        // One of the two runs at any time, and the other waits for the lock.
        assert!(busy > 5, "{busy} of {}", tables.counts().ticks);
        assert!(waits > 5, "{waits} of {}", tables.counts().ticks);
    });
}

#[test]
fn a_sleeping_program_says_how_to_see_it() {
    matrix(|interpreter: &Interpreter| {
        let target = Target::spawn(interpreter, "threads.py", &["3", "5"]);
        let (tables, stderr) = record(&target, &[]);
        assert!(tables.samples.iter().all(|sample| sample.state.sleeping));
        assert!(stderr.contains("-i shows them"), "{stderr}");
        let (_, stderr) = record(&target, &["-i"]);
        assert!(!stderr.contains("-i shows them"), "{stderr}");
        assert!(stderr.contains("down"), "the hottest with -i: {stderr}");
        let (_, stderr) = record(&target, &["--mode", "gil"]);
        assert!(!stderr.contains("down"), "nobody has the lock: {stderr}");
    });
}
