//! A recording that nothing happened to.

use crate::common::{Made, SECOND_NS, header, load, seconds};
use onlooker_recording::read::{Warning, read_within};
use onlooker_recording::tables::*;
use onlooker_recording::write::{WriteError, Writer};
use std::io::{self, Write};

#[test]
fn everything_comes_back() {
    let (bytes, expected, _) = seconds(100);
    let loaded = load(&bytes);
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.tables, expected);
}

#[test]
fn every_kind_of_value_comes_back() {
    let mut made = Made::new();
    let threads = [made.thread(1), made.thread(2)];
    let far = made.frame(None, "far", Some(u32::MAX));
    let bare = made.frame(Some(far), "bare", None);
    let torn = made.string("torn");
    let kinds = [
        WeightKind::Samples,
        WeightKind::Nanoseconds,
        WeightKind::BytesGrown,
        WeightKind::BytesKept,
    ];
    for at in 0..64 {
        let flag = |bit: u64| at & bit != 0;
        made.any_sample(Sample {
            time_ns: (at * 7919 % 64) * 1_000_003,
            thread: threads[at as usize % 2],
            stack: [None, Some(far), Some(bare)][at as usize % 3],
            state: State {
                running: flag(1),
                holds_gil: flag(2),
                waits_for_gil: flag(4),
                known: flag(8),
                sleeping: flag(32),
            },
            trust: [Trust::Verified, Trust::Unverified][usize::from(flag(16))],
            reason: flag(16).then_some(torn),
            weight_kind: kinds[at as usize / 16],
            weight: at.wrapping_mul(u64::MAX / 9),
        });
    }
    made.rss(RssPoint {
        time_ns: u64::MAX,
        process: ProcessId(1),
        rss_bytes: u64::MAX,
    });
    made.expected.running_totals = Totals {
        duration_ns: 1,
        ticks: 2,
        missed_ticks: 3,
        verified: 4,
        unverified: 5,
        unverified_by: vec![("moved".to_owned(), 3), ("gap".to_owned(), 2)],
        lost: vec![("torn".to_owned(), 6), ("unreadable".to_owned(), 7)],
        retries: 8,
        read_calls: 9,
        read_segments: 10,
        read_bytes: 11,
        code_calls: 12,
        code_bytes: 13,
        own_cpu_ns: 14,
    };
    let (bytes, expected, _) = made.finish();
    assert_eq!(load(&bytes).tables, expected);
}

#[test]
fn a_recording_without_samples_is_one() {
    let (bytes, expected, _) = Made::new().finish();
    let loaded = load(&bytes);
    assert_eq!(loaded.tables, expected);
    assert_eq!(loaded.warnings, []);
}

#[test]
fn more_than_a_block_holds_goes_into_several() {
    let mut made = Made::new();
    let thread = made.thread(1);
    let mut stack = None;
    for line in 0..60_000 {
        let name = format!("{line}_{}", "long".repeat(10));
        stack = Some(made.frame(stack, &name, Some(line)));
    }
    made.string(&"x".repeat(64 << 10));
    for at in 0..100_000 {
        made.sample(at * 10_007, thread, stack.filter(|_| at % 2 == 0));
    }
    assert!(made.writer.block_due(0));
    made.block(SECOND_NS);
    let (bytes, expected, _) = made.finish();
    let loaded = load_unchecked(&bytes);
    assert_eq!(loaded.warnings, []);
    assert!(loaded.tables == expected);
}

/// Without walking a hundred thousand stacks of sixty thousand frames.
fn load_unchecked(bytes: &[u8]) -> onlooker_recording::read::Loaded {
    onlooker_recording::read::read(bytes).unwrap()
}

