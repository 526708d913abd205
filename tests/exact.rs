//! `onlooker record --exact` on live interpreters: exact stacks, unharmed targets, clear refusals.

#[path = "support/mod.rs"]
mod support;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use onlooker::stop::{Plan, Sleeper, StopThread, Touch, Watch};
use onlooker::sys::perf::Kind;

use onlooker_recording::read;
use onlooker_recording::tables::{Location, Sample, Tables, Trust};
use serde_json::Value;
use support::{
    Interpreter, Public, Scratch, Target, as_nobody, can_change_user, interpreters, matrix,
    onlooker_command, run, say, wait_until,
};

/// Kills at random moments, in all.
const KILLS: u64 = 200;

/// The tests here look at time, so they run one after the other.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One interpreter will do where it is the kernel that is tested.
fn newest() -> Interpreter {
    let plain = |i: &Interpreter| i.is_pyenv();
    let found = interpreters()
        .into_iter()
        .filter(plain)
        .max_by_key(|i| i.version);
    found.expect("a pyenv interpreter")
}

fn target(what: &[&str]) -> Target {
    Target::spawn(&newest(), "exact.py", what)
}

/// Lets the target finish and returns what it tells then.
fn answer(mut target: Target) -> Value {
    target.close();
    let line = target.next_line();
    assert!(target.finish().success());
    serde_json::from_str(&line).expect("JSON")
}

/// Records a target; collapsed stacks with their weights, and what was said.
fn record(target: &Target, rate: &str, seconds: &str) -> (BTreeMap<String, u64>, String) {
    let pid = target.pid().to_string();
    let args = [
        "record", "--exact", "-r", rate, "-d", seconds, "-f", "raw", "-o", "-", "-p", &pid,
    ];
    let run = run(onlooker_command().args(args)).success();
    let split = |line: &str| {
        let (stack, weight) = line.rsplit_once(' ').expect("a weight");
        (stack.to_owned(), weight.parse().expect("a number"))
    };
    (run.text().lines().map(split).collect(), run.stderr)
}

/// Records a target; the tables, and what was said.
fn recording(target: &Target, rate: &str, seconds: &str) -> (Tables, String) {
    let pid = target.pid().to_string();
    let scratch = Scratch::new("exact-recording");
    let output = scratch.join("x.olk");
    let run = run(onlooker_command()
        .args([
            "record", "--exact", "-r", rate, "-d", seconds, "-p", &pid, "-o",
        ])
        .arg(&output))
    .success();
    let file = File::open(output).expect("a recording");
    (
        read::read(file).expect("a whole recording").tables,
        run.stderr,
    )
}

