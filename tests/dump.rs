//! `onlooker dump` against what the targets say about themselves, over the whole matrix.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{
    Interpreter, Mode, Scratch, Target, any, assert_stacks, dump, frames_of, matrix, onlooker,
    program,
};

/// Dumps a resting target and compares all of it.
#[track_caller]
fn check(interpreter: &Interpreter, name: &str, args: &[&str]) {
    eprintln!("{name} {args:?}");
    let target = Target::spawn(interpreter, name, args);
    let seen = dump(target.pid());
    assert_stacks(&target, &seen);
    assert_shape(&target, &seen);
    for thread in threads(&seen) {
        assert_eq!(
            thread["owns_gil"], false,
            "at rest: {}",
            thread["thread_name"]
        );
    }
    target.finish();
}

fn threads(dump: &Value) -> &[Value] {
    dump["threads"].as_array().expect("a list of threads")
}

fn keys(object: &Value) -> BTreeSet<&str> {
    let object = object.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

/// The fields that are documented, no more and no less, and those of the process.
#[track_caller]
fn assert_shape(target: &Target, dump: &Value) {
    let expected = ["executable", "pid", "python", "threads"];
    assert_eq!(keys(dump), expected.into());
    assert_eq!(dump["pid"], target.pid());
    assert_eq!(dump["python"], target.ready().python.as_str());
    let executable = std::fs::read_link(format!("/proc/{}/exe", target.pid())).expect("exe");
    assert_eq!(dump["executable"], executable.to_string_lossy().as_ref());
    for thread in threads(dump) {
        let expected = [
            "cut",
            "frames",
            "interpreter",
            "os_thread_id",
            "owns_gil",
            "system_call",
            "thread_id",
            "thread_name",
        ];
        assert_eq!(keys(thread), expected.into());
        for frame in thread["frames"].as_array().expect("frames") {
            let expected = [
                "column",
                "end_column",
                "end_line",
                "filename",
                "line",
                "name",
            ];
            assert_eq!(keys(frame), expected.into());
        }
    }
}

#[test]
fn plain_and_deep_stacks() {
    matrix(|interpreter| {
        check(interpreter, "plain1000.py", &[]);
        check(interpreter, "plain1000.py", &["1", "0"]);
        check(interpreter, "plain1000.py", &["20", "63"]);
        check(interpreter, "deep.py", &["5000"]);
    });
}

#[test]
fn every_kind_of_call() {
    matrix(|interpreter| check(interpreter, "mixed.py", &[]));
}

#[test]
fn generators_and_callbacks() {
    matrix(|interpreter| {
        for kind in ["next", "for", "from"] {
            check(interpreter, "generators.py", &["1000", kind]);
        }
        check(interpreter, "callbacks.py", &["1000", "sorted"]);
        check(interpreter, "callbacks.py", &["1000", "mixed"]);
    });
}

#[test]
fn named_threads_and_sub_interpreters() {
    matrix(|interpreter| {
        check(interpreter, "threads.py", &[]);
        check(interpreter, "subinterp.py", &[]);
    });
}

/// How much is shown of a name; one that has no character has this one.
fn shown(name: &str) -> String {
    const MOST: usize = 16_383;
    match name.chars().count() {
        0 => "<empty>".to_owned(),
        1..=MOST => name.to_owned(),
        _ => name.chars().take(MOST).chain(['…']).collect(),
    }
}

#[test]
fn names_of_any_length() {
    matrix(|interpreter| {
        for (character, name, filename) in [
            ("n", "70000", "10"),
            ("é", "10", "70000"),
            ("€", "65537", "16384"),
            ("𝄞", "16383", "16384"),
            ("n", "0", "0"),
        ] {
            let what = format!("{name} and {filename} of {character}");
            let target = Target::spawn(interpreter, "names.py", &[character, name, filename]);
            let expected = &target.ready().threads[0].frames;
            let seen = frames_of(&threads(&dump(target.pid()))[0]);
            assert_eq!(seen.len(), expected.len(), "{what}");
            for (seen, told) in seen.iter().zip(expected) {
                assert!(seen.name == shown(&told.name), "{what}");
                let filename = match told.filename.is_empty() {
                    true => String::new(),
                    false => shown(&told.filename),
                };
                assert!(seen.filename == filename, "{what}");
                assert_eq!(seen.line, told.line, "{what}");
            }
            target.finish();
        }
    });
}

/// Its command line, and the path of its executable.
#[test]
fn nothing_of_a_target_steers_the_terminal() {
    let steers = |c: char| {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        (c.is_control() && c != '\n') || turns
    };
    let evil = "\x1b[31mred\nProcess 1: fake\t\u{9b}2J\u{202e}a\u{2066}b\u{200e}c";
    let target = Target::spawn(&any(), "plain1000.py", &["1", "0", evil]);
    let seen = onlooker(&["dump", "-p", &target.pid().to_string()]).success();
    let text = seen.text();
    assert!(!text.contains(steers), "{text:?}");
    let headers: Vec<_> = text.lines().filter(|l| l.starts_with("Process ")).collect();
    assert_eq!(headers.len(), 1, "{text:?}");
    assert!(
        headers[0].contains("[31mred") && headers[0].ends_with('c'),
        "{text:?}"
    );

    let scratch = Scratch::new("dump-steers");
    let sleep = scratch.join(evil);
    std::fs::copy("/bin/sleep", &sleep).expect("copy");
    let mut child = Command::new(&sleep).arg("600").spawn().expect("sleep");
    let refused = onlooker(&["dump", "-p", &child.id().to_string()]);
    child.kill().expect("kill a child");
    child.wait().expect("wait for a child");
    assert_eq!(refused.code(), Some(68), "{}", refused.stderr);
    assert!(refused.stderr.contains("[31mred"), "{:?}", refused.stderr);
    assert!(!refused.stderr.contains(steers), "{:?}", refused.stderr);
    assert_eq!(refused.stderr.lines().count(), 1, "{:?}", refused.stderr);
}

/// From the source: what the columns of a resting frame enclose, in bytes of UTF-8.
#[track_caller]
fn text_at(frame: &support::Frame) -> String {
    let file = program(frame.filename.rsplit('/').next().expect("a file"));
    let source = std::fs::read_to_string(file).expect("source");
    let line = source.lines().nth(frame.line as usize - 1).expect("line");
    assert_eq!(frame.end_line, Some(frame.line));
    let (Some(from), Some(to)) = (frame.column, frame.end_column) else {
        panic!("no columns in {frame:?}");
    };
    line[from as usize..to as usize].to_owned()
}

#[test]
fn columns_enclose_the_call_that_waits() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "deep.py", &["20"]);
        let seen = dump(target.pid());
        let newest: Vec<_> = threads(&seen)
            .iter()
            .map(|thread| frames_of(thread).remove(0))
            .collect();
        if !interpreter.at_least(3, 11) {
            let columns = newest.iter().map(|frame| (frame.column, frame.end_column));
            assert!(columns.clone().all(|c| c == (None, None)), "{newest:?}");
            return;
        }
        let texts: BTreeSet<String> = newest.iter().map(text_at).collect();
        let expected = [
            "os.read(0, os.write(1, oracle.line()) and 1)",
            "oracle.GATE.acquire()",
        ];
        assert_eq!(texts, expected.map(str::to_owned).into());
        // A column behind letters of two bytes.
        let frames = frames_of(&threads(&seen)[1]);
        let behind = frames.iter().find(|frame| frame.name == "größe");
        let text = behind.map(text_at);
        assert_eq!(text.as_deref(), Some("descend(größer, started)"));
    });
}

