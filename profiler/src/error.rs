//! What can go wrong, in one line each: what, why, what to do. And with which exit code.

use std::io;
use std::path::{Path, PathBuf};

use onlooker_unwinder::layout::proof::ProofError;
use onlooker_unwinder::memory::ReadError;

use crate::target::{self, permission};

/// Exit codes. All are 64 or above, so that none looks like that of a launched program that
/// ended by itself; where `sysexits.h` has a code for the case, it is that one.
pub mod exit {
    /// `reads`: it could not be measured, or the baseline is of another Python or depth. The one
    /// code below 64 besides 0 and 1, for it is an answer and not a failure.
    pub const NOT_MEASURED: u8 = 3;
    /// Wrong arguments.
    pub const USAGE: u8 = 64;
    /// The recording (or another input file) is damaged, foreign or of a newer format.
    pub const DATA: u8 = 65;
    /// The recording (or another input file) cannot be opened.
    pub const NO_INPUT: u8 = 66;
    /// No such process.
    pub const NO_PROCESS: u8 = 67;
    /// Not a CPython process.
    pub const NOT_PYTHON: u8 = 68;
    /// A CPython that this version of Onlooker cannot read.
    pub const UNSUPPORTED: u8 = 69;
    /// A defect of Onlooker itself.
    pub const INTERNAL: u8 = 70;
    /// The interpreter is not initialised (yet).
    pub const NOT_READY: u8 = 71;
    /// The layout of the interpreter could not be proven.
    pub const NOT_PROVEN: u8 = 72;
    /// The output file cannot be created.
    pub const CANNOT_CREATE: u8 = 73;
    /// Writing or reading a file failed half-way.
    pub const IO: u8 = 74;
    /// The process is a zombie.
    pub const ZOMBIE: u8 = 75;
    /// The process exited before anything could be read.
    pub const EXITED: u8 = 76;
    /// No permission to read the process.
    pub const PERMISSION: u8 = 77;
    /// The command could not be started.
    pub const CANNOT_START: u8 = 78;
    /// Nothing was recorded, so there is no report to make.
    pub const EMPTY: u8 = 79;
    /// The process is stopped, so nothing of it can be sampled exactly.
    pub const STOPPED: u8 = 80;
    /// Somebody else traces the process.
    pub const TRACED: u8 = 81;
    /// The process uses every signal that could stop it harmlessly.
    pub const NO_SIGNAL: u8 = 82;
    /// The target's tracemalloc is not on.
    pub const TRACEMALLOC_OFF: u8 = 83;
    /// Ended by Ctrl-C: a second one, or one that nothing is worth keeping after.
    pub const INTERRUPTED: u8 = 130;
}

