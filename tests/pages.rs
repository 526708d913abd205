//! `onlooker pages`: sizes beside those of the kernel, and what forked workers share, over the
//! matrix.

#[path = "support/mod.rs"]
mod support;

use std::cell::Cell;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use onlooker::error::Error;
use onlooker::pages::Process;
use serde_json::Value;
use support::{
    Interpreter, Mode, Public, Scratch, Target, any, as_nobody, can_change_user, interpreters,
    matrix, matrix_in_one_mode, onlooker, program, run, say, sees_page_frames,
};

/// Objects of the shared heap: with their names some 10 MB.
const COUNT: &str = "100000";
const MIB: u64 = 1 << 20;

fn pages(target: &Target, args: &[&str]) -> Value {
    let pid = target.pid().to_string();
    onlooker(&[&["pages", "--json", "-p", &pid], args].concat())
        .success()
        .json()
}

fn number(value: &Value, path: &str) -> u64 {
    let found = value.pointer(path).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("no number at {path} in {value}"))
}

/// A forked worker after one phase, as `pages` tells it.
fn worker(interpreter: &Interpreter, phase: &str) -> Value {
    beside_parent(&Target::spawn(interpreter, "forked.py", &[phase, COUNT]))
}

/// The one worker of a target.
fn beside_parent(target: &Target) -> Value {
    let report = pages(target, &["--children"]);
    let processes = report["processes"].as_array().expect("processes");
    assert_eq!(processes.len(), 2, "{report}");
    assert_eq!(processes[1]["worker"]["parent"], target.pid());
    assert_eq!(processes[0]["python"], processes[1]["python"]);
    assert_eq!(number(&report, "/family/workers"), 1);
    processes[1].clone()
}

/// The kernel's own sum of a process, by the name of its field with the colon.
fn rollup(pid: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("smaps_rollup");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.expect("a field").trim().trim_end_matches(" kB");
    kib.parse::<u64>().expect("a number") * 1024
}

#[test]
fn sizes_are_those_of_the_kernel() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "forked.py", &["idle", COUNT]);
        let report = pages(&target, &[]);
        assert!(report["family"].is_null());
        let process = &report["processes"][0];
        let version = process["python"].as_str().expect("a version");
        assert!(
            version.starts_with(&interpreter.minor_version()),
            "{version}"
        );
        let kernel = |name: &str| rollup(target.pid(), name);
        let rss = number(process, "/rss_bytes");
        // A page may come or go in between, and looking for the interpreter reads some.
        let off = rss.abs_diff(kernel("Rss:"));
        assert!(off <= MIB, "RSS: {off} off in {process}");
        // Pages of files are shared with whatever else maps them at the moment, and other tests
        // start and end the same interpreter: between nothing and the whole of them.
        let files = kernel("Rss:") - kernel("Anonymous:");
        let anonymous = kernel("Pss_Anon:");
        let pss = number(process, "/pss_bytes");
        let range = anonymous - MIB..=anonymous + files + MIB;
        assert!(range.contains(&pss), "PSS: {pss}, {range:?}");
        let private = kernel("Private_Clean:") + kernel("Private_Dirty:");
        let off = number(process, "/uss_bytes").abs_diff(private);
        assert!(off <= files + MIB, "USS: {off} off in {process}");
        let kinds = process["kinds"].as_array().expect("kinds");
        let of = |name: &str| {
            let kind = kinds.iter().find(|kind| kind["kind"] == name);
            kind.map_or(0, |kind| number(kind, "/rss_bytes"))
        };
        let sum: u64 = kinds.iter().map(|kind| number(kind, "/rss_bytes")).sum();
        assert_eq!(sum, rss);
        // 100 000 objects of 48 and more bytes, and as many strings.
        assert!(of("pymalloc") > 8 << 20, "{process}");
        assert!(of("interpreter") > 1 << 20, "{process}");
        assert!(
            of("stacks") > 0 && of("malloc") > 0 && of("files") > 0,
            "{process}"
        );
    });
}

fn unshared(report: &Value) -> u64 {
    number(report, "/worker/unshared_bytes")
}

fn why(report: &Value, name: &str) -> u64 {
    number(report, &format!("/worker/why/{name}"))
}

