//! Output files: checked before any work starts, written to a temporary neighbour, renamed.
//!
//! A run that fails leaves a file that was there before as it was.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Where a report goes.
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Stdout,
    /// Exists and is no regular file (`/dev/null`, a pipe): written in place.
    Device(File),
    /// Written beside its final name, and renamed.
    Neighbour {
        temporary: PathBuf,
    },
}

impl Output {
    /// Opens an output; `-` is stdout.
    ///
    /// # Errors
    /// [`Error::CannotCreate`].
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let fail = |error| Error::CannotCreate {
            path: path.to_owned(),
            error,
        };
        if path == Path::new("-") {
            return Ok(Self {
                path: path.to_owned(),
                kind: Kind::Stdout,
            });
        }
        // A link is followed: its target is replaced, not the link.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        match fs::metadata(&target) {
            Ok(meta) if meta.is_dir() => {
                return Err(fail(io::ErrorKind::IsADirectory.into()));
            }
            Ok(meta) if !meta.is_file() => {
                let file = OpenOptions::new().write(true).open(&target).map_err(fail)?;
                return Ok(Self {
                    path: target,
                    kind: Kind::Device(file),
                });
            }
            // A file that may not be written must not be replaced by way of its folder.
            Ok(_) => drop(
                OpenOptions::new()
                    .append(true)
                    .open(&target)
                    .map_err(fail)?,
            ),
            Err(_) => {}
        }
        let temporary = neighbour(&target, &format!("{}.tmp", std::process::id()));
        // Only a try: a run that is killed leaves nothing empty behind.
        drop(File::create(&temporary).map_err(fail)?);
        fs::remove_file(&temporary).map_err(fail)?;
        Ok(Self {
            path: target,
            kind: Kind::Neighbour { temporary },
        })
    }

    /// The final name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is stdout.
    pub(super) fn is_stdout(&self) -> bool {
        matches!(self.kind, Kind::Stdout)
    }

    /// Whether it is a regular file, so that something can be put beside it.
    pub(super) fn is_file(&self) -> bool {
        matches!(self.kind, Kind::Neighbour { .. })
    }

    /// Writes with `write` and makes the result visible under its name.
    ///
    /// # Errors
    /// What `write` returned, or what the file system says.
    pub(super) fn write(
        mut self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        match &mut self.kind {
            Kind::Stdout => {
                let mut stdout = Pipe(io::stdout().lock());
                write(&mut stdout)?;
                stdout.flush()
            }
            Kind::Device(file) => write(&mut Pipe(file)),
            Kind::Neighbour { temporary } => {
                write(&mut File::create(&*temporary)?)?;
                fs::rename(&*temporary, &self.path)
            }
        }
    }
}

/// Takes everything once nobody reads any more: `onlooker report … | head` is no failure.
struct Pipe<W>(W);

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Kind::Neighbour { temporary } = &self.kind {
            // After a rename there is nothing left to remove.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// `path` with `suffix` added to its name.
pub(super) fn neighbour(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}