#[test]
fn positions_that_a_program_was_told_not_to_keep() {
    matrix(|interpreter| {
        if !interpreter.at_least(3, 11) {
            return;
        }
        let mut command = interpreter.bare_command();
        command.args(["-X", "no_debug_ranges"]);
        command.arg(interpreter.place(&program("threads.py")));
        let target = Target::spawn_command(&mut command);
        let seen = dump(target.pid());
        assert_stacks(&target, &seen);
        let frames = threads(&seen).iter().flat_map(frames_of);
        let mut own = frames.filter(|frame| frame.filename.ends_with("threads.py"));
        assert!(own.all(|frame| frame.column.is_none()), "{seen:#}");
    });
}

/// Numbers of x86-64 (`arch/x86/entry/syscalls/syscall_64.tbl`).
const SYSTEM_CALLS: [(u32, &str); 11] = [
    (0, "read"),
    (7, "poll"),
    (23, "select"),
    (43, "accept"),
    (202, "futex"),
    (230, "clock_nanosleep"),
    (232, "epoll_wait"),
    (270, "pselect6"),
    (271, "ppoll"),
    (281, "epoll_pwait"),
    (288, "accept4"),
];

/// The system calls that a thread of `sleepers.py` may be waiting in.
fn calls_of(thread: &str) -> &'static [&'static str] {
    match thread {
        "sleep" => &["clock_nanosleep", "select", "pselect6"],
        "lock" => &["futex"],
        "poll" => &["poll", "ppoll"],
        "select" => &["select", "pselect6"],
        "epoll" => &["epoll_wait", "epoll_pwait"],
        "accept" => &["accept", "accept4"],
        _ => &["read"],
    }
}

