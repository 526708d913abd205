//! Files that no writer makes, with right checksums.

use super::*;
use crate::columns::InvalidValue;
use crate::frame::{seal, stream_head};
use crate::limits::{MAX_RAW_BYTES, MAX_ROWS};
use crate::tables::{Header, Location, LocationId, State, Thread, Trust, WeightKind};
use crate::tables::{Process, ProcessId, StackId, StringId, ThreadId};
use crate::write::Writer;
use proptest::prelude::*;

/// A stream of blocks with the given contents.
fn stream(blocks: &[Vec<u8>]) -> Vec<u8> {
    let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
    let (mut stream, mut frame) = (stream_head().to_vec(), Vec::new());
    for (sequence, raw) in blocks.iter().enumerate() {
        seal(&mut compressor, sequence as u32, raw, &mut frame).unwrap();
        stream.extend(&frame);
    }
    stream
}

/// The problem of a stream with nothing but one bad block.
fn problem(raw: Vec<u8>) -> BlockProblem {
    match read(&stream(&[raw])[..]) {
        Err(ReadError::NoBlock {
            problem: Some(problem),
            ..
        }) => problem,
        other => panic!("{other:?}"),
    }
}

fn rows(rows: proto::Rows) -> Vec<u8> {
    let block = proto::Block {
        rows: Some(rows),
        ..proto::Block::default()
    };
    block.encode_to_vec()
}

fn samples(samples: proto::Samples) -> Vec<u8> {
    let block = proto::Block {
        samples: Some(samples),
        ..proto::Block::default()
    };
    block.encode_to_vec()
}

fn stacks(stacks: proto::Stacks) -> Vec<u8> {
    rows(proto::Rows {
        stacks: Some(stacks),
        ..proto::Rows::default()
    })
}

fn invalid(what: &'static str, value: i128) -> BlockProblem {
    BlockProblem::Invalid(InvalidValue { what, value })
}

/// Looks at everything that a report looks at.
fn walk(loaded: &Loaded) {
    let tables = &loaded.tables;
    for sample in &tables.samples {
        let thread = &tables.threads[sample.thread.index()];
        let _ = (
            tables.string(thread.name),
            &tables.processes[thread.process.index()],
        );
        let _ = sample.reason.map(|reason| tables.string(reason));
        for location in tables.frames(sample.stack).take(1000) {
            let _ = (
                tables.string(location.name),
                tables.string(location.filename),
            );
        }
    }
}