#[test]
fn overlong_strings_are_cut() {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    let long = "é".repeat(40 << 10);
    writer.string(&long);
    let again = writer.string(&long);
    writer.process(Process {
        pid: 1,
        parent_pid: None,
        command: vec![long.clone(); 100],
        python: long.clone(),
        executable: long.clone(),
    });
    let bytes = writer.finish(&Totals::default()).unwrap();
    let loaded = load(&bytes);
    assert_eq!(loaded.warnings, []);
    assert_eq!(again, StringId(0));
    assert_eq!(loaded.tables.strings[0].len(), 64 << 10);
    assert!(long.starts_with(&loaded.tables.processes[0].command[0]));
}

#[test]
fn reasons_beyond_the_listed_ones_still_count() {
    let writer = Writer::new(Vec::new(), &header()).unwrap();
    let lost = |at| (format!("reason {at}"), 2);
    let totals = Totals {
        lost: (0..5000).map(lost).collect(),
        ..Totals::default()
    };
    let bytes = writer.finish(&totals).unwrap();
    let read = load(&bytes).tables.totals.unwrap().lost;
    assert!(read.len() < 5000);
    assert_eq!(read.iter().map(|(_, count)| count).sum::<u64>(), 10_000);
}

#[test]
fn a_block_is_due_each_second_or_when_much_waits() {
    let mut made = Made::new();
    let thread = made.thread(1);
    assert!(!made.writer.block_due(SECOND_NS - 1));
    assert!(made.writer.block_due(SECOND_NS));
    made.block(5 * SECOND_NS);
    assert!(!made.writer.block_due(5 * SECOND_NS + 1));
    assert!(!made.writer.block_due(0));
    while !made.writer.block_due(5 * SECOND_NS + 1) {
        made.sample(5 * SECOND_NS, thread, None);
    }
    assert!(made.expected.samples.len() > 1000);
}

#[test]
#[should_panic(expected = "is not a stack of this recording")]
fn a_stack_of_another_writer_is_refused() {
    let mut made = Made::new();
    made.frame(Some(StackId(5)), "orphan", None);
}

#[test]
fn a_small_limit_of_memory_leaves_the_rest_out() {
    let (bytes, expected, _) = seconds(100);
    let loaded = read_within(&bytes[..], 100_000).unwrap();
    let read = loaded.tables.samples.len();
    assert!(read > 0 && read < expected.samples.len());
    assert_eq!(loaded.tables.samples, expected.samples[..read]);
    assert!(matches!(
        loaded.warnings[..],
        [Warning::MemoryLimit {
            limit_bytes: 100_000,
            ..
        }]
    ));
}

/// An output that refuses once, in the middle of a block.
struct Refuses {
    taken: Vec<u8>,
    at: usize,
}

impl Write for Refuses {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.taken.len() == self.at {
            self.at = usize::MAX;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let fits = bytes.len().min(self.at - self.taken.len());
        self.taken.extend(&bytes[..fits]);
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_block_that_was_refused_is_written_again() {
    let first = Writer::new(Vec::new(), &header()).unwrap().bytes_written();
    let (taken, at) = (Vec::new(), first as usize + 40);
    let mut writer = Writer::new(Refuses { taken, at }, &header()).unwrap();
    let texts = ["a", "b"].map(|text| writer.string(text));
    let refused = writer.write_block(SECOND_NS, &Totals::default());
    let error = refused.unwrap_err();
    assert!(matches!(error, WriteError::Io { .. }), "{error}");
    assert_eq!(writer.string("b"), texts[1]);
    let out = writer.finish(&Totals::default()).unwrap();
    let loaded = load(&out.taken);
    assert_eq!(loaded.tables.strings, ["a", "b"]);
    assert!(loaded.tables.totals.is_some());
    assert!(matches!(loaded.warnings[..], [Warning::Damaged { .. }]));
}

#[test]
fn an_output_that_refuses_is_known_at_once() {
    for at in [0, 12] {
        let taken = Vec::new();
        assert!(Writer::new(Refuses { taken, at }, &header()).is_err());
    }
}
