//! A real heap with words that were changed gives an answer: no panic, no walk without end.
//!
//! What is changed is chosen by a generator with a fixed start, so that a failure comes again.

#[path = "support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use onlooker::attach;
use onlooker::heap::copy::{Limits, Prepared};
use onlooker::heap::{roots, take};
use onlooker::target::memory::FileMemory;
use onlooker_heap::census::{Census, Walk};
use onlooker_heap::rss::{self, Mapped, Part};
use onlooker_heap::space::{Range, Space};
use onlooker_unwinder::memory::{ReadError, ReadMemory, RemoteAddr, Segment};
use support::{Target, matrix};

/// How many words are changed.
const CHANGES: [usize; 3] = [10, 1000, 100_000];
/// A whole heap takes a second without optimisation, on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(60);

struct Nothing;

impl ReadMemory for Nothing {
    fn read(&mut self, segments: &[Segment], _: &mut [u8]) -> Result<usize, ReadError> {
        Err(ReadError::Unmapped(segments[0].addr))
    }
}

/// The generator of Knuth's MMIX; its upper half.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as usize % limit
    }
}

/// Flips a bit, moves a word elsewhere, or makes it nothing or nonsense.
fn change(bytes: &mut [u8], random: &mut Random, count: usize) {
    let words = bytes.len() / 8;
    for _ in 0..count {
        let at = 8 * random.below(words);
        match random.below(4) {
            0 => bytes[at + random.below(8)] ^= 1 << random.below(8),
            1 => {
                let from = 8 * random.below(words);
                bytes.copy_within(from..from + 8, at);
            }
            2 => bytes[at..at + 8].fill(0),
            _ => bytes[at..at + 8].copy_from_slice(&(random.below(1 << 24) as u64).to_le_bytes()),
        }
    }
}

/// One piece of storage with all that the space has.
fn packed(space: &Space<Vec<u8>>) -> (Vec<Range>, Vec<u8>) {
    let mut bytes = Vec::new();
    let ranges = space.ranges().iter().map(|range| {
        let at = bytes.len() as u64;
        bytes.extend_from_slice(space.tail(RemoteAddr(range.start)));
        Range { at, ..*range }
    });
    let ranges = ranges.collect();
    (ranges, bytes)
}

#[test]
fn a_heap_that_lies_is_counted_too() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "census.py", &["10"]);
        let pid = target.pid().cast_signed();
        let attached = attach::attach(pid, attach::STARTING).expect("attached");
        let layout = attached.sampler.layout().clone();
        let roots = roots::find(pid, layout.version, attached.sampler.runtime());
        let memory = FileMemory::open(pid).expect("memory");
        let limits = Limits { max_bytes: 1 << 30 };
        let prepared = Prepared::new(pid, limits).expect("mappings");
        let copied = prepared
            .copy(pid, &memory, false, |_, _| {})
            .expect("a copy");
        let regions = take::regions(&copied.mappings);
        let (ranges, good) = packed(&copied.space);
        let mut random = Random(u64::from(layout.version.minor));
        for count in CHANGES {
            let since = Instant::now();
            let mut bytes = good.clone();
            change(&mut bytes, &mut random, count);
            let total_bytes = bytes.len() as u64;
            let mut space = Space::new(ranges.clone(), bytes).expect("as it was");
            let mut walk = Walk::new(&space, &layout, &roots, &regions);
            for _ in 0..3 {
                // What is copied again is changed in other places.
                let wanted = [walk.torn_blocks(&space), walk.torn_lists(&space)].concat();
                for (addr, len) in &wanted {
                    let mut new = copied.space.tail(*addr).to_vec();
                    new.truncate(*len as usize);
                    if !new.is_empty() {
                        let few = new.len() / 4096;
                        change(&mut new, &mut random, few);
                        space.put(*addr, &new);
                    }
                }
                walk.again(&space, &wanted, None);
            }
            // Garbage is told of what is whole.
            walk.at_once = true;
            let census = Census::take(&mut space, &mut Nothing, &layout, walk);
            let counted: u64 = census.counts.iter().map(|each| each.count).sum();
            assert_eq!(counted, census.objects);
            let mapped = Mapped {
                total_bytes,
                ..Mapped::default()
            };
            assert_eq!(
                rss::parts(&space, &census, &mapped).bytes.len(),
                Part::ALL.len()
            );
            assert!(since.elapsed() < LIMIT, "{:?} {count}", since.elapsed());
            if count == CHANGES[0] {
                // Few lies hide little.
                assert!(census.objects > 5000, "{}", census.objects);
            }
        }
    });
}
