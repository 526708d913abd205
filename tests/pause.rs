//! `onlooker heap --pause`: the target goes on as if nothing had been, whatever becomes of us.

#[path = "support/mod.rs"]
mod support;

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use support::{Target, matrix, onlooker};

/// Kills that meet the target while it stands still.
const KILLS: u32 = 200;
const TRIES: u32 = 10 * KILLS;

/// A field of the status of every thread.
fn of_threads(pid: u32, name: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("tasks");
    let statuses =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
    let field = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.expect("a field").trim().to_owned()
    };
    statuses.map(field).collect()
}

fn is_traced(pid: u32) -> bool {
    of_threads(pid, "TracerPid:")
        .iter()
        .any(|tracer| tracer != "0")
}

/// Whether a thread stands still because of its tracer.
fn is_held(pid: u32) -> bool {
    of_threads(pid, "State:")
        .iter()
        .any(|state| state.starts_with('t'))
}

/// Onlooker is frozen first, so that it is known what the target does when the kill comes.
#[test]
fn a_target_survives_that_onlooker_is_killed_in_a_pause() {
    let interpreter = support::interpreters().pop().expect("one");
    let mut target = Target::spawn(&interpreter, "signals.py", &["40"]);
    let pid = target.pid();
    let mut held = 0;
    let mut tries = 0;
    while held < KILLS {
        tries += 1;
        assert!(
            tries <= TRIES,
            "{held} of {tries} kills met it while it stood still"
        );
        let mut onlooker = support::onlooker_command()
            .args(["heap", "--json", "--pause", "-p", &pid.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        while onlooker.try_wait().expect("a child").is_none() && !is_traced(pid) {
            std::thread::yield_now();
        }
        // Before the first thread stops, when all stand still, when they are let go.
        std::thread::sleep(Duration::from_micros(u64::from(tries) * 97 % 5000));
        let id = Pid::from_raw(onlooker.id().cast_signed());
        if onlooker.try_wait().expect("a child").is_none() {
            kill(id, Signal::SIGSTOP).expect("freeze");
            let frozen = waitpid(id, Some(WaitPidFlag::WUNTRACED)).expect("a child");
            if let WaitStatus::Stopped(..) = frozen {
                held += u32::from(is_held(pid));
                onlooker.kill().expect("kill");
                onlooker.wait().expect("a child");
            }
        }
        assert!(!is_traced(pid) && !is_held(pid), "try {tries}");
    }
    // It does what it is asked to, and no signal was lost meanwhile.
    target.write(b"\n");
    let told: serde_json::Value = serde_json::from_str(&target.next_line()).expect("JSON");
    assert_eq!(told["came"], told["sent"]);
    assert!(told["sent"].as_u64() > Some(u64::from(KILLS)));
    assert!(target.finish().success());
}

#[test]
fn signals_that_come_in_a_pause_are_not_lost() {
    matrix(|interpreter| {
        let mut target = Target::spawn(interpreter, "signals.py", &["1"]);
        for _ in 0..3 {
            onlooker(&["heap", "--pause", "-p", &target.pid().to_string()]).success();
            assert!(!is_traced(target.pid()));
        }
        target.write(b"\n");
        let told: serde_json::Value = serde_json::from_str(&target.next_line()).expect("JSON");
        assert_eq!(told["came"], told["sent"]);
    });
}

/// A thread that cannot be stopped because it is ending is no failure.
#[test]
fn threads_that_end_in_a_pause_do_no_harm() {
    let interpreter = support::interpreters().pop().expect("one");
    let target = Target::spawn(&interpreter, "swarm.py", &[]);
    for _ in 0..10 {
        let run = onlooker(&["heap", "--json", "--pause", "-p", &target.pid().to_string()]);
        assert!(run.success().json()["objects_live"].as_u64() > Some(1000));
    }
    assert!(target.finish().success());
}
