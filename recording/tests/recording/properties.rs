//! What holds for any recording, any damage and any bytes.

use crate::common::{Made, SECOND_NS, check_ids, load, meaning, seconds};
use onlooker_recording::read::{Warning, read};
use onlooker_recording::tables::{Sample, State, ThreadId, Trust, WeightKind};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::LazyLock;

/// A recording of ten blocks, made once.
static RECORDING: LazyLock<(Vec<u8>, onlooker_recording::tables::Tables, Vec<usize>)> =
    LazyLock::new(|| seconds(10));

fn no_panic(bytes: &[u8]) {
    if let Ok(loaded) = read(bytes) {
        check_ids(&loaded);
    }
}

/// Samples that the warnings say are missing.
fn missing(warnings: &[Warning]) -> u64 {
    let samples = |warning: &Warning| match warning {
        Warning::MissingBlocks { samples, .. } => *samples,
        Warning::Unresolved { table, rows }
            if *table == onlooker_recording::read::Table::Samples =>
        {
            *rows
        }
        _ => 0,
    };
    warnings.iter().map(samples).sum()
}

proptest! {
    #[test]
    fn any_bytes_end_without_panic(bytes in vec(any::<u8>(), 0..2000)) {
        no_panic(&bytes);
        let mut after_head = RECORDING.0[..12].to_vec();
        after_head.extend(&bytes);
        no_panic(&after_head);
    }

    #[test]
    fn any_cut_leaves_the_whole_blocks(cut in 0..RECORDING.0.len()) {
        let (bytes, expected, ends) = &*RECORDING;
        let whole = ends.iter().filter(|end| **end <= cut).count();
        match read(&bytes[..cut]) {
            Err(_) => prop_assert_eq!(whole, 0),
            Ok(loaded) => {
                check_ids(&loaded);
                prop_assert!(whole > 0);
                let samples = (whole - 1) * 10;
                prop_assert_eq!(&loaded.tables.samples, &expected.samples[..samples]);
                prop_assert_eq!(loaded.tables.counts().verified, samples as u64);
                prop_assert_eq!(loaded.warnings.last(), Some(&Warning::Unfinished));
            }
        }
    }

    #[test]
    fn any_flipped_byte_is_noticed(at in 0..RECORDING.0.len(), mask in 1u8..) {
        let (bytes, expected, _) = &*RECORDING;
        let mut flipped = bytes.clone();
        flipped[at] ^= mask;
        match read(&flipped[..]) {
            Err(_) => prop_assert!(at < 12),
            Ok(loaded) => {
                check_ids(&loaded);
                prop_assert!(!loaded.warnings.is_empty());
                let read = loaded.tables.samples.len() as u64;
                let all = expected.samples.len() as u64;
                prop_assert_eq!(read + missing(&loaded.warnings), all);
            }
        }
    }

    #[test]
    fn any_damage_leaves_only_what_was_written(
        spots in vec((0..RECORDING.0.len(), any::<u8>()), 0..30),
        drop in 12..RECORDING.0.len(),
        dropped in 0..400usize,
    ) {
        let (bytes, expected, _) = &*RECORDING;
        let mut damaged = bytes.clone();
        for (at, value) in spots {
            if at >= 12 {
                damaged[at] = value;
            }
        }
        let end = damaged.len().min(drop + dropped);
        damaged.drain(drop..end);
        if let Ok(loaded) = read(&damaged[..]) {
            check_ids(&loaded);
            let written = meaning(expected);
            for said in meaning(&loaded.tables) {
                prop_assert!(written.contains(&said));
            }
        }
    }

    #[test]
    fn any_recording_comes_back(
        samples in vec((any::<u64>(), 0..3usize, 0..20u32, any::<u8>(), any::<u64>()), 0..200),
        blocks in vec(any::<bool>(), 200),
    ) {
        let mut made = Made::new();
        let threads: Vec<ThreadId> = (1..4).map(|pid| made.thread(pid)).collect();
        let mut stack = None;
        for (at, (time_ns, thread, name, bits, weight)) in samples.into_iter().enumerate() {
            stack = match name {
                0 => None,
                name => Some(made.frame(stack, &format!("f{name}"), Some(name))),
            };
            let flag = |bit: u8| bits & bit != 0;
            let reason = flag(16).then(|| made.string("torn"));
            made.any_sample(Sample {
                time_ns,
                thread: threads[thread],
                stack,
                state: State {
                    running: flag(1),
                    holds_gil: flag(2),
                    waits_for_gil: flag(4),
                    known: flag(8),
                sleeping: flag(64),
                },
                trust: if flag(16) { Trust::Unverified } else { Trust::Verified },
                reason,
                weight_kind: if flag(32) { WeightKind::BytesGrown } else { WeightKind::Samples },
                weight,
            });
            if blocks[at] {
                made.block(at as u64 * SECOND_NS);
            }
        }
        let (bytes, expected, _) = made.finish();
        let loaded = load(&bytes);
        prop_assert_eq!(loaded.warnings, []);
        prop_assert_eq!(loaded.tables, expected);
    }
}
