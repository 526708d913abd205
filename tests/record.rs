//! `onlooker record` and `onlooker report`: what comes out, in every form.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use onlooker_recording::tables::Trust;
use support::{
    Recording, SPIN, Scratch, Target, any, collapsed, expected_stack, launch, launch_command, load,
    matrix, matrix_in_one_mode, names, onlooker, onlooker_command, program, report, run, say,
    workspace,
};

#[test]
fn resting_stacks_are_recorded_as_they_are() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "threads.py", &["5"]);
        let pid = target.pid().to_string();
        let scratch = Scratch::new("resting");
        let file = scratch.join("out.olk");
        let out = file.to_string_lossy();
        let recorded = onlooker(&[
            "record", "-i", "-d", "0.4", "-r", "50", "-o", &out, "-p", &pid,
        ]);
        let recorded = recorded.success();
        assert!(
            recorded.stderr.contains(" 0 unverified"),
            "{}",
            recorded.stderr
        );
        let raw = report(&file, &["-f", "raw", "--full-filenames"]).success();
        let stacks = collapsed(raw.text());
        let mut expected = BTreeMap::new();
        for thread in &target.ready().threads {
            *expected.entry(expected_stack(thread)).or_insert(0) += 1;
        }
        let ticks = stacks.values().sum::<u64>() / target.ready().threads.len() as u64;
        assert!((1..=21).contains(&ticks), "{ticks} ticks in 0.4 s at 50 Hz");
        expected.values_mut().for_each(|count| *count *= ticks);
        assert_eq!(stacks, expected);
    });
}

/// A thread that runs code of a sub-interpreter has a stack in the one that called it as well, which
/// waits: its time is counted once.
#[test]
fn a_thread_in_a_sub_interpreter_is_sampled_once() {
    matrix(|interpreter| {
        // Up to 3.12 a sub-interpreter's thread state keeps the thread that has made it.
        if interpreter.version < (3, 13, 0) {
            return;
        }
        let target = Target::spawn(interpreter, "subinterp.py", &[]);
        let scratch = Scratch::new("nested");
        let (file, pid) = (scratch.join("out.olk"), target.pid().to_string());
        let out = file.to_string_lossy();
        onlooker(&["record", "-i", "-d", "0.4", "-o", &out, "-p", &pid]).success();
        let tables = load(&file);
        let mut inside = 0;
        for sample in &tables.samples {
            let names = tables.frames(sample.stack);
            let names: Vec<&str> = names.map(|frame| tables.string(frame.name)).collect();
            assert!(!names.contains(&"enter"), "{names:?} waits for another");
            inside += u32::from(names.contains(&"внутри"));
        }
        assert!(inside > 0, "{}", tables.samples.len());
        assert!(target.finish().success());
    });
}

/// A stack that changes while it is read may seem to have no frames. It is read again.
#[test]
fn generators_that_hand_on_have_stacks() {
    matrix_in_one_mode(|interpreter| {
        let scratch = Scratch::new("handing");
        let file = scratch.join("out.olk");
        let out = file.to_string_lossy();
        let mut python = interpreter.bare_command();
        python.arg(interpreter.place(&program("handing.py")));
        let options = ["-r", "500", "-o", &out];
        let run = run(&mut launch_command(&options, &python)).success();
        let tables = load(&file);
        let (mut all, mut empty) = (0, 0);
        for sample in &tables.samples {
            all += 1;
            empty += u32::from(tables.frames(sample.stack).count() == 0);
        }
        say(&format!("{}: {empty} of {all}", interpreter.label));
        assert!(all > 100, "{}", run.stderr);
        assert!(empty * 20 < all, "{empty} of {all}: {}", run.stderr);
    });
}

/// `one` takes 23 % of the time in calls of 50 ns: a profiler that shows what stands still shows it
/// in less than 1 % of its samples.
#[test]
fn short_calls_have_their_share() {
    matrix(|interpreter| {
        if !interpreter.is_pyenv() || !interpreter.at_least(3, 11) {
            return;
        }
        let mut python = interpreter.bare_command();
        python.arg(workspace().join("benches/programs/calls.py"));
        let options = ["-d", "2", "-r", "500", "-f", "raw", "-o", "-"];
        let raw = run(&mut launch_command(&options, &python)).success();
        // The program announces itself on the same stream.
        let text = raw.text().replace("ready\n", "");
        let (mut all, mut short) = (0, 0);
        for (stack, count) in collapsed(&text) {
            let newest = stack.rsplit(';').next().unwrap_or_default();
            all += count;
            short += count * u64::from(newest.starts_with("one "));
        }
        say(&format!("{}: {short} of {all}", interpreter.label));
        assert!(all > 100, "{}", raw.stderr);
        assert!(short * 100 > all * 8, "{short} of {all}: {}", raw.stderr);
    });
}

