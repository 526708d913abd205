//! Any memory gives an answer: no panic, no walk without end.

#[path = "../../tests/fake/layouts.rs"]
#[allow(dead_code, reason = "each test needs a part of it")]
mod layouts;

use std::time::{Duration, Instant};

use onlooker_heap::census::{Census, Walk};
use onlooker_heap::malloc::Region;
use onlooker_heap::pymalloc::{Roots, StaticRoots};
use onlooker_heap::rss::{self, Mapped};
use onlooker_heap::show::Heap;
use onlooker_heap::space::{Range, Space};
use onlooker_unwinder::memory::{ReadError, ReadMemory, RemoteAddr, Segment};
use proptest::prelude::*;

/// All that there is lies here, so that most words can point somewhere.
const BASE: u64 = 0x400_0000;
const WORDS: usize = 16 << 10;

struct Nothing;

impl ReadMemory for Nothing {
    fn read(&mut self, segments: &[Segment], _: &mut [u8]) -> Result<usize, ReadError> {
        Err(ReadError::Unmapped(segments[0].addr))
    }
}

/// Small numbers, sizes, pointers into the memory, and anything.
fn word() -> impl Strategy<Value = u64> {
    let inside = (0..WORDS as u64).prop_map(|word| BASE + 8 * word);
    let size = (0..0x80_u64).prop_map(|size| 16 * size + 1);
    prop_oneof![Just(0), 0..64_u64, size, inside, any::<u64>()]
}

/// Words that repeat: a whole memory of single ones would take too long to make.
fn memory() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(word(), 1..200).prop_map(|words| {
        let repeated = words.iter().cycle().take(WORDS);
        repeated.flat_map(|word| word.to_le_bytes()).collect()
    })
}

/// The offsets of the collector in `_Py_DebugOffsets` (`interpreter_state.gc` and `gc.collecting`),
/// which the table of the fake interpreter leaves 0.
fn collector(minor: u8) -> Option<(usize, usize)> {
    match minor {
        13 => Some((80, 576)),
        14 => Some((88, 656)),
        15 => Some((88, 760)),
        _ => None,
    }
}

/// Short, and nothing in it steers a terminal.
fn is_safe(shown: &str) -> bool {
    shown.len() < 4000 && !shown.chars().any(char::is_control)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_memory_gives_an_answer(
        mut bytes in memory(),
        later in memory(),
        minor in 8_u8..=15,
        at in 0..1000_usize,
        absent in 0..WORDS as u64,
    ) {
        let build = layouts::build(minor);
        let layout = build.layout;
        // It describes itself, truly: a false description is refused at attach.
        let runtime = 8 * at;
        bytes[runtime..runtime + build.debug_offsets.len()].copy_from_slice(&build.debug_offsets);
        if let Some((gc, collecting)) = collector(minor) {
            for (field, value) in [(gc, 4096_u64), (collecting, 192)] {
                bytes[runtime + field..runtime + field + 8].copy_from_slice(&value.to_le_bytes());
            }
        }
        let len = bytes.len() as u64;
        let ranges = vec![Range { start: BASE, len, at: 0 }];
        let mut space = Space::new(ranges, bytes).expect("one range");
        let absent = BASE + 8 * absent;
        space.set_absent(vec![(absent, absent + 4096)]);
        let here = |word: usize| RemoteAddr(BASE + 8 * word as u64);
        let roots = Roots {
            runtime: here(at),
            statics: (at % 2 == 0).then(|| StaticRoots {
                arenas: here(at + 1),
                max_arenas: here(at + 2),
                raw_blocks: Some(here(at + 3)),
            }),
        };
        let half = BASE + len / 2;
        let regions = vec![
            Region { start: BASE, end: half, is_brk: true },
            Region { start: half, end: BASE + len, is_brk: false },
        ];
        let mut walk = Walk::new(&space, &layout, &roots, &regions);
        // What is copied again is anything too.
        for (round, chunk) in later.chunks(4096).enumerate() {
            let wanted = [walk.torn_blocks(&space), walk.torn_lists(&space)].concat();
            for (addr, _) in &wanted {
                space.put(*addr, chunk);
            }
            walk.again(&space, &wanted, Some((BASE, half + 4096 * round as u64)));
        }
        walk.at_once = at % 3 == 0;
        let census = Census::take(&mut space, &mut Nothing, &layout, walk);
        let mapped = Mapped { total_bytes: len, ..Mapped::default() };
        let counted: u64 = census.counts.iter().map(|each| each.count).sum();
        prop_assert_eq!(counted, census.objects);
        let heap = Heap::new(&space, &layout, &census);
        let targets: Vec<_> = (0..8).map(|n| here(at + 2 * n)).collect();
        for (target, found) in targets.iter().zip(heap.referrers(&targets, 4)) {
            prop_assert!(found.shown.len() <= 4);
            for referrer in found.shown {
                prop_assert!(is_safe(&heap.describe_how(referrer.how)));
            }
            prop_assert!(is_safe(&heap.repr(*target)));
            if let Some(subject) = heap.subject_at(*target) {
                prop_assert!(is_safe(&subject.repr));
            }
        }
        prop_assert_eq!(rss::parts(&space, &census, &mapped).bytes.len(), rss::Part::ALL.len());
    }
}

/// A mapping of 8 TiB that is one chunk of malloc, of which one page is here.
#[test]
fn what_is_not_here_is_passed_over_at_once() {
    const HUGE_BYTES: u64 = 8 << 40;
    let layout = layouts::build(12).layout;
    let mut bytes = vec![0; 4096];
    bytes[8..16].copy_from_slice(&(HUGE_BYTES | 2).to_le_bytes());
    bytes[4000..4008].copy_from_slice(&(BASE + 8).to_le_bytes());
    let range = |start, at| Range {
        start,
        len: 4096,
        at,
    };
    let ranges = vec![range(BASE, 0), range(BASE + HUGE_BYTES - 4096, 4096)];
    let mut space = Space::new(ranges, bytes.repeat(2)).expect("two ranges");
    let roots = Roots {
        runtime: RemoteAddr(BASE),
        statics: None,
    };
    let region = Region {
        start: BASE,
        end: BASE + HUGE_BYTES,
        is_brk: false,
    };
    let walk = Walk::new(&space, &layout, &roots, &[region]);
    let census = Census::take(&mut space, &mut Nothing, &layout, walk);
    let heap = Heap::new(&space, &layout, &census);
    let since = Instant::now();
    let found = heap.referrers(&[RemoteAddr(BASE + 8)], 4);
    assert_eq!(found[0].conservative, 2);
    assert!(
        since.elapsed() < Duration::from_secs(20),
        "{:?}",
        since.elapsed()
    );
}
