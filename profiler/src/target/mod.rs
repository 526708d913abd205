//! A process as the kernel shows it. Everything here reads `/proc`, nothing reads its memory.

pub mod maps;
pub mod memory;
pub mod pagemap;
pub mod permission;
pub(crate) mod rest;
pub mod smaps;
mod sparse;
pub(crate) mod taskstats;
pub mod threads;

use std::fs;
use std::io;
use std::path::Path;

use crate::error::Error;
use permission::{Facts, field};

/// Makes sure that `pid` is a process that can have stacks.
///
/// # Errors
/// [`Error::NoProcess`], [`Error::IsThread`], [`Error::Zombie`].
pub fn check_alive(pid: i32) -> Result<(), Error> {
    let status = read_text(Path::new(&format!("/proc/{pid}/status")));
    let Ok(status) = status else {
        return Err(Error::NoProcess { pid });
    };
    let number = |name| field(&status, name).and_then(|v| v.parse::<i32>().ok());
    if let Some(group) = number("Tgid").filter(|group| *group != pid) {
        return Err(Error::IsThread {
            tid: pid,
            pid: group,
        });
    }
    match field(&status, "State").and_then(|s| s.chars().next()) {
        Some('Z') => Err(Error::Zombie {
            pid,
            parent: number("PPid").unwrap_or(0),
        }),
        Some('X') => Err(Error::NoProcess { pid }),
        _ => Ok(()),
    }
}

/// A file of `/proc` as text.
///
/// The kernel cuts the name of a thread after 15 bytes, perhaps inside a character (Python 3.14
/// and newer give their threads' names to the kernel), and copies it into `status` and `stat`:
/// what is no UTF-8 is replaced, for nothing that is looked for stands there.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether the process still runs (is neither gone nor a zombie).
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    check_alive(pid).is_ok()
}

/// Whether the process was stopped by a signal and waits for SIGCONT (state T).
#[must_use]
pub fn is_stopped(pid: i32) -> bool {
    let status = read_text(Path::new(&format!("/proc/{pid}/status")));
    status.is_ok_and(|status| field(&status, "State").is_some_and(|state| state.starts_with('T')))
}

/// The error for a process whose memory or `/proc` entries may not be read, or that is gone.
#[must_use]
pub fn refused(pid: i32, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => denied(pid),
        _ if is_gone(error) => Error::Exited { pid },
        _ => match check_alive(pid) {
            Err(Error::Zombie { .. } | Error::NoProcess { .. }) => Error::Exited { pid },
            Err(other) => other,
            Ok(()) => denied(pid),
        },
    }
}

/// Whether the kernel says that there is no such process, or that it has no memory any more, which
/// it says while `status` still shows one that runs.
#[must_use]
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// The error for a process that may not be read.
#[must_use]
pub fn denied(pid: i32) -> Error {
    let (why, remedy) = Facts::gather(Path::new("/proc"), pid).explain();
    Error::Permission { pid, why, remedy }
}

/// Path of the executable as the kernel shows it; empty where it may not be seen.
#[must_use]
pub fn executable(pid: i32) -> String {
    let path = fs::read_link(format!("/proc/{pid}/exe"))
        .map(|path| path.to_string_lossy().into_owned())
        .unwrap_or_default();
    path.strip_suffix(" (deleted)")
        .map(str::to_owned)
        .unwrap_or(path)
}

/// Command line of the process; bytes that are no UTF-8 are replaced.
#[must_use]
pub fn command_line(pid: i32) -> Vec<String> {
    let text = read_text(Path::new(&format!("/proc/{pid}/cmdline"))).unwrap_or_default();
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// Process id of the parent.
#[must_use]
pub fn parent(pid: i32) -> Option<i32> {
    let status = read_text(Path::new(&format!("/proc/{pid}/status"))).ok()?;
    field(&status, "PPid")?.parse().ok()
}
