//! Looking again and again for the interpreter of a program that is starting one.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Attached, STARTING, attach_once};
use crate::error::Error;
use crate::target::maps::{MappedFile, Maps};

/// Files that showed no Python are read and parsed again only after so long while no others are
/// mapped: they may hold an interpreter that only its memory tells (stripped, not begun yet).
const SAME_FILES: Duration = Duration::from_millis(10);
/// Looks that do not wait for that where the program stands still meanwhile: more than it takes one in each
/// 256 KiB to find an interpreter that starts.
const EAGER: u32 = 40;

/// The search in one process, across any number of execs.
#[derive(Debug)]
pub struct Seeker {
    pid: i32,
    began: Instant,
    /// Since when there is an interpreter whose patch release is not told yet.
    unnamed: Option<Instant>,
    /// A look that found no Python in these files.
    fruitless: Option<(Instant, Option<Files>)>,
    /// Looks that are made though the files are the same.
    eager: u32,
    /// Whether a look has met an interpreter that was not ready.
    python_seen: bool,
    last: Option<Error>,
}

impl Seeker {
    /// A search that has not looked yet.
    #[must_use]
    pub fn new(pid: i32) -> Self {
        Self {
            pid,
            began: Instant::now(),
            unnamed: None,
            fruitless: None,
            eager: 0,
            python_seen: false,
            last: None,
        }
    }

    /// A search that is made while the program stands still: at first it leaves no look out.
    #[must_use]
    pub fn eager(pid: i32) -> Self {
        Self {
            eager: EAGER,
            ..Self::new(pid)
        }
    }

    /// Looks once; `None` where there is none yet, or where one is there whose patch release will be
    /// told soon and `patient`.
    ///
    /// # Errors
    /// What waiting cannot mend.
    pub fn look(&mut self, patient: bool) -> Result<Option<Attached>, Error> {
        let files = files(self.pid);
        if let Some((at, known)) = &self.fruitless
            && *known == files
            && at.elapsed() < SAME_FILES
        {
            if self.eager == 0 {
                return Ok(None);
            }
            self.eager -= 1;
        }
        self.fruitless = None;
        let at = Instant::now();
        match attach_once(self.pid) {
            Ok(attached) if attached.is_named() || !patient => Ok(Some(attached)),
            Ok(attached) => {
                let since = *self.unnamed.get_or_insert(at);
                Ok((since.elapsed() > STARTING).then_some(attached))
            }
            Err(error) => {
                match &error {
                    Error::NotReady { .. } | Error::NotProven { .. } => self.python_seen = true,
                    Error::NotPython { .. } => self.fruitless = Some((at, files)),
                    // An exec between two looks leaves nothing where the first look found something.
                    Error::Exited { .. } | Error::Read { .. } => {}
                    _ => return Err(error),
                }
                self.last = Some(error);
                Ok(None)
            }
        }
    }

    /// How long it has looked.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether it has met an interpreter that was not ready.
    #[must_use]
    pub fn python_seen(&self) -> bool {
        self.python_seen
    }

    /// Why the last look has found nothing.
    #[must_use]
    pub fn last(&mut self) -> Error {
        let why = || Error::NotPython {
            pid: self.pid,
            executable: crate::target::executable(self.pid),
            why: "nobody has looked".to_owned(),
        };
        self.last.take().unwrap_or_else(why)
    }
}

/// Which files a process maps: path and inode.
type Files = Vec<(PathBuf, u64)>;

fn files(pid: i32) -> Option<Files> {
    let maps = Maps::read(pid).ok()?;
    let file = |file: &MappedFile| (file.path.clone(), file.inode);
    Some(maps.files.iter().map(file).collect())
}
