//! `record -s`: children of every kind, each process once, in one recording.

#[path = "support/mod.rs"]
mod support;

use support::{Mode, Scratch, load, matrix, onlooker_command, program, run, seen};

#[test]
fn children_of_every_kind_are_seen_once_each() {
    matrix(|interpreter| {
        if interpreter.mode != Mode::Plain {
            return;
        }
        let scratch = Scratch::new("family");
        let out = scratch.join("family.olk");
        let mut command = onlooker_command();
        command.args(["record", "-s", "-r", "200", "-o"]).arg(&out);
        // A launcher that is no Python stands before all.
        command.args(["--", "sh", "-c", "\"$0\" \"$1\"; true"]);
        command
            .arg(&interpreter.executable)
            .arg(program("family.py"));
        let ran = run(&mut command).success();
        let tables = load(&out);
        let seen = seen(&tables);
        for name in [
            "main",
            "by_fork",
            "by_spawn",
            "by_forkserver",
            "by_os_fork",
            "by_subprocess",
            "below_a_shell",
            "brief",
        ] {
            let processes = seen.get(name).map_or(0, Vec::len);
            // A fork has the frames of its parent below its own.
            let right = processes == 1 || (name == "main" && processes > 1);
            assert!(right, "{name} in {processes} processes; {}", ran.stderr);
        }
        // Another row of the same process is another program.
        let programs = tables.processes.iter();
        let mut programs: Vec<_> = programs.map(|each| (each.pid, &each.command)).collect();
        programs.sort_unstable();
        let all = programs.len();
        programs.dedup();
        assert_eq!(programs.len(), all, "each process once");
        assert!(tables.totals.is_some());
    });
}

#[test]
fn a_family_without_python_says_so() {
    let scratch = Scratch::new("no-python");
    let out = scratch.join("x.olk");
    let mut command = onlooker_command();
    command.args(["record", "-s", "-o"]).arg(&out);
    command.args(["--", "sh", "-c", "true; true"]);
    let ran = run(&mut command);
    assert_eq!(ran.code(), Some(68), "{}", ran.stderr);
    assert!(!out.exists());
}
