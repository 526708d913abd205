//! Processes that cannot be stopped: they get an answer and stay as they are.

use std::path::Path;

use crate::error::Error;
use crate::target::permission::field;
use crate::target::{check_alive, read_text};

/// Makes sure that the process can be traced.
///
/// # Errors
/// [`Error::Zombie`], [`Error::NoProcess`], [`Error::Traced`], [`Error::Stopped`].
pub(super) fn check(pid: i32) -> Result<(), Error> {
    check_alive(pid)?;
    let status = read_text(Path::new(&format!("/proc/{pid}/status"))).unwrap_or_default();
    let tracer = field(&status, "TracerPid").and_then(|t| t.parse().ok());
    if let Some(tracer) = tracer.filter(|tracer| *tracer != 0) {
        return Err(Error::Traced { pid, tracer });
    }
    if field(&status, "State").is_some_and(|state| state.starts_with(['T', 't'])) {
        return Err(Error::Stopped { pid });
    }
    Ok(())
}

/// Whether the calling thread is the tracer of a thread.
pub(super) fn traced_by_us(pid: i32, tid: i32) -> bool {
    let status = read_text(Path::new(&format!("/proc/{pid}/task/{tid}/status")));
    let own = nix::unistd::gettid().to_string();
    let tracer = |status: &str| field(status, "TracerPid") == Some(own.as_str());
    status.is_ok_and(|status| tracer(&status))
}
