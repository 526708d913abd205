//! What `/proc` says about kinship: who a process is, and whose.

use std::collections::HashSet;
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

/// Processes whose parents have ended and that come to us, as long as we live: those of the program
/// that we start, so that none of its descendants is ever out of sight. All that it sees of that
/// is another `getppid()` than 1, as in a container or a user's session.
///
/// We may have had children before, from a program that has become us by exec: they and theirs are
/// strangers, which are not looked at.
#[derive(Debug)]
pub struct Orphans {
    /// Each with the time of its start.
    strangers: HashSet<(i32, u64)>,
}

impl Orphans {
    /// Adopts orphans from now on; to be called before the program is started.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn adopt() -> nix::Result<Self> {
        prctl::set_child_subreaper(true)?;
        let mut this = Self {
            strangers: HashSet::new(),
        };
        this.estrange(own_children());
        Ok(this)
    }

    /// Takes in that these processes and their descendants are strangers.
    fn estrange(&mut self, mut pids: Vec<i32>) {
        while let Some(pid) = pids.pop() {
            if let Some(started) = started(pid)
                && self.strangers.insert((pid, started))
            {
                pids.extend(children(pid));
            }
        }
    }

    /// Our own children besides the program that we started and strangers. Those that have ended
    /// are buried.
    pub(super) fn of(&mut self, root: i32) -> Vec<i32> {
        self.strangers
            .retain(|(pid, since)| started(*pid) == Some(*since));
        let known: Vec<i32> = self.strangers.iter().map(|(pid, _)| *pid).collect();
        known
            .into_iter()
            .for_each(|pid| self.estrange(children(pid)));
        let mut found = own_children();
        found.retain(|child| *child != root && self.is_ours(*child));
        found
    }

    /// Whether a child is none of the strangers, and lives.
    fn is_ours(&self, child: i32) -> bool {
        match started(child) {
            Some(started) => !self.strangers.contains(&(child, started)),
            None => {
                // Somebody has to bury it, and its parents are gone.
                let _ = waitpid(Pid::from_raw(child), Some(WaitPidFlag::WNOHANG));
                false
            }
        }
    }
}

fn own_children() -> Vec<i32> {
    children(std::process::id().cast_signed())
}
