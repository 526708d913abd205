//! Every way in which attaching fails: one line that names a remedy, an exit code of its own,
//! and nothing broken.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use onlooker::error::exit;
use support::{
    Interpreter, Mode, Public, Run, Scratch, Target, as_nobody, can_change_user, interpreters,
    onlooker, onlooker_command, run, say,
};

/// A process that is no target; ended with the value.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::piped()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Fails unless the run ended with this code and one line on standard error that has all of
/// these words.
#[track_caller]
fn assert_error(run: &Run, code: u8, words: &[&str]) {
    assert_eq!(run.code(), Some(code.into()), "{}", run.stderr);
    assert!(run.stderr.starts_with("onlooker: "), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    assert!(run.stderr.ends_with('\n'), "{}", run.stderr);
    for word in words {
        assert!(run.stderr.contains(word), "no {word:?} in {}", run.stderr);
    }
    assert!(run.stdout.is_empty(), "{}", run.text());
}

fn dump_of(pid: impl std::fmt::Display) -> Run {
    onlooker(&["dump", "-p", &pid.to_string()])
}

/// `record` and `dump` say the same about a process; `record` leaves no file behind.
#[track_caller]
fn assert_refused(pid: u32, code: u8, words: &[&str]) {
    let pid = pid.to_string();
    assert_error(&dump_of(&pid), code, words);
    let scratch = Scratch::new("refused");
    let mut command = onlooker_command();
    command.current_dir(scratch.path());
    command.args(["record", "-d", "1", "-o", "out.svg", "-p", &pid]);
    assert_error(&run(&mut command), code, words);
    assert_empty(scratch.path());
}

#[track_caller]
fn assert_empty(directory: &Path) {
    let entries = std::fs::read_dir(directory).expect("directory").flatten();
    let names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    assert!(names.is_empty(), "left behind: {names:?}");
}

/// One interpreter, where the kind makes no difference.
fn any() -> Interpreter {
    let all = interpreters();
    let plain = all.iter().filter(|each| each.mode == Mode::Plain);
    plain
        .max_by_key(|each| each.version)
        .expect("one that is installed")
        .clone()
}

#[test]
fn no_such_process() {
    // Above the largest id that a kernel gives.
    assert_refused(4_194_305, exit::NO_PROCESS, &["4194305", "pgrep"]);
    let negative = onlooker(&["dump", "--pid=-1"]);
    assert!(
        matches!(negative.code(), Some(64 | 67)),
        "{}",
        negative.stderr
    );
}

#[test]
fn a_thread_is_no_process() {
    let target = Target::spawn(&any(), "threads.py", &["1"]);
    let tid = target.os_thread_id(target.ready().threads[1].native_id);
    let remedy = format!("use -p {}", target.pid());
    assert_refused(tid, exit::NO_PROCESS, &["is a thread of process", &remedy]);
}

#[test]
fn not_python() {
    let sleep = Process::start(Command::new("sleep").arg("1000"));
    let pid = sleep.pid();
    assert_refused(pid, exit::NOT_PYTHON, &["not a CPython process", "sleep"]);
    // A kernel thread: it has no program at all.
    let kernel_thread = std::fs::read_to_string("/proc/2/status");
    if kernel_thread.is_ok_and(|status| status.contains("Kthread:\t1")) {
        assert_refused(2, exit::NOT_PYTHON, &["not a CPython process"]);
    }
}

#[test]
fn versions_that_are_not_supported() {
    let root = interpreters().into_iter().find(Interpreter::is_pyenv);
    let Some(versions) = root.and_then(|one| Some(one.prefix().parent()?.to_owned())) else {
        say("skipped: no pyenv with old versions");
        return;
    };
    let mut found = 0;
    for entry in std::fs::read_dir(versions).expect("pyenv").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(minor) = ["2.7", "3.6", "3.7"]
            .into_iter()
            .find(|v| name.starts_with(v))
        else {
            continue;
        };
        found += 1;
        let mut command = Command::new(entry.path().join(format!("bin/python{minor}")));
        command.stdout(Stdio::piped());
        let script = "import sys; sys.stdout.write('x'); sys.stdout.flush(); sys.stdin.read()";
        let mut python = Process::start(command.args(["-c", script]));
        let mut byte = [0];
        let stdout = python.0.stdout.as_mut().expect("piped");
        stdout.read_exact(&mut byte).expect("readiness");
        let words = ["not supported", minor, "3.8", "3.15"];
        assert_refused(python.pid(), exit::UNSUPPORTED, &words);
    }
    if found == 0 {
        say("skipped: no Python 2.7, 3.6 or 3.7");
    }
}

