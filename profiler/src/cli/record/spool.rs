//! The recording while it is being written: where it lies, and what it becomes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek};
use std::path::{Path, PathBuf};

use onlooker_recording::read;
use onlooker_recording::tables::{Header, Tables, Totals};
use onlooker_recording::write::WriteError;

use super::super::args::RecordArgs;
use super::super::output::neighbour;
use super::super::report::{self, Report};
use super::plan::Plan;
use crate::error::Error;
use crate::record::Recorder;
use crate::record::clock::unix_ns;
use crate::target;

/// The recording while it is being written.
pub(super) struct Spool {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// Where it goes when it is complete; `None` when it is only the source of a report.
    pub(super) becomes: Option<PathBuf>,
    pub(super) header: Header,
}

/// A recording that is complete on disk.
pub(super) struct Spooled {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) becomes: Option<PathBuf>,
    pub(super) totals: Totals,
    /// How many processes it has.
    pub(super) processes: u32,
}

impl Spool {
    /// Starts the recording.
    pub(super) fn recorder(&self) -> Result<Recorder, Error> {
        let file = self.file.try_clone().map_err(|error| self.stopped(error))?;
        let recorder = Recorder::new(BufWriter::new(file), &self.header);
        recorder.map_err(|error| self.failed(&error))
    }

    /// The error of a recording that could not be written.
    pub(super) fn failed(&self, error: &WriteError) -> Error {
        self.stopped(io::Error::other(error.to_string()))
    }

    fn stopped(&self, error: io::Error) -> Error {
        let kept = if self.has_samples() {
            format!("; what was recorded before is in {}", self.path.display())
        } else {
            let _ = fs::remove_file(&self.path);
            "; nothing was recorded before".to_owned()
        };
        Error::Write {
            path: self.path.clone(),
            error,
            kept,
        }
    }

    /// Whether what has reached the disk is worth keeping.
    fn has_samples(&self) -> bool {
        let file = File::open(&self.path).map(io::BufReader::new);
        let loaded = file.map(read::read_merged);
        matches!(loaded, Ok(Ok(loaded)) if !loaded.tables.samples.is_empty())
    }

    /// The recording is complete.
    pub(super) fn done(self, totals: Totals, processes: u32) -> Spooled {
        Spooled {
            file: self.file,
            path: self.path,
            becomes: self.becomes,
            totals,
            processes,
        }
    }

    pub(super) fn create(plan: &Plan, pid: i32, args: &RecordArgs) -> Result<Self, Error> {
        let program = program_name(pid, args);
        let default = PathBuf::from(default_name(&program, pid));
        let (path, becomes) = match &plan.output {
            None => (default.clone(), Some(default)),
            // A recording that did not exist grows under its own name, so that it can be found
            // when the writer is killed; one that exists is replaced when the new one is whole.
            Some(output) if output.is_file() && plan.report.is_none() => {
                let final_path = output.path().to_owned();
                let path = if final_path.exists() {
                    neighbour(&final_path, "partial.olk")
                } else {
                    final_path.clone()
                };
                (path, Some(final_path))
            }
            Some(output) if output.is_file() => (neighbour(output.path(), "partial.olk"), None),
            Some(_) => {
                let name = format!("onlooker-{}.partial.olk", std::process::id());
                (std::env::temp_dir().join(name), None)
            }
        };
        let fail = |error| Error::CannotCreate {
            path: path.clone(),
            error,
        };
        let file = OpenOptions::new()
            // Read as well: the report is made of it.
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(fail)?;
        let header = Header {
            onlooker_version: env!("CARGO_PKG_VERSION").to_owned(),
            command_line: std::env::args_os()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect(),
            program,
            started_unix_ns: unix_ns(),
            rate_hz: plan.settings.rate_hz,
        };
        Ok(Self {
            file,
            path,
            becomes,
            header,
        })
    }
}

/// The program for titles: the command line as it was typed, or as the process has it.
fn program_name(pid: i32, args: &RecordArgs) -> String {
    let words: Vec<String> = if args.command.is_empty() {
        target::command_line(pid)
    } else {
        args.command
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    };
    words.join(" ")
}

/// `<program>-<pid>-<time>.olk`, where the program is the script if there is one.
fn default_name(program: &str, pid: i32) -> String {
    let words = program.split_whitespace();
    let script = words.clone().skip(1).find(|word| !word.starts_with('-'));
    let name = script.or_else(|| words.clone().next()).unwrap_or("python");
    let stem = Path::new(name)
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy();
    let safe: String = stem
        .chars()
        .filter(|c| c.is_alphanumeric() || "-_.".contains(*c))
        .collect();
    let seconds = unix_ns() / 1_000_000_000;
    format!("{safe}-{pid}-{seconds}.olk")
}

impl Spooled {
    /// Reads it back, merged unless the report shows the order in time. From the open file: its
    /// name can be gone.
    pub(super) fn load(&mut self, report: Option<Report>) -> Result<Tables, Error> {
        let fail = |error: String| Error::Data {
            path: self.path.clone(),
            error,
        };
        self.file
            .rewind()
            .map_err(|error| fail(error.to_string()))?;
        let loaded = report::read(io::BufReader::new(&self.file), report);
        Ok(loaded.map_err(|error| fail(error.to_string()))?.tables)
    }

    /// The error of an output that could not be made, and where the recording is. When its
    /// folder was removed it is saved among the temporary files.
    pub(super) fn kept(&mut self, output: &Path, error: io::Error) -> Error {
        let mut path = self.path.clone();
        if !path.exists() {
            path = std::env::temp_dir().join(path.file_name().unwrap_or_default());
        }
        let saved = path == self.path || self.save(&path).is_ok();
        Error::Write {
            path: output.to_owned(),
            error,
            kept: if saved {
                format!("; the recording is in {}", path.display())
            } else {
                "; the recording is lost, its folder is gone".to_owned()
            },
        }
    }

    fn save(&mut self, path: &Path) -> io::Result<()> {
        // Never over a file that somebody else has put there.
        let mut copy = OpenOptions::new().write(true).create_new(true).open(path)?;
        self.file.rewind()?;
        io::copy(&mut self.file, &mut copy).map(drop)
    }
}
