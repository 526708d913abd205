//! The hash table that `tracemalloc` uses (`_Py_hashtable_t`): its header and a walk of all of
//! its chains, level by level, while the target may change it.
//!
//! An entry is believed when the hash that it stores is that of its key and leads to the bucket
//! whose chain it stands in: memory that was freed and used again does not pass. A chain with an
//! entry that does not pass is *torn* and walked again from its bucket.

use onlooker_unwinder::memory::{ReadError, ReadMemory, RemoteAddr, u32_at, u64_at};

use rustc_hash::FxHashSet;

use super::layout::{
    DATA_BYTES_38, ENTRY_HASH, ENTRY_KEY, ENTRY_NEXT, EntryLayout, FUNCTIONS_38, FUNCTIONS_39,
    Format, KEY_BYTES_38, MIN_BUCKETS, TRACE_BYTES,
};
use crate::bits::Bits;
use crate::gather::{Piece, gather};

/// More are no table: their array alone would take 8 GiB.
const MAX_BUCKETS: u64 = 1 << 30;
/// A table is made smaller when less than a tenth of its buckets are in use
/// (`HASHTABLE_LOW`); a larger share of empty ones is no table.
const MAX_BUCKETS_EACH: u64 = 32;
/// Torn chains are walked again so often.
const ROUNDS: usize = 8;
/// A chain that is longer has no end. Tables are at most half full, so that of sane addresses
/// no chain is longer than a few dozen.
const MAX_CHAIN: u64 = 1 << 14;

/// What a table's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Number of entries.
    pub(super) entries: u64,
    /// Number of buckets, a power of two.
    pub(super) buckets: u64,
    /// The bucket array.
    pub(super) array: RemoteAddr,
    /// Where the value is in an entry.
    value: u64,
    /// Whether the key has a domain behind the pointer (3.8).
    has_domain: bool,
    entry: EntryLayout,
}

