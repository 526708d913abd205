//! Recordings as files: killed writers, full disks, folders that go, copies, damage.

#[path = "support/mod.rs"]
mod support;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use onlooker::error::exit;
use support::{
    Recording, Run, Scratch, Target, any, collapsed, expected_stack, names, onlooker_command,
    report, run, say,
};

/// What is on disk when the writer is killed can be reported, and the target does not notice.
#[test]
fn a_killed_recorder_leaves_a_readable_recording() {
    let target = Target::spawn(&any(), "busy.py", &["1"]);
    let pid = target.pid().to_string();
    let handles: Vec<_> = (0..4)
        .map(|n| {
            let pid = pid.clone();
            std::thread::spawn(move || {
                let scratch = Scratch::new("killed");
                let args = ["-p", &pid, "-r", "500", "-o", "out.svg"];
                let mut recording = Recording::start(scratch.path(), &args);
                let spool = "out.svg.partial.olk";
                recording.wait_for(spool, 400);
                std::thread::sleep(Duration::from_micros(n * 137_931));
                recording.signal(Signal::SIGKILL);
                let status = recording.child.wait().expect("wait");
                assert_eq!(status.signal(), Some(9));
                assert_eq!(names(scratch.path()), [spool], "no half a picture");
                let raw = report(&scratch.join(spool), &["-f", "raw"]).success();
                assert!(raw.stderr.contains("has no end"), "{}", raw.stderr);
                collapsed(raw.text());
            })
        })
        .collect();
    for handle in handles {
        handle.join().expect("a killed recording");
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    assert!(status.contains("TracerPid:\t0"), "{status}");
    assert!(
        !status.contains("State:\tT") && !status.contains("State:\tt"),
        "{status}"
    );
    assert!(target.finish().success(), "the target is unharmed");
}

#[test]
fn the_recording_is_kept_when_the_output_cannot_be_made() {
    let target = Target::spawn(&any(), "threads.py", &["2"]);
    let pid = target.pid().to_string();
    // The folder goes away meanwhile; the recording is saved elsewhere.
    let scratch = Scratch::new("gone");
    for name in ["out.svg", "out.olk"] {
        let folder = scratch.join("folder");
        std::fs::create_dir(&folder).expect("folder");
        let mut command = onlooker_command();
        let out = folder.join(name);
        command.env("TMPDIR", scratch.path());
        command.args(["record", "-i", "-p", &pid, "-o"]).arg(&out);
        let recording = Recording::spawn(&mut command, &folder);
        let spool = if name == "out.svg" {
            "out.svg.partial.olk"
        } else {
            name
        };
        recording.wait_for(spool, 400);
        std::fs::remove_dir_all(&folder).expect("remove");
        recording.signal(Signal::SIGINT);
        let run = recording.end();
        assert_eq!(run.code(), Some(exit::IO.into()), "{}", run.stderr);
        let saved = scratch.join(spool);
        let words = format!("the recording is in {}", saved.display());
        assert!(run.stderr.contains(&words), "{}", run.stderr);
        collapsed(report(&saved, &["-f", "raw"]).success().text());
        std::fs::remove_file(saved).expect("remove");
    }
    // Something that cannot be replaced stands in the way meanwhile.
    let recording = Recording::start(scratch.path(), &["-p", &pid, "-o", "out.svg"]);
    recording.wait_for("out.svg.partial.olk", 400);
    std::fs::create_dir(scratch.join("out.svg")).expect("directory");
    recording.signal(Signal::SIGINT);
    let run = recording.end();
    assert_eq!(run.code(), Some(exit::IO.into()), "{}", run.stderr);
    let words = "the recording is in ";
    assert!(
        run.stderr.contains(words) && run.stderr.contains("out.svg.partial.olk"),
        "{}",
        run.stderr
    );
    let spool = scratch.join("out.svg.partial.olk");
    collapsed(report(&spool, &["-f", "raw"]).success().text());
    assert_eq!(names(scratch.path()), ["out.svg", "out.svg.partial.olk"]);
    assert!(target.finish().success(), "the target is unharmed");
}

#[test]
fn a_full_disk() {
    let scratch = Scratch::new("full");
    let disk = scratch.join("disk");
    std::fs::create_dir(&disk).expect("directory");
    let mut mount = Command::new("mount");
    mount
        .args(["-t", "tmpfs", "-o", "size=32k", "none"])
        .arg(&disk);
    if !nix::unistd::geteuid().is_root() || !run(&mut mount).status.success() {
        say("skipped: a full disk: tmpfs cannot be mounted");
        return;
    }
    let target = Target::spawn(&any(), "busy.py", &["1"]);
    let pid = target.pid().to_string();
    let runs = [
        // The recording has room, the picture has not; then not even the recording has.
        vec!["-d", "1.5", "-r", "20", "-p", &pid, "-o", "out.svg"],
        vec!["-r", "5000", "-p", &pid, "-o", "out.olk"],
    ];
    let ends = runs.map(|args| {
        let end = Recording::start(&disk, &args).end();
        let left = names(&disk);
        let readable: Vec<Run> = left
            .iter()
            .map(|name| report(&disk.join(name), &["-f", "raw"]))
            .collect();
        for name in &left {
            std::fs::remove_file(disk.join(name)).expect("remove");
        }
        (end, left, readable)
    });
    // Not even its head has room.
    let full = disk.join("full");
    std::fs::write(&full, vec![0; 64 << 10]).expect_err("a full disk");
    let nothing = Recording::start(&disk, &["-d", "1", "-p", &pid, "-o", "out.olk"]).end();
    let left = names(&disk);
    let unmounted = run(Command::new("umount").arg(&disk));
    assert_eq!(nothing.code(), Some(exit::IO.into()), "{}", nothing.stderr);
    let said = &nothing.stderr;
    assert!(said.contains("nothing was recorded before"), "{said}");
    assert_eq!(left, ["full"], "{said}");
    for ((end, left, readable), name) in ends.into_iter().zip(["out.svg.partial.olk", "out.olk"]) {
        assert_eq!(end.code(), Some(exit::IO.into()), "{}", end.stderr);
        assert_eq!(end.stderr.lines().count(), 1, "{}", end.stderr);
        assert!(end.stderr.contains("No space"), "{}", end.stderr);
        assert!(end.stderr.contains(name), "{}", end.stderr);
        assert_eq!(left, [name]);
        for text in readable {
            collapsed(text.success().text());
        }
    }
    unmounted.success();
    assert!(target.finish().success(), "the target is unharmed");
}

/// A recording and nothing else: the target is gone, the file has moved.
#[test]
fn reports_from_a_copied_recording() {
    let scratch = Scratch::new("copied");
    let target = Target::spawn(&any(), "deep.py", &["300"]);
    let expected = target.ready().threads.clone();
    let pid = target.pid().to_string();
    Recording::start(scratch.path(), &["-d", "1.5", "-p", &pid, "-o", "one.olk"])
        .end()
        .success();
    target.finish();
    let copy = scratch.join("elsewhere.olk");
    std::fs::rename(scratch.join("one.olk"), &copy).expect("rename");
    let out = |name: &str| scratch.join(name).to_string_lossy().into_owned();
    for (name, first) in [
        ("a.svg", "<?xml"),
        ("a.txt", "<module>"),
        ("a.speedscope.json", "{"),
    ] {
        let run = report(&copy, &["-o", &out(name), "--full-filenames"]).success();
        assert_eq!((run.text(), run.stderr.as_str()), ("", ""));
        let text = std::fs::read_to_string(out(name)).expect("report");
        assert!(
            text.starts_with(first) || name == "a.txt",
            "{name}: {text:.100}"
        );
    }
    let text = std::fs::read_to_string(out("a.txt")).expect("report");
    let stacks = collapsed(&text);
    for thread in &expected {
        assert!(
            stacks.contains_key(&expected_stack(thread)),
            "{:?}",
            thread.name
        );
    }
    // The same by name, on stdout; and a recording again.
    let raw = report(&copy, &["-f", "raw", "--full-filenames"]).success();
    assert_eq!(raw.text(), text);
    report(&copy, &["-o", &out("b.olk")]).success();
    assert_eq!(
        std::fs::read(&copy).expect("a"),
        std::fs::read(out("b.olk")).expect("b")
    );
    // Without -o and -f: the hottest functions.
    let table = report(&copy, &[]).success();
    assert!(
        table.text().contains("descend (deep.py)"),
        "{}",
        table.text()
    );
    assert!(table.stderr.contains(" ticks, "), "{}", table.stderr);

    // Damage.
    let good = std::fs::read(&copy).expect("recording");
    let damaged = |name: &str, bytes: &[u8]| {
        std::fs::write(out(name), bytes).expect("write");
        report(Path::new(&out(name)), &["-f", "raw"])
    };
    let cut = damaged("cut.olk", &good[..good.len() - 1]).success();
    assert!(
        cut.stderr.contains("onlooker: ") && cut.stderr.contains("no end"),
        "{}",
        cut.stderr
    );
    assert!(!collapsed(cut.text()).is_empty());
    let mut flipped = good.clone();
    let last = flipped.len() - 10;
    flipped[last] ^= 0x55;
    let flipped = damaged("flipped.olk", &flipped).success();
    assert!(flipped.stderr.contains("damaged"), "{}", flipped.stderr);
    let refuse = |name: &str, bytes: &[u8], code: u8, word: &str| {
        let run = damaged(name, bytes);
        assert_eq!(run.code(), Some(code.into()), "{}", run.stderr);
        assert!(run.stderr.contains(word), "{}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    };
    refuse(
        "foreign.olk",
        b"<?xml version=\"1.0\"?>",
        exit::DATA,
        "not an Onlooker recording",
    );
    refuse("empty.olk", b"", exit::DATA, "empty");
    let mut newer = good.clone();
    newer[8..12].copy_from_slice(&99_u32.to_le_bytes());
    refuse("newer.olk", &newer, exit::DATA, "99");
    let missing = report(Path::new(&out("missing.olk")), &[]);
    assert_eq!(
        missing.code(),
        Some(exit::NO_INPUT.into()),
        "{}",
        missing.stderr
    );
    // A failed report leaves a good one alone.
    let bad = report(Path::new(&out("foreign.olk")), &["-o", &out("a.txt")]);
    assert_eq!(bad.code(), Some(exit::DATA.into()));
    assert_eq!(std::fs::read_to_string(out("a.txt")).expect("good"), text);
}
