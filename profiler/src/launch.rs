//! Starts a program to watch, and ends it when it is told to.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid, getpgrp};

use crate::attach::{self, Attached};
use crate::error::Error;
use crate::target::maps::{MappedFile, Maps};

/// How long a launched program may take to start an interpreter: launchers, slow disks.
pub const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a program may take to end after SIGTERM.
const TERM_LIMIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(2);
/// Files that showed no Python are read and parsed again only after so long while no others are
/// mapped: they may hold an interpreter that only its memory tells (stripped, not begun yet).
const SAME_FILES: Duration = Duration::from_millis(10);

/// A program that we started.
#[derive(Debug)]
pub struct Launched {
    child: Child,
    program: String,
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
        let Some((program, args)) = command.split_first() else {
            return Err(Error::Usage("no command was given".to_owned()));
        };
        let name = program.to_string_lossy().into_owned();
        let child = Command::new(program)
            .args(args)
            .envs(variables)
            .stdout(stdout)
            .spawn()
            .map_err(|error| Error::CannotStart {
                program: name.clone(),
                error,
            })?;
        Ok(Self {
            child,
            program: name,
            status: None,
            keep: false,
        })
    }

    /// Its process id, the same before and after an exec.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// How it ended; `None` while it runs. Does not block.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
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
        let pid = self.pid();
        let start = Instant::now();
        let mut python_seen = false;
        let mut unnamed = None;
        let mut fruitless: Option<(Instant, Option<Files>, Error)> = None;
        loop {
            let files = files(pid);
            // The same files are not read and parsed for every look.
            let (at, tried) = match fruitless.take() {
                Some((at, known, error)) if known == files && at.elapsed() < SAME_FILES => {
                    (at, Err(error))
                }
                _ => (Instant::now(), attach::attach_once(pid)),
            };
            let error = match tried {
                Ok(attached) if attached.is_named() => return Ok(attached),
                Ok(attached) => {
                    let since = *unnamed.get_or_insert_with(Instant::now);
                    if since.elapsed() > attach::STARTING || given_up() {
                        return Ok(attached);
                    }
                    thread::sleep(POLL);
                    continue;
                }
                Err(error) => error,
            };
            if self.ended().is_some() {
                // A program that ran Python and was too quick is another case than `ls`.
                return Err(if python_seen {
                    Error::Exited { pid }
                } else {
                    self.no_interpreter(start, "it has ended")
                });
            }
            match &error {
                Error::NotReady { .. } | Error::NotProven { .. } => python_seen = true,
                // An exec between two looks leaves nothing where the first look found something.
                Error::NotPython { .. } | Error::Exited { .. } | Error::Read { .. } => {}
                _ => return Err(error),
            }
            if given_up() || start.elapsed() > limit {
                return Err(match error {
                    Error::NotPython { why, .. } => self.no_interpreter(start, &why),
                    error => error,
                });
            }
            if matches!(error, Error::NotPython { .. }) {
                fruitless = Some((at, files, error));
            }
            thread::sleep(POLL);
        }
    }

    fn no_interpreter(&self, start: Instant, why: &str) -> Error {
        Error::NoInterpreter {
            program: self.program.clone(),
            pid: self.pid(),
            seconds: start.elapsed().as_secs().max(1),
            why: why.to_owned(),
        }
    }

    /// Lets the program run on when this value is dropped.
    pub fn keep_running(&mut self) {
        self.keep = true;
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.wait().ok();
        }
        self.status
    }

    /// Whether what is sent to our process group reaches it too.
    #[must_use]
    pub fn is_in_our_group(&self) -> bool {
        getpgid(Some(Pid::from_raw(self.pid()))) == Ok(getpgrp())
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
            let _ = kill(Pid::from_raw(self.pid()), Signal::SIGTERM);
            if self.wait_for(TERM_LIMIT).is_none() {
                let _ = self.child.kill();
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

/// Which files a process maps: path and inode.
type Files = Vec<(PathBuf, u64)>;

fn files(pid: i32) -> Option<Files> {
    let maps = Maps::read(pid).ok()?;
    let file = |file: &MappedFile| (file.path.clone(), file.inode);
    Some(maps.files.iter().map(file).collect())
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