#[test]
fn more_content_than_announced_is_not_unpacked() {
    let mut bytes = stream(&[vec![0; MAX_RAW_BYTES]]);
    assert!(bytes.len() < 1000);
    let mut head = BlockHead::from_bytes(bytes[12..40].try_into().unwrap()).unwrap();
    head.raw_bytes = 10;
    bytes[12..40].copy_from_slice(&head.to_bytes());
    let error = read(&bytes[..]).unwrap_err();
    let ReadError::NoBlock { problem, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(problem, Some(BlockProblem::Decompress { raw_bytes: 10 }));
}

#[test]
fn content_beyond_any_block_is_no_block() {
    let bytes = stream(&[vec![0; MAX_RAW_BYTES + 1]]);
    assert!(matches!(
        read(&bytes[..]),
        Err(ReadError::NoBlock {
            problem: Some(BlockProblem::NoBlock),
            ..
        })
    ));
}

#[test]
fn content_that_is_no_message_is_refused() {
    assert!(matches!(problem(vec![0xFF; 9]), BlockProblem::Message(_)));
}

#[test]
fn a_parent_that_is_not_before_its_child_is_refused() {
    let bad = stacks(proto::Stacks {
        first_id: 3,
        count: 2,
        parent_distance: vec![3, 5],
        ..proto::Stacks::default()
    });
    assert_eq!(problem(bad), invalid("distance of a parent", 5));
}

#[test]
fn ids_beyond_the_last_one_are_refused() {
    let bad = stacks(proto::Stacks {
        first_id: u32::MAX,
        count: 1,
        ..proto::Stacks::default()
    });
    assert_eq!(problem(bad), invalid("id of a stack", 1 << 32));
}

#[test]
fn absurd_counts_are_refused_before_they_cost_memory() {
    let bad = stacks(proto::Stacks {
        count: u32::MAX,
        ..proto::Stacks::default()
    });
    assert_eq!(problem(bad), invalid("number of stacks", u32::MAX.into()));
    let bad = samples(proto::Samples {
        count: u32::MAX,
        ..proto::Samples::default()
    });
    assert_eq!(problem(bad), invalid("number of samples", u32::MAX.into()));
}

#[test]
fn unknown_values_are_refused() {
    let one = || proto::Samples {
        count: 1,
        ..proto::Samples::default()
    };
    let state = vec![32];
    let bad = samples(proto::Samples { state, ..one() });
    assert_eq!(problem(bad), invalid("state", 32));
    let trust = vec![2];
    let bad = samples(proto::Samples { trust, ..one() });
    assert_eq!(problem(bad), invalid("trust", 2));
    let weight_kind = vec![5];
    let bad = samples(proto::Samples {
        weight_kind,
        ..one()
    });
    assert_eq!(problem(bad), invalid("kind of weight", 5));
    let stack = vec![1 << 40];
    let bad = samples(proto::Samples { stack, ..one() });
    assert_eq!(problem(bad), invalid("stack of a sample", 1 << 40));
}

#[test]
fn samples_that_cost_nothing_end_at_the_limit() {
    let many = samples(proto::Samples {
        count: MAX_ROWS as u32,
        ..proto::Samples::default()
    });
    let bytes = stream(&vec![many; 100]);
    assert!(bytes.len() < 10_000);
    let loaded = read_within(&bytes[..], 50 << 20).unwrap();
    let stopped = |warning: &Warning| matches!(warning, Warning::MemoryLimit { .. });
    assert!(loaded.warnings.iter().any(stopped));
}

#[test]
fn rows_far_apart_take_the_room_of_few() {
    let text = |first_id, text: &str| {
        let values = vec![text.to_owned()];
        rows(proto::Rows {
            strings: Some(proto::Strings { first_id, values }),
            ..proto::Rows::default()
        })
    };
    let blocks = [text(u32::MAX - 1, "far"), text(5, "near"), text(5, "other")];
    let loaded = read(&stream(&blocks)[..]).unwrap();
    assert_eq!(loaded.tables.strings, ["near", "far"]);
}

#[test]
fn samples_of_nothing_are_dropped_and_counted() {
    let three = samples(proto::Samples {
        count: 3,
        ..proto::Samples::default()
    });
    let loaded = read(&stream(&[three])[..]).unwrap();
    assert_eq!(loaded.tables.samples, []);
    let (table, rows) = (Table::Samples, 3);
    assert!(
        loaded
            .warnings
            .contains(&Warning::Unresolved { table, rows })
    );
}

/// The content of each block of a small recording.
fn contents() -> Vec<Vec<u8>> {
    let mut writer = Writer::new(Vec::new(), &Header::default()).unwrap();
    let name = writer.string("main");
    let process = writer.process(Process {
        pid: 1,
        parent_pid: None,
        command: Vec::new(),
        python: "3.13.1".to_owned(),
        executable: "/usr/bin/python3".to_owned(),
    });
    let thread = writer.thread(Thread {
        process,
        os_thread_id: Some(1),
        thread_id: 1,
        interpreter: 0,
        name,
    });
    let mut stack = None;
    for line in 0..20 {
        let location = writer.location(Location {
            name,
            filename: name,
            line: Some(line / 2),
            column: None,
            end_line: None,
            end_column: Some(line),
        });
        stack = Some(writer.stack(stack, location));
        writer.sample(Sample {
            time_ns: u64::from(line) * 10_000_000,
            thread,
            stack: stack.filter(|_| line % 3 > 0),
            state: State::default(),
            trust: Trust::Verified,
            reason: (line % 7 == 0).then_some(name),
            weight_kind: WeightKind::Nanoseconds,
            weight: line.into(),
        });
    }
    let bytes = writer.finish(&Totals::default()).unwrap();
    let (mut scanner, mut contents) = (Scanner::new(&bytes[12..]), Vec::new());
    while let Some(head) = scanner.block().unwrap().unwrap() {
        let raw = zstd::bulk::decompress(scanner.payload(head), head.raw_bytes as usize);
        contents.push(raw.unwrap());
        scanner.advance(head.length());
    }
    contents
}

#[test]
fn contents_sealed_again_are_the_same_recording() {
    let contents = contents();
    assert_eq!(contents.len(), 3);
    let loaded = read(&stream(&contents)[..]).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.tables.samples.len(), 20);
    let first = loaded.tables.samples[1];
    assert_eq!((first.thread, first.stack), (ThreadId(0), Some(StackId(1))));
    let row = &loaded.tables.threads[0];
    assert_eq!((row.process, row.name), (ProcessId(0), StringId(0)));
    assert_eq!(loaded.tables.stacks[0].location, LocationId(0));
}

proptest! {
    #[test]
    fn any_content_ends_without_panic(
        changes in prop::collection::vec((0..3usize, any::<prop::sample::Index>(), any::<u8>()), 1..8)
    ) {
        let mut contents = contents();
        for (block, at, value) in changes {
            let block = &mut contents[block];
            let at = at.index(block.len());
            block[at] = value;
        }
        if let Ok(loaded) = read(&stream(&contents)[..]) {
            walk(&loaded);
        }
    }
}
