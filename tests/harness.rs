//! The tests' own tools, tested: every program on every interpreter says that it is ready
//! and what it says is plausible. A failure here is none of Onlooker's.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;

use support::{Mode, Target, build_embed, embed_command, interpreters, matrix, program};

#[test]
fn the_matrix_has_every_mode() {
    let labels: BTreeSet<String> = interpreters().into_iter().map(|each| each.label).collect();
    assert_eq!(labels.len(), interpreters().len(), "labels are unique");
}

#[test]
fn targets_tell_their_pid_and_their_threads() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "threads.py", &["8", "20"]);
        let ready = target.ready();
        assert_eq!(ready.python, interpreter.full_version());
        assert_eq!(ready.threads.len(), 9);
        let in_namespace = interpreter.mode == Mode::Namespace;
        assert_eq!(target.pid() != target.child_pid(), in_namespace);
        assert_eq!(ready.pid == 1, in_namespace);
        let ids: BTreeSet<u32> = ready
            .threads
            .iter()
            .map(|thread| target.os_thread_id(thread.native_id))
            .collect();
        assert_eq!(ids.len(), 9);
        assert!(
            ids.contains(&target.pid()),
            "the main thread has the id of the process"
        );
        for thread in &ready.threads[1..] {
            assert_eq!(
                thread
                    .frames
                    .iter()
                    .filter(|frame| frame.name == "down")
                    .count(),
                20
            );
        }
        target.finish();
    });
}

/// The longest stack of a target, after a glance at its first frames.
fn longest(target: &Target) -> usize {
    let program = &target.ready().program;
    for thread in &target.ready().threads {
        assert!(
            !thread.frames.is_empty(),
            "{program}: a thread without frames"
        );
        assert!(
            thread.frames.iter().all(|frame| frame.line > 0),
            "{program}: lines"
        );
    }
    target
        .ready()
        .threads
        .iter()
        .map(|thread| thread.frames.len())
        .max()
        .unwrap_or(0)
}

#[test]
fn programs_are_as_deep_as_they_say() {
    matrix(|interpreter| {
        let depth = |name: &str, args: &[&str]| longest(&Target::spawn(interpreter, name, args));
        assert_eq!(depth("plain1000.py", &[]), 1001);
        assert_eq!(depth("plain1000.py", &["20", "63"]), 24);
        assert!(depth("deep.py", &["5000"]) >= 5000);
        assert!(depth("mixed.py", &[]) > 400);
        assert!(depth("generators.py", &["1000", "next"]) > 700);
        assert!(depth("generators.py", &["1000", "for"]) > 1000);
        assert!(depth("generators.py", &["1000", "from"]) > 1000);
        assert!(depth("callbacks.py", &["1000", "sorted"]) > 1000);
        assert!(depth("callbacks.py", &["1000", "mixed"]) > 1000);
        assert!(depth("subinterp.py", &[]) > 20);
    });
}

#[test]
fn targets_that_run_end_when_told() {
    matrix(|interpreter| {
        for name in ["busy.py", "reuse.py"] {
            let target = Target::spawn(interpreter, name, &[]);
            assert!(target.finish().success(), "{name}");
        }
    });
}

#[test]
fn a_launcher_becomes_the_program() {
    matrix(|interpreter| {
        let mut command = interpreter.command::<&str>(&program("exec_launcher.py"), &[]);
        // Through the loader an interpreter starts another one by its own name only.
        if interpreter.mode == Mode::Loader {
            return;
        }
        command.arg(interpreter.executable_inside());
        command
            .arg(interpreter.place(&program("plain1000.py")))
            .arg("10");
        let mut target = Target::spawn_command(&mut command);
        let before = target.pid();
        target.write(b"x");
        assert_eq!(target.next_ready().program, "plain1000.py");
        assert_eq!(target.pid(), before);
    });
}

#[test]
fn programs_embed_interpreters() {
    matrix(|interpreter| {
        if !interpreter.is_pyenv() {
            return;
        }
        let Some(embed) = build_embed(interpreter) else {
            support::say(&format!("skipped: {} has no libpython", interpreter.label));
            return;
        };
        for options in [&[][..], &["--thread"][..]] {
            let script = program("threads.py");
            let mut command = embed_command(&embed, interpreter, options, &script, &["2"]);
            assert_eq!(Target::spawn_command(&mut command).ready().threads.len(), 3);
        }
    });
}
