//! A process to look at, which says what it does, and the comparison with what was seen.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{Interpreter, program};

/// For a machine that is busy with a build; nothing waits that long otherwise.
const LIMIT: Duration = Duration::from_secs(120);

/// One frame, as the target and as `onlooker dump --json` tell it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct Frame {
    pub(crate) name: String,
    pub(crate) filename: String,
    pub(crate) line: i64,
    /// This and the rest from 3.11 on.
    pub(crate) column: Option<i64>,
    pub(crate) end_line: Option<i64>,
    pub(crate) end_column: Option<i64>,
}

impl Frame {
    /// Whether they are in the same place. A thread comes to rest on the line that it told, but
    /// in another call on it, so that the columns of its newest frame are not those told.
    fn agrees(&self, other: &Self, newest: bool) -> bool {
        let place = |frame: &Self| (frame.column, frame.end_line, frame.end_column);
        let line = |frame: &Self| (frame.name.clone(), frame.filename.clone(), frame.line);
        line(self) == line(other) && (newest || place(self) == place(other))
    }
}

/// One thread as the target sees it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Thread {
    /// The interpreter that the thread state belongs to.
    pub(crate) interpreter: i64,
    /// `threading.get_ident()`: the `pthread_t`.
    pub(crate) ident: u64,
    /// The kernel's id, in the PID namespace of the target.
    pub(crate) native_id: u32,
    pub(crate) name: Option<String>,
    /// Newest first.
    pub(crate) frames: Vec<Frame>,
}

/// The line by which a target says that it is at rest.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Ready {
    pub(crate) ready: bool,
    pub(crate) program: String,
    pub(crate) python: String,
    /// As the target sees itself: 1 in a PID namespace of its own.
    pub(crate) pid: u32,
    pub(crate) threads: Vec<Thread>,
    /// What only this program tells.
    #[serde(flatten)]
    pub(crate) more: BTreeMap<String, serde_json::Value>,
}

/// A running target. Dropping it ends it.
pub(crate) struct Target {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Arc<Mutex<String>>,
    pid: u32,
    ready: Ready,
}

impl Target {
    /// Starts a program of `tests/programs` and waits until it says that it is ready.
    #[track_caller]
    pub(crate) fn spawn(interpreter: &Interpreter, name: &str, args: &[&str]) -> Self {
        Self::spawn_command(&mut interpreter.command(&program(name), args))
    }

    /// Starts any command that speaks the protocol.
    #[track_caller]
    pub(crate) fn spawn_command(command: &mut Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = loop {
            match command.spawn() {
                // Another test has forked while this file was written, and not called exec yet.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                    std::thread::yield_now();
                }
                child => break child.unwrap_or_else(|error| panic!("{command:?}: {error}")),
            }
        };
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("piped");
        let stderr = child.stderr.take().expect("piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let errors = Arc::new(Mutex::new(String::new()));
        let shared = Arc::clone(&errors);
        std::thread::spawn(move || collect(stderr, &shared));
        let nobody = Ready {
            ready: false,
            program: String::new(),
            python: String::new(),
            pid: 0,
            threads: Vec::new(),
            more: BTreeMap::new(),
        };
        let mut target = Self {
            child,
            stdin,
            lines,
            errors,
            pid: 0,
            ready: nobody,
        };
        target.next_ready();
        target
    }