/// Bytes of a type in unshared pages, all or those of one kind.
fn of_type(report: &Value, name: &str, path: &str) -> u64 {
    let types = report["worker"]["types"].as_array().expect("types");
    let row = types.iter().find(|row| row["type"] == name);
    row.map_or(0, |row| number(row, path))
}

/// Every unshared byte has a reason, a content and a type.
#[track_caller]
fn assert_sums(report: &Value) {
    let reasons = ["new", "worker", "parent", "both", "huge", "unknown"];
    let sum: u64 = reasons.iter().map(|reason| why(report, reason)).sum();
    assert_eq!(sum, unshared(report));
    let kinds = [
        "same",
        "references",
        "collector",
        "headers",
        "values",
        "unread",
    ];
    let contents = |value: &Value, path: &str| -> u64 {
        let parts = kinds
            .iter()
            .map(|kind| number(value, &format!("{path}/{kind}")));
        parts.sum()
    };
    let new = why(report, "new");
    assert_eq!(contents(report, "/worker/contents") + new, unshared(report));
    let types = report["worker"]["types"].as_array().expect("types");
    let all: u64 = types.iter().map(|row| number(row, "/bytes")).sum();
    assert_eq!(all, unshared(report));
    for row in types {
        let parts = contents(row, "/contents") + number(row, "/new");
        assert_eq!(parts, number(row, "/bytes"), "{row}");
    }
}

/// What 100 000 things and their names take at least: 48 and 64 bytes each, but for a few.
const THINGS: u64 = 4_300_000;
const NAMES: u64 = 5_900_000;

/// After the fork; after `gc.collect()`; after reading every object; the same with
/// `gc.freeze()`; after it writes attributes; with objects of its own; when the parent reads.
#[test]
fn each_phase_unshares_what_it_writes() {
    // Who wrote a page is not told without them; the test below has that case.
    if !sees_page_frames() {
        return;
    }
    matrix_in_one_mode(|interpreter| {
        let idle = worker(interpreter, "idle");
        let base = unshared(&idle);
        assert_eq!(idle["worker"]["proven"], true);
        assert_sums(&idle);
        // Most of the heap is shared.
        assert!(number(&idle, "/worker/shared_bytes") > 2 * base, "{idle}");

        // Every object has a header that the collector writes: 100 000 of 48 bytes.
        let collect = worker(interpreter, "collect");
        assert_sums(&collect);
        assert!(unshared(&collect) > base + 2 * MIB, "{idle}\n{collect}");
        let wrote = |report: &Value| why(report, "worker") > why(&idle, "worker") + 2 * MIB;
        assert!(wrote(&collect), "{collect}");
        // The collector leaves everything as it was, so that little differs.
        let values = number(&collect, "/worker/contents/values");
        assert!(values * 2 < unshared(&collect), "{collect}");

        // What it says that freezing would save, freezing saves.
        let frozen = worker(interpreter, "frozen");
        let saved = unshared(&collect).saturating_sub(unshared(&frozen));
        let least = number(&collect, "/worker/freeze_saves_bytes/0");
        let most = number(&collect, "/worker/freeze_saves_bytes/1");
        assert!(saved > 2 * MIB, "{frozen}");
        assert!(
            least <= saved + MIB && saved <= most + MIB,
            "{least} {saved} {most}"
        );

        // Nothing is collected here, and what freezing saves is saved already.
        let write = worker(interpreter, "write");
        assert_sums(&write);
        assert!(wrote(&write), "{write}");
        let headers = number(&write, "/worker/contents/collector");
        let least = number(&write, "/worker/freeze_saves_bytes/0");
        assert!(headers < MIB && least < MIB, "{write}");

        let read = worker(interpreter, "read");
        assert!(wrote(&read), "{read}");
        let parent = worker(interpreter, "parent");
        assert!(
            why(&parent, "parent") > why(&idle, "parent") + 2 * MIB,
            "{parent}"
        );
        let both = worker(interpreter, "both");
        assert!(why(&both, "both") > why(&idle, "both") + 2 * MIB, "{both}");

        // 2 000 times 4 000 bytes.
        let new = worker(interpreter, "new");
        assert_sums(&new);
        assert!(why(&new, "new") + why(&new, "worker") > 7_000_000, "{new}");
        assert!(why(&new, "new") > 2 * MIB, "{new}");

        // The same by type. The collector writes what it tracks; reading writes counts of all
        // that is touched, and takes them back.
        let things = |report: &Value, path: &str| of_type(report, "__main__.Thing", path);
        let names = |report: &Value, path: &str| of_type(report, "builtins.str", path);
        for resting in [&idle, &frozen, &new] {
            assert!(things(resting, "/bytes") < THINGS / 4, "{resting}");
            assert!(names(resting, "/bytes") < NAMES / 4, "{resting}");
        }
        assert!(things(&collect, "/bytes") > THINGS, "{collect}");
        assert!(names(&collect, "/bytes") < NAMES / 2, "{collect}");
        for reading in [&read, &parent] {
            assert!(
                things(reading, "/contents/same") > THINGS / 10 * 9,
                "{reading}"
            );
            assert!(
                names(reading, "/contents/same") > NAMES / 10 * 9,
                "{reading}"
            );
        }
        // Of two references to a name one is left: that is all that its pages differ in.
        let hold = worker(interpreter, "hold");
        let count: u64 = COUNT.parse().expect("a number");
        assert!(
            names(&hold, "/contents/references") > NAMES / 10 * 9,
            "{hold}"
        );
        let written = names(&hold, "/written/references");
        assert!((count..count + count / 10).contains(&written), "{hold}");
        assert!(names(&hold, "/written/values") < count / 100, "{hold}");
        // Buffers count as what has them; from 3.15 on that is a `bytes` in each `bytearray`.
        let of = ["builtins.bytearray", "builtins.bytes"];
        let buffers: u64 = of.iter().map(|name| of_type(&new, name, "/bytes")).sum();
        assert!((7_000_000..9_000_000).contains(&buffers), "{new}");
    });
}

