//! The first run: the program with a small Python module in it that writes down who calls whom.
//!
//! The module is put in front as `sitecustomize` by way of PYTHONPATH, because that works for
//! scripts, `-m`, `-c`, console scripts and virtual environments alike, and reaches the program
//! through wrappers. It needs an interpreter that looks at its environment (not `-I`, `-E`, `-S`)
//! and at our files (no chroot).

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::edges::{Function, Oracle};
use crate::error::Error;
use crate::launch::Launched;

const MODULE: &str = include_str!("oracle.py");
const POLL: Duration = Duration::from_millis(5);

/// How the first runs went.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// How many there were.
    pub runs: u32,
    /// How long they took together.
    pub took: Duration,
    /// `monitoring` or `setprofile`.
    pub way: String,
    /// Whether one was ended by us.
    pub ended_early: bool,
    /// How the last one ended, unless we ended it.
    pub status: Option<ExitStatus>,
}

/// A folder of our own, removed with the value.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self, Error> {
        let name = format!("onlooker-oracle-{}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        let fail = |error| Error::CannotCreate {
            path: folder.0.clone(),
            error,
        };
        fs::create_dir(&folder.0).map_err(fail)?;
        fs::write(folder.0.join("sitecustomize.py"), MODULE).map_err(fail)?;
        Ok(folder)
    }

    fn variables(&self, edges: &Path) -> Vec<(OsString, OsString)> {
        let mut search = self.0.clone().into_os_string();
        let mut variables = vec![("ONLOOKER_ORACLE".into(), edges.as_os_str().to_owned())];
        if let Some(before) = std::env::var_os("PYTHONPATH") {
            search.push(":");
            search.push(&before);
            // The module gives it back to the program.
            variables.push(("ONLOOKER_PYTHONPATH".into(), before));
        }
        variables.push(("PYTHONPATH".into(), search));
        variables
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs `command` under the oracle, `runs` times, each for at most `limit` or until `stopped`.
///
/// # Errors
/// When the command cannot be started, or does not take the oracle in.
pub fn watch(
    command: &[OsString],
    runs: u32,
    limit: Option<Duration>,
    stopped: &dyn Fn() -> bool,
) -> Result<(Oracle, Watched), Error> {
    let folder = Folder::create()?;
    let mut oracle = Oracle::default();
    let mut watched = Watched::default();
    for run in 0..runs {
        let edges = folder.0.join(format!("edges-{run}"));
        let start = Instant::now();
        let stdout = Stdio::from(io::stderr());
        let variables = folder.variables(&edges);
        let mut child = Launched::start_with(command, stdout, variables)?;
        watched.status = loop {
            if let Some(status) = child.ended() {
                break Some(status);
            }
            if stopped() || limit.is_some_and(|limit| start.elapsed() > limit) {
                watched.ended_early = true;
                child.end();
                break None;
            }
            thread::sleep(POLL);
        };
        watched.runs += 1;
        watched.took += start.elapsed();
        read(&edges, &mut oracle, &mut watched)?;
    }
    Ok((oracle, watched))
}

fn read(edges: &Path, oracle: &mut Oracle, watched: &mut Watched) -> Result<(), Error> {
    let Ok(file) = fs::File::open(edges) else {
        return Err(Error::Report(
            "the oracle did not get into the program: selfcheck needs a command that is a \
             CPython of this root (no chroot), looks at PYTHONPATH (not -I, -E or -S) and does \
             not run it in a child"
                .to_owned(),
        ));
    };
    let mut lines = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let got = lines.read_until(b'\n', &mut line);
        // A line that was cut by the end of the program is none.
        if !got.is_ok_and(|bytes| bytes > 0) || line.pop() != Some(b'\n') {
            return Ok(());
        }
        take(&String::from_utf8_lossy(&line), oracle, watched);
    }
}

fn take(line: &str, oracle: &mut Oracle, watched: &mut Watched) {
    let fields: Vec<&str> = line.split('\t').collect();
    match fields.as_slice() {
        ["V", way] => watched.way = (*way).to_owned(),
        ["A", name, file, line] => {
            if let Some(function) = function(name, file, line) {
                oracle.add_anywhere(function);
            }
        }
        ["T", name, file, line] => {
            if let Some(function) = function(name, file, line) {
                oracle.add_tracer(function);
            }
        }
        ["E", caller, caller_file, caller_line, name, file, line] => {
            if let Some(callee) = function(name, file, line) {
                oracle.add(function(caller, caller_file, caller_line), callee);
            }
        }
        _ => {}
    }
}

/// `None` for the three empty fields below an outermost frame.
fn function(name: &str, filename: &str, line: &str) -> Option<Function> {
    Some(Function {
        name: plain(name),
        filename: plain(filename),
        line: line.parse().ok()?,
    })
}

/// Undoes the escapes of the module.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        out.push(match char {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => break,
            },
            char => char,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selfcheck::edges::Verdict;

    #[test]
    fn lines_of_the_module_are_understood() {
        let mut oracle = Oracle::default();
        let mut watched = Watched::default();
        for line in [
            "V\tmonitoring",
            "E\t\t\t\t<module>\t/a.py\t1",
            "E\t<module>\t/a.py\t1\tf\\tg\\\\\t/a.py\t7",
            "A\ton_alarm\t/a.py\t9",
            "E\tcut",
        ] {
            take(line, &mut oracle, &mut watched);
        }
        assert_eq!(watched.way, "monitoring");
        assert_eq!(oracle.edges(), 2);
        let mut id = |name: &str, line| {
            oracle.id(Function {
                name: name.to_owned(),
                filename: "/a.py".to_owned(),
                line,
            })
        };
        let (module, f, alarm) = (id("<module>", 1), id("f\tg\\", 7), id("on_alarm", 9));
        assert_eq!(oracle.judge((Some(module), f)), Verdict::Seen);
        assert_eq!(oracle.judge((None, f)), Verdict::Impossible);
        assert_eq!(oracle.judge((Some(f), alarm)), Verdict::Anywhere);
    }
}