    /// Waits for the next line that says `ready`: after the first one, that of a program
    /// which the target has become by `exec`.
    #[track_caller]
    pub(crate) fn next_ready(&mut self) -> &Ready {
        let line = self.next_line();
        self.ready = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("not a ready line: {error}: {line}"));
        assert!(self.ready.ready, "not ready: {line}");
        self.pid = self.find_pid();
        &self.ready
    }

    /// Waits for the next line on the target's standard output.
    #[track_caller]
    pub(crate) fn next_line(&mut self) -> String {
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                panic!(
                    "no line from the target within {LIMIT:?}; stderr: {}",
                    self.stderr()
                )
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait();
                panic!(
                    "the target ended with {status:?}; stderr: {}",
                    self.stderr()
                )
            }
        }
    }

    /// The process of the interpreter, as seen from here.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Who traces it (0 for nobody) and the state of its main thread, as the kernel shows them.
    #[track_caller]
    pub(crate) fn status(&self) -> (u32, char) {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("status");
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.expect("a field").trim()
        };
        let state = field("State:").chars().next().expect("a state");
        (field("TracerPid:").parse().expect("an id"), state)
    }

    /// The process that was started: the interpreter, or the `unshare` that is its parent.
    pub(crate) fn child_pid(&self) -> u32 {
        self.child.id()
    }

    /// The second number of its Python's version.
    pub(crate) fn minor(&self) -> u8 {
        let minor = self.ready.python.split('.').nth(1);
        minor.and_then(|minor| minor.parse().ok()).expect("3.x.y")
    }

    pub(crate) fn ready(&self) -> &Ready {
        &self.ready
    }

    /// What the target wrote on its standard error until now.
    pub(crate) fn stderr(&self) -> String {
        self.errors
            .lock()
            .map(|text| text.clone())
            .unwrap_or_default()
    }

    /// Writes to the target's standard input.
    #[track_caller]
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        stdin
            .write_all(bytes)
            .and_then(|()| stdin.flush())
            .expect("write to the target");
    }

    /// Closes its standard input; what it writes until it ends can still be read.
    pub(crate) fn close(&mut self) {
        self.stdin = None;
    }

    /// Closes its standard input, at which every program ends, and waits until it has.
    #[track_caller]
    pub(crate) fn finish(mut self) -> ExitStatus {
        self.stdin = None;
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait for the target") {
                return status;
            }
            assert!(
                Instant::now() < end,
                "the target does not end; stderr: {}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The thread of the target with this id of its own namespace, as seen from here.
    #[track_caller]
    pub(crate) fn os_thread_id(&self, native_id: u32) -> u32 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid)).expect("tasks");
        tasks
            .flatten()
            .filter_map(|entry| Status::read(&entry.path()))
            .find(|status| status.inner_pid == native_id)
            .unwrap_or_else(|| panic!("no thread {native_id} in process {}", self.pid))
            .pid
    }

    /// Of what was started here and its children, the process that calls itself what the
    /// target said. (`unshare --fork` makes a child; the interpreter is pid 1 in there.)
    #[track_caller]
    fn find_pid(&self) -> u32 {
        let all: Vec<Status> = std::fs::read_dir("/proc")
            .expect("/proc")
            .flatten()
            .filter(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .bytes()
                    .all(|b| b.is_ascii_digit())
            })
            .filter_map(|entry| Status::read(&entry.path()))
            .collect();
        let mut family = vec![self.child.id()];
        let mut next = 0;
        while let Some(&parent) = family.get(next) {
            family.extend(
                all.iter()
                    .filter(|each| each.parent == parent)
                    .map(|each| each.pid),
            );
            next += 1;
        }
        let found = all
            .iter()
            .find(|each| family.contains(&each.pid) && each.inner_pid == self.ready.pid);
        found
            .unwrap_or_else(|| panic!("no process of {family:?} calls itself {}", self.ready.pid))
            .pid
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // The child is not reaped yet, so its id is still its own. `unshare` takes the
        // interpreter along (--kill-child); only SIGKILL ends it, it ignores SIGTERM.
        self.stdin = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut from: impl Read, into: &Mutex<String>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if let Ok(mut text) = into.lock() {
            text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    }
}

/// What `/proc/PID/status` says about the names of a process or thread.
struct Status {
    pid: u32,
    parent: u32,
    /// In its own, innermost PID namespace.
    inner_pid: u32,
}

