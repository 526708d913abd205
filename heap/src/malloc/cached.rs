//! Chunks that nobody uses although they look as if: those of thread caches and of fast bins.

use onlooker_unwinder::memory::Lookup;
use rustc_hash::FxHashMap;

use super::Chunk;
use crate::space::Space;

/// `tcache` keeps chunks of at most this size (more from 2.42 on, where asked to).
const LARGEST_CACHED_BYTES: u64 = 0x410;
/// Fast bins do.
const LARGEST_FAST_BYTES: u64 = 0x80;

/// Marks chunks that lie in a thread cache as free. `chunks` are in order.
pub(super) fn mark<B: AsRef<[u8]>>(space: &Space<B>, chunks: &mut [Chunk]) {
    let starts = &*chunks;
    let is_start = |addr: u64| starts.binary_search_by_key(&addr, |c| c.addr.0).is_ok();
    let mut keys: FxHashMap<u64, u32> = FxHashMap::default();
    let mut linked = Vec::new();
    for (index, chunk) in chunks.iter().enumerate() {
        if !chunk.in_use || chunk.bytes > LARGEST_CACHED_BYTES {
            continue;
        }
        let words = chunk.addr.offset(8).and_then(|second| {
            let first = space.u64(chunk.addr)?;
            Some((first, space.u64(second)?))
        });
        let Some((link, key)) = words else { continue };
        let next = link ^ (chunk.addr.0 >> 12);
        if next == 0 || is_start(next) {
            *keys.entry(key).or_default() += 1;
            linked.push((index, key));
        }
    }
    // One key for the whole process: the one that links go with most often.
    let key = keys
        .iter()
        .max_by_key(|(key, count)| (**count, **key))
        .map(|(key, _)| *key);
    for (index, its_key) in linked {
        if Some(its_key) == key {
            chunks[index].in_use = false;
        }
    }
}

/// Whether a chunk in use may lie in a fast bin: its first word is a mangled link to another chunk.
#[must_use]
pub fn may_be_in_fast_bin(chunks: &[Chunk], chunk: &Chunk, first_word: u64) -> bool {
    let next = first_word ^ (chunk.addr.0 >> 12);
    chunk.bytes <= LARGEST_FAST_BYTES
        && (next == 0 || chunks.binary_search_by_key(&next, |c| c.addr.0).is_ok())
}