/// Everything that ends a command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Arguments that do not go together.
    #[error("{0}; see --help")]
    Usage(String),
    /// No such process.
    #[error(
        "no process {pid}: it has exited or never was; list Python processes with `pgrep -a python`"
    )]
    NoProcess {
        /// The id that was given.
        pid: i32,
    },
    /// A thread id where a process id belongs.
    #[error("{tid} is a thread of process {pid}, not a process; use -p {pid}")]
    IsThread {
        /// The id that was given.
        tid: i32,
        /// The process of that thread.
        pid: i32,
    },
    /// The process has ended and waits for its parent.
    #[error(
        "process {pid} is a zombie: it has ended and has no memory any more; look at its parent {parent}"
    )]
    Zombie {
        /// The process.
        pid: i32,
        /// Its parent.
        parent: i32,
    },
    /// It ended while we attached, or read it.
    #[error("process {pid} exited before what was asked for could be read")]
    Exited {
        /// The process.
        pid: i32,
    },
    /// [`Self::Exited`], told by a command that could have launched it.
    #[error(
        "process {pid} exited before its stacks could be read; if it is short-lived, launch it with `onlooker record -- COMMAND`"
    )]
    ShortLived {
        /// The process.
        pid: i32,
    },
    /// No interpreter in it.
    #[error("process {pid} ({executable}) is not a CPython process: {why}")]
    NotPython {
        /// The process.
        pid: i32,
        /// Its executable.
        executable: String,
        /// What was looked at.
        why: String,
    },
    /// A version that is not known.
    #[error("process {pid} runs CPython {version}, which is not supported: {why}")]
    Unsupported {
        /// The process.
        pid: i32,
        /// The version.
        version: String,
        /// What is supported instead.
        why: String,
    },
    /// No interpreter yet.
    #[error(
        "the interpreter in process {pid} is not initialised ({why}); attach again when it runs Python code"
    )]
    NotReady {
        /// The process.
        pid: i32,
        /// What was found.
        why: String,
    },
    /// An invariant failed.
    #[error(
        "the memory of process {pid} is not laid out as CPython {version}: {error}; nothing is shown that cannot be proven"
    )]
    NotProven {
        /// The process.
        pid: i32,
        /// The version.
        version: String,
        /// The invariant.
        error: ProofError,
    },
    /// The kernel refuses.
    #[error("no permission to read process {pid}: {why}; {remedy}")]
    Permission {
        /// The process.
        pid: i32,
        /// Which rule refuses.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// A recording without growth, or none that was worth an event.
    #[error(
        "no growth in {path}; what came in before the recording began is not in it; record it with `onlooker record --growth`, for little of it with --growth-every 4K"
    )]
    NothingGrew {
        /// The recording.
        path: PathBuf,
    },
    /// Exact samples and growth need perf events.
    #[error(
        "no permission for perf events of process {pid}: {why}; {remedy}, or record without --exact or --growth"
    )]
    Perf {
        /// The process.
        pid: i32,
        /// Which rule refuses.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// It does not run, so it cannot be stopped by its own clock.
    #[error(
        "process {pid} is stopped (SIGSTOP or job control); continue it with `kill -CONT {pid}`, or look at it with `onlooker dump -p {pid}`"
    )]
    Stopped {
        /// The process.
        pid: i32,
    },
    /// A process has one tracer at most.
    #[error(
        "process {pid} is traced by process {tracer} already (a debugger or strace); end that, or go on without --exact or --pause"
    )]
    Traced {
        /// The process.
        pid: i32,
        /// Its tracer.
        tracer: i32,
    },
    /// No signal is left.
    #[error(
        "process {pid} catches or blocks SIGURG, SIGWINCH and SIGCHLD, so none of them can stop it without harm; record without --exact"
    )]
    NoSignal {
        /// The process.
        pid: i32,
    },
    /// The machinery that stops threads failed.
    #[error("process {pid} cannot be stopped: {error}; go on without --exact or --pause")]
    Stop {
        /// The process.
        pid: i32,
        /// What the kernel said.
        error: io::Error,
    },
    /// `tracemalloc` traces nothing.
    #[error(
        "tracemalloc is not on in process {pid}: start the program with PYTHONTRACEMALLOC=25 or `python -X tracemalloc=25`, or call tracemalloc.start(25) in it (25 frames of each block; 1 is cheaper and gives lines only)"
    )]
    TracemallocOff {
        /// The process.
        pid: i32,
    },
    /// Single pages may not be seen.
    #[error(
        "no permission for the page map of process {pid}: {why}; sizes are shown, what is shared is not; run `sudo onlooker …`, or add CAP_SYS_PTRACE and CAP_SYS_ADMIN"
    )]
    PageMap {
        /// The process.
        pid: i32,
        /// What the kernel said.
        why: String,
    },
    /// The tables of `tracemalloc` could not be found or proven.
    #[error(
        "the tables of tracemalloc in process {pid} (CPython {version}) were not found: {why}; nothing is shown that cannot be proven"
    )]
    TracemallocHidden {
        /// The process.
        pid: i32,
        /// The version.
        version: String,
        /// What is missing.
        why: String,
    },
    /// The command could not be started.
    #[error("cannot start {program}: {error}")]
    CannotStart {
        /// What was to be started.
        program: String,
        /// Why not.
        error: io::Error,
    },
    /// The launched program never ran an interpreter.
    #[error(
        "{program} (process {pid}) did not start a CPython interpreter within {seconds} s: {why}"
    )]
    NoInterpreter {
        /// What was started.
        program: String,
        /// Its process.
        pid: i32,
        /// How long was waited.
        seconds: u64,
        /// What was seen last.
        why: String,
    },
    /// Neither a process nor any of its descendants ever was Python.
    #[error(
        "neither process {pid} nor any child of it ran a supported CPython while it was watched"
    )]
    NoPython {
        /// The root of the family.
        pid: i32,
    },
    /// The output cannot be made.
    #[error("cannot write {path}: {error}; choose another file with -o", path = .path.display())]
    CannotCreate {
        /// The output.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// Writing failed half-way.
    #[error("writing {path} failed: {error}{kept}", path = .path.display())]
    Write {
        /// The output.
        path: PathBuf,
        /// Why.
        error: io::Error,
        /// What is left and where, beginning with "; ".
        kept: String,
    },
    /// Ctrl-C.
    #[error("interrupted; {path} was not written", path = .path.display())]
    Interrupted {
        /// The output.
        path: PathBuf,
    },
    /// An input cannot be opened.
    #[error("cannot read {path}: {error}", path = .path.display())]
    NoInput {
        /// The input.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// An input is not what it should be.
    #[error("{path}: {error}", path = .path.display())]
    Data {
        /// The input.
        path: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// No report.
    #[error("{0}")]
    Report(String),
    /// `reads` has no figures, or none that can be compared.
    #[error("not measured: {0}")]
    NotMeasured(String),
    /// The target cannot be read any more, for no known reason.
    #[error("reading process {pid} failed: {error}")]
    Read {
        /// The process.
        pid: i32,
        /// What the kernel said.
        error: ReadError,
    },
}

impl Error {
    /// Of a process that was there before: that there is none, or a zombie, means that it exited.
    #[must_use]
    pub fn meanwhile(self) -> Self {
        match self {
            Self::NoProcess { pid } | Self::Zombie { pid, .. } => Self::Exited { pid },
            other => other,
        }
    }

    /// With the advice to launch what exited.
    #[must_use]
    pub fn or_launch(self) -> Self {
        match self {
            Self::Exited { pid } => Self::ShortLived { pid },
            other => other,
        }
    }

    /// The error for a process that could not be stopped: it has ended, or the kernel says why.
    #[must_use]
    pub fn stop(pid: i32, error: io::Error) -> Self {
        match target::is_alive(pid) {
            true => Self::Stop { pid, error },
            false => Self::Exited { pid },
        }
    }

    /// The error for a process whose perf events may not be opened.
    #[must_use]
    pub fn perf(pid: i32, error: io::Error) -> Self {
        if error.kind() != io::ErrorKind::PermissionDenied {
            return Self::stop(pid, error);
        }
        let (why, remedy) = permission::explain_perf(Path::new("/proc"));
        Self::Perf { pid, why, remedy }
    }

    /// The exit code of a command that ends with it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => exit::USAGE,
            Self::NoProcess { .. } | Self::IsThread { .. } => exit::NO_PROCESS,
            Self::Zombie { .. } => exit::ZOMBIE,
            Self::Exited { .. } | Self::ShortLived { .. } => exit::EXITED,
            Self::NotPython { .. } | Self::NoInterpreter { .. } | Self::NoPython { .. } => {
                exit::NOT_PYTHON
            }
            Self::Unsupported { .. } => exit::UNSUPPORTED,
            Self::NotReady { .. } => exit::NOT_READY,
            Self::NotProven { .. } | Self::TracemallocHidden { .. } => exit::NOT_PROVEN,
            Self::TracemallocOff { .. } => exit::TRACEMALLOC_OFF,
            Self::Permission { .. } | Self::Perf { .. } | Self::PageMap { .. } => exit::PERMISSION,
            Self::Stopped { .. } => exit::STOPPED,
            Self::Traced { .. } => exit::TRACED,
            Self::NoSignal { .. } => exit::NO_SIGNAL,
            Self::CannotStart { .. } => exit::CANNOT_START,
            Self::CannotCreate { .. } => exit::CANNOT_CREATE,
            Self::Write { .. } | Self::Read { .. } | Self::Stop { .. } => exit::IO,
            Self::Interrupted { .. } => exit::INTERRUPTED,
            Self::NoInput { .. } => exit::NO_INPUT,
            Self::Data { .. } => exit::DATA,
            Self::Report(_) | Self::NothingGrew { .. } => exit::EMPTY,
            Self::NotMeasured(_) => exit::NOT_MEASURED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_has_exited_whatever_is_left_of_it() {
        let gone = Error::NoProcess { pid: 7 };
        let zombie = Error::Zombie { pid: 7, parent: 1 };
        for error in [gone, zombie] {
            assert_ne!(error.exit_code(), exit::EXITED);
            let error = error.meanwhile();
            assert_eq!(error.exit_code(), exit::EXITED);
            assert!(!error.to_string().contains("record"), "{error}");
            let error = error.or_launch();
            assert_eq!(error.exit_code(), exit::EXITED);
            assert!(error.to_string().contains("onlooker record"), "{error}");
        }
    }
}
