//! The file of an image, which holds the data of a process: nobody else may ever read it, and no
//! link leads it elsewhere.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use onlooker_heap::image::{self, Image};

use crate::cli::output::neighbour;
use crate::cli::progress::Progress;
use crate::cli::stop::Stop;
use crate::error::Error;

/// Where an image goes. Nothing is there until it is whole; what was there before stays until then.
#[derive(Debug)]
pub(super) struct Save {
    path: PathBuf,
    temporary: PathBuf,
}

impl Save {
    /// Sees before any work that it can be written.
    ///
    /// # Errors
    /// [`Error::Usage`] for `-`, which is stdout elsewhere; [`Error::CannotCreate`], also for a link
    /// and for what is no regular file.
    pub(super) fn new(path: &Path) -> Result<Self, Error> {
        if path == Path::new("-") {
            let why =
                "an image is mapped when it is opened, so -o needs a file, not stdout (or ./-)";
            return Err(Error::Usage(why.to_owned()));
        }
        let this = Self {
            path: path.to_owned(),
            temporary: neighbour(path, &format!("{}.tmp", std::process::id())),
        };
        let refuse = |why: &str| this.cannot(io::Error::other(why));
        match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_symlink() => {
                return Err(refuse(
                    "it is a link, and memory is not written through one",
                ));
            }
            Ok(meta) if meta.is_dir() => {
                return Err(this.cannot(io::ErrorKind::IsADirectory.into()));
            }
            Ok(meta) if !meta.is_file() => {
                return Err(refuse("an image can only be a regular file"));
            }
            // A file that may not be written must not be replaced by way of its folder.
            Ok(_) => drop(this.existing().map_err(|error| this.cannot(error))?),
            Err(_) => {}
        }
        // Only a try: a run that is killed before it writes leaves nothing behind.
        drop(this.create()?);
        fs::remove_file(&this.temporary).map_err(|error| this.cannot(error))?;
        Ok(this)
    }

    fn existing(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.append(true).custom_flags(libc::O_NOFOLLOW);
        options.open(&self.path)
    }

    /// A new file that only its owner may read, from its first byte on. `O_EXCL` follows no link.
    fn create(&self) -> Result<File, Error> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options.open(&self.temporary);
        file.map_err(|error| self.cannot(error))
    }

    fn cannot(&self, error: io::Error) -> Error {
        Error::CannotCreate {
            path: self.path.clone(),
            error,
        }
    }

    /// Writes an image. Ctrl-C ends that, and leaves nothing behind.
    ///
    /// # Errors
    /// [`Error::Write`], [`Error::Interrupted`].
    pub(super) fn write<B: AsRef<[u8]>>(
        self,
        image: &Image<B>,
        progress: &Progress,
    ) -> Result<(), Error> {
        let stop = Stop::install()?;
        let mut out = BufWriter::new(self.create()?);
        let written = image::write(image, &mut out, |done, all| {
            progress.bytes("writing", done, all, "writing");
            if stop.asked() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            Ok(())
        });
        let written = written.and_then(|()| fs::rename(&self.temporary, &self.path));
        written.map_err(|error| {
            let _ = fs::remove_file(&self.temporary);
            if stop.asked() {
                return Error::Interrupted {
                    path: self.path.clone(),
                };
            }
            Error::Write {
                path: self.path.clone(),
                error,
                kept: String::new(),
            }
        })
    }
}
