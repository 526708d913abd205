//! Which signal stops a thread: one that does nothing when it is delivered after all.

use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::error::Error;
use crate::target::permission::field;
use crate::target::{self, read_text};

/// Signals that are ignored by default, the least used first (signal(7)). SIGCONT is too, but
/// it continues a stopped process whether it is ignored or not.
const HARMLESS: [i32; 3] = [libc::SIGURG, libc::SIGWINCH, libc::SIGCHLD];

/// The C library blocks every signal for a moment while it starts a thread or a process (glibc
/// 2.36). So what is in use in one look counts only when it is so in all of them.
const LOOKS: u32 = 25;
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// The first harmless signal that no thread of the process catches or blocks for longer than a
/// moment.
///
/// # Errors
/// [`Error::NoSignal`] when every one is in use.
pub(super) fn choose(pid: i32) -> Result<i32, Error> {
    let mut used = in_use(pid);
    for _ in 1..LOOKS {
        let free = HARMLESS.into_iter().find(|signal| !contains(used, *signal));
        if let Some(signal) = free {
            return Ok(signal);
        }
        thread::sleep(BETWEEN_LOOKS);
        used &= in_use(pid);
    }
    Err(Error::NoSignal { pid })
}

/// Whether the signal is still harmless; false also for a moment (see [`LOOKS`]).
pub(super) fn is_free(pid: i32, signal: i32) -> bool {
    !contains(in_use(pid), signal)
}

fn contains(set: u64, signal: i32) -> bool {
    set >> (signal - 1) & 1 == 1
}

/// Signals that are caught, or blocked by some thread.
fn in_use(pid: i32) -> u64 {
    let of = |tid: i32| {
        let status = read_text(Path::new(&format!("/proc/{pid}/task/{tid}/status")));
        status.map_or(0, |status| used_by(&status))
    };
    target::threads::tids(pid)
        .into_iter()
        .map(of)
        .fold(0, |all, one| all | one)
}

fn used_by(status: &str) -> u64 {
    let set = |name| {
        field(status, name)
            .and_then(|text| u64::from_str_radix(text, 16).ok())
            .unwrap_or_default()
    };
    set("SigCgt") | set("SigBlk")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caught_and_blocked_signals_are_in_use() {
        let status =
            "SigBlk:\t0000000000010000\nSigIgn:\t0000000008000000\nSigCgt:\t0000000000400000\n";
        let used = used_by(status);
        assert!(contains(used, libc::SIGURG));
        assert!(contains(used, libc::SIGCHLD));
        assert!(!contains(used, libc::SIGWINCH));
    }
}