#[test]
fn not_initialised() {
    let Some(interpreter) = interpreters().into_iter().rev().find(Interpreter::is_pyenv) else {
        say("skipped: no interpreter with a libpython");
        return;
    };
    let minor = interpreter.minor_version();
    let libraries = interpreter.prefix().join("lib");
    if !libraries.join(format!("libpython{minor}.so")).exists() {
        say("skipped: no libpython");
        return;
    }
    let scratch = Scratch::new("uninitialised");
    let source = scratch.join("idle.c");
    let text = "#include <unistd.h>\nextern const char *Py_GetVersion(void);\n\
        int main(void) { char c; write(1, Py_GetVersion(), 1); return read(0, &c, 1); }\n";
    std::fs::write(&source, text).expect("write");
    let program = scratch.join("idle");
    let mut cc = Command::new("cc");
    cc.arg("-w")
        .arg("-o")
        .args([&program, &source])
        .arg("-L")
        .arg(&libraries);
    cc.arg(format!("-lpython{minor}"));
    cc.arg(format!("-Wl,-rpath,{}", libraries.display()));
    run(&mut cc).success();
    let mut idle = Process::start(Command::new(&program).stdout(Stdio::piped()));
    let mut byte = [0];
    let stdout = idle.0.stdout.as_mut().expect("piped");
    stdout.read_exact(&mut byte).expect("readiness");
    let words = ["not initialised", "attach again"];
    assert_refused(idle.pid(), exit::NOT_READY, &words);
}

#[test]
fn no_permission() {
    if !can_change_user() {
        return;
    }
    let public = Public::new("onlooker-permission");
    let target = Target::spawn(&any(), "threads.py", &["1"]);
    let pid = target.pid().to_string();
    let words = ["no permission", "root", "sudo onlooker"];
    let refused = run(public.onlooker().args(["dump", "-p", &pid]));
    assert_error(&refused, exit::PERMISSION, &words);
    let refused = run(public.onlooker().args([
        "record",
        "-d",
        "1",
        "-f",
        "raw",
        "-o",
        "/dev/null",
        "-p",
        &pid,
    ]));
    assert_error(&refused, exit::PERMISSION, &words);
    // Root without the capability, as in a container.
    let setpriv = Command::new("setpriv")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if setpriv.is_err() {
        say("skipped: no setpriv");
        return;
    }
    let mut nobodys = Command::new("sleep");
    let other = Process::start(as_nobody(nobodys.arg("1000")));
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace"]);
    command.arg(env!("CARGO_BIN_EXE_onlooker"));
    let refused = run(command.args(["dump", "-p", &other.pid().to_string()]));
    let words = ["no permission", "CAP_SYS_PTRACE", "--cap-add=SYS_PTRACE"];
    assert_error(&refused, exit::PERMISSION, &words);
}

