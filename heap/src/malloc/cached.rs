//! Chunks that nobody uses although they look as if: those of thread caches and of fast bins.
//!
//! A chunk in a thread cache has a link to the next one of its size as its first word, and as its
//! second the cache's key (`tcache_entry`, `malloc/malloc.c`): the address of the thread's cache in
//! glibc 2.29 - 2.33, one random number for the process from 2.34 on. Links are mangled since 2.32.

use onlooker_unwinder::memory::{Lookup, u64_at};
use rustc_hash::FxHashMap;

use super::{Chunk, HEADER_BYTES};
use crate::space::Space;

/// `tcache` keeps chunks of at most this size (more from 2.42 on, where asked to).
const LARGEST_CACHED_BYTES: u64 = 0x410;
/// Fast bins do.
const LARGEST_FAST_BYTES: u64 = 0x80;
/// No address of a program is larger: a smaller number that stands where keys do is a pointer,
/// NULL or a count, and as good as never random.
const LEAST_RANDOM_KEY: u64 = 1 << 47;
/// `TCACHE_MAX_BINS`, each of which `tcache_perthread_struct` has a count and a list of.
const BINS: u64 = 64;
/// Size of its counts: `char` in 2.29, `uint16_t` from 2.30 on.
const COUNTS_BYTES: [u64; 2] = [BINS, 2 * BINS];

/// A chunk that may lie in a thread cache.
struct Candidate {
    index: usize,
    key: u64,
}

/// Marks chunks that lie in a thread cache as free. `chunks` are in order.
pub(super) fn mark<B: AsRef<[u8]>>(space: &Space<B>, chunks: &mut [Chunk]) {
    let words = |chunk: &Chunk| {
        let words = space.bytes(chunk.addr, 16)?;
        Some((u64_at(words, 0)?, u64_at(words, 8)?))
    };
    let mut caches: FxHashMap<u64, bool> = FxHashMap::default();
    let mut random: FxHashMap<u64, u32> = FxHashMap::default();
    let mut candidates = Vec::new();
    for (index, chunk) in chunks.iter().enumerate() {
        if !chunk.in_use || chunk.bytes > LARGEST_CACHED_BYTES {
            continue;
        }
        let Some((link, key)) = words(chunk) else {
            continue;
        };
        let is_random = key >= LEAST_RANDOM_KEY;
        let next = [link ^ (chunk.addr.0 >> 12), link];
        // Only 2.29 - 2.31 do not mangle.
        let next = &next[..if is_random { 1 } else { 2 }];
        // What the link leads to is of the same size and has the key, too.
        let leads_on = |next: &u64| {
            let other = at(chunks, *next).filter(|other| other.bytes == chunk.bytes);
            *next == 0 || other.and_then(words).is_some_and(|(_, its)| its == key)
        };
        if !next.iter().any(leads_on) {
            continue;
        }
        if is_random {
            *random.entry(key).or_default() += 1;
        } else if !*caches
            .entry(key)
            .or_insert_with(|| is_cache(space, chunks, key))
        {
            continue;
        }
        candidates.push(Candidate { index, key });
    }
    // One key for the whole process: the one that links go with most often.
    let random = random
        .into_iter()
        .max_by_key(|(key, count)| (*count, *key))
        .map(|(key, _)| key);
    for Candidate { index, key } in candidates {
        if key < LEAST_RANDOM_KEY || Some(key) == random {
            chunks[index].in_use = false;
        }
    }
}

/// The chunk in use whose user has this address.
fn at(chunks: &[Chunk], addr: u64) -> Option<&Chunk> {
    let found = chunks.binary_search_by_key(&addr, |chunk| chunk.addr.0);
    chunks.get(found.ok()?).filter(|chunk| chunk.in_use)
}

