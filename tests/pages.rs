//! `onlooker pages`: sizes beside those of the kernel, and what forked workers share, over the
//! matrix.

#[path = "support/mod.rs"]
mod support;

use serde_json::Value;
use support::{
    Interpreter, Mode, Public, Target, as_nobody, can_change_user, interpreters, matrix, onlooker,
    program, run,
};

/// Objects of the shared heap: with their names some 10 MB.
const COUNT: &str = "100000";

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
    let target = Target::spawn(interpreter, "forked.py", &[phase, COUNT]);
    let report = pages(&target, &["--children"]);
    let processes = report["processes"].as_array().expect("processes");
    assert_eq!(processes.len(), 2, "{report}");
    assert_eq!(processes[1]["worker"]["parent"], target.pid());
    assert_eq!(processes[0]["python"], processes[1]["python"]);
    assert_eq!(number(&report, "/family/workers"), 1);
    processes[1].clone()
}

/// The kernel's own sums of a process.
fn rollup(pid: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("smaps_rollup");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.expect("a field").trim().trim_end_matches(" kB");
    kib.trim_start_matches(':')
        .trim()
        .parse::<u64>()
        .expect("a number")
        * 1024
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
        // A page may come or go in between, and looking for the interpreter reads some.
        let near = |ours: u64, theirs: u64, what: &str| {
            assert!(
                ours.abs_diff(theirs) <= 1 << 20,
                "{what}: {ours} and {theirs}"
            );
        };
        near(
            number(process, "/rss_bytes"),
            rollup(target.pid(), "Rss"),
            "RSS",
        );
        near(
            number(process, "/pss_bytes"),
            rollup(target.pid(), "Pss"),
            "PSS",
        );
        let kinds = process["kinds"].as_array().expect("kinds");
        let of = |name: &str| {
            let kind = kinds.iter().find(|kind| kind["kind"] == name);
            kind.map_or(0, |kind| number(kind, "/rss_bytes"))
        };
        let sum: u64 = kinds.iter().map(|kind| number(kind, "/rss_bytes")).sum();
        assert_eq!(sum, number(process, "/rss_bytes"));
        // 100 000 objects of 48 and more bytes, and as many strings.
        assert!(of("pymalloc") > 8 << 20, "{process}");
        assert!(of("interpreter") > 1 << 20, "{process}");
        assert!(
            of("stacks") > 0 && of("malloc") > 0 && of("files") > 0,
            "{process}"
        );
    });
}

/// After the fork; after `gc.collect()`; after reading every object; the same with
/// `gc.freeze()`; with objects of its own; when the parent reads.
#[test]
fn each_phase_unshares_what_it_writes() {
    // Who wrote a page is for root to see.
    if !can_change_user() {
        return;
    }
    matrix(|interpreter| {
        let unshared = |report: &Value| number(report, "/worker/unshared_bytes");
        let why = |report: &Value, name: &str| number(report, &format!("/worker/why/{name}"));
        let idle = worker(interpreter, "idle");
        let base = unshared(&idle);
        assert_eq!(idle["worker"]["proven"], true, "tests run as root");
        let reasons = ["new", "worker", "parent", "both", "unknown"];
        let sum: u64 = reasons.iter().map(|reason| why(&idle, reason)).sum();
        assert_eq!(sum, base);
        // Most of the heap is shared.
        assert!(number(&idle, "/worker/shared_bytes") > 2 * base, "{idle}");

        // Every object has a header that the collector writes: 100 000 of 48 bytes.
        let collect = worker(interpreter, "collect");
        assert!(unshared(&collect) > base + (2 << 20), "{idle}\n{collect}");
        assert!(
            why(&collect, "worker") > why(&idle, "worker") + (2 << 20),
            "{collect}"
        );
        // The collector leaves everything as it was, so that little differs.
        let values = number(&collect, "/worker/contents/values");
        assert!(values * 2 < unshared(&collect), "{collect}");
        assert!(
            number(&collect, "/worker/freeze_saves_bytes/1") > 2 << 20,
            "{collect}"
        );

        let frozen = worker(interpreter, "frozen");
        assert!(
            unshared(&frozen) + (2 << 20) < unshared(&collect),
            "{frozen}"
        );

        let read = worker(interpreter, "read");
        assert!(
            why(&read, "worker") > why(&idle, "worker") + (2 << 20),
            "{read}"
        );
        let parent = worker(interpreter, "parent");
        assert!(
            why(&parent, "parent") > why(&idle, "parent") + (2 << 20),
            "{parent}"
        );

        // 2 000 times 4 000 bytes.
        let new = worker(interpreter, "new");
        assert!(why(&new, "new") + why(&new, "worker") > 7_000_000, "{new}");
        assert!(why(&new, "new") > 2 << 20, "{new}");
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