#[test]
fn zombies() {
    let mut command = any().bare_command();
    let mut child = command.args(["-c", "pass"]).spawn().expect("python");
    let pid = child.id();
    let end = Instant::now() + Duration::from_secs(60);
    let is_zombie = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("not reaped");
        status.contains("State:\tZ")
    };
    while !is_zombie() {
        assert!(Instant::now() < end, "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    let parent = std::process::id().to_string();
    assert_refused(pid, exit::ZOMBIE, &["zombie", &parent]);
    child.wait().expect("reap");
}

/// Processes that end while they are looked at, at every moment of it.
#[test]
fn a_process_that_exits_in_between() {
    let interpreter = any();
    let mut codes = BTreeMap::new();
    for delay in 0..40 {
        let target = Target::spawn(&interpreter, "plain1000.py", &["500"]);
        let pid = target.pid().to_string();
        let dump = std::thread::spawn(move || dump_of(pid));
        std::thread::sleep(Duration::from_micros(delay * 250));
        drop(target);
        let dump = dump.join().expect("dump");
        *codes.entry(dump.code()).or_insert(0) += 1;
        match dump.code() {
            Some(0) => assert!(dump.stderr.is_empty(), "{}", dump.stderr),
            Some(code) => {
                // Gone before it was looked at, not reaped yet, or gone in between.
                let code = u8::try_from(code).expect("an exit code");
                let known = [exit::NO_PROCESS, exit::ZOMBIE, exit::EXITED];
                assert!(known.contains(&code), "{code}: {}", dump.stderr);
                assert_error(&dump, code, &["process"]);
            }
            None => panic!("killed: {}", dump.stderr),
        }
    }
    eprintln!("exit codes: {codes:?}");
    assert!(codes.len() > 1, "every run ended alike: {codes:?}");
}

#[test]
fn outputs_that_cannot_be_written() {
    let scratch = Scratch::new("unwritable");
    let target = Target::spawn(&any(), "threads.py", &["1"]);
    let pid = target.pid().to_string();
    let record = |output: &str, format: &str| {
        let args = ["record", "-d", "1", "-p", &pid, "-o", output, "-f", format];
        onlooker(&args)
    };
    let missing = scratch
        .join("missing/out.svg")
        .to_string_lossy()
        .into_owned();
    for format in ["svg", "olk", "raw", "speedscope"] {
        let directory = scratch.path().to_string_lossy();
        let words = ["cannot write", "choose another file with -o", &directory];
        assert_error(&record(&directory, format), exit::CANNOT_CREATE, &words);
        let words = ["cannot write", "choose another file with -o", &missing];
        assert_error(&record(&missing, format), exit::CANNOT_CREATE, &words);
        assert_error(&record("/proc/no/out", format), exit::CANNOT_CREATE, &[]);
    }
    assert_empty(scratch.path());
    // It is checked before the process is touched, and before a program is started.
    let pid = ["record", "-o", &missing, "-p", "4194305"];
    assert_error(&onlooker(&pid), exit::CANNOT_CREATE, &["cannot write"]);
    let mark = scratch.join("started").to_string_lossy().into_owned();
    let launch = ["record", "-o", &missing, "--", "touch", &mark];
    assert_error(&onlooker(&launch), exit::CANNOT_CREATE, &["cannot write"]);
    assert_empty(scratch.path());
}

#[test]
fn files_of_others_are_not_replaced() {
    if !can_change_user() {
        return;
    }
    let public = Public::new("onlooker-readonly");
    let script = public.join("threads.py");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(&script).current_dir("/");
    if !Path::new("/usr/bin/python3").exists() {
        say("skipped: no /usr/bin/python3");
        return;
    }
    let target = Target::spawn_command(as_nobody(&mut command));
    let pid = target.pid().to_string();
    let open = public.directory("open");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&open, mode).expect("permissions");
    // The directory may be written, the file may not.
    let file = open.join("good.svg");
    std::fs::write(&file, "good").expect("write");
    let record = |output: &Path| {
        let mut command = public.onlooker();
        command
            .args(["record", "-d", "1", "-p", &pid, "-o"])
            .arg(output);
        run(&mut command)
    };
    assert_error(&record(&file), exit::CANNOT_CREATE, &["good.svg", "denied"]);
    assert_eq!(std::fs::read(&file).expect("good"), b"good");
    let inside = public.join("out.svg");
    assert_error(
        &record(&inside),
        exit::CANNOT_CREATE,
        &["out.svg", "denied"],
    );
    let names: Vec<_> = std::fs::read_dir(&open).expect("open").flatten().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn a_good_file_survives_a_failed_run() {
    let scratch = Scratch::new("good");
    for name in ["good.svg", "good.olk", "good.txt", "good.speedscope.json"] {
        let file = scratch.join(name);
        std::fs::write(&file, "good").expect("write");
        let out = file.to_string_lossy().into_owned();
        let failed = onlooker(&["record", "-o", &out, "-p", "4194305"]);
        assert_error(&failed, exit::NO_PROCESS, &[]);
        let failed = onlooker(&["record", "-o", &out, "--", "/no/such/program"]);
        assert_error(&failed, exit::CANNOT_START, &["/no/such/program"]);
        let failed = onlooker(&["record", "-o", &out, "--", "true"]);
        assert_error(&failed, exit::NOT_PYTHON, &["true"]);
        assert_eq!(std::fs::read(&file).expect("good"), b"good");
        std::fs::remove_file(&file).expect("remove");
        assert_empty(scratch.path());
    }
}

#[test]
fn wrong_arguments() {
    let usage = |args: &[&str], word: &str| {
        let run = onlooker(args);
        assert_eq!(
            run.code(),
            Some(exit::USAGE.into()),
            "{args:?}: {}",
            run.stderr
        );
        assert!(run.stderr.contains(word), "{args:?}: {}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{args:?}: {}", run.stderr);
        assert!(run.stdout.is_empty());
    };
    usage(&["dump"], "--pid");
    usage(&["dump", "-p", "python"], "python");
    usage(&["record"], "-p PID");
    usage(
        &["record", "-p", "1", "--", "python3"],
        "cannot be used with",
    );
    usage(&["record", "-p", "1", "-o", "x.pdf"], "pdf");
    usage(&["record", "-p", "1", "-o", "x"], "-f");
    usage(&["record", "-p", "1", "-f", "pdf", "-o", "x"], "pdf");
    usage(&["record", "-p", "1", "-o", "-"], "-f");
    usage(&["record", "-p", "1", "-o", "/dev/null"], "-f");
    usage(&["record", "-p", "1", "-r", "0"], "rate");
    usage(&["record", "-p", "1", "-r", "many"], "rate");
    usage(&["record", "-p", "1", "-d", "-3"], "-3");
    usage(&["report"], "FILE");
    usage(&["nonsense"], "nonsense");
    usage(&[], "Usage");
    // Flags of py-spy are refused by name until they come.
    let flags = ["--native", "--nonblocking"];
    for flag in flags
        .iter()
        .chain(&["--subprocesses", "--locals", "--full-filenames"])
    {
        usage(&["dump", "-p", "1", flag], flag);
        usage(&["dump", "-p", "1", flag], "py-spy");
    }
    for flag in flags.iter().chain(&["--function", "--nolineno"]) {
        usage(&["record", "-p", "1", flag], flag);
        usage(&["record", "-p", "1", flag], "py-spy");
    }
    for (short, long) in [("-n", "--native"), ("-F", "--function")] {
        usage(&["record", "-p", "1", short], long);
    }
    let help = onlooker(&["--help"]).success();
    assert!(help.text().contains("77 no permission"), "{}", help.text());
    onlooker(&["--version"]).success();
}

#[test]
fn commands_that_are_not_python() {
    let scratch = Scratch::new("ls");
    let out = scratch.join("out.svg").to_string_lossy().into_owned();
    let ls = onlooker(&["record", "-o", &out, "--", "ls", "/"]);
    assert_eq!(ls.code(), Some(exit::NOT_PYTHON.into()), "{}", ls.stderr);
    assert!(
        ls.text().contains("proc"),
        "what it wrote is passed through"
    );
    assert_eq!(ls.stderr.lines().count(), 1, "{}", ls.stderr);
    assert!(ls.stderr.contains("ls"), "{}", ls.stderr);
    let words = ["cannot start", "no-such-program"];
    let missing = onlooker(&["record", "-o", &out, "--", "no-such-program"]);
    assert_error(&missing, exit::CANNOT_START, &words);
    let file = scratch.join("file");
    std::fs::write(&file, "text").expect("write");
    let not_executable = onlooker(&["record", "-o", &out, "--", &file.to_string_lossy()]);
    assert_error(
        &not_executable,
        exit::CANNOT_START,
        &["cannot start", "denied"],
    );
    std::fs::remove_file(&file).expect("remove");
    assert_empty(scratch.path());
}

#[test]
fn an_error_that_nobody_reads_has_its_exit_code() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = onlooker_command();
    command.args(["dump", "-p", "999999999"]).stderr(writer);
    let status = command.status().expect("onlooker");
    assert_eq!(status.code(), Some(exit::NO_PROCESS.into()));
}
