//! Which kernel thread a thread state belongs to.

use onlooker_unwinder::memory::{ReadMemory, RemoteAddr, Segment, u32_at};
use onlooker_unwinder::threads::ThreadState;

use crate::target::threads::TidMap;

/// `struct pthread.tid` on x86-64 (glibc 2.36 and 2.43). Only a first guess: it is checked
/// against the ids that the kernel tells.
const GLIBC_TID: u64 = 0x2d0;
/// `struct pthread` has no `tid` beyond.
const PTHREAD_BYTES: u64 = 0x900;

/// Maps thread states to kernel thread ids as we see them.
#[derive(Debug)]
pub(super) struct Tids {
    pid: i32,
    map: TidMap,
    /// Where `struct pthread` keeps the id, once that is known (3.8 – 3.10 need it).
    offset: Option<u64>,
}

impl Tids {
    pub(super) fn new(pid: i32) -> Self {
        Self {
            pid,
            map: TidMap::read(pid),
            offset: None,
        }
    }

    /// The kernel's id of a thread; `None` where none of the process's threads fits.
    pub(super) fn of<M: ReadMemory>(&mut self, memory: &mut M, state: &ThreadState) -> Option<i32> {
        match self.lookup(memory, state) {
            Some(tid) => Some(tid),
            None => {
                // The thread may be new.
                self.map = TidMap::read(self.pid);
                self.lookup(memory, state)
            }
        }
    }

    /// What the process itself calls its thread `outer`.
    pub(super) fn inner(&self, outer: i32) -> Option<u64> {
        self.map.inner(outer)
    }

    fn lookup<M: ReadMemory>(&mut self, memory: &mut M, state: &ThreadState) -> Option<i32> {
        if let Some(native) = state.native_thread_id {
            // Where C code forks and does not tell Python (uWSGI), the child's thread state keeps the
            // id of a thread of its parent. That thread goes on as the child's first.
            let first = || {
                let pthread = RemoteAddr(state.thread_id);
                self.tid_at(memory, pthread, GLIBC_TID)
                    .filter(|tid| *tid == self.pid)
            };
            return self.map.outer(native).or_else(first);
        }
        // Up to 3.10 only `pthread_self()` is there: with glibc the address of a structure
        // that holds the id.
        let pthread = RemoteAddr(state.thread_id);
        if let Some(offset) = self.offset.or(Some(GLIBC_TID))
            && let Some(tid) = self.tid_at(memory, pthread, offset)
        {
            self.offset = Some(offset);
            return Some(tid);
        }
        if self.offset.is_some() {
            return None;
        }
        let mut bytes = vec![0; PTHREAD_BYTES as usize];
        let segment = Segment {
            addr: pthread,
            len: PTHREAD_BYTES as u32,
        };
        let got = memory.read(&[segment], &mut bytes).ok()?;
        let bytes = &bytes[..got];
        // The one word that is the id of a thread; the process id stands beside it in the main
        // thread, where both are the same.
        let offsets = (0..got as u64).step_by(4).filter(|offset| {
            u32_at(bytes, *offset).is_some_and(|w| self.map.outer(w.into()).is_some())
        });
        let mut offsets: Vec<u64> = offsets.take(2).collect();
        let offset = offsets.pop().filter(|_| offsets.is_empty())?;
        self.offset = Some(offset);
        self.tid_at(memory, pthread, offset)
    }

    fn tid_at<M: ReadMemory>(&self, memory: &mut M, pthread: RemoteAddr, at: u64) -> Option<i32> {
        let mut word = [0; 4];
        memory.read_exact(pthread.offset(at)?, &mut word).ok()?;
        self.map.outer(u32::from_le_bytes(word).into())
    }
}