#[test]
fn formats_by_extension_and_by_name() {
    let target = Target::spawn(&any(), "busy.py", &["1"]);
    let pid = target.pid().to_string();
    let check = |output: &str, format: Option<&str>, check: &dyn Fn(&str, &Path)| {
        let scratch = Scratch::new("formats");
        // Long enough that a machine that is busy takes some samples.
        let mut args = vec!["-d", "1", "-r", "500", "-p", &pid, "-o", output];
        args.extend(format.iter().flat_map(|format| ["-f", format]));
        let run = Recording::start(scratch.path(), &args).end().success();
        assert!(run.stdout.is_empty());
        assert!(run.stderr.contains("wrote "), "{}", run.stderr);
        assert_eq!(names(scratch.path()), [output], "and nothing beside it");
        let file = scratch.join(output);
        if format.is_some_and(|format| format == "olk") || output.ends_with("olk") {
            check("", &file);
        } else {
            check(&std::fs::read_to_string(&file).expect("UTF-8"), &file);
        }
    };
    let svg = |text: &str, _: &Path| {
        assert!(text.starts_with("<?xml"), "{text:.100}");
        assert!(text.trim_end().ends_with("</svg>"));
        for word in ["busy.py", "round", "größen", "search"] {
            assert!(text.to_lowercase().contains(word), "no {word}");
        }
    };
    check("out.svg", None, &svg);
    check("picture", Some("svg"), &svg);
    check("picture.txt", Some("flamegraph"), &svg);
    let raw = |text: &str, _: &Path| {
        let mut lines = [0, 0];
        for stack in collapsed(text).keys() {
            for frame in stack.split(';') {
                let (name, place) = frame
                    .rsplit_once(" (")
                    .unwrap_or_else(|| panic!("no file of {frame:?}: {stack}"));
                assert!(!name.is_empty() && place.ends_with(')'), "{stack}");
                assert!(!place.starts_with('/'), "short file names: {stack}");
                // An instruction that belongs to no line has none, as py-spy writes it.
                let line = place.trim_end_matches(')').rsplit_once(':');
                lines[usize::from(line.is_some())] += 1;
                assert!(
                    line.is_none_or(|(_, line)| line.parse::<u32>().is_ok()),
                    "{stack}"
                );
            }
        }
        assert!(
            lines[0] * 4 < lines[1],
            "frames without and with a line: {lines:?}"
        );
        assert!(text.contains("<module> (busy.py:"), "{text}");
    };
    check("out.txt", None, &raw);
    check("out.svg", Some("raw"), &raw);
    check("out", Some("txt"), &raw);
    let speedscope = |text: &str, _: &Path| {
        let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
        assert!(
            value["$schema"]
                .as_str()
                .is_some_and(|s| s.contains("speedscope"))
        );
        let frames = value["shared"]["frames"].as_array().expect("frames");
        assert!(
            frames.iter().any(|frame| frame["name"] == "größen"),
            "{frames:?}"
        );
        assert!(!value["profiles"].as_array().expect("profiles").is_empty());
    };
    check("out.speedscope.json", None, &speedscope);
    check("out.json", Some("speedscope"), &speedscope);
    let olk = |_: &str, file: &Path| {
        let text = report(file, &["-f", "raw"]).success();
        assert_eq!(text.stderr, "", "no warnings");
        collapsed(text.text());
    };
    check("out.olk", None, &olk);
    check("out", Some("olk"), &olk);
    // Whole names, and one root for each thread.
    let scratch = Scratch::new("formats");
    let args = [
        "-d",
        "0.3",
        "-p",
        &pid,
        "-f",
        "raw",
        "-o",
        "-",
        "-t",
        "--full-filenames",
    ];
    let whole = Recording::start(scratch.path(), &args).end().success();
    let stacks = collapsed(whole.text());
    assert!(
        stacks
            .keys()
            .any(|stack| stack.contains("/tests/programs/busy.py:"))
    );
    assert!(
        stacks
            .keys()
            .any(|stack| stack.split(';').next().is_some_and(|t| t.contains("stdin")))
    );
    assert!(names(scratch.path()).is_empty());
    assert!(target.finish().success(), "the target is unharmed");
}

#[test]
fn stdout_belongs_to_the_report() {
    let script = SPIN.to_owned() + "print('out')";
    let raw = run(&mut launch(&any(), &["-o", "-", "-f", "raw"], &script)).success();
    assert!(
        collapsed(raw.text())
            .keys()
            .any(|stack| stack.contains("spin (<string>:"))
    );
    assert!(!raw.text().contains("out\n"));
    assert!(raw.stderr.contains("out\n"), "{}", raw.stderr);
    let olk = run(&mut launch(&any(), &["-o", "-", "-f", "olk"], SPIN)).success();
    let scratch = Scratch::new("stdout");
    let file = scratch.join("piped.olk");
    std::fs::write(&file, olk.stdout).expect("write");
    report(&file, &["-o", &scratch.join("out.svg").to_string_lossy()]).success();
    // Nobody reads: no failure.
    let command = format!(
        "{} report {} -f raw | true",
        env!("CARGO_BIN_EXE_onlooker"),
        file.display()
    );
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!("set -o pipefail; {command}")]);
    let piped = run(&mut bash);
    assert_eq!((piped.code(), piped.stderr.as_str()), (Some(0), ""));
}

