//! Recordings that were cut, damaged, or are something else.

use crate::common::{load, meaning, seconds};
use onlooker_recording::FORMAT_VERSION;
use onlooker_recording::read::{BlockProblem, ReadError, Warning, read};
use std::io::{self, Read};

#[test]
fn other_files_are_refused() {
    assert!(matches!(read(&b""[..]), Err(ReadError::Empty)));
    let svg = read(&b"<?xml version=\"1.0\"?>"[..]).unwrap_err();
    assert!(matches!(&svg, ReadError::NotARecording { found } if found == b"<?xml ve"));
    assert!(svg.to_string().contains("<?xml ve"), "{svg}");
    let short = read(&b"ab"[..]).unwrap_err();
    assert!(matches!(short, ReadError::NotARecording { .. }));
}

#[test]
fn a_file_without_a_block_is_refused() {
    let (bytes, ..) = seconds(1);
    let head = read(&bytes[..5]).unwrap_err();
    assert!(matches!(head, ReadError::TooShort { bytes: 5 }));
    let nothing = read(&bytes[..12]).unwrap_err();
    assert!(matches!(
        nothing,
        ReadError::NoBlock {
            bytes: 12,
            problem: None
        }
    ));
    let part = read(&bytes[..50]).unwrap_err();
    let truncated = Some(BlockProblem::Truncated { missing: 0 });
    assert!(
        matches!(&part, ReadError::NoBlock { bytes: 50, problem }
            if problem.as_ref().map(std::mem::discriminant)
                == truncated.as_ref().map(std::mem::discriminant)),
        "{part}"
    );
}

#[test]
fn another_version_is_named() {
    let (mut bytes, ..) = seconds(1);
    bytes[8..12].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
    let newer = read(&bytes[..]).unwrap_err();
    assert!(matches!(newer, ReadError::NewerVersion { found } if found == FORMAT_VERSION + 1));
    bytes[8..12].fill(0);
    let none = read(&bytes[..]).unwrap_err();
    assert!(matches!(none, ReadError::NoSuchVersion { found: 0 }));
}

#[test]
fn a_killed_writer_leaves_whole_blocks() {
    let (bytes, expected, ends) = seconds(10);
    let loaded = load(&bytes[..ends[5]]);
    assert_eq!(loaded.warnings, [Warning::Unfinished]);
    assert_eq!(loaded.tables.samples, expected.samples[..50]);
    assert_eq!(loaded.tables.totals, None);
    assert_eq!(loaded.tables.counts().verified, 50);
    let cut = load(&bytes[..ends[6] - 1]);
    assert_eq!(cut.tables.samples, expected.samples[..50]);
    let offset = ends[5] as u64;
    let damaged = Warning::Damaged {
        offset,
        bytes: ends[6] as u64 - 1 - offset,
        problem: BlockProblem::Truncated { missing: 1 },
    };
    assert_eq!(cut.warnings, [damaged, Warning::Unfinished]);
}

/// Damages one byte in the middle of each of some blocks and reads the recording.
fn damaged_blocks(
    recording: &(Vec<u8>, onlooker_recording::tables::Tables, Vec<usize>),
    blocks: impl IntoIterator<Item = usize>,
) -> onlooker_recording::read::Loaded {
    let (bytes, _, ends) = recording;
    let mut bytes = bytes.clone();
    for block in blocks {
        bytes[usize::midpoint(ends[block - 1], ends[block])] ^= 0x55;
    }
    load(&bytes)
}