impl Status {
    /// `None` when it has ended meanwhile.
    fn read(directory: &std::path::Path) -> Option<Self> {
        // From 3.14 on Python gives its threads their names in the kernel too, cut after 15
        // bytes and so perhaps inside a character.
        let bytes = std::fs::read(directory.join("status")).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next_back()?.parse().ok()
        };
        Some(Self {
            pid: field("Pid:")?,
            parent: field("PPid:")?,
            inner_pid: field("NSpid:")?,
        })
    }
}

/// The frames of one thread of a dump.
#[track_caller]
pub(crate) fn frames_of(thread: &serde_json::Value) -> Vec<Frame> {
    serde_json::from_value(thread["frames"].clone())
        .unwrap_or_else(|error| panic!("frames of {thread}: {error}"))
}

/// Fails unless a dump has every thread of the target, in the same interpreter, under the
/// same name and with the same frames, whole, and no thread more.
#[track_caller]
pub(crate) fn assert_stacks(target: &Target, dump: &serde_json::Value) {
    let seen = dump["threads"].as_array().expect("a list of threads");
    for expected in &target.ready().threads {
        let os_thread_id = target.os_thread_id(expected.native_id);
        let what = format!("thread {:?} ({os_thread_id})", expected.name);
        let of_interpreter = || {
            seen.iter()
                .filter(|thread| thread["interpreter"] == expected.interpreter)
        };
        let by_id = of_interpreter().find(|thread| thread["os_thread_id"] == os_thread_id);
        // Up to 3.12 a sub-interpreter's first thread state keeps the ids of the thread that
        // created the interpreter, whichever thread runs in it (`PyThreadState.thread_id` and
        // `native_thread_id` are set when the state is made): its stack tells it apart.
        let foreign = || {
            let old = expected.interpreter != 0 && target.minor() < 13;
            of_interpreter().find(|thread| old && agree(&expected.frames, &frames_of(thread)))
        };
        let Some(thread) = by_id.or_else(foreign) else {
            panic!("{what} of {} is missing in {dump:#}", expected.interpreter);
        };
        assert!(thread["cut"].is_null(), "{what} is cut: {}", thread["cut"]);
        assert_frames(&what, &expected.frames, &frames_of(thread));
        if by_id.is_none() {
            continue;
        }
        assert_eq!(thread["thread_id"], expected.ident, "ident of {what}");
        if let Some(name) = &expected.name {
            assert_eq!(thread["thread_name"], name.as_str(), "name of {what}");
        }
    }
    // A thread state without frames is no thread that Python code could tell of: that of
    // the main thread of a program that runs Python in another one, say.
    let seen = seen
        .iter()
        .filter(|thread| !frames_of(thread).is_empty())
        .count();
    let expected = target.ready().threads.len();
    assert_eq!(seen, expected, "number of threads in {dump:#}");
}

/// How many frames are the same, from the newest on.
fn agreeing(expected: &[Frame], seen: &[Frame]) -> usize {
    let pairs = expected.iter().zip(seen).enumerate();
    pairs.take_while(|(n, (a, b))| a.agrees(b, *n == 0)).count()
}

fn agree(expected: &[Frame], seen: &[Frame]) -> bool {
    expected.len() == seen.len() && agreeing(expected, seen) == seen.len()
}

/// Compares two stacks; of long ones only the surroundings of the first difference are told.
#[track_caller]
fn assert_frames(what: &str, expected: &[Frame], seen: &[Frame]) {
    let same = agreeing(expected, seen);
    if same == expected.len() && same == seen.len() {
        return;
    }
    let around = |frames: &[Frame]| {
        let end = frames.len().min(same + 3);
        format!("{:#?}", &frames[same.saturating_sub(1).min(end)..end])
    };
    panic!(
        "{what}: frame {same} of {} (newest first) differs from that of {} seen\nexpected {}\nseen {}",
        expected.len(),
        seen.len(),
        around(expected),
        around(seen)
    );
}
