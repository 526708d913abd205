//! Threads as the kernel knows them: ids across PID namespaces, names, system calls.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::permission::field;
use super::read_text;

/// Kernel thread ids of one process, by the id that the process itself sees.
#[derive(Clone, Debug, Default)]
pub struct TidMap {
    by_inner: HashMap<u64, i32>,
}

impl TidMap {
    /// Reads `/proc/PID/task`. In a PID namespace of its own a process sees other ids than we
    /// do; the last id of `NSpid` is the one that it sees.
    #[must_use]
    pub fn read(pid: i32) -> Self {
        let mut by_inner = HashMap::new();
        for tid in tids(pid) {
            let path = format!("/proc/{pid}/task/{tid}/status");
            let status = read_text(Path::new(&path)).unwrap_or_default();
            let inner = field(&status, "NSpid")
                .and_then(|ids| ids.split_ascii_whitespace().next_back()?.parse().ok())
                .unwrap_or_else(|| u64::from(tid.cast_unsigned()));
            by_inner.insert(inner, tid);
        }
        Self { by_inner }
    }

    /// Our id of the thread that the process itself calls `inner`.
    #[must_use]
    pub fn outer(&self, inner: u64) -> Option<i32> {
        self.by_inner.get(&inner).copied()
    }

    /// Every id that the process sees.
    pub fn inner_ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.by_inner.keys().copied()
    }

    /// What the process itself calls its thread `outer`.
    #[must_use]
    pub fn inner(&self, outer: i32) -> Option<u64> {
        self.by_inner
            .iter()
            .find(|(_, o)| **o == outer)
            .map(|(i, _)| *i)
    }
}

/// The threads of a process, as we see them.
#[must_use]
pub fn tids(pid: i32) -> Vec<i32> {
    let Ok(process) = remoteprocess::Process::new(pid) else {
        return Vec::new();
    };
    let threads = process.threads().unwrap_or_default();
    threads
        .iter()
        .filter_map(|thread| thread.id().ok())
        .collect()
}

/// The kernel's name of a thread, at most 15 bytes.
#[must_use]
pub fn comm(pid: i32, tid: i32) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
    Some(
        String::from_utf8_lossy(&name)
            .trim_end_matches('\n')
            .to_owned(),
    )
}

/// The system call that a sleeping thread waits in; `None` for a thread that runs, that waits
/// elsewhere (a page fault), or of which the kernel does not tell.
#[must_use]
pub fn system_call(pid: i32, tid: i32) -> Option<String> {
    let line = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).ok()?;
    let number: usize = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(match syscalls::Sysno::new(number) {
        Some(call) => call.name().to_owned(),
        None => format!("syscall_{number}"),
    })
}

/// Whether a thread is on a CPU or could be.
#[must_use]
pub fn is_running(pid: i32, tid: i32) -> Option<bool> {
    let stat = read_text(Path::new(&format!("/proc/{pid}/task/{tid}/stat"))).ok()?;
    // The name stands in parentheses and may hold anything.
    let state = stat.rsplit_once(") ")?.1.chars().next()?;
    Some(state == 'R')
}

/// Whether all threads of a process sleep, as each was when it was looked at.
pub(crate) fn all_sleep(pid: i32) -> bool {
    let tids = tids(pid);
    let mut running = tids.iter().map(|tid| is_running(pid, *tid));
    !tids.is_empty() && running.all(|running| running == Some(false))
}