/// The kernel makes a huge page of what the parent has, and nobody writes.
#[test]
fn what_became_a_huge_page_was_written_by_nobody() {
    if !sees_page_frames() {
        return;
    }
    let moved = Cell::new(0);
    matrix(|interpreter| {
        let idle = worker(interpreter, "idle");
        let target = Target::spawn(interpreter, "forked.py", &["huge", COUNT]);
        // Without a free huge page there is none, and the kernel may not know the call.
        if target.ready().more["moved"] != true {
            return;
        }
        let huge = beside_parent(&target);
        assert_sums(&huge);
        // All but what was unshared before, and the headers of pools that are in use.
        let page = 2 * MIB;
        assert!(why(&huge, "huge") > page / 10 * 8, "{idle}\n{huge}");
        assert!(why(&huge, "huge") <= page, "{huge}");
        for writer in ["worker", "parent", "both"] {
            assert!(
                why(&huge, writer) < why(&idle, writer) + MIB / 4,
                "{idle}\n{huge}"
            );
        }
        // Freezing would not have saved it.
        let most = |report: &Value| number(report, "/worker/freeze_saves_bytes/1");
        assert!(most(&huge) < most(&idle) + MIB / 4, "{idle}\n{huge}");
        moved.set(moved.get() + 1);
    });
    say(&format!("huge pages: {}", moved.get()));
    let all = std::env::var("ONLOOKER_REQUIRE_ALL").is_ok_and(|all| all == "1");
    assert!(moved.get() > 0 || !all, "no huge page was made");
}

/// Anonymous memory of a whole family, by the kernel: pages of files are shared with whatever else
/// runs.
fn anonymous(report: &Value) -> u64 {
    let processes = report["processes"].as_array().expect("processes");
    let pids = processes.iter().map(|process| number(process, "/pid"));
    pids.map(|pid| rollup(pid as u32, "Pss_Anon:")).sum()
}

