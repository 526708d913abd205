//! Running `onlooker` itself, with a time limit.

use std::ffi::OsStr;
use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Far above what anything here takes, also on a machine that builds at the same time.
const LIMIT: Duration = Duration::from_secs(180);

/// How a program ended and what it wrote.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("UTF-8 on stdout")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| {
            panic!(
                "no JSON on stdout: {error}\n{}\n{}",
                self.text(),
                self.stderr
            )
        })
    }

    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Fails the test, with what was written, unless the exit code is 0.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        assert!(self.status.success(), "{}\n{}", self.status, self.stderr);
        self
    }
}

/// `onlooker` with no arguments yet, its standard input empty.
pub(crate) fn onlooker_command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onlooker"));
    command.stdin(Stdio::null());
    command
}

/// Runs `onlooker` with these arguments to its end.
#[track_caller]
pub(crate) fn onlooker<S: AsRef<OsStr>>(args: &[S]) -> Run {
    run(onlooker_command().args(args))
}

/// What `onlooker dump --json` says about a process.
#[track_caller]
pub(crate) fn dump(pid: u32) -> serde_json::Value {
    onlooker(&["dump", "--json", "-p", &pid.to_string()])
        .success()
        .json()
}

/// Runs a command to its end; ends it and fails the test when that takes too long.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Run {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdout = child.stdout.take().expect("piped");
    let mut stderr = child.stderr.take().expect("piped");
    let stdout = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    let stderr = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| bytes)
    });
    let end = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait for a child") {
            break status;
        }
        if Instant::now() > end {
            child.kill().expect("kill a child");
            let _ = child.wait();
            panic!("{command:?} did not end within {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let stdout = stdout.join().expect("reader").expect("read stdout");
    let stderr = stderr.join().expect("reader").expect("read stderr");
    Run {
        status,
        stdout,
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}