/// Waits until the kernel says that a thread is in one of these calls, and says in which.
#[track_caller]
fn wait_for_call(pid: u32, tid: u32, calls: &[&str]) -> &'static str {
    let path = format!("/proc/{pid}/task/{tid}/syscall");
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let line = std::fs::read_to_string(&path).expect("a thread");
        let number = line.split(' ').next().and_then(|word| word.parse().ok());
        let known = SYSTEM_CALLS.iter().find(|(n, _)| Some(*n) == number);
        if let Some((_, name)) = known.filter(|(_, name)| calls.contains(name)) {
            return name;
        }
        assert!(
            Instant::now() < end,
            "{tid} is not in {calls:?} but in {line}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn system_calls_of_sleeping_threads() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "sleepers.py", &[]);
        let mut expected = Vec::new();
        for thread in &target.ready().threads {
            let tid = target.os_thread_id(thread.native_id);
            let name = thread.name.clone().expect("all are named");
            let call = wait_for_call(target.pid(), tid, calls_of(&name));
            expected.push((tid, name, call));
        }
        let seen = dump(target.pid());
        assert_stacks(&target, &seen);
        for (tid, name, call) in expected {
            let thread = threads(&seen).iter().find(|t| t["os_thread_id"] == tid);
            let thread = thread.expect("every thread is there");
            assert_eq!(thread["system_call"], call, "{name}");
        }
    });
}

#[test]
fn a_running_thread_holds_the_lock_and_waits_for_nothing() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "holder.py", &[]);
        // The line comes before the endless call: wait until the thread is past its `write`.
        wait_until_past_write(&target);
        let seen = dump(target.pid());
        assert_stacks(&target, &seen);
        for thread in threads(&seen) {
            let main = thread["thread_name"] == "MainThread";
            assert_eq!(thread["owns_gil"], main, "{thread:#}");
            assert_eq!(thread["system_call"].is_null(), main, "{thread:#}");
        }
        let text = onlooker(&["dump", "-p", &target.pid().to_string()]).success();
        let holders = text.text().matches("holds the interpreter lock").count();
        assert_eq!(holders, 1, "{}", text.text());
    });
}

