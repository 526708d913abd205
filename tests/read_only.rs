//! Nothing is written, nothing is stopped, nothing grows: by the system calls that Onlooker
//! makes, by the target's state and by its memory.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{
    Interpreter, Mode, Scratch, Target, interpreters, matrix, onlooker, program, run, say,
};

/// Whether strace is there and may trace.
fn has_strace() -> bool {
    let mut command = Command::new("strace");
    command
        .args(["-o", "/dev/null", "true"])
        .stderr(Stdio::null());
    if command.status().is_ok_and(|status| status.success()) {
        return true;
    }
    let required = std::env::var_os("ONLOOKER_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!required, "ONLOOKER_REQUIRE_ALL=1 needs strace");
    say("skipped: system calls: strace is not installed");
    false
}

/// Every system call of `onlooker ARGS` and of all its threads and children: name, arguments.
#[track_caller]
fn system_calls(scratch: &Scratch, args: &[&str]) -> Vec<(String, String)> {
    let log = scratch.join("strace");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(&log);
    command.arg(env!("CARGO_BIN_EXE_onlooker")).args(args);
    run(command.stdin(Stdio::null())).success();
    let text = std::fs::read(&log).expect("log of strace");
    let text = String::from_utf8_lossy(&text);
    let calls: Vec<_> = text.lines().filter_map(call_of).collect();
    assert!(calls.len() > 50, "what strace saw: {text}");
    calls
}

/// `4711  read(3, …) = 5`, or the first half of it.
fn call_of(line: &str) -> Option<(String, String)> {
    let (_, call) = line.split_once(' ')?;
    let (name, rest) = call.trim_start().split_once('(')?;
    let is_name = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then(|| (name.to_owned(), rest.to_owned()))
}

/// Calls that write into another process, stop it or send it anything.
fn touches(name: &str) -> bool {
    let calls = [
        "process_vm_writev",
        "ptrace",
        "kill",
        "tkill",
        "pidfd_send_signal",
        "pidfd_getfd",
        "process_madvise",
        "rt_sigqueueinfo",
        "rt_tgsigqueueinfo",
        "perf_event_open",
        "bpf",
    ];
    calls.contains(&name)
}

#[test]
fn no_call_writes_stops_or_signals() {
    if !has_strace() {
        return;
    }
    matrix(|interpreter| {
        let mut command = interpreter.command(&program("busy.py"), &["2"]);
        let target = Target::spawn_command(command.env("PYTHONTRACEMALLOC", "1"));
        let pid = target.pid().to_string();
        let scratch = Scratch::new("strace");
        let out = scratch.join("out.svg").to_string_lossy().into_owned();
        let commands = [
            vec!["dump", "-p", &pid],
            vec!["dump", "--json", "-p", &pid],
            vec!["tracemalloc", "-p", &pid],
            vec!["record", "-d", "0.5", "-o", &out, "-p", &pid],
        ];
        for args in commands {
            let calls = system_calls(&scratch, &args);
            // What is read through /proc/PID/mem is read by offset.
            let memory = format!("/proc/{pid}/mem");
            let opened = calls.iter().any(|(_, rest)| rest.contains(&memory));
            let is_read = |name: &str| name == "process_vm_readv" || opened && name == "pread64";
            assert!(
                calls.iter().any(|(name, _)| is_read(name)),
                "{args:?}: nothing was read, so nothing is proven"
            );
            for (name, rest) in &calls {
                assert!(!touches(name), "{args:?}: {name}({rest}");
                if name == "tgkill" {
                    // The C library's way to end itself: never the target.
                    assert!(!rest.starts_with(&pid), "{args:?}: {name}({rest}");
                }
                let opened = name.starts_with("open") && rest.contains(&format!("/proc/{pid}/"));
                let writes = ["O_WRONLY", "O_RDWR", "O_TRUNC", "clear_refs"];
                let writes = writes.iter().any(|word| rest.contains(word));
                assert!(!(opened && writes), "{args:?}: {name}({rest}");
            }
        }
        assert!(target.finish().success(), "the target is unharmed");
    });
}

/// The words that a process's status says under these names.
fn status(pid: u32, names: &[&str]) -> BTreeMap<String, String> {
    let text = std::fs::read(format!("/proc/{pid}/status")).expect("status");
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines = text.lines().filter_map(|line| line.split_once(":\t"));
    lines
        .filter(|(name, _)| names.contains(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn any() -> Interpreter {
    let all = interpreters();
    let plain = all.iter().filter(|each| each.mode == Mode::Plain);
    plain
        .max_by_key(|each| each.version)
        .expect("one that is installed")
        .clone()
}

/// Looks at the state of every thread of a running target all the time while it is recorded.
#[test]
fn no_thread_is_ever_stopped() {
    let target = Target::spawn(&any(), "busy.py", &["1"]);
    let pid = target.pid();
    let done = Arc::new(AtomicBool::new(false));
    let watched = Arc::clone(&done);
    let watcher = std::thread::spawn(move || {
        let mut looks = 0_u64;
        while !watched.load(Ordering::Relaxed) {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("tasks");
            for task in tasks.flatten() {
                let stat = std::fs::read(task.path().join("stat")).unwrap_or_default();
                let stat = String::from_utf8_lossy(&stat).into_owned();
                let state = stat
                    .rsplit_once(") ")
                    .and_then(|(_, rest)| rest.chars().next());
                assert!(!matches!(state, Some('T' | 't')), "stopped: {stat}");
                looks += 1;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        looks
    });
    let text = pid.to_string();
    let args = [
        "record",
        "-r",
        "500",
        "-d",
        "1",
        "-f",
        "raw",
        "-o",
        "/dev/null",
        "-p",
        &text,
    ];
    onlooker(&args).success();
    for _ in 0..5 {
        support::dump(pid);
    }
    done.store(true, Ordering::Relaxed);
    let looks = watcher.join().expect("no stop");
    assert!(looks > 100, "only {looks} looks");
    assert_eq!(status(pid, &["TracerPid"])["TracerPid"], "0");
    assert!(target.finish().success(), "the target is unharmed");
}

/// A target at rest does nothing at all, so whatever changes is our doing: it would be woken
/// by a stop, and reading a page that it never touched would make that resident.
#[test]
fn a_resting_target_is_neither_woken_nor_grown() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "threads.py", &["4"]);
        let pid = target.pid();
        // The line came just before the last call: wait until the kernel has put it to sleep
        // in `read`, which is number 0.
        let call = format!("/proc/{pid}/syscall");
        let end = Instant::now() + Duration::from_secs(60);
        while !std::fs::read_to_string(&call)
            .expect("a thread")
            .starts_with("0 ")
        {
            assert!(Instant::now() < end, "it does not come to rest");
            std::thread::sleep(Duration::from_millis(1));
        }
        let resident = resident_kib(pid);
        let counts = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"];
        let before = status(pid, &counts);
        let text = pid.to_string();
        let args = [
            "record",
            "-r",
            "400",
            "-d",
            "0.5",
            "-f",
            "raw",
            "-o",
            "/dev/null",
            "-p",
            &text,
        ];
        let recorded = onlooker(&args).success();
        support::dump(pid);
        assert!(recorded.stderr.contains(" ticks"), "{}", recorded.stderr);
        assert_eq!(status(pid, &counts), before, "it was woken");
        let after = resident_kib(pid);
        let grown = after.saturating_sub(resident);
        // Eight pages. A scan of an untouched library would be thousands.
        assert!(
            grown <= 32,
            "{grown} KiB more resident after reading, of {resident}"
        );
        assert!(target.finish().success(), "the target is unharmed");
    });
}

fn resident_kib(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(Path::new(&path)).expect("smaps_rollup");
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).expect("Rss in KiB")
}
