//! What must hold for hours: code and threads that come and go, and targets that end midway.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use onlooker_recording::tables::Trust;
use support::{
    Recording, Scratch, Target, any, launch_command, load, matrix, names_of_made, onlooker,
    onlooker_command, program, run, thread_name, wait_until,
};

#[test]
fn names_of_code_that_comes_and_goes_are_never_those_of_other_code() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "reuse.py", &[]);
        let scratch = Scratch::new("reuse");
        let out = scratch.join("reuse.olk");
        let (pid, path) = (target.pid().to_string(), out.to_string_lossy().into_owned());
        onlooker(&["record", "-p", &pid, "-d", "2", "-r", "1000", "-o", &path]).success();
        let tables = load(&out);
        let checked = names_of_made(&tables).len();
        assert!(
            checked > 100,
            "{checked} frames of {}",
            tables.samples.len()
        );
    });
}

#[test]
fn threads_that_come_and_go_keep_their_own_names() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "swarm.py", &[]);
        let scratch = Scratch::new("swarm");
        let out = scratch.join("swarm.olk");
        let (pid, path) = (target.pid().to_string(), out.to_string_lossy().into_owned());
        onlooker(&[
            "record", "-i", "-p", &pid, "-d", "2", "-r", "500", "-o", &path,
        ])
        .success();
        let tables = load(&out);
        let mut swarm = 0;
        for sample in tables.samples.iter().filter(|s| s.trust == Trust::Verified) {
            let name = thread_name(&tables, sample);
            for frame in tables.frames(sample.stack) {
                let Some(n) = tables.string(frame.name).strip_prefix("member_") else {
                    continue;
                };
                // Where the name was read in time, it is that of the function; else it is the
                // kernel's, or none.
                assert!(!["MainThread", "stdin"].contains(&name), "{n} in {name}");
                if let Some(of_thread) = name.strip_prefix("swarm-") {
                    assert_eq!(n, of_thread, "at {} ns", sample.time_ns);
                    swarm += 1;
                }
            }
        }
        assert!(swarm > 20, "{swarm} of {}", tables.samples.len());
        assert!(tables.threads.len() > 20, "{}", tables.threads.len());
    });
}

#[test]
fn interpreters_that_come_and_go_keep_their_own_code() {
    matrix(|interpreter| {
        let scratch = Scratch::new("hatch");
        let out = scratch.join("hatch.olk");
        let options = ["-s", "-r", "500", "-o", &out.to_string_lossy()];
        let target = interpreter.command(&program("hatch.py"), &["30"]);
        run(&mut launch_command(&options, &target)).success();
        let tables = load(&out);
        let mut hatched = BTreeSet::<i64>::new();
        for sample in tables.samples.iter().filter(|s| s.trust == Trust::Verified) {
            let id = tables.threads[sample.thread.index()].interpreter;
            for frame in tables.frames(sample.stack) {
                let name = tables.string(frame.name);
                let Some(n) = name
                    .strip_prefix("inside_")
                    .map(|n| n.parse().expect("a number"))
                else {
                    continue;
                };
                // Ids are never used again.
                assert_eq!(id, n, "at {} ns", sample.time_ns);
                let (line, first) = (frame.line.map(i64::from), n % 97 + 1);
                assert!(
                    line.is_some_and(|line| (first..first + 3).contains(&line)),
                    "{name}: {line:?}"
                );
                hatched.insert(n);
            }
        }
        assert!(hatched.len() > 5, "{hatched:?} of {}", tables.samples.len());
    });
}

#[test]
fn a_target_that_ends_while_it_is_read_leaves_a_whole_recording() {
    matrix(|interpreter| {
        let scratch = Scratch::new("ends");
        let out = scratch.join("ends.olk");
        let target = Target::spawn(interpreter, "busy.py", &[]);
        let mut command = onlooker_command();
        let pid = target.pid().to_string();
        command
            .args(["record", "-r", "max", "-p", &pid, "-o"])
            .arg(&out);
        let recording = std::thread::spawn(move || run(&mut command));
        // The head, and then what was seen in a second.
        while std::fs::metadata(&out).map_or(0, |meta| meta.len()) < 4096 {
            assert!(!recording.is_finished(), "it ended before the target");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        target.finish();
        let ran = recording.join().expect("a run").success();
        let tables = load(&out);
        let counts = tables.counts();
        assert!(
            tables.totals.is_some() && counts.verified > 100,
            "{}",
            ran.stderr
        );
        assert_eq!(counts.missed_ticks, 0);
        let lost: u64 = counts.lost.iter().map(|(_, count)| count).sum();
        let stacks = tables.samples.len() as u64;
        assert_eq!(counts.verified + counts.unverified, stacks, "{lost} lost");
    });
}

/// Resident bytes of a process.
fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    1024 * kib.expect("kB").trim().parse::<u64>().expect("a number")
}

/// Three times the samples of the same stacks. What is kept of each would show: two megabytes
/// are some ten bytes of each that even a busy machine takes in this time.
#[test]
fn memory_is_bounded_by_what_is_distinct() {
    let target = Target::spawn(&any(), "threads.py", &["16", "5"]);
    let scratch = Scratch::new("bounded");
    let pid = target.pid().to_string();
    let args = ["-r", "max", "-p", &pid, "-o", "x.olk"];
    let recording = Recording::start(scratch.path(), &args);
    let size = || std::fs::metadata(scratch.join("x.olk")).map_or(0, |meta| meta.len());
    // A block a second. The first ones warm what is kept for all of them.
    let blocks = |count: u32| {
        for _ in 0..count {
            let before = size();
            wait_until("another block", || size() > before);
        }
        resident_bytes(recording.child.id())
    };
    let (early, late) = (blocks(3), blocks(6));
    recording.signal(Signal::SIGINT);
    recording.end().success();
    let samples = load(&scratch.join("x.olk")).samples.len();
    assert!(samples > 50_000, "{samples}");
    assert!(late < early + (2 << 20), "{early} bytes, then {late}");
}
