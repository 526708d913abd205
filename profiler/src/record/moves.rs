//! Where memory goes that the process moves.
//!
//! `realloc` of a large block asks the kernel to move it (`mremap_chunk`, glibc's
//! `malloc/malloc.c`): its pages live on at another address, without a fault.

use std::collections::BTreeMap;
use std::fs;
use std::mem;

use crate::sys::remap::{Remap, Remaps};
use crate::target::threads::tids;

/// Where tracefs may be mounted (`Documentation/trace/ftrace.rst`).
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// What is heard of the threads of one process.
#[derive(Debug)]
pub(super) struct Moves {
    /// Of the tracepoint; `None` where it cannot be read.
    id: Option<u64>,
    /// By id of the thread.
    by_tid: BTreeMap<i32, Remaps>,
    /// Moves that were not handed out yet.
    heard: Vec<Remap>,
    /// Whether a thread could not be heard.
    deaf: bool,
    /// Moves that found no room in the buffer of their thread.
    lost: u64,
}

impl Moves {
    pub(super) fn new() -> Self {
        let id = |tracefs| {
            let path = format!("{tracefs}/events/syscalls/sys_exit_mremap/id");
            fs::read_to_string(path).ok()?.trim().parse().ok()
        };
        Self {
            id: TRACEFS.into_iter().find_map(id),
            by_tid: BTreeMap::new(),
            heard: Vec::new(),
            deaf: false,
            lost: 0,
        }
    }

    /// Listens to a thread from now on.
    pub(super) fn watch(&mut self, tid: i32) {
        // There may have been one of the same id.
        self.hear();
        let opened = self.id.map(|id| Remaps::open(tid, id));
        match opened {
            Some(Ok(remaps)) => drop(self.by_tid.insert(tid, remaps)),
            // One that has ended moves nothing.
            Some(Err(error)) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Some(Err(_)) | None => self.deaf = true,
        }
    }

    /// Listens to every thread of the process from now on; to some it may already.
    pub(super) fn watch_all(&mut self, pid: i32) {
        for tid in tids(pid) {
            if !self.by_tid.contains_key(&tid) {
                self.watch(tid);
            }
        }
    }

    /// The process has become another program, whose memory was never moved.
    pub(super) fn begin_again(&mut self, pid: i32) {
        self.by_tid.clear();
        self.heard.clear();
        self.watch_all(pid);
    }

    /// Closes what threads had that have ended.
    pub(super) fn drop_ended(&mut self, pid: i32) {
        let tids = tids(pid);
        self.hear();
        self.by_tid.retain(|tid, _| tids.contains(tid));
    }

    fn hear(&mut self) {
        for remaps in self.by_tid.values_mut() {
            self.lost += remaps.take(|remap| self.heard.push(remap));
        }
    }

    /// Every move since the last call, the earliest one first.
    pub(super) fn take(&mut self) -> Vec<Remap> {
        self.hear();
        let mut heard = mem::take(&mut self.heard);
        heard.sort_by_key(|remap| remap.time_ns);
        heard
    }

    /// What is to be said of them at the end.
    pub(super) fn said(&self) -> Vec<String> {
        let mut said = Vec::new();
        if self.deaf {
            said.push(
                "memory that realloc has moved counts as freed: moves are told to root, where \
                 tracefs is mounted (/sys/kernel/tracing)"
                    .to_owned(),
            );
        }
        if self.lost > 0 {
            let lost = self.lost;
            said.push(format!(
                "{lost} moves of memory by realloc were missed: what they have moved counts as freed"
            ));
        }
        said
    }
}

/// Where it is now what was at this address at `at_ns`; `moves` are later and earlier ones, in
/// order.
pub(super) fn since(moves: &[Remap], at_ns: u64, addr: u64) -> u64 {
    let later = moves.iter().filter(|remap| remap.time_ns > at_ns);
    later.fold(addr, |addr, remap| remap.apply(addr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_goes_where_later_moves_have_taken_it() {
        let moves = [
            (1, 0x1000, 0x5000),
            (2, 0x5000, 0x9000),
            (3, 0x1000, 0x3000),
        ];
        let moves = moves.map(|(time_ns, old, new)| Remap {
            time_ns,
            old,
            old_bytes: 0x1000,
            new,
            new_bytes: 0x2000,
        });
        let since = |at_ns, addr| since(&moves, at_ns, addr);
        assert_eq!(since(0, 0x1008), 0x9008);
        assert_eq!(since(1, 0x1008), 0x3008);
        assert_eq!(since(1, 0x5fff), 0x9fff);
        assert_eq!(since(1, 0x6000), 0x6000);
        assert_eq!(since(3, 0x1008), 0x1008);
    }
}
