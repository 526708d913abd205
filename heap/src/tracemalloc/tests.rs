//! Tables in memory that was made by hand, whole and damaged, of each format.

use onlooker_unwinder::layout::{Layout, Minor, tables};
use onlooker_unwinder::memory::{Class, Counting, RecordedMemory, RemoteAddr};
use proptest::prelude::*;

use super::{Error, Place, Quality, Snapshot, read};

const BASE: u64 = 0x7f00_0000_0000;
const BYTES: usize = 32 << 10;
const TRACES: u64 = 40;
const DOMAIN: u64 = 7;
const VERSIONS: [Minor; 3] = [Minor::new(3, 8), Minor::new(3, 12), Minor::new(3, 15)];

/// Memory that is given out from its start.
struct Heap {
    bytes: Vec<u8>,
    used: u64,
}

impl Heap {
    fn new() -> Self {
        let bytes = vec![0; BYTES];
        Self { bytes, used: 64 }
    }

    fn take(&mut self, bytes: u64) -> u64 {
        let addr = BASE + self.used;
        self.used += bytes.next_multiple_of(16);
        assert!(self.used <= BYTES as u64);
        addr
    }

    fn put(&mut self, addr: u64, bytes: &[u8]) {
        let at = (addr - BASE) as usize;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn word(&mut self, addr: u64, word: u64) {
        self.put(addr, &word.to_le_bytes());
    }

    fn get(&self, addr: u64) -> u64 {
        let at = (addr - BASE) as usize;
        let word = self.bytes[at..at + 8].first_chunk().expect("a word");
        u64::from_le_bytes(*word)
    }

    /// A compact ASCII `str`, or from 3.15 on a C string.
    fn name(&mut self, version: Minor, text: &str) -> u64 {
        let addr = self.take(128);
        if version >= Minor::new(3, 15) {
            self.put(addr, text.as_bytes());
            return addr;
        }
        self.word(addr, 1);
        self.word(addr + 16, text.len() as u64);
        // Kind 1, compact, ASCII.
        self.word(addr + 32, 1 << 2 | 1 << 5 | 1 << 6);
        let data = if version >= Minor::new(3, 12) { 40 } else { 48 };
        self.put(addr + data, text.as_bytes());
        addr
    }

    /// `traceback_t` of two frames.
    fn traceback(&mut self, file: u64, line: u32) -> u64 {
        let addr = self.take(12 + 24);
        self.put(addr + 8, &2_u16.to_le_bytes());
        self.put(addr + 10, &2_u16.to_le_bytes());
        for (n, line) in [(0, line), (1, line + 100)] {
            self.word(addr + 12 + 12 * n, file);
            self.put(addr + 20 + 12 * n, &line.to_le_bytes());
        }
        addr
    }

    /// A `_Py_hashtable_t` with these entries: hash, then the words behind it.
    fn table(&mut self, version: Minor, buckets: u64, entries: &[(u64, Vec<u64>)]) -> u64 {
        let (table, array) = (self.take(80), self.take(buckets * 8));
        let (counts, functions): (_, &[u64]) = if version < Minor::new(3, 9) {
            self.word(table + 24, 8);
            self.word(table + 32, 16);
            ([buckets, entries.len() as u64], &[40, 48, 56, 64])
        } else {
            ([entries.len() as u64, buckets], &[24, 32, 40, 64, 72])
        };
        self.word(table, counts[0]);
        self.word(table + 8, counts[1]);
        self.word(table + 16, array);
        for offset in functions {
            self.word(table + offset, 0x55_0000_1000 + offset);
        }
        for (hash, words) in entries {
            let entry = self.take(16 + 8 * words.len() as u64);
            let bucket = array + 8 * (hash & (buckets - 1));
            self.word(entry, self.get(bucket));
            self.word(entry + 8, *hash);
            for (at, word) in (entry + 16..).step_by(8).zip(words) {
                self.word(at, *word);
            }
            self.word(bucket, entry);
        }
        table
    }

    /// Entries of blocks of 100 and more bytes, each allocated at one of two lines.
    fn entries(&mut self, version: Minor, keys: &[u64], sites: [u64; 2]) -> Vec<(u64, Vec<u64>)> {
        let entries = keys.iter().zip(0..).map(|(key, n)| {
            let (bytes, site) = (100 + n, sites[n as usize % 2]);
            let words = if version < Minor::new(3, 9) {
                vec![*key, bytes, site]
            } else {
                let trace = self.take(16);
                self.word(trace, bytes);
                self.word(trace + 8, site);
                vec![*key, trace]
            };
            (key.rotate_right(4), words)
        });
        entries.collect()
    }
}

/// 40 blocks of domain 0 and, from 3.9 on, 3 of domain 7.
fn image(version: Minor) -> (Vec<u8>, Layout, Place) {
    let mut heap = Heap::new();
    // Initialised, tracing, two frames; then the pointers.
    let config = heap.take(12);
    for (n, word) in [1_u32, 1, 2].into_iter().enumerate() {
        heap.put(config + 4 * n as u64, &word.to_le_bytes());
    }
    let (traces, domains) = (heap.take(8), heap.take(8));
    let names = ["one.py", "two.py"].map(|name| heap.name(version, name));
    let sites = [heap.traceback(names[0], 1), heap.traceback(names[1], 2)];
    let keys: Vec<u64> = (0..TRACES).map(|n| 0x7f11_0000_0000 + n * 48).collect();
    let entries = heap.entries(version, &keys, sites);
    let table = heap.table(version, 128, &entries);
    heap.word(traces, table);
    let has_domains = version >= Minor::new(3, 9);
    if has_domains {
        let entries = heap.entries(version, &keys[..3], sites);
        let table = heap.table(version, 16, &entries);
        let all = heap.table(version, 16, &[(DOMAIN, vec![DOMAIN, table])]);
        heap.word(domains, all);
    }
    let place = Place {
        config: RemoteAddr(config),
        traces: RemoteAddr(traces),
        domains: has_domains.then_some(RemoteAddr(domains)),
        traced_bytes: None,
        peak_bytes: None,
    };
    let table = tables::for_version(version.min(Minor::new(3, 12))).expect("a layout");
    let layout = Layout { version, ..table };
    (heap.bytes, layout, place)
}

fn look(
    bytes: &[u8],
    layout: &Layout,
    place: &Place,
) -> (Result<(Snapshot, Quality), Error>, u64, u64) {
    let mut memory = RecordedMemory::new();
    memory.insert(RemoteAddr(BASE), bytes);
    let mut memory = Counting::new(memory);
    let found = read(&mut memory, layout, place);
    let cost = memory.cost(Class::Other);
    (found, cost.calls, cost.bytes)
}

#[test]
fn whole_tables_are_read_to_the_last_block() {
    for version in VERSIONS {
        let (bytes, layout, place) = image(version);
        let (snapshot, quality) = look(&bytes, &layout, &place).0.expect("a snapshot");
        let of = |domain: u32| {
            let traces = snapshot.traces.iter().filter(|t| t.domain == domain);
            traces.fold((0, 0), |sum, t| (sum.0 + t.count, sum.1 + t.bytes))
        };
        assert_eq!(of(0), (40, 40 * 100 + 39 * 20), "{version}");
        let foreign = if place.domains.is_some() {
            (3, 303)
        } else {
            (0, 0)
        };
        assert_eq!(of(DOMAIN as u32), foreign, "{version}");
        assert_eq!(snapshot.files, ["one.py", "two.py"], "{version}");
        assert_eq!(snapshot.tracebacks.len(), 2, "{version}");
        assert_eq!((quality.torn_buckets, quality.stale), (0, 0), "{version}");
    }
}

/// A table that claims to be as large as can be, and is not there.
#[test]
fn a_table_that_is_not_there_is_no_work() {
    let (mut bytes, layout, place) = image(Minor::new(3, 12));
    let at = (place.traces.0 - BASE) as usize;
    let table = u64::from_le_bytes(*bytes[at..].first_chunk().expect("a word")) - BASE;
    for (offset, word) in [(0, 1_u64 << 29), (8, 1 << 30), (16, 0x7e00_0000_0000)] {
        let at = table as usize + offset;
        bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    let (found, calls, _) = look(&bytes, &layout, &place);
    let (snapshot, quality) = found.expect("a snapshot");
    assert_eq!(quality.torn_buckets, 1 << 30);
    assert_eq!(snapshot.traces.iter().map(|t| t.count).sum::<u64>(), 3);
    assert!(calls < 100_000, "{calls}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever bits are wrong: an end, and no more of anything than the memory has room for.
    #[test]
    fn damaged_tables_come_to_an_end(
        version in 0_usize..3,
        flips in prop::collection::vec((0_usize..BYTES, 0_u8..8), 1..40),
        // Most memory is not in use: damage near the start hits something.
        near in 512_usize..BYTES,
    ) {
        let (mut bytes, layout, place) = image(VERSIONS[version]);
        for (at, bit) in flips {
            bytes[at % near] ^= 1 << bit;
        }
        let (found, calls, read) = look(&bytes, &layout, &place);
        prop_assert!(calls < 200_000, "{} calls", calls);
        prop_assert!(read < 1 << 30, "{} bytes", read);
        if let Ok((snapshot, _)) = found {
            let frames: usize = snapshot.tracebacks.iter().map(|t| t.frames.len()).sum();
            prop_assert!(frames * 12 <= BYTES, "{} frames", frames);
            let names: usize = snapshot.files.iter().map(String::len).sum();
            prop_assert!(names <= 64 * BYTES, "{} bytes of names", names);
            let blocks: u64 = snapshot.traces.iter().map(|t| t.count).sum();
            prop_assert!(blocks * 8 <= BYTES as u64, "{} blocks", blocks);
        }
    }
}
