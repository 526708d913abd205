//! What `/proc` says about kinship: who a process is, and whose.

use std::fs;

use nix::sys::prctl;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// When a process was started, in ticks since boot; `None` once it has ended.
pub(super) fn started(pid: i32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    // The 22nd field of the line; the state is the third.
    fields.nth(18)?.parse().ok()
}

/// Device and inode of the program that a process runs.
pub(super) fn executable(pid: i32) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// The children of a process: as each of its threads lists its own, or where the kernel has no
/// such lists by a look at every process.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for task in tasks.flatten() {
        match fs::read_to_string(task.path().join("children")) {
            Ok(list) => found.extend(
                list.split_ascii_whitespace()
                    .filter_map(|pid| pid.parse::<i32>().ok()),
            ),
            // The thread has ended, or this kernel has no lists.
            Err(_) if task.path().exists() => return children_by_parent(pid),
            Err(_) => {}
        }
    }
    found
}

fn children_by_parent(pid: i32) -> Vec<i32> {
    let Ok(process) = remoteprocess::Process::new(pid) else {
        return Vec::new();
    };
    let all = process.child_processes().unwrap_or_default();
    all.into_iter()
        .filter(|(_, parent)| *parent == pid)
        .map(|(child, _)| child)
        .collect()
}

/// Makes processes whose parents have ended our own children, as long as we live: those of the
/// program that we start, so that none of its descendants is ever out of sight. All that it
/// sees of that is another `getppid()` than 1, as in a container or a user's session.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn adopt_orphans() -> nix::Result<()> {
    prctl::set_child_subreaper(true)
}

/// Our own children besides the program that we started, when they were
/// [adopted](adopt_orphans). Those that have ended are buried.
pub(super) fn adopted(root: i32) -> Vec<i32> {
    if !prctl::get_child_subreaper().unwrap_or(false) {
        return Vec::new();
    }
    let mut found = children(std::process::id().cast_signed());
    found.retain(|child| {
        let lives = started(*child).is_some();
        if !lives && *child != root {
            // Somebody has to, and its parents are gone.
            let _ = waitpid(Pid::from_raw(*child), Some(WaitPidFlag::WNOHANG));
        }
        lives && *child != root
    });
    found
}
