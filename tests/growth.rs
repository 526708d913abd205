//! `onlooker record --growth` on live interpreters: bytes by site, what is kept, unharmed targets.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use onlooker_recording::read;
use onlooker_recording::tables::{Sample, WeightKind};
use serde_json::Value;
use support::{
    Interpreter, Mode, Scratch, Target, grown_and_kept, interpreters, matrix, onlooker,
    onlooker_command, program, run, say, sites, wait_until,
};

/// Kills at random moments.
const KILLS: u64 = 200;
const MIB: f64 = (1 << 20) as f64;
/// After so long a thread without faults is taken for one that rests.
const REST_NS: u64 = 400_000_000;

/// One interpreter will do where it is the kernel that is tested.
fn newest() -> Interpreter {
    let plain = |i: &Interpreter| i.is_pyenv();
    let found = interpreters().into_iter().filter(plain);
    found
        .max_by_key(|i| i.version)
        .expect("a pyenv interpreter")
}

fn start(target: &Target, output: &Path, more: &[&str]) -> Child {
    let pid = target.pid().to_string();
    onlooker_command()
        .args(["record", "--growth", "-p", &pid, "-o"])
        .arg(output)
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("onlooker")
}

/// Waits until the events of the target's one thread are there: each has a buffer, which
/// Onlooker maps.
fn wait_until_watched(child: &Child) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let buffers = || {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.id()));
        maps.map_or(0, |maps| maps.matches("[perf_event]").count())
    };
    while buffers() < 2 {
        assert!(Instant::now() < deadline, "never watched");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn interrupt(mut child: Child) -> String {
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("kill");
    let stderr = child.stderr.take().expect("stderr");
    let said = std::io::read_to_string(stderr).expect("text");
    assert!(child.wait().expect("wait").success(), "{said}");
    said
}

/// Lets the target work so often.
fn work(target: &mut Target, rounds: usize) {
    for _ in 0..rounds {
        target.write(b"x");
        target.next_line();
    }
}

/// Lets the target finish; the bytes that the kernel has counted for each function.
fn truth(mut target: Target) -> BTreeMap<String, f64> {
    target.close();
    let line = target.next_line();
    assert!(target.finish().success());
    serde_json::from_str(&line).expect("JSON")
}

#[test]
fn known_sites_get_their_shares_and_the_temporary_one_keeps_nothing() {
    matrix(|interpreter| {
        let mut target = Target::spawn(interpreter, "growth.py", &[]);
        let scratch = Scratch::new("growth");
        let output = scratch.join("x.olk");
        let onlooker = start(&target, &output, &["-r", "50"]);
        wait_until_watched(&onlooker);
        work(&mut target, 4);
        let said = interrupt(onlooker);
        say(&format!("{}: {said}", interpreter.label));
        let truth = truth(target);
        let seen = grown_and_kept(&output);
        let works = ["grow", "cache", "temporary", "fill"];
        let seen = |name: &str| seen.get(name).copied().unwrap_or_default();
        let tables = read::read(File::open(&output).expect("a recording"))
            .expect("whole")
            .tables;
        // On a busy machine read() can be over before its end can be watched: told as lost. Only
        // `fill` grows in the kernel, and nothing else may be lost.
        let counts = tables.counts();
        assert!(counts.lost.iter().all(|(why, _)| why == "later"), "{said}");
        let lost: u64 = counts.lost.iter().map(|(_, count)| *count).sum();
        let unmet = |name: &str| {
            if name == "fill" {
                (lost << 18) as f64
            } else {
                0.0
            }
        };
        let all_true: f64 = works.iter().map(|name| truth[*name]).sum();
        let all_seen: f64 = works.iter().map(|name| seen(name).0 + unmet(name)).sum();
        for name in works {
            let share = (seen(name).0 + unmet(name)) / all_seen;
            let true_share = truth[name] / all_true;
            let apart = (true_share - share).abs();
            assert!(apart < 0.05, "{name}: {share} for {true_share} in {said}");
        }
        assert!(
            (all_seen / all_true - 1.0).abs() < 0.05,
            "{all_seen} of {all_true}"
        );
        // What each keeps, from its source: 16 lists of a megabyte, 16 MiB that read() filled.
        assert!((seen("grow").1 / MIB - 16.0).abs() < 4.0, "{said}");
        assert!(
            ((seen("fill").1 + unmet("fill")) / MIB - 16.0).abs() < 4.0,
            "{said}"
        );
        assert!(seen("cache").1 > 0.7 * seen("cache").0, "{said}");
        assert!(seen("temporary").1 < 0.05 * seen("temporary").0, "{said}");
        let rss = tables.rss.iter().map(|point| point.rss_bytes as f64);
        let (least, most) = rss.fold((f64::MAX, 0.0_f64), |(a, b), r| (a.min(r), b.max(r)));
        assert!(most - least > 32.0 * MIB, "{least} - {most}");
        // With -r each beat is a sample of the one thread; pages of files are a class of their own.
        let of_kind = |kind| tables.samples.iter().filter(move |s| s.weight_kind == kind);
        assert_eq!(
            of_kind(WeightKind::Samples).count() as u64,
            counts.ticks,
            "{said}"
        );
        let in_load = |s: &Sample| {
            let mut frames = tables.frames(s.stack);
            frames.any(|frame| tables.string(frame.name) == "load")
        };
        let of_files = of_kind(WeightKind::BytesFile);
        let (files, bytes) = of_files.fold((0, 0), |(n, sum), s| (n + 1, sum + s.weight));
        assert!(
            of_kind(WeightKind::BytesFile).any(in_load),
            "{files}, {said}"
        );
        // The first ones after a rest stand for fewer faults.
        assert!(bytes > files << 16 && bytes <= files << 18, "{said}");
        // What is called there may take a page.
        let grown = of_kind(WeightKind::BytesGrown)
            .filter(|s| in_load(s))
            .count();
        assert!(grown <= 1, "{said}");
    });
}

#[test]
fn a_huge_page_counts_as_what_it_is() {
    // One in 64 faults would mostly be none of the 32.
    for more in [&["--growth-every", "4K"][..], &[]] {
        let mut target = Target::spawn(&newest(), "growth.py", &["huge"]);
        let scratch = Scratch::new("growth-huge");
        let output = scratch.join("x.olk");
        let onlooker = start(&target, &output, more);
        wait_until_watched(&onlooker);
        // It has slept since for longer than a thread that begins to grow.
        wait_until("a rest", || {
            let tables = read::read(File::open(&output).expect("a recording"));
            tables.is_ok_and(|read| {
                read.tables
                    .rss
                    .last()
                    .is_some_and(|at| at.time_ns > REST_NS)
            })
        });
        work(&mut target, 1);
        let said = interrupt(onlooker);
        let faults = truth(target)["huge"] / 4096.0;
        let (grown, kept) = grown_and_kept(&output)["huge"];
        say(&format!("{faults} faults for 64 MiB; {said}"));
        assert!((grown / MIB - 64.0).abs() < 3.0, "{said}");
        assert!((kept / MIB - 64.0).abs() < 3.0, "{said}");
    }
}

/// Grown and kept MiB of each function of a target that works once.
fn of_one_round(interpreter: &Interpreter, mode: &str) -> (BTreeMap<String, (f64, f64)>, String) {
    let mut target = Target::spawn(interpreter, "growth.py", &[mode]);
    let scratch = Scratch::new(&format!("growth-{mode}"));
    let output = scratch.join("x.olk");
    let onlooker = start(&target, &output, &[]);
    wait_until_watched(&onlooker);
    target.write(b"x");
    let answer = target.next_line();
    let said = interrupt(onlooker);
    target.close();
    assert!(target.finish().success());
    let in_mib = |(name, (grown, kept))| (name, (grown / MIB, kept / MIB));
    let seen: BTreeMap<_, _> = grown_and_kept(&output).into_iter().map(in_mib).collect();
    say(&format!("{}: {seen:?}, {said}", interpreter.label));
    (seen, answer)
}

#[test]
fn pages_that_were_shared_since_a_fork_are_no_growth() {
    matrix(|interpreter| {
        let (seen, answer) = of_one_round(interpreter, "forked");
        let shared: f64 = answer.parse().expect("bytes");
        assert!(shared / MIB > 16.0, "{answer}");
        let of = |name: &str| seen.get(name).copied().unwrap_or_default();
        let others = seen.iter().filter(|(name, _)| *name != "by_parent");
        let others: f64 = others.map(|(_, (grown, _))| grown).sum();
        assert!(others < 4.0, "{seen:?}, {answer}");
        let (grown, kept) = of("by_parent");
        assert!((grown - 32.0).abs() < 1.0, "{seen:?}");
        assert!((kept - 32.0).abs() < 1.0, "{seen:?}");
    });
}

#[test]
fn memory_whose_place_shared_memory_has_taken_is_not_kept() {
    matrix(|interpreter| {
        let (seen, _) = of_one_round(interpreter, "replaced");
        let (grown, kept) = seen["by_private"];
        assert!((grown - 16.0).abs() < 1.0, "{seen:?}");
        assert!(kept < 1.0, "{seen:?}");
        assert!(!seen.contains_key("by_shared"), "{seen:?}");
    });
}

#[test]
fn memory_that_realloc_moves_is_kept() {
    matrix(|interpreter| {
        let (seen, answer) = of_one_round(interpreter, "moved");
        let truth: BTreeMap<String, f64> = serde_json::from_str(&answer).expect("JSON");
        let kept = |name: &str| seen.get(name).copied().unwrap_or_default().1;
        let all_true: f64 = truth.values().sum::<f64>() / MIB;
        let all_kept: f64 = seen.values().map(|(_, kept)| kept).sum();
        for (name, bytes) in &truth {
            let share = kept(name) / all_kept;
            let true_share = bytes / MIB / all_true;
            let apart = (true_share - share).abs();
            assert!(apart < 0.05, "{name}: {share} for {true_share} in {seen:?}");
        }
        assert!(kept("append_for_now") / all_kept < 0.05, "{seen:?}");
        // What a list or a bytearray has left for later, up to an eighth, was not touched yet.
        assert!(
            (0.85..1.05).contains(&(all_kept / all_true)),
            "{seen:?}, {answer}"
        );
        assert!(seen["append_for_now"].0 > 30.0, "{seen:?}");
    });
}

#[test]
fn where_moves_are_not_told_that_is_said() {
    let scratch = Scratch::new("growth-deaf");
    let output = scratch.join("x.olk");
    // In mounts of its own tracefs is empty.
    let hide = "for d in tracing debug; do \
                [ ! -d /sys/kernel/$d ] || mount -t tmpfs none /sys/kernel/$d || exit; done; \
                exec \"$@\"";
    let recorded = |hidden: bool| {
        let onlooker = onlooker_command();
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "sh",
            "-c",
            if hidden { hide } else { "exec \"$@\"" },
        ]);
        command.arg("sh").arg(onlooker.get_program());
        command.args(["record", "--growth", "-o"]).arg(&output);
        command.arg("--").arg(newest().executable);
        command.arg(program("growth.py")).arg("short");
        run(command.stdin(Stdio::null())).success().stderr
    };
    let said = "memory that realloc has moved counts as freed";
    for hidden in [true, false] {
        let stderr = recorded(hidden);
        assert_eq!(stderr.contains(said), hidden, "{stderr}");
    }
}

