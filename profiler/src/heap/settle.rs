//! Copies again what changed while it was copied from a process that ran.

use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use onlooker_heap::census::Walk;
use onlooker_unwinder::memory::{ReadError, ReadMemory, RemoteAddr};
use procfs::FromBufRead;
use procfs::process::{MMapPath, MemoryMaps};

use super::copy::Copied;
use crate::target::maps::io_error;
use crate::target::read_text;

/// How often at most; each time is some microseconds where little changed.
const ROUNDS: usize = 512;
/// What is copied again at most: as much as there is, or this.
const LEAST_BUDGET_BYTES: u64 = 64 << 20;
/// A collection is waited for, as its lists are not whole before it ends.
const COLLECTION: Duration = Duration::from_millis(1);
const COLLECTIONS: usize = 200;

/// Copies again until everything closes, or gives up.
///
/// # Errors
/// When the process is gone.
pub(super) fn settle<M: ReadMemory>(
    pid: i32,
    memory: &mut M,
    copied: &mut Copied,
    walk: &mut Walk,
) -> Result<(), ReadError> {
    let mut budget = copied.space.len_bytes().max(LEAST_BUDGET_BYTES);
    let mut waits = 0;
    for _ in 0..ROUNDS {
        let blocks = walk.torn_blocks(&copied.space);
        let lists = walk.torn_lists(&copied.space);
        if blocks.is_empty() && lists.is_empty() {
            break;
        }
        if blocks.is_empty() && waits < COLLECTIONS && is_collecting(memory, walk) {
            waits += 1;
            thread::sleep(COLLECTION);
            continue;
        }
        let wanted = [blocks, lists].concat();
        let bytes = wanted.iter().map(|(_, len)| len).sum();
        let Some(left) = budget.checked_sub(bytes) else {
            break;
        };
        budget = left;
        copied.again(memory, &wanted)?;
        walk.again(&copied.space, &wanted, brk(pid).ok().flatten());
    }
    // Lists that close are whole unless a collection has objects on lists of its own.
    let flags: Vec<_> = flags(walk).map(|flag| (flag, 4)).collect();
    copied.again(memory, &flags)
}

fn flags(walk: &Walk) -> impl Iterator<Item = RemoteAddr> {
    walk.collectors.iter().filter_map(|each| each.collecting_at)
}

/// Whether a collection goes on right now.
fn is_collecting<M: ReadMemory>(memory: &mut M, walk: &Walk) -> bool {
    flags(walk).any(|flag| {
        let mut word = [0; 4];
        memory.read_exact(flag, &mut word).is_ok() && word != [0; 4]
    })
}

/// Where the `brk` heap lies by now. Cheaper than `smaps`.
fn brk(pid: i32) -> io::Result<Option<(u64, u64)>> {
    let text = read_text(Path::new(&format!("/proc/{pid}/maps")))?;
    let maps = MemoryMaps::from_buf_read(text.as_bytes()).map_err(io_error)?;
    let heaps = maps
        .into_iter()
        .filter(|map| map.pathname == MMapPath::Heap);
    Ok(heaps
        .map(|map| map.address)
        .reduce(|all, next| (all.0.min(next.0), all.1.max(next.1))))
}