/// What one more worker costs is what the memory of all of them grows by when there is one more.
#[test]
fn one_more_worker_costs_what_it_says() {
    matrix_in_one_mode(|interpreter| {
        let mut target = Target::spawn(interpreter, "forked.py", &["collect", COUNT]);
        target.write(b"x");
        target.next_ready();
        let two = pages(&target, &["--children"]);
        let before = anonymous(&two);
        target.write(b"x");
        target.next_ready();
        let three = pages(&target, &["--children"]);
        assert_eq!(number(&two, "/family/workers"), 2);
        assert_eq!(number(&three, "/family/workers"), 3);
        let costs = number(&two, "/family/worker_mean_bytes");
        assert!(costs > 4 * MIB, "{costs}");
        let grown = anonymous(&three) - before;
        assert!(grown.abs_diff(costs) < costs / 4, "{costs} and {grown}");
    });
}

/// `process_vm_readv` would make copies of all that is read.
#[test]
fn looking_twice_does_not_unshare() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "forked.py", &["idle", COUNT]);
        let look = || {
            let report = pages(&target, &["--children"]);
            number(&report, "/processes/1/worker/unshared_bytes")
        };
        let first = look();
        for _ in 0..3 {
            look();
        }
        // The interpreter is looked for in the parent alone, and that reads some dozens of pages.
        let last = look();
        assert!(last <= first + (1 << 20), "{first} to {last}");
    });
}

/// A copy under a stop reads the fast way what is not shared, and only that.
#[test]
fn a_census_under_a_stop_does_not_unshare() {
    if !sees_page_frames() {
        return;
    }
    let target = Target::spawn(&any(), "forked.py", &["idle", COUNT]);
    let before = pages(&target, &["--children"]);
    for process in before["processes"].as_array().expect("processes") {
        let pid = process["pid"].to_string();
        let census = onlooker(&["heap", "--pause", "--json", "-p", &pid]).success();
        assert!(census.json()["pause_ns"].is_u64(), "{}", census.text());
    }
    let after = pages(&target, &["--children"]);
    let unshared = |report: &Value| number(report, "/processes/1/worker/unshared_bytes");
    let (first, last) = (unshared(&before), unshared(&after));
    assert!(last <= first + MIB, "{first} to {last}");
}

/// Another user's processes have no page frames, and single pages say who else maps them.
#[test]
fn without_root_it_says_what_is_hidden() {
    if !can_change_user() {
        return;
    }
    let all = interpreters();
    let Some(interpreter) = all.iter().find(|i| i.mode == Mode::Plain && !i.is_pyenv()) else {
        return;
    };
    let public = Public::new("onlooker-pages");
    let mut command = interpreter.bare_command();
    command
        .arg(public.join("forked.py"))
        .args(["collect", COUNT]);
    let target = Target::spawn_command(as_nobody(&mut command));
    let pid = target.pid().to_string();
    let args = ["pages", "--json", "--children", "-p", &pid];
    let report = run(public.onlooker().args(args)).success().json();
    let worker = &report["processes"][1]["worker"];
    assert_eq!(worker["proven"], false);
    assert!(number(worker, "/shared_bytes") > 1 << 20, "{worker}");
    assert!(number(worker, "/why/unknown") > 1 << 20, "{worker}");
    let text = run(public.onlooker().args(&args[..1]).args(&args[2..])).success();
    assert!(text.text().contains("hidden"), "{}", text.text());
    // What it is not allowed to look at at all.
    let others = Target::spawn_command(&mut interpreter.command(&program("forked.py"), &["idle"]));
    let pid = others.pid().to_string();
    let refused = run(public.onlooker().args(["pages", "-p", &pid]));
    let code = onlooker::error::exit::PERMISSION;
    assert_eq!(refused.code(), Some(code.into()), "{}", refused.stderr);
}

