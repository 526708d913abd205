//! The stop thread where things go wrong: rates that cannot be followed, signals and buffers that
//! run out, code objects by the thousand.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use onlooker::sys::perf::{Event, Kind};
use onlooker_recording::tables::Trust;
use serde_json::Value;
use support::{
    Scratch, Target, any, can_change_user, load, names_of_made, onlooker_command, program, run,
    say, wait_until,
};

/// CPU time of a process, in clock ticks.
fn cpu(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let (_, rest) = stat.rsplit_once(") ").expect("a name");
    let fields: Vec<u64> = rest
        .split_ascii_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse().expect("ticks"))
        .collect();
    fields.iter().sum()
}

fn tracer(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|l| l.strip_prefix("TracerPid:"));
    line.expect("a field").trim().parse().expect("an id")
}

fn interrupt(onlooker: &mut Child) -> Option<i32> {
    let pid = nix::unistd::Pid::from_raw(onlooker.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("kill");
    onlooker.wait().expect("wait").code()
}

/// The first CPU that we may use.
fn first_cpu() -> String {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let list = status
        .lines()
        .find_map(|l| l.strip_prefix("Cpus_allowed_list:"));
    let first = list.expect("a field").trim().split([',', '-']).next();
    first.expect("a CPU").to_owned()
}

/// `command` on one CPU.
fn on_cpu(cpu: &str, command: &Command) -> Command {
    let mut pinned = Command::new("taskset");
    pinned
        .args(["-c", cpu])
        .arg(command.get_program())
        .args(command.get_args());
    pinned
}

#[test]
fn a_rate_that_cannot_be_followed_leaves_time_for_others() {
    let cpu_list = first_cpu();
    let start = || {
        let command = any().command(&program("exact.py"), &["sum"]);
        Target::spawn_command(&mut on_cpu(&cpu_list, &command))
    };
    let (target, bystander) = (start(), start());
    let scratch = Scratch::new("stops-share");
    let mut command = onlooker_command();
    command
        .args(["record", "--exact", "-r", "100000", "-p"])
        .arg(target.pid().to_string())
        .arg("-o")
        .arg(scratch.join("x.olk"));
    let mut onlooker = on_cpu(&cpu_list, &command)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("onlooker");
    wait_until("traced", || tracer(target.pid()) != 0);
    let all = [target.pid(), bystander.pid(), onlooker.id()];
    let before = all.map(cpu);
    // Time passes until they have used a second and a half of the CPU.
    let used = |after: [u64; 3]| [0, 1, 2].map(|i| after[i] - before[i]);
    wait_until("a second and a half", || {
        used(all.map(cpu)).iter().sum::<u64>() > 150
    });
    let shares = used(all.map(cpu));
    let start = Instant::now();
    assert_eq!(interrupt(&mut onlooker), Some(0));
    say(&format!(
        "target, bystander, onlooker had {shares:?} ticks; Ctrl-C took {:?}",
        start.elapsed()
    ));
    // A thread that goes before all others and a timer of 10 µs leave a hundredth for each of them.
    let [target, bystander, onlooker] = shares;
    assert!(
        target * 4 > onlooker && target * 10 > bystander,
        "the target"
    );
    assert!(
        bystander * 4 > onlooker && bystander * 10 > target,
        "another process"
    );
}

#[test]
fn a_target_that_begins_to_catch_the_signal_is_let_go_with_a_reason() {
    let mut target = Target::spawn(&any(), "exact.py", &["late", "SIGURG"]);
    let scratch = Scratch::new("stops-late");
    let output = scratch.join("x.olk");
    let pid = target.pid().to_string();
    let mut onlooker = onlooker_command()
        .args(["record", "--exact", "-r", "500", "-p", &pid, "-o"])
        .arg(&output)
        .stderr(Stdio::piped())
        .spawn()
        .expect("onlooker");
    wait_until("samples", || {
        fs::metadata(&output).is_ok_and(|file| file.len() > 4000)
    });
    target.write(b"x");
    let said = std::io::read_to_string(onlooker.stderr.take().expect("piped")).expect("text");
    assert_eq!(onlooker.wait().expect("wait").code(), Some(82), "{said}");
    assert_eq!(
        said.matches("catches or blocks SIGURG").count(),
        1,
        "{said}"
    );
    assert_eq!(tracer(target.pid()), 0);
    // What there was until then is there, and whole.
    assert!(load(&output).totals.is_some(), "{said}");
    target.close();
    let answer: Value = serde_json::from_str(&target.next_line()).expect("JSON");
    assert_eq!(answer["seen"], Value::Array(Vec::new()));
    assert!(target.finish().success());
}

#[test]
fn without_locked_memory_buffers_are_smaller_and_that_is_told() {
    if !can_change_user() {
        say("skipped: needs root, to give up CAP_IPC_LOCK");
        return;
    }
    let mut target = Target::spawn(&any(), "exact.py", &["crowd"]);
    let scratch = Scratch::new("stops-buffers");
    let output = scratch.join("x.olk");
    let mut command = Command::new("setpriv");
    // Who may look at the whole machine has no limit: then there is nothing to see here.
    command
        .args(["--inh-caps=-ipc_lock", "--bounding-set=-ipc_lock"])
        .args(["prlimit", "--memlock=0"])
        .arg(env!("CARGO_BIN_EXE_onlooker"))
        .args(["record", "--growth", "-d", "2", "-p"])
        .arg(target.pid().to_string())
        .arg("-o")
        .arg(&output)
        .stdin(Stdio::null());
    let run = run(&mut command).success();
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    let unlimited = paranoid.is_ok_and(|level| level.trim() == "-1");
    assert!(
        unlimited || run.stderr.contains("kernel.perf_event_mlock_kb"),
        "{}",
        run.stderr
    );
    let tables = load(&output);
    assert!(!tables.samples.is_empty(), "{}", run.stderr);
    target.close();
    target.next_line();
    assert!(target.finish().success());
}

#[test]
fn records_that_find_no_room_are_counted() {
    let tid = nix::unistd::gettid().as_raw();
    let Ok(mut event) = Event::signalling(tid, Kind::PageFaults { period: 1 }, 23) else {
        say("skipped: no permission for perf events");
        return;
    };
    let touch = |pages: usize| {
        // More than malloc keeps for later, so each page is new.
        let mut memory = vec![0_u8; 64 << 20];
        for page in 0..pages {
            memory[page * 4096] = 1;
        }
    };
    event.enable().expect("enable");
    touch(2000);
    let mut seen = 0;
    assert_eq!(event.records(|_| seen += 1), 0, "told with the next record");
    assert!((100..2000).contains(&seen), "{seen}");
    touch(10);
    let lost = event.records(|_| seen += 1);
    event.disable().expect("disable");
    let all = seen + lost;
    assert!((2010..2200).contains(&all), "{seen} and {lost}");
}

#[test]
fn code_by_the_thousand_has_its_own_names_under_exact() {
    let target = Target::spawn(&any(), "reuse.py", &[]);
    let scratch = Scratch::new("stops-codes");
    let output = scratch.join("x.olk");
    let pid = target.pid().to_string();
    run(onlooker_command()
        .args([
            "record", "--exact", "-r", "2000", "-d", "5", "-p", &pid, "-o",
        ])
        .arg(&output))
    .success();
    let tables = load(&output);
    let seen: BTreeSet<u32> = names_of_made(&tables).into_iter().collect();
    let verified = tables
        .samples
        .iter()
        .filter(|s| s.trust == Trust::Verified)
        .count();
    say(&format!(
        "{} functions in {verified} verified of {} samples",
        seen.len(),
        tables.samples.len()
    ));
    assert!(seen.len() > 200, "{}", seen.len());
}