fn start(target: &Target, output: &Scratch, rate: &str) -> Child {
    let pid = target.pid().to_string();
    onlooker_command()
        .args(["record", "--exact", "-r", rate, "-p", &pid, "-o"])
        .arg(output.join("x.olk"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("onlooker")
}

/// The field of the main thread's `status`.
fn status(target: &Target, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{}/status", target.pid())).expect("status");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.expect("a field").trim().to_owned()
}

fn assert_sum(answer: &Value) {
    let count = answer["count"].as_u64().expect("count");
    let step = |value: u64, _| {
        value
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407)
    };
    assert_eq!(answer["value"].as_u64(), Some((0..count).fold(0, step)));
}

#[test]
fn killed_at_any_moment_the_target_finishes_its_work() {
    let _alone = alone();
    let target = target(&["sum"]);
    let scratch = Scratch::new("exact-kill");
    let mut random = u64::from(std::process::id());
    // Kills while it was traced, and those that met it at a stop.
    let (mut traced, mut stopped) = (0, 0);
    while traced < KILLS {
        let mut onlooker = start(&target, &scratch, "20000");
        wait_until("traced", || target.status().0 != 0);
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        // The moment of the kill is what is varied.
        std::thread::sleep(Duration::from_micros((random >> 33) % 20_000));
        let (tracer, state) = target.status();
        traced += u64::from(tracer != 0);
        stopped += u64::from(state == 't');
        onlooker.kill().expect("kill");
        onlooker.wait().expect("wait");
    }
    say(&format!("{traced} kills, {stopped} of them at a stop"));
    assert_sum(&answer(target));
}

#[test]
fn ended_by_ctrl_c_the_target_finishes_its_work() {
    let _alone = alone();
    let target = target(&["sum"]);
    let scratch = Scratch::new("exact-int");
    for _ in 0..5 {
        let mut onlooker = start(&target, &scratch, "5000");
        while status(&target, "TracerPid:") == "0" {
            std::thread::yield_now();
        }
        let pid = nix::unistd::Pid::from_raw(onlooker.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("kill");
        let ended = onlooker.wait().expect("wait");
        assert_eq!(ended.code().map(|code| code == 0 || code == 79), Some(true));
        assert_eq!(status(&target, "TracerPid:"), "0");
    }
    assert_sum(&answer(target));
}

#[test]
fn no_system_call_is_interrupted() {
    let _alone = alone();
    let target = target(&["calls"]);
    record(&target, "5000", "4");
    let answer = answer(target);
    assert!(answer["made"].as_u64() > Some(100), "{answer}");
    assert_eq!(answer["failed"], 0, "{answer}");
}

#[test]
fn the_share_of_read_is_what_the_target_says_it_is() {
    let _alone = alone();
    let target = target(&["half"]);
    let (stacks, said) = record(&target, "500", "5");
    let of = |name: &str| {
        let with = stacks.iter().filter(|(stack, _)| stack.contains(name));
        with.map(|(_, weight)| *weight).sum::<u64>() as f64
    };
    let (copy, spin) = (of("copy ("), of("spin ("));
    let shown = copy / (copy + spin);
    let answer = answer(target);
    let cpu = |name: &str| answer[name]["cpu_ns"].as_f64().expect("a time");
    let truth = cpu("copy") / (cpu("copy") + cpu("spin"));
    say(&format!(
        "read(): {shown:.3} shown, {truth:.3} true; {said}"
    ));
    assert!(copy + spin > 200.0, "{answer}");
    // Five standard deviations of so many independent looks; a clock has fewer.
    let allowed = 5.0 * (truth * (1.0 - truth) / (copy + spin)).sqrt();
    assert!(
        (shown - truth).abs() < allowed,
        "{shown} for {truth}: {answer}"
    );
}

#[test]
fn threads_and_children_come_and_go() {
    let _alone = alone();
    let target = target(&["family"]);
    let (stacks, _) = record(&target, "500", "4");
    assert!(
        stacks
            .keys()
            .any(|stack| stack.contains("run (threading.py")),
        "{stacks:?}"
    );
    let answer = answer(target);
    assert!(answer["threads"].as_u64() > Some(5), "{answer}");
    assert_eq!(answer["bad"], 0, "{answer}");
}

#[test]
fn another_signal_is_taken_or_the_target_refused() {
    let _alone = alone();
    let one = target(&["signals", "SIGURG"]);
    record(&one, "1000", "1");
    assert_eq!(answer(one)["seen"], Value::Array(Vec::new()));
    let all = target(&["signals", "SIGURG", "SIGWINCH", "SIGCHLD"]);
    assert_refused(all.pid(), 82, "SIGWINCH");
    assert_eq!(answer(all)["seen"], Value::Array(Vec::new()));
}

fn assert_refused(pid: u32, code: i32, word: &str) {
    let pid = pid.to_string();
    let scratch = Scratch::new("exact-refused");
    let output = scratch.join("x.olk");
    let run = run(onlooker_command()
        .args(["record", "--exact", "-p", &pid, "-o"])
        .arg(&output));
    assert_eq!(run.code(), Some(code), "{}", run.stderr);
    assert!(run.stderr.contains(word), "{}", run.stderr);
    assert!(!output.exists());
}

#[test]
fn stopped_and_traced_targets_stay_as_they_are() {
    let _alone = alone();
    let target = target(&["sum"]);
    let pid = nix::unistd::Pid::from_raw(target.pid().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).expect("stop");
    while !status(&target, "State:").starts_with('T') {
        std::thread::yield_now();
    }
    assert_refused(target.pid(), 80, "kill -CONT");
    assert!(status(&target, "State:").starts_with('T'));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).expect("continue");
    while status(&target, "State:").starts_with('T') {
        std::thread::yield_now();
    }
    let scratch = Scratch::new("exact-traced");
    let mut tracer = start(&target, &scratch, "100");
    while status(&target, "TracerPid:") == "0" {
        std::thread::yield_now();
    }
    let traced_by = status(&target, "TracerPid:");
    assert_refused(target.pid(), 81, "traced");
    assert_eq!(status(&target, "TracerPid:"), traced_by);
    tracer.kill().expect("kill");
    tracer.wait().expect("wait");
    assert_sum(&answer(target));
}

#[test]
fn a_zombie_stays_one() {
    let mut child = Command::new("true").spawn().expect("true");
    let stat = format!("/proc/{}/stat", child.id());
    let is_zombie = || {
        std::fs::read_to_string(&stat)
            .expect("stat")
            .contains(") Z ")
    };
    while !is_zombie() {
        std::thread::yield_now();
    }
    assert_refused(child.id(), 75, "zombie");
    assert!(is_zombie());
    assert!(child.wait().expect("wait").success());
}

#[test]
fn an_exec_is_followed_and_harms_nothing() {
    let _alone = alone();
    let mut target = target(&["exec"]);
    let scratch = Scratch::new("exact-exec");
    let mut onlooker = start(&target, &scratch, "200");
    let sees = |name: &str| {
        let deadline = Instant::now() + Duration::from_secs(60);
        // The recording can be read while it grows.
        let tables = || {
            Some(
                read::read(File::open(scratch.join("x.olk")).ok()?)
                    .ok()?
                    .tables,
            )
        };
        while !tables().is_some_and(|tables| tables.strings.iter().any(|s| s == name)) {
            assert!(Instant::now() < deadline, "{name} was never seen");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    sees("execute");
    target.write(b"e");
    target.next_ready();
    sees("sums");
    let pid = nix::unistd::Pid::from_raw(onlooker.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("kill");
    assert!(onlooker.wait().expect("wait").success());
    assert_sum(&answer(target));
}

/// Panics when a thread of the target stands still.
struct Panics;

impl Watch for Panics {
    fn stopped(&mut self, tid: i32, _: &[Touch], _: Option<u64>) -> bool {
        panic!("on purpose, at thread {tid}");
    }
    fn missed(&mut self, _: i32, _: &[Touch]) {}
    fn lost(&mut self, _: i32, _: u64, _: &'static str) {}
    fn beat(&mut self, _: u64, _: &[Sleeper], _: &mut dyn FnMut(&Sleeper) -> bool) -> bool {
        true
    }
    fn wants(&mut self, _: i32) -> bool {
        true
    }
    fn exec(&mut self) {}
}

#[test]
fn a_panic_at_a_stop_lets_the_target_go() {
    let _alone = alone();
    let target = target(&["sum"]);
    for period_ns in [100_000, 1_000_000, 10_000_000] {
        let plan = Plan {
            pid: target.pid().cast_signed(),
            kind: Kind::TaskClock { period_ns },
            beat_ns: period_ns,
            huge_pages: false,
        };
        let thread = StopThread::start(plan, Panics).expect("permission");
        let panicked = std::thread::spawn(move || drop(thread.join())).join();
        assert!(panicked.is_err());
        assert_eq!(status(&target, "TracerPid:"), "0");
    }
    assert_sum(&answer(target));
}

#[test]
fn a_permission_that_is_missing_is_named() {
    let python = Path::new("/usr/bin/python3");
    let level = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    let strict = level.is_ok_and(|level| level.trim().parse().is_ok_and(|level: i32| level >= 2));
    if !can_change_user() || !python.exists() || !strict {
        say("skipped: needs root, /usr/bin/python3 and kernel.perf_event_paranoid above 1");
        return;
    }
    let public = Public::new("onlooker-exact");
    let mut command = Command::new(python);
    command
        .arg(public.join("exact.py"))
        .arg("sum")
        .current_dir("/");
    let spawn = |command: &mut Command| Target::spawn_command(command);
    let record = |target: &Target| {
        let pid = target.pid().to_string();
        let mut onlooker = public.onlooker();
        run(onlooker.args(["record", "--exact", "-f", "raw", "-o", "-", "-p", &pid]))
    };
    let roots = spawn(&mut command);
    let own = spawn(as_nobody(&mut command));
    for (target, words) in [
        (&roots, ["no permission", "sudo onlooker"]),
        (&own, ["CAP_PERFMON", "sysctl kernel.perf_event_paranoid=1"]),
    ] {
        let run = record(target);
        assert_eq!(run.code(), Some(77), "{}", run.stderr);
        for word in words {
            assert!(run.stderr.contains(word), "{}", run.stderr);
        }
        assert_eq!(status(target, "TracerPid:"), "0");
    }
    assert_sum(&answer(roots));
    assert_sum(&answer(own));
}

/// A thread is stopped anywhere, also where it has begun to enter Python code from C: 3.11 and 3.12
/// have a `_PyCFrame` there that is linked and not filled.
#[test]
fn calls_from_c_are_whole_wherever_they_are_stopped() {
    let _alone = alone();
    matrix(|interpreter| {
        if interpreter.version < (3, 11, 0) {
            return;
        }
        let target = Target::spawn(interpreter, "exact.py", &["inward"]);
        let (tables, said) = recording(&target, "1000", "1");
        // What comes too late is of another instant; nothing else may be wrong.
        let timely = [
            "torn",
            "unreadable",
            "moved",
            "changed",
            "root",
            "gap",
            "code",
        ];
        let mut whole = 0;
        for sample in &tables.samples {
            let reason = sample.reason.map(|reason| tables.string(reason));
            assert!(!reason.is_some_and(|r| timely.contains(&r)), "{said}");
            whole += u32::from(sample.trust == Trust::Verified);
        }
        let totals = tables.totals.as_ref().expect("totals");
        let lost = totals.lost.iter().map(|(reason, _)| reason.as_str());
        assert!(!lost.into_iter().any(|r| timely.contains(&r)), "{said}");
        assert!(whole > 100, "{said}");
        assert!(answer(target)["made"].as_u64().expect("a count") > 0);
    });
}

#[test]
fn a_stopped_thread_never_shows_an_impossible_step() {
    let _alone = alone();
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "busy.py", &["1"]);
        let known = target.ready().more["edges"].as_array().expect("edges");
        let text = |value: &Value| value.as_str().expect("a name").to_owned();
        let legal: HashSet<(String, Option<u32>, String)> = known
            .iter()
            .map(|edge| {
                let line = edge[1].as_u64().map(|line| line as u32);
                (text(&edge[0]), line, text(&edge[2]))
            })
            .collect();
        let (tables, said) = recording(&target, "2000", "3");
        let mut steps = 0;
        let verified = |s: &&Sample| s.trust == Trust::Verified;
        for sample in tables.samples.iter().filter(verified) {
            let mut frames: Vec<_> = tables.frames(sample.stack).collect();
            frames.reverse();
            let place = |l: &Location| (tables.string(l.name).to_owned(), l.line);
            let frames: Vec<_> = frames.into_iter().map(place).collect();
            let below = frames.windows(2).skip_while(|pair| pair[0].0 != "round");
            for pair in below.skip(1) {
                let step = (pair[0].0.clone(), pair[0].1, pair[1].0.clone());
                assert!(legal.contains(&step), "{step:?} in {frames:?}");
                steps += 1;
            }
        }
        say(&format!(
            "{}: {steps} steps, none impossible; {said}",
            interpreter.label
        ));
        assert!(steps > 200, "{steps}");
    });
}