impl Header {
    /// Reads the header of a table; `None` where no table is.
    pub(super) fn read<M: ReadMemory>(
        memory: &mut M,
        format: &Format,
        addr: RemoteAddr,
    ) -> Result<Option<Self>, ReadError> {
        if !addr.is_plausible_pointer() {
            return Ok(None);
        }
        let mut bytes = vec![0; format.table.bytes as usize];
        match memory.read_exact(addr, &mut bytes) {
            Ok(()) => Ok(Self::parse(format, &bytes)),
            Err(ReadError::Unmapped(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same from bytes that are here.
    pub(super) fn parse(format: &Format, bytes: &[u8]) -> Option<Self> {
        let layout = format.table;
        let word = |offset| u64_at(bytes, offset);
        let (entries, buckets) = (word(layout.entries)?, word(layout.buckets)?);
        let array = RemoteAddr(word(layout.array)?);
        // It grows as soon as it is half full.
        let counts = (MIN_BUCKETS..=MAX_BUCKETS).contains(&buckets)
            && buckets.is_power_of_two()
            && entries <= buckets
            && (buckets == MIN_BUCKETS || buckets / MAX_BUCKETS_EACH <= entries);
        let is_code = |offset: &u64| word(*offset).is_some_and(|p| (0x1000..1 << 47).contains(&p));
        let (functions, value, has_domain) = match format.entry {
            EntryLayout::Pointers => (&FUNCTIONS_39[..], ENTRY_KEY + 8, false),
            EntryLayout::Inline => {
                let (key, data) = (word(KEY_BYTES_38)?, word(DATA_BYTES_38)?);
                if !matches!(key, 8 | 12 | 16) || !matches!(data, 0 | TRACE_BYTES) {
                    return None;
                }
                (&FUNCTIONS_38[..], ENTRY_KEY + key, key > 8)
            }
        };
        let shape = counts && array.is_plausible_pointer() && functions.iter().all(is_code);
        shape.then_some(Self {
            entries,
            buckets,
            array,
            value,
            has_domain,
            entry: format.entry,
        })
    }

    /// Whether both describe the same bucket array: chains of one hold for the other.
    pub(super) fn same_array(&self, other: &Self) -> bool {
        (self.array, self.buckets) == (other.array, other.buckets)
    }

    /// The bucket of what has this hash.
    fn bucket(&self, hash: u64) -> u64 {
        hash & (self.buckets - 1)
    }

    fn entry_bytes(&self) -> u32 {
        let value = match self.entry {
            EntryLayout::Pointers => 8,
            EntryLayout::Inline => TRACE_BYTES,
        };
        (self.value + value) as u32
    }
}

/// How a table makes the hash of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    /// Addresses of blocks: `_Py_HashPointer`, in 3.8 together with the domain.
    Pointer,
    /// Numbers of domains: `hashtable_hash_uint`.
    Number,
}

impl Hash {
    fn of(self, key: u64, domain: u32) -> u64 {
        match self {
            Self::Pointer => {
                let hash = key.rotate_right(4);
                let hash = if hash == u64::MAX { hash - 1 } else { hash };
                hash ^ u64::from(domain)
            }
            Self::Number => key & 0xffff_ffff,
        }
    }
}

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Value {
    /// 3.9+: a pointer to it.
    At(RemoteAddr),
    /// 3.8: a trace.
    Trace {
        /// The block's size.
        bytes: u64,
        /// Its traceback.
        traceback: RemoteAddr,
    },
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where it is.
    at: u64,
    /// Its key.
    pub(super) key: u64,
    /// The domain in the key (3.8), else 0.
    pub(super) domain: u32,
    /// How many entries come before it in its chain.
    level: u32,
    /// Its value.
    pub(super) value: Value,
}

impl Entry {
    /// What is the same as long as the block lives.
    fn identity(&self) -> (u64, u32, Value) {
        (self.key, self.domain, self.value)
    }

    /// Its place in a walk, which goes by level and there by address.
    fn place(&self) -> (u32, u64) {
        (self.level, self.at)
    }
}

/// Which of the entries of a walk another one met too, by their place in `first`; and how many they
/// are. Both have most of them in the same order: what is not where it was is looked for among
/// all of the other walk that is not either.
pub(super) fn in_both(first: &[Entry], second: &[Entry]) -> (Bits, u64) {
    let mut both = Bits::none_of(first.len());
    let mut count = 0;
    let (mut moved, mut others) = (Vec::new(), FxHashSet::default());
    let (mut one, mut other) = (0, 0);
    while let (Some(here), Some(there)) = (first.get(one), second.get(other)) {
        let order = here.place().cmp(&there.place());
        if order.is_eq() && here.identity() == there.identity() {
            both.set(one as u32);
            count += 1;
        } else {
            if order.is_le() {
                moved.push(one);
            }
            if order.is_ge() {
                others.insert(there.identity());
            }
        }
        one += usize::from(order.is_le());
        other += usize::from(order.is_ge());
    }
    moved.extend(one..first.len());
    others.extend(second[other..].iter().map(Entry::identity));
    for index in moved {
        if others.contains(&first[index].identity()) {
            both.set(index as u32);
            count += 1;
        }
    }
    (both, count)
}

/// All entries of a table.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// Those that passed.
    pub(super) entries: Vec<Entry>,
    /// Buckets whose chains were torn every time.
    pub(super) torn_buckets: u64,
    /// Chains that were walked again.
    pub(super) repeated: u64,
}

/// Walks every chain of a table.
pub(super) fn walk<M: ReadMemory>(
    memory: &mut M,
    header: &Header,
    hash: Hash,
) -> Result<Entries, ReadError> {
    let mut all = Entries::default();
    let mut walker = Walker {
        header,
        hash,
        entries: Vec::new(),
        torn: Vec::new(),
    };
    let (mut frontier, unreadable_buckets) = heads(memory, header)?;
    walker.follow(memory, &mut frontier)?;
    for _ in 0..ROUNDS {
        walker.drop_torn();
        if walker.torn.is_empty() {
            break;
        }
        all.repeated += walker.torn.len() as u64;
        let again = std::mem::take(&mut walker.torn);
        let mut frontier = heads_of(memory, header, &again)?;
        walker.follow(memory, &mut frontier)?;
    }
    walker.drop_torn();
    all.torn_buckets = walker.torn.len() as u64 + unreadable_buckets;
    all.entries = walker.entries;
    Ok(all)
}

/// An entry to be read, and the bucket that it was reached from.
#[derive(Clone, Copy)]
struct Step {
    addr: u64,
    bucket: u64,
}

struct Walker<'a> {
    header: &'a Header,
    hash: Hash,
    entries: Vec<Entry>,
    /// Numbers of buckets; sorted and distinct after [`drop_torn`](Self::drop_torn).
    torn: Vec<u64>,
}

impl Walker<'_> {
    /// Reads the entries of `frontier`, those that they lead to, and so on.
    fn follow<M: ReadMemory>(
        &mut self,
        memory: &mut M,
        frontier: &mut Vec<Step>,
    ) -> Result<(), ReadError> {
        let len = self.header.entry_bytes();
        let mut next = Vec::new();
        // Half of the buckets have an entry at most; whatever has more goes round in circles.
        let most = self.header.buckets as usize;
        let longest = self.header.buckets.min(MAX_CHAIN);
        for level in 0..longest as u32 {
            if frontier.is_empty() {
                return Ok(());
            }
            frontier.sort_unstable_by_key(|step| step.addr);
            let pieces: Vec<Piece> = frontier
                .iter()
                .map(|step| Piece::new(step.addr, len))
                .collect();
            next.clear();
            gather(memory, &pieces, |i, bytes| {
                let bucket = frontier[i].bucket;
                let room = self.entries.len() < most;
                let entry = bytes
                    .filter(|_| room)
                    .and_then(|b| self.entry(b, frontier[i], level));
                let Some((entry, following)) = entry else {
                    self.torn.push(bucket);
                    return;
                };
                self.entries.push(entry);
                if following != 0 {
                    let addr = following;
                    next.push(Step { addr, bucket });
                }
            })?;
            std::mem::swap(frontier, &mut next);
        }
        self.torn.extend(frontier.iter().map(|step| step.bucket));
        Ok(())
    }