#[test]
fn a_site_can_be_a_line_a_file_or_a_stack() {
    let scratch = Scratch::new("growth-by");
    let output = scratch.join("x.olk");
    let run = run(onlooker_command()
        .args(["record", "--growth", "-o"])
        .arg(&output)
        .arg("--")
        .arg(newest().executable)
        .arg(program("growth.py"))
        .arg("2")
        .stdin(Stdio::null()))
    .success();
    assert!(run.stderr.contains("kept of"), "{}", run.stderr);
    // An interpreter needs memory before it is one.
    let before = " of memory came in before its interpreter was there";
    assert!(run.stderr.contains(before), "{}", run.stderr);
    let has = |by: &str, test: &dyn Fn(&Value) -> bool| {
        let sites = sites(&output, by);
        assert!(sites.iter().any(test), "{by}: {sites:?}");
    };
    has("line", &|site| {
        site["function"] == "grow" && site["line"].as_u64() > Some(20)
    });
    has("file", &|site| {
        site["function"].is_null() && site["line"].is_null()
    });
    has("stack", &|site| {
        let frames = site["stack"].as_array().map_or(0, Vec::len);
        site["function"] == "temporary" && frames >= 4
    });
    for weight in ["grown", "kept"] {
        let path = output.to_string_lossy();
        let graph = onlooker(&["report", &path, "-f", "raw", "--weight", weight]);
        assert!(graph.success().text().contains("grow ("), "{weight}");
    }
}

