//! Starts a program to watch, and ends it when it is told to.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid, getpgrp};

use crate::attach::{Attached, Seeker};
use crate::error::Error;
use crate::sys::held::{self, Gate};

/// How long a launched program may take to start an interpreter: launchers, slow disks.
pub const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a program may take to end after SIGTERM.
const TERM_LIMIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(2);

/// A program that we started.
#[derive(Debug)]
pub struct Launched {
    pid: Pid,
    program: String,
    /// What it waits for before it runs.
    gate: Option<Gate>,
    status: Option<ExitStatus>,
    keep: bool,
}

impl Launched {
    /// Starts `command` with our own standard streams; its output to `stdout` goes to our
    /// stderr when `quiet_stdout` is set, because stdout belongs to the report.
    ///
    /// # Errors
    /// [`Error::CannotStart`].
    pub fn start(command: &[OsString], stdout: Stdio) -> Result<Self, Error> {
        Self::start_with(command, stdout, Vec::new())
    }

    /// As [`Self::start`], with more variables in the program's environment.
    ///
    /// # Errors
    /// [`Error::CannotStart`].
    pub fn start_with(
        command: &[OsString],
        stdout: Stdio,
        variables: Vec<(OsString, OsString)>,
    ) -> Result<Self, Error> {
        let (name, mut command) = prepared(command, stdout)?;
        let started = command.envs(variables).spawn();
        let child = started.map_err(|error| cannot_start(&name, error))?;
        Ok(Self::new(child.id().cast_signed(), name, None))
    }

    /// A program that waits until it is [let go](Self::let_go): there is a process, which has not
    /// become the program yet. It ends with us until then. Call it while there is one thread.
    ///
    /// # Errors
    /// [`Error::CannotStart`].
    pub fn hold(command: &[OsString], stdout: Stdio) -> Result<Self, Error> {
        let (name, command) = prepared(command, stdout)?;
        let (pid, gate) = Gate::close(command).map_err(|error| cannot_start(&name, error))?;
        Ok(Self::new(pid, name, Some(gate)))
    }

    /// Lets a program run that was held.
    ///
    /// # Errors
    /// [`Error::CannotStart`].
    pub fn let_go(&mut self) -> Result<(), Error> {
        let opened = self.gate.take().map_or(Ok(()), Gate::open);
        opened.map_err(|error| cannot_start(&self.program, error))
    }

    fn new(pid: i32, program: String, gate: Option<Gate>) -> Self {
        Self {
            pid: Pid::from_raw(pid),
            program,
            gate,
            status: None,
            keep: false,
        }
    }

    /// Its process id, the same before and after an exec.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// How it ended; `None` while it runs. Does not block. Not for one that a thread of ours traces:
    /// this would take its stops away.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.wait_with(false)
    }

    /// Waits until it runs an interpreter, across any number of execs, or until `given_up` says
    /// that nobody wants it any more.
    ///
    /// # Errors
    /// [`Error::NoInterpreter`] when it does not within `limit`, [`Error::Exited`] when it ends
    /// before; an attach error that waiting cannot mend.
    pub fn attach(
        &mut self,
        limit: Duration,
        given_up: impl Fn() -> bool,
    ) -> Result<Attached, Error> {
        let mut seeker = Seeker::new(self.pid());
        loop {
            let given_up = given_up();
            match seeker.look(!given_up) {
                Ok(Some(attached)) => return Ok(attached),
                Err(error) if self.ended().is_none() => return Err(error),
                Ok(None) | Err(_) => {}
            }
            let ended = self.ended().is_some();
            if ended || given_up || seeker.elapsed() > limit {
                return Err(self.without_interpreter(seeker, ended));
            }
            thread::sleep(POLL);
        }
    }

    /// The error of a search that has found nothing until it was given up, or the program ended.
    #[must_use]
    pub fn without_interpreter(&self, mut seeker: Seeker, ended: bool) -> Error {
        match (ended, seeker.last()) {
            // A program that ran Python and was too quick is another case than `ls`.
            (true, _) if seeker.python_seen() => Error::Exited { pid: self.pid() },
            (true, _) => self.no_interpreter(&seeker, "it has ended"),
            (false, Error::NotPython { why, .. }) => self.no_interpreter(&seeker, &why),
            (false, error) => error,
        }
    }

    fn no_interpreter(&self, seeker: &Seeker, why: &str) -> Error {
        Error::NoInterpreter {
            program: self.program.clone(),
            pid: self.pid(),
            seconds: seeker.elapsed().as_secs().max(1),
            why: why.to_owned(),
        }
    }

    /// Lets the program run on when this value is dropped.
    pub fn keep_running(&mut self) {
        self.keep = true;
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Option<ExitStatus> {
        self.wait_with(true)
    }

    fn wait_with(&mut self, block: bool) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = held::wait(self.pid(), block).ok().flatten();
        }
        self.status
    }

    /// Whether what is sent to our process group reaches it too.
    #[must_use]
    pub fn is_in_our_group(&self) -> bool {
        getpgid(Some(self.pid)) == Ok(getpgrp())
    }

    /// Waits until it ends, at most so long; how it ended.
    pub fn wait_for(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        while self.ended().is_none() && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        self.status
    }

    /// Ends it: SIGTERM, and SIGKILL after two seconds.
    pub fn end(&mut self) -> Option<ExitStatus> {
        if self.ended().is_none() {
            let _ = kill(self.pid, Signal::SIGTERM);
            if self.wait_for(TERM_LIMIT).is_none() {
                let _ = kill(self.pid, Signal::SIGKILL);
            }
        }
        self.wait()
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if !self.keep {
            self.end();
        }
    }
}

/// The name of a command, and what starts it.
fn prepared(command: &[OsString], stdout: Stdio) -> Result<(String, Command), Error> {
    let Some((program, args)) = command.split_first() else {
        return Err(Error::Usage("no command was given".to_owned()));
    };
    let name = program.to_string_lossy().into_owned();
    let mut command = Command::new(program);
    command.args(args).stdout(stdout);
    Ok((name, command))
}

fn cannot_start(program: &str, error: io::Error) -> Error {
    Error::CannotStart {
        program: program.to_owned(),
        error,
    }
}

/// The exit code that a shell would show: 128 + n for signal n.
#[must_use]
pub fn exit_code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => 128_u8.wrapping_add(signal as u8),
        (None, None) => 1,
    }
}