    /// The entry in `bytes` and the address of the next one; `None` when it is not of the bucket
    /// that `step` comes from.
    fn entry(&self, bytes: &[u8], step: Step, level: u32) -> Option<(Entry, u64)> {
        let next = u64_at(bytes, ENTRY_NEXT)?;
        let stored = u64_at(bytes, ENTRY_HASH)?;
        let key = u64_at(bytes, ENTRY_KEY)?;
        let domain = if self.header.has_domain {
            u32_at(bytes, ENTRY_KEY + 8)?
        } else {
            0
        };
        let sane = (next == 0 || RemoteAddr(next).is_plausible_pointer())
            && stored == self.hash.of(key, domain)
            && self.header.bucket(stored) == step.bucket;
        let first = u64_at(bytes, self.header.value)?;
        let value = match self.header.entry {
            EntryLayout::Pointers => Value::At(RemoteAddr(first)),
            EntryLayout::Inline => Value::Trace {
                bytes: first,
                traceback: RemoteAddr(u64_at(bytes, self.header.value + 8)?),
            },
        };
        let entry = Entry {
            at: step.addr,
            key,
            domain,
            level,
            value,
        };
        sane.then_some((entry, next))
    }

    /// Forgets what torn chains gave, for all of it is read again or given up.
    fn drop_torn(&mut self) {
        self.torn.sort_unstable();
        self.torn.dedup();
        if !self.torn.is_empty() {
            let (torn, header, hash) = (&self.torn, self.header, self.hash);
            self.entries.retain(|entry| {
                let bucket = header.bucket(hash.of(entry.key, entry.domain));
                torn.binary_search(&bucket).is_err()
            });
        }
    }
}

/// The first entry of every bucket that has one, in bulk; how many buckets could not be read.
fn heads<M: ReadMemory>(memory: &mut M, header: &Header) -> Result<(Vec<Step>, u64), ReadError> {
    const PIECE_BUCKETS: u64 = 1 << 16;
    let starts: Vec<u64> = (0..header.buckets)
        .step_by(PIECE_BUCKETS as usize)
        .collect();
    let pieces: Vec<Piece> = starts
        .iter()
        .map(|start| {
            let count = PIECE_BUCKETS.min(header.buckets - start);
            Piece::new(header.array.0.wrapping_add(start * 8), count as u32 * 8)
        })
        .collect();
    let (mut steps, mut unreadable) = (Vec::new(), 0);
    gather(memory, &pieces, |i, bytes| {
        let Some(bytes) = bytes else {
            unreadable += u64::from(pieces[i].len) / 8;
            return;
        };
        for (bucket, word) in (starts[i]..).zip(bytes.chunks_exact(8)) {
            let addr = u64_at(word, 0).unwrap_or_default();
            if addr != 0 {
                steps.push(Step { addr, bucket });
            }
        }
    })?;
    Ok((steps, unreadable))
}

/// The first entry of each of these buckets.
fn heads_of<M: ReadMemory>(
    memory: &mut M,
    header: &Header,
    buckets: &[u64],
) -> Result<Vec<Step>, ReadError> {
    let pieces: Vec<Piece> = buckets
        .iter()
        .map(|bucket| Piece::new(header.array.0.wrapping_add(bucket * 8), 8))
        .collect();
    let mut steps = Vec::new();
    gather(memory, &pieces, |i, bytes| {
        let addr = bytes.and_then(|b| u64_at(b, 0)).unwrap_or_default();
        if addr != 0 {
            let bucket = buckets[i];
            steps.push(Step { addr, bucket });
        }
    })?;
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// Entries with these levels, addresses and keys.
    fn walked(places: &[(u32, u64, u64)]) -> Vec<Entry> {
        let entries = places.iter().map(|(level, at, key)| Entry {
            at: *at,
            key: *key,
            domain: 0,
            level: *level,
            value: Value::At(RemoteAddr(key * 16)),
        });
        entries.collect()
    }

    proptest! {
        /// Whatever came, went, has another place, or stands in no order at all.
        #[test]
        fn what_both_walks_met_is_told(
            mut first in prop::collection::vec((0_u32..3, 0_u64..40, 0_u64..40), 0..40),
            mut second in prop::collection::vec((0_u32..3, 0_u64..40, 0_u64..40), 0..40),
            same in 0_usize..40,
            sorted in any::<bool>(),
        ) {
            second.splice(..0, first.iter().take(same).copied());
            for walk in [&mut first, &mut second] {
                // A key is met once.
                let mut keys = HashSet::new();
                walk.retain(|(_, _, key)| keys.insert(*key));
                if sorted {
                    walk.sort_unstable();
                }
            }
            let (both, count) = in_both(&walked(&first), &walked(&second));
            let there: HashSet<u64> = second.iter().map(|(_, _, key)| *key).collect();
            let expected: Vec<bool> =
                first.iter().map(|(_, _, key)| there.contains(key)).collect();
            let told: Vec<bool> = (0..first.len() as u32).map(|index| both.get(index)).collect();
            prop_assert_eq!(count, expected.iter().filter(|there| **there).count() as u64);
            prop_assert_eq!(told, expected);
        }
    }
}