#[test]
fn killed_at_any_moment_with_every_fault_an_event_the_target_lives() {
    let mut target = Target::spawn(&newest(), "growth.py", &["forever"]);
    let scratch = Scratch::new("growth-kill");
    let mut random = u64::from(std::process::id());
    // Kills while it was traced, and those that met it at a stop.
    let (mut traced, mut stopped) = (0, 0);
    while traced < KILLS {
        let mut onlooker = start(&target, &scratch.join("x.olk"), &["--growth-every", "4K"]);
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
    target.close();
    let answer: Value = serde_json::from_str(&target.next_line()).expect("JSON");
    assert!(answer["rounds"].as_u64() > Some(0), "{answer}");
    assert_eq!(answer["bad"], 0, "{answer}");
    assert!(target.finish().success());
}

#[test]
fn threads_and_exec_are_followed_and_a_fork_is_not() {
    matrix(|interpreter| {
        // Inside of another root it could not start itself again.
        if interpreter.mode != Mode::Plain {
            return;
        }
        let mut target = Target::spawn(interpreter, "growth.py", &["threads"]);
        let scratch = Scratch::new("growth-threads");
        let output = scratch.join("x.olk");
        let onlooker = start(&target, &output, &[]);
        wait_until_watched(&onlooker);
        target.write(b"x");
        assert_eq!(target.next_line(), r#"{"bad": false}"#);
        target.write(b"x");
        target.next_ready();
        // Its interpreter is found anew, and told by its row.
        wait_until("the program after exec", || {
            let tables = read::read(File::open(&output).expect("a recording"));
            tables.is_ok_and(|read| read.tables.processes.len() == 2)
        });
        target.write(b"x");
        target.next_line();
        let said = interrupt(onlooker);
        target.close();
        assert!(target.finish().success());
        let seen = grown_and_kept(&output);
        let of = |name: &str| {
            let (grown, kept) = seen.get(name).copied().unwrap_or_default();
            (grown / MIB, kept / MIB)
        };
        // By exec the memory of the program before is gone.
        assert!((of("by_thread").0 - 64.0).abs() < 1.0, "{seen:?}: {said}");
        assert!(of("by_thread").1 == 0.0, "{seen:?}: {said}");
        assert!(!seen.contains_key("by_child"), "{seen:?}");
        assert!((of("by_exec").0 - 64.0).abs() < 1.0, "{seen:?}: {said}");
        assert!((of("by_exec").1 - 64.0).abs() < 1.0, "{seen:?}: {said}");
    });
}

#[test]
fn a_short_program_keeps_what_it_had_when_it_began_to_end() {
    matrix(|interpreter| {
        if interpreter.mode != Mode::Plain {
            return;
        }
        let scratch = Scratch::new("growth-short");
        let output = scratch.join("x.olk");
        let target = interpreter.command(&program("growth.py"), &["short"]);
        let ran = run(onlooker_command()
            .args(["record", "--growth", "-o"])
            .arg(&output)
            .arg("--")
            .arg(target.get_program())
            .args(target.get_args()))
        .success();
        let seen = grown_and_kept(&output);
        let kept = |name: &str| seen.get(name).map_or(0.0, |of| of.1 / MIB);
        for (name, mib) in [("stays", 32.0), ("stays_too", 16.0)] {
            let apart = (kept(name) - mib).abs();
            assert!(apart < 1.0, "{seen:?}: {}", ran.stderr);
        }
        assert!(kept("short") < 1.0, "{seen:?}: {}", ran.stderr);
    });
}

#[test]
fn a_recording_without_growth_says_so() {
    let target = Target::spawn(&newest(), "growth.py", &[]);
    let scratch = Scratch::new("growth-none");
    let output = scratch.join("x.olk");
    let pid = target.pid().to_string();
    run(onlooker_command()
        .args(["record", "-i", "-d", "0.2", "-p", &pid, "-o"])
        .arg(&output))
    .success();
    let path = output.to_string_lossy();
    let graph = scratch.join("x.svg");
    let to = graph.to_string_lossy();
    for args in [
        &["--sites"][..],
        &["--weight", "grown", "-f", "raw"],
        &["--weight", "files", "-f", "raw"],
        &["--weight", "kept", "-o", &to],
    ] {
        let report = onlooker(&[&["report", &path], args].concat());
        let said = &report.stderr;
        assert_eq!(report.code(), Some(79), "{args:?}: {said}");
        assert!(said.contains("record --growth"), "{args:?}: {said}");
        assert!(!said.contains("sleeping"), "{args:?}: {said}");
        assert!(report.stdout.is_empty(), "{args:?}: {}", report.text());
    }
    assert!(!graph.exists(), "an empty graph");
    let refused = onlooker(&[
        "record", "-d", "0.1", "-p", &pid, "--weight", "kept", "-o", &to,
    ]);
    assert_eq!(refused.code(), Some(64), "{}", refused.stderr);
    assert!(refused.stderr.contains("--growth"), "{}", refused.stderr);
}