/// Whether a thread's cache is there: a chunk of the size of `tcache_perthread_struct`, each list
/// of which is empty or begins with a chunk of its size that has this key.
fn is_cache<B: AsRef<[u8]>>(space: &Space<B>, chunks: &[Chunk], addr: u64) -> bool {
    let Some(chunk) = at(chunks, addr) else {
        return false;
    };
    COUNTS_BYTES.iter().any(|counts| {
        let bytes = counts + 8 * BINS;
        if chunk.bytes != bytes + HEADER_BYTES {
            return false;
        }
        let Some(cache) = space.bytes(chunk.addr, bytes as usize) else {
            return false;
        };
        let mut begun = (0..BINS).filter_map(|bin| {
            let first = u64_at(cache, counts + 8 * bin).filter(|first| *first != 0)?;
            Some((bin, first))
        });
        begun.all(|(bin, first)| {
            at(chunks, first).is_some_and(|first| {
                let key = first.addr.offset(8).and_then(|at| space.u64(at));
                first.bytes == super::SMALLEST_BYTES + super::ALIGNMENT * bin && key == Some(addr)
            })
        })
    })
}

/// Whether a chunk in use may lie in a fast bin: its first word is a mangled link to another chunk.
#[must_use]
pub fn may_be_in_fast_bin(chunks: &[Chunk], chunk: &Chunk, first_word: u64) -> bool {
    let next = first_word ^ (chunk.addr.0 >> 12);
    chunk.bytes <= LARGEST_FAST_BYTES
        && (next == 0 || chunks.binary_search_by_key(&next, |c| c.addr.0).is_ok())
}

#[cfg(test)]
mod tests {
    use onlooker_unwinder::memory::RemoteAddr;

    use super::*;
    use crate::space::Range;

    const HEAP: u64 = 0x1a_3b00_0000;
    /// What 2.34+ draws.
    const RANDOM: u64 = 0x9d2c_5680_1234_5678;

    /// Chunks of 32 bytes in a row with these two words each, behind one of 0x290 bytes with
    /// `first` as the head of its first list; the addresses of those that count as free.
    fn free(first: u64, words: &[(u64, u64)]) -> Vec<u64> {
        let mut bytes = vec![0; 0x290 + 32 * words.len()];
        let mut put = |at: usize, word: u64| bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        put(16 + 128, first);
        let mut chunks = vec![Chunk {
            addr: RemoteAddr(HEAP + 16),
            bytes: 0x290,
            in_use: true,
        }];
        for (n, (link, key)) in words.iter().enumerate() {
            put(0x290 + 32 * n + 16, *link);
            put(0x290 + 32 * n + 24, *key);
            chunks.push(Chunk {
                addr: RemoteAddr(place(n as u64)),
                bytes: 32,
                in_use: true,
            });
        }
        let range = Range {
            start: HEAP,
            len: bytes.len() as u64,
            at: 0,
        };
        let space = Space::new(vec![range], bytes).expect("one range");
        mark(&space, &mut chunks);
        let free = chunks.iter().filter(|chunk| !chunk.in_use);
        free.map(|chunk| chunk.addr.0).collect()
    }

    fn place(n: u64) -> u64 {
        HEAP + 0x290 + 32 * n + 16
    }

    /// A mangled link from chunk `n`.
    fn mangled(n: u64, next: u64) -> u64 {
        next ^ (place(n) >> 12)
    }

    #[test]
    fn a_random_key_is_told_from_pointers_and_null() {
        let words = [
            (mangled(0, place(1)), RANDOM),
            (mangled(1, 0), RANDOM),
            // Live ones that look mangled, more of them than there are free ones.
            (mangled(2, place(3)), 0),
            (mangled(3, place(4)), 0),
            (mangled(4, 0), 0),
            (mangled(5, place(6)), HEAP),
            (mangled(6, place(7)), HEAP),
            (mangled(7, 0), HEAP),
            // The key with a link that leads to something else.
            (mangled(8, place(2)), RANDOM),
        ];
        assert_eq!(free(0, &words), [place(0), place(1)]);
        assert!(free(0, &words[2..8]).is_empty());
    }

    #[test]
    fn an_older_key_is_the_address_of_a_cache() {
        let cache = HEAP + 16;
        // 2.29 - 2.31, and 2.32 and 2.33.
        let plain = [(place(1), cache), (0, cache), (0, place(0)), (0, 0)];
        assert_eq!(free(place(0), &plain), [place(0), place(1)]);
        let words = [(mangled(0, place(1)), cache), (mangled(1, 0), cache)];
        assert_eq!(free(place(0), &words), [place(0), place(1)]);
        // Something else of that size.
        assert!(free(place(0) + 8, &plain).is_empty());
    }
}