/// Waits until the newest thread of a process that can run does run, outside of the kernel.
#[track_caller]
fn wait_until_past_write(target: &Target) {
    let path = format!("/proc/{}/syscall", target.pid());
    let end = Instant::now() + Duration::from_secs(60);
    while !std::fs::read_to_string(&path)
        .expect("a thread")
        .starts_with("running")
    {
        assert!(Instant::now() < end, "it does not run");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn every_interpreter_has_its_own_lock() {
    matrix(|interpreter| {
        if !interpreter.at_least(3, 12) {
            return;
        }
        let target = Target::spawn(interpreter, "holder.py", &["2"]);
        let seen = dump(target.pid());
        let of = |main: bool| {
            let all = threads(&seen).iter();
            all.filter(move |thread| (thread["interpreter"] == 0) == main)
        };
        assert!(
            of(true).all(|thread| thread["owns_gil"] == false),
            "{seen:#}"
        );
        let inside: Vec<_> = of(false).collect();
        assert_eq!(inside.len(), 2, "{seen:#}");
        for thread in inside {
            assert_eq!(thread["owns_gil"], true, "{thread:#}");
            assert!(thread["cut"].is_null(), "{thread:#}");
            assert_eq!(frames_of(thread)[0].name, "hold");
        }
    });
}

/// Frames of a running thread: the first instructions of a generator belong to no line.
fn running_frames(thread: &Value) -> Vec<support::Frame> {
    let mut thread = thread.clone();
    for frame in thread["frames"].as_array_mut().expect("frames") {
        if frame["line"].is_null() {
            frame["line"] = 0.into();
        }
    }
    frames_of(&thread)
}

/// The stacks of a thread that calls all the time: checked, or marked.
///
/// Up to 3.10 one in a hundred passes the checks whose caller stands at another call: frame
/// objects are used again at once, so that both copies of the top can be of another instant.
#[test]
fn stacks_of_running_threads_were_or_are_marked() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "busy.py", &["1"]);
        let edges = &target.ready().more["edges"];
        let edges: BTreeSet<(String, i64, String)> =
            serde_json::from_value(edges.clone()).expect("edges");
        let (mut whole, mut impossible, mut owned) = (0, 0, 0);
        for _ in 0..20 {
            let seen = dump(target.pid());
            let owners = threads(&seen).iter().filter(|t| t["owns_gil"] == true);
            let owners = owners.count();
            assert!(owners <= 1, "{seen:#}");
            owned += owners;
            for thread in threads(&seen) {
                let frames = running_frames(thread);
                let Some(round) = frames.iter().position(|frame| frame.name == "round") else {
                    continue;
                };
                if !thread["cut"].is_null() {
                    assert_eq!(thread["cut"], "torn", "{thread:#}");
                    continue;
                }
                whole += 1;
                let pairs = frames[..=round].windows(2);
                impossible += usize::from(pairs.clone().any(|pair| {
                    let (callee, caller) = (&pair[0], &pair[1]);
                    !edges.contains(&(caller.name.clone(), caller.line, callee.name.clone()))
                }));
            }
        }
        // Of 40 stacks; a machine that builds at the same time still gives most of them.
        assert!(whole >= 20, "only {whole} stacks could be verified");
        assert!(owned >= 1, "nobody ever held the lock");
        assert!(
            impossible * 4 <= whole,
            "{impossible} of {whole} never were"
        );
    });
}

#[test]
fn text_has_the_newest_frame_last() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "threads.py", &["4", "3"]);
        for thread in &target.ready().threads {
            let tid = target.os_thread_id(thread.native_id);
            let main = thread.name.as_deref() == Some("MainThread");
            wait_for_call(target.pid(), tid, if main { &["read"] } else { &["futex"] });
        }
        let run = onlooker(&["dump", "-p", &target.pid().to_string()]).success();
        let text = run.text();
        assert!(
            text.starts_with(&format!("Process {}: ", target.pid())),
            "{text}"
        );
        let python = format!("\nPython {} (", target.ready().python);
        assert!(text.contains(&python), "{text}");
        for thread in &target.ready().threads {
            let tid = target.os_thread_id(thread.native_id);
            let name = thread.name.as_deref().expect("named");
            let call = if name == "MainThread" {
                "read"
            } else {
                "futex"
            };
            let mut expected = format!("\nThread {tid} \"{name}\" (waits in {call}):\n");
            for frame in thread.frames.iter().rev() {
                let (file, line) = (&frame.filename, frame.line);
                expected += &format!("  File \"{file}\", line {line}, in {}\n", frame.name);
            }
            assert!(text.contains(&expected), "no\n{expected}in\n{text}");
        }
        assert_eq!(run.stderr, "");
    });
}

/// Python 3.14 and newer give names to the kernel, which cuts them after 15 bytes, perhaps
/// inside a character. A program can do that by itself, to its process too.
#[test]
fn kernel_names_that_are_no_utf_8() {
    matrix(|interpreter| {
        if interpreter.mode != Mode::Plain {
            return;
        }
        let mut command = interpreter.bare_command();
        let program = program("threads.py");
        let script = "import sys, runpy\n\
             open('/proc/self/comm', 'wb').write(b'caf\\xc3')\n\
             sys.path.insert(0, sys.argv[1].rpartition('/')[0])\n\
             sys.argv[:] = sys.argv[1:]\n\
             runpy.run_path(sys.argv[0], run_name='__main__')";
        command.args(["-c", script]).arg(program).args(["3", "2"]);
        let target = Target::spawn_command(&mut command);
        let status = std::fs::read(format!("/proc/{}/status", target.pid())).expect("status");
        assert!(String::from_utf8(status).is_err(), "the name is cut");
        assert_stacks(&target, &dump(target.pid()));
    });
}
