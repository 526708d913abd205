//! `record -s`: children of every kind, each process once, in one recording.

#[path = "support/mod.rs"]
mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use onlooker_recording::tables::Tables;
use support::{
    Mode, NOBODY, Public, Scratch, any, can_change_user, launch_command, load, matrix,
    onlooker_command, program, run, say, seen,
};

/// Another row of the same process is another program.
#[track_caller]
fn each_process_once(tables: &Tables) {
    let programs = tables.processes.iter();
    let mut programs: Vec<_> = programs.map(|each| (each.pid, &each.command)).collect();
    programs.sort_unstable();
    let all = programs.len();
    programs.dedup();
    assert_eq!(programs.len(), all, "once each: {:#?}", tables.processes);
}

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
        each_process_once(&tables);
        assert!(tables.totals.is_some());
    });
}

#[test]
fn a_pre_forking_server_and_the_workers_that_it_replaces() {
    matrix(|interpreter| {
        let scratch = Scratch::new("prefork");
        let out = scratch.join("prefork.olk");
        let options = ["-s", "-r", "200", "-o", &out.to_string_lossy()];
        let target = interpreter.command(&program("prefork.py"), &["3"]);
        let ran = run(&mut launch_command(&options, &target)).success();
        let tables = load(&out);
        let seen = seen(&tables);
        assert_eq!(seen["serve"].len(), 4, "{}", ran.stderr);
        // The worker that came later was forked in there, and has it below its own frames.
        assert_eq!(seen["parent_waits"].len(), 2, "{}", ran.stderr);
        assert_eq!(tables.processes.len(), 5, "{:?}", tables.processes);
        each_process_once(&tables);
    });
}

/// Their parents end at once: a look at the children of members would never find them.
#[test]
fn orphans_are_followed_to_their_end() {
    matrix(|interpreter| {
        if interpreter.mode != Mode::Plain {
            return;
        }
        let scratch = Scratch::new("orphans");
        let out = scratch.join("orphans.olk");
        let options = ["-s", "-r", "200", "-o", &out.to_string_lossy()];
        let target = interpreter.command::<&str>(&program("orphans.py"), &[]);
        let ran = run(&mut launch_command(&options, &target));
        assert_eq!(ran.code(), Some(3), "{}", ran.stderr);
        let tables = load(&out);
        let seen = seen(&tables);
        for name in ["daemon_works", "below"] {
            let processes = seen.get(name).map_or(0, Vec::len);
            assert_eq!(processes, 1, "{name}: {}", ran.stderr);
        }
        each_process_once(&tables);
    });
}

/// Nobody may read a process whose program nobody may read.
#[test]
fn children_that_we_had_before_are_not_ours() {
    let scratch = Scratch::new("strangers");
    let out = scratch.join("strangers.olk");
    let source = |name: &str| {
        format!(
            "import time\ndef {name}():\n    end = time.process_time() + 1\n    \
             while time.process_time() < end: pass\n{name}()"
        )
    };
    // The shell has a child, and a child whose parent ends soon, when it becomes Onlooker.
    let shell = "\"$0\" -c \"$1\" & (\"$0\" -c \"$1\" & sleep 0.2) & shift; exec \"$@\"";
    let python = any().executable;
    let ran = run(std::process::Command::new("sh")
        .args(["-c", shell])
        .arg(&python)
        .arg(source("strange"))
        .arg(env!("CARGO_BIN_EXE_onlooker"))
        .args(["record", "-s", "-r", "200", "-o"])
        .arg(&out)
        .arg("--")
        .arg(&python)
        .arg("-c")
        .arg(source("own")))
    .success();
    let tables = load(&out);
    assert_eq!(tables.processes.len(), 1, "{}", ran.stderr);
    let seen = seen(&tables);
    assert!(
        seen.contains_key("own") && !seen.contains_key("strange"),
        "{seen:?}"
    );
}

#[test]
fn a_child_that_cannot_be_read_is_told_once_and_costs_nothing_else() {
    if !can_change_user() {
        return;
    }
    let system = Path::new("/usr/bin/python3");
    if !system.exists() {
        say("skipped: a child that cannot be read: no /usr/bin/python3");
        return;
    }
    let public = Public::new("unreadable");
    let hidden = public.copy(system, "hidden-python");
    let mode = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(&hidden, mode).expect("permissions");
    let folder = public.directory("out");
    std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY)).expect("chown");
    let out = folder.join("x.olk");
    let spin = "import time
def work():
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass
work()
";
    let script = format!(
        "import subprocess, sys
def parent_waits():
    children = [subprocess.Popen([each, '-c', {spin:?}]) for each in ({hidden:?}, {hidden:?}, {system:?})]
    print([child.wait() for child in children])
parent_waits()
"
    );
    let mut command = public.onlooker();
    command
        .args(["record", "-s", "-i", "-r", "200", "-o"])
        .arg(&out);
    command.arg("--").arg(system).args(["-c", &script]);
    let ran = run(&mut command).success();
    assert_eq!(ran.text(), "[0, 0, 0]\n", "the target is unharmed");
    let told = ran
        .stderr
        .lines()
        .filter(|line| line.contains("permission"));
    assert_eq!(told.count(), 1, "{}", ran.stderr);
    let tables = load(&out);
    let seen = seen(&tables);
    assert_eq!(seen["parent_waits"].len(), 1, "{}", ran.stderr);
    assert_eq!(seen["work"].len(), 1, "{}", ran.stderr);
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