/// Root in a container has the flags of frames, and not the frames: nothing is proven by zeros.
#[test]
fn frames_that_are_zero_prove_nothing() {
    if !can_change_user() {
        return;
    }
    let Some(interpreter) = interpreters().pop() else {
        return;
    };
    let target = Target::spawn(&interpreter, "forked.py", &["collect", COUNT]);
    let pid = target.pid().to_string();
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]);
    command.arg(env!("CARGO_BIN_EXE_onlooker"));
    let ran = run(command.args(["pages", "--json", "--children", "-p", &pid])).success();
    for word in ["CAP_SYS_ADMIN", "hidden", "who wrote"] {
        assert!(ran.stderr.contains(word), "{}", ran.stderr);
    }
    let report = &ran.json()["processes"][1];
    assert_eq!(report["worker"]["proven"], false);
    assert_sums(report);
    // Sharing and contents are seen all the same.
    assert!(number(report, "/worker/shared_bytes") > MIB, "{report}");
    assert!(why(report, "unknown") > 2 * MIB, "{report}");
    assert!(
        number(report, "/worker/contents/same") > 2 * MIB,
        "{report}"
    );
    assert!(
        of_type(report, "__main__.Thing", "/bytes") > THINGS,
        "{report}"
    );
}

/// A page map that may not be read: sizes, and what is missing.
#[test]
fn without_a_page_map_sizes_are_left() {
    if !can_change_user() {
        return;
    }
    let all = interpreters();
    let Some(interpreter) = all.iter().find(|i| i.mode == Mode::Plain && !i.is_pyenv()) else {
        return;
    };
    let public = Public::new("onlooker-pagemap");
    let mut command = interpreter.bare_command();
    command.arg(public.join("forked.py")).args(["idle", COUNT]);
    let target = Target::spawn_command(as_nobody(&mut command));
    let scratch = Scratch::new("pagemap");
    let secret = scratch.join("secret");
    std::fs::write(&secret, "").expect("a file");
    std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).expect("root's alone");
    // In a mount namespace of its own the file lies over the page maps of both.
    let script = "for pid in $1 $2; do mount --bind \"$0\" /proc/$pid/pagemap || exit; done; shift 2; \
                  exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";
    let worker = target.ready().more["worker"].to_string();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(&secret);
    command.args([&target.pid().to_string(), &worker]);
    command.arg(public.join("onlooker"));
    let pid = target.pid().to_string();
    let ran = run(command.args(["pages", "--json", "--children", "-p", &pid])).success();
    for word in ["page map", "Permission denied", "sizes are shown"] {
        assert!(ran.stderr.contains(word), "{}", ran.stderr);
    }
    let report = ran.json();
    assert!(report["processes"][1]["worker"].is_null(), "{report}");
    assert!(number(&report, "/processes/1/rss_bytes") > MIB, "{report}");
    assert!(number(&report, "/family/worker_mean_bytes") > 0, "{report}");
}

/// A family that ends while it is looked at is told, and is not taken for one that shares nothing.
#[test]
fn what_has_ended_shares_nothing_that_is_shown() {
    let Some(interpreter) = interpreters().into_iter().find(|i| i.mode == Mode::Plain) else {
        return;
    };
    let target = Target::spawn(&interpreter, "forked.py", &["idle", "1000"]);
    let pid = target.pid().cast_signed();
    let worker = target.ready().more["worker"].as_i64().expect("a pid") as i32;
    let (parent, worker) = (Process::look(pid), Process::look(worker));
    let (parent, worker) = (parent.expect("a process"), worker.expect("a process"));
    assert!(worker.beside(&parent).is_ok());
    target.finish();
    let error = worker.beside(&parent).expect_err("it has ended");
    assert!(matches!(error, Error::Exited { .. }), "{error}");
    assert!(error.to_string().contains("exited"), "{error}");
}

/// Workers that come and go are no matter of permission, and no reason to fail.
#[test]
fn workers_that_exit_meanwhile_are_left_out() {
    let Some(interpreter) = interpreters().into_iter().find(|i| i.mode == Mode::Plain) else {
        return;
    };
    let target = Target::spawn(&interpreter, "forkstorm.py", &[]);
    let pid = target.pid().to_string();
    let mut told = 0;
    for _ in 0..8 {
        let ran = onlooker(&["pages", "--json", "--children", "-p", &pid]).success();
        for line in ran
            .stderr
            .lines()
            .filter(|line| !line.contains("page frames"))
        {
            assert!(
                line.contains("exited") && !line.contains("record"),
                "{line}"
            );
            told += 1;
        }
        let report = ran.json();
        assert!(number(&report, "/processes/0/rss_bytes") > MIB, "{report}");
    }
    assert!(told > 0, "no worker came and went");
}