#[test]
fn a_damaged_block_costs_its_own_samples_only() {
    let recording = seconds(100);
    let (_, expected, ends) = &recording;
    for block in [1, 2, 50, 99, 100] {
        let loaded = damaged_blocks(&recording, [block]);
        let mut kept = expected.clone();
        kept.samples.drain((block - 1) * 10..block * 10);
        kept.rss.remove(block - 1);
        assert_eq!(loaded.tables, kept, "block {block}");
        let [damaged, missing] = &loaded.warnings[..] else {
            panic!("{:?}", loaded.warnings);
        };
        let (start, end) = (ends[block - 1] as u64, ends[block] as u64);
        assert!(
            matches!(damaged, Warning::Damaged { offset, bytes, .. }
                if *offset == start && *bytes == end - start),
            "{damaged}"
        );
        let (blocks, samples) = (1, 10);
        assert_eq!(
            *missing,
            Warning::MissingBlocks {
                offset: end,
                blocks,
                samples
            }
        );
    }
}

#[test]
fn the_header_is_written_twice_too() {
    let (mut bytes, expected, ends) = seconds(100);
    bytes[ends[0] - 1] ^= 1;
    assert_eq!(load(&bytes).tables, expected);
    let unfinished = load(&bytes[..ends[3]]);
    assert!(unfinished.warnings.contains(&Warning::NoHeader));
    assert_eq!(unfinished.tables.samples, expected.samples[..30]);
}

#[test]
fn long_damage_drops_what_cannot_be_resolved() {
    let recording = seconds(200);
    let expected = &recording.1;
    // Both places of the first blocks' rows: thread 0 and all early functions are gone, and
    // with the thread every sample.
    let loaded = damaged_blocks(&recording, 1..=60);
    assert_eq!(loaded.tables.samples, []);
    let dropped = loaded.warnings.iter().find_map(|warning| match warning {
        Warning::Unresolved { table, rows } => {
            (*table == onlooker_recording::read::Table::Samples).then_some(*rows)
        }
        _ => None,
    });
    assert_eq!(dropped, Some(1400));
    // Both places of some functions' rows in the middle.
    let loaded = damaged_blocks(&recording, 50..=100);
    let lost_rows = |at: usize| (49..=67).contains(&at);
    let lost = |at: usize| (49..100).contains(&at) || lost_rows(at);
    let kept: Vec<_> = meaning(expected)
        .into_iter()
        .enumerate()
        .filter(|(at, _)| !lost(at / 10))
        .map(|(_, said)| said)
        .collect();
    assert_eq!(meaning(&loaded.tables), kept);
    assert!(loaded.tables.strings.len() < expected.strings.len());
}

#[test]
fn what_follows_the_end_is_not_read() {
    let (mut bytes, expected, _) = seconds(3);
    let offset = bytes.len() as u64;
    bytes.extend_from_within(..);
    let loaded = load(&bytes);
    assert_eq!(loaded.tables, expected);
    assert_eq!(loaded.warnings, [Warning::Trailing { offset }]);
}

#[test]
fn blocks_out_of_order_are_passed_over() {
    let (bytes, expected, ends) = seconds(5);
    let mut twice = bytes[..ends[3]].to_vec();
    twice.extend(&bytes[ends[1]..]);
    let loaded = load(&twice);
    assert_eq!(loaded.tables, expected);
    assert!(matches!(
        loaded.warnings[..],
        [Warning::Damaged {
            problem: BlockProblem::OutOfOrder {
                expected: 4,
                found: 2
            },
            ..
        }]
    ));
}

#[test]
fn a_file_of_markers_is_given_up() {
    let (mut bytes, ..) = seconds(1);
    let marker: [u8; 8] = bytes[12..20].try_into().unwrap();
    let good = bytes.len() / 2;
    bytes.truncate(good);
    for _ in 0..10_000 {
        bytes.extend(marker);
    }
    let loaded = load(&bytes);
    let gave_up = |warning: &Warning| matches!(warning, Warning::TooDamaged { .. });
    assert!(loaded.warnings.iter().any(gave_up));
    assert!(loaded.warnings.len() < 10);
}

#[test]
fn an_input_that_fails_is_an_error() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let (bytes, ..) = seconds(3);
    for length in [0, 100] {
        let input = (&bytes[..length]).chain(Fails);
        assert!(matches!(read(input), Err(ReadError::Io { .. })));
    }
}
