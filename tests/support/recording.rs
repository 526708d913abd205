//! Recordings while they are made, and what they hold.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onlooker_recording::read;
use onlooker_recording::tables::{Sample, Tables, Trust};

use super::{Interpreter, Mode, Run, Thread, interpreters, onlooker_command, run};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Waits for something that must come.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// One interpreter, where the kind makes no difference.
pub(crate) fn any() -> Interpreter {
    let all = interpreters();
    let plain = all.iter().filter(|each| each.mode == Mode::Plain);
    plain
        .max_by_key(|each| each.version)
        .expect("one that is installed")
        .clone()
}

/// `onlooker record` in a directory of its own, while it runs.
pub(crate) struct Recording {
    pub(crate) child: Child,
    pub(crate) directory: PathBuf,
    pub(crate) stdout: JoinHandle<Vec<u8>>,
    pub(crate) stderr: JoinHandle<Vec<u8>>,
}

impl Recording {
    pub(crate) fn start(directory: &Path, args: &[&str]) -> Self {
        let mut command = onlooker_command();
        command
            .args(["record", "-i"])
            .args(args)
            .current_dir(directory);
        Self::spawn(&mut command, directory)
    }

    pub(crate) fn spawn(command: &mut Command, directory: &Path) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("onlooker");
        Self {
            stdout: reader(child.stdout.take().expect("piped")),
            stderr: reader(child.stderr.take().expect("piped")),
            child,
            directory: directory.to_owned(),
        }
    }

    /// Waits until a recording of that name has more than `bytes`: more than its first block.
    pub(crate) fn wait_for(&self, name: &str, bytes: u64) {
        let path = self.directory.join(name);
        wait_until("samples on disk", || {
            std::fs::metadata(&path).is_ok_and(|meta| meta.len() > bytes)
        });
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).expect("signal");
    }

    #[track_caller]
    pub(crate) fn end(mut self) -> Run {
        let mut status = None;
        wait_until("the end of the recording", || {
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        Run {
            status: status.expect("ended"),
            stdout: self.stdout.join().expect("stdout"),
            stderr: String::from_utf8_lossy(&self.stderr.join().expect("stderr")).into_owned(),
        }
    }
}

/// Reads a pipe while its writer runs: a full one would stop it.
pub(crate) fn reader(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe");
        bytes
    })
}

/// Names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("directory").flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Stacks and counts of a collapsed report.
#[track_caller]
pub(crate) fn collapsed(text: &str) -> BTreeMap<String, u64> {
    let mut stacks = BTreeMap::new();
    for line in text.lines() {
        let (stack, count) = line.rsplit_once(' ').expect("a stack and a count");
        let count = count
            .parse()
            .unwrap_or_else(|_| panic!("no count in {line}"));
        assert!(
            stacks.insert(stack.to_owned(), count).is_none(),
            "twice: {line}"
        );
    }
    assert!(!stacks.is_empty(), "no stacks");
    stacks
}

pub(crate) fn report(file: &Path, args: &[&str]) -> Run {
    run(onlooker_command()
        .args(["report", "-i"])
        .arg(file)
        .args(args))
}

/// A stack of a target as the collapsed report has it, with whole file names.
pub(crate) fn expected_stack(thread: &Thread) -> String {
    let frames = thread.frames.iter().rev().map(|frame| {
        let text = format!("{} ({}:{})", frame.name, frame.filename, frame.line);
        text.replace(';', ",")
    });
    frames.collect::<Vec<_>>().join(";")
}

/// Starts `script` in an interpreter, under `onlooker record`.
pub(crate) fn launch(interpreter: &Interpreter, options: &[&str], script: &str) -> Command {
    let mut python = interpreter.bare_command();
    python.args(["-c", script]);
    launch_command(options, &python)
}

/// Starts what would be started by `target`, under `onlooker record`.
pub(crate) fn launch_command(options: &[&str], target: &Command) -> Command {
    let mut command = onlooker_command();
    command.args(["record", "-i"]).args(options).arg("--");
    command.arg(target.get_program()).args(target.get_args());
    for (name, value) in target.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

pub(crate) const SPIN: &str = "import os, sys, time
def spin(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
spin(1.5)
";

/// A whole recording.
#[track_caller]
pub(crate) fn load(path: &Path) -> Tables {
    let loaded = read::read(File::open(path).expect("a recording")).expect("a readable recording");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    loaded.tables
}

/// The name of a sample's thread.
pub(crate) fn thread_name<'a>(tables: &'a Tables, sample: &Sample) -> &'a str {
    tables.string(tables.threads[sample.thread.index()].name)
}

/// The processes, by index, in whose samples each function was seen.
pub(crate) fn seen(tables: &Tables) -> BTreeMap<&str, Vec<u32>> {
    let mut seen: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for sample in &tables.samples {
        let process = tables.threads[sample.thread.index()].process.0;
        for frame in tables.frames(sample.stack) {
            let processes = seen.entry(tables.string(frame.name)).or_default();
            if !processes.contains(&process) {
                processes.push(process);
            }
        }
    }
    seen
}

/// Fails unless the name, the file and the line of every verified frame of `reuse.py` belong
/// together; the numbers of the functions that were seen, one for each frame.
#[track_caller]
pub(crate) fn names_of_made(tables: &Tables) -> Vec<u32> {
    let digits = |text: &str| -> Option<u32> {
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    let mut seen = Vec::new();
    let verified = |s: &&Sample| s.trust == Trust::Verified;
    for sample in tables.samples.iter().filter(verified) {
        for frame in tables.frames(sample.stack) {
            let (name, file) = (tables.string(frame.name), tables.string(frame.filename));
            let Some(made) = file.strip_prefix("made_") else {
                continue;
            };
            let made = digits(made).expect("a number");
            if name == "<module>" {
                continue;
            }
            assert_eq!(digits(name), Some(made), "{name} in {file}");
            let first = made % 97 + 1;
            let line = frame.line.expect("a line");
            assert!(
                (first..first + 5).contains(&line),
                "{name} in {file}:{line}"
            );
            seen.push(made);
        }
    }
    seen
}

/// The sites of a recording of growth, as JSON.
pub(crate) fn sites(recording: &Path, by: &str) -> Vec<serde_json::Value> {
    let report = run(onlooker_command()
        .args(["report", "--sites", "-f", "json", "--by", by])
        .arg(recording))
    .success();
    report.json()["sites"].as_array().expect("sites").clone()
}

/// Grown and kept bytes of a recording by function.
pub(crate) fn grown_and_kept(recording: &Path) -> BTreeMap<String, (f64, f64)> {
    let number = |site: &serde_json::Value, name: &str| site[name].as_f64().expect("a number");
    let of = |site: &serde_json::Value| (number(site, "grown_bytes"), number(site, "kept_bytes"));
    let named = |site: &serde_json::Value| {
        (
            // A thread without a Python frame has none.
            site["function"].as_str().unwrap_or_default().to_owned(),
            of(site),
        )
    };
    sites(recording, "function").iter().map(named).collect()
}