/// The first command of the README, with a second of the shop instead of five.
#[test]
fn the_first_command() {
    let scratch = Scratch::new("first");
    let Some(python) = path_of("python3") else {
        say("skipped: no python3 in the path");
        return;
    };
    let shop = workspace().join("examples/shop.py");
    let mut command = onlooker_command();
    command.current_dir(scratch.path());
    command
        .args(["record", "-o", "flame.svg", "--"])
        .arg(python)
        .arg(shop)
        .arg("1");
    let first = run(&mut command).success();
    assert_eq!(names(scratch.path()), ["flame.svg"]);
    let svg = std::fs::read_to_string(scratch.join("flame.svg")).expect("svg");
    for name in ["clerk", "main", "shop.py"] {
        assert!(svg.contains(name), "no {name} in the picture");
    }
    // One summary line and the ten hottest functions, with own and total share.
    let lines: Vec<&str> = first.stderr.lines().collect();
    let summary = lines
        .iter()
        .position(|line| line.contains(" ticks, "))
        .expect("summary");
    let header: Vec<&str> = lines[summary + 1].split_whitespace().collect();
    assert_eq!(header[..2], ["own", "total"], "{}", first.stderr);
    let rows = &lines[summary + 2..];
    assert_eq!(rows.len(), 10, "{}", first.stderr);
    for row in rows {
        let shares: Vec<f64> = row
            .split_whitespace()
            .filter_map(|word| word.strip_suffix('%')?.parse().ok())
            .collect();
        assert!(shares[0] <= shares[1] && shares[1] <= 100.0, "{row}");
    }
}

fn path_of(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|d| d.join(program))
        .find(|file| file.is_file())
}

#[test]
fn the_default_name() {
    let scratch = Scratch::new("default");
    let python = any().executable;
    let script = scratch.join("my job.py");
    std::fs::write(&script, SPIN).expect("write");
    let mut command = onlooker_command();
    command
        .current_dir(scratch.path())
        .args(["record", "--"])
        .arg(python)
        .arg(&script);
    let run = run(&mut command).success();
    std::fs::remove_file(script).expect("remove");
    let names = names(scratch.path());
    let [name] = names.as_slice() else {
        panic!("{names:?}")
    };
    let parts: Vec<&str> = name
        .strip_suffix(".olk")
        .expect("olk")
        .rsplitn(3, '-')
        .collect();
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .expect("time")
        .as_secs();
    let time: u64 = parts[0].parse().expect("a time");
    assert!(now.abs_diff(time) < 100, "{name}");
    assert!(parts[1].parse::<u32>().is_ok(), "{name}");
    assert!(!parts[2].is_empty() && !parts[2].contains('/'), "{name}");
    let words = format!("onlooker report {name} -o flame.svg");
    assert!(run.stderr.contains(&words), "{}", run.stderr);
}

/// The line that says how far a profile can be trusted and what it cost: at the end of the run,
/// in the recording, and in every report that has a place for it.
#[test]
fn the_honest_line_is_everywhere() {
    let target = Target::spawn(&any(), "busy.py", &["1"]);
    let pid = target.pid().to_string();
    let scratch = Scratch::new("honest");
    let args = ["-d", "0.5", "-r", "500", "-p", &pid, "-o", "x.olk"];
    let ran = Recording::start(scratch.path(), &args).end().success();
    let file = scratch.join("x.olk");
    let tables = load(&file);
    let totals = tables.totals.as_ref().expect("an end");
    let line = onlooker_flamegraph::summary_line(totals);
    for word in [
        " ticks, ",
        " missed; ",
        " verified, ",
        " unverified, ",
        " lost",
        " retries; ",
        " calls, ",
        " per sample; ",
        "own CPU ",
    ] {
        assert!(line.contains(word), "no {word:?} in {line}");
    }
    assert!(ran.stderr.contains(&line), "{line} in {}", ran.stderr);
    assert!(totals.ticks > 0 && totals.own_cpu_ns > 0 && totals.read_calls >= totals.ticks);
    let count = |trust| tables.samples.iter().filter(|s| s.trust == trust).count() as u64;
    assert_eq!(totals.verified, count(Trust::Verified));
    assert_eq!(totals.unverified, count(Trust::Unverified));
    let by_reason = totals.unverified_by.iter().map(|(_, count)| count);
    assert_eq!(totals.unverified, by_reason.sum::<u64>());
    let hottest = report(&file, &[]).success();
    assert!(hottest.stderr.contains(&line), "{}", hottest.stderr);
    let svg = report(&file, &["-f", "svg"]).success();
    assert!(svg.text().contains(&line), "{:.3000}", svg.text());
    let speedscope = report(&file, &["-f", "speedscope"]).success().json();
    assert_eq!(speedscope["onlooker"]["summary"], line.as_str());
    assert!(target.finish().success(), "the target is unharmed");
}
