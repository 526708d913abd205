//! Samples that differ only in their time, read as one.

use crate::common::{Made, SECOND_NS, seconds};
use onlooker_recording::read::{read, read_merged};
use onlooker_recording::tables::{Sample, Tables};
use std::collections::HashMap;

/// The weight of all samples that differ only in their time, and the first time.
fn added_up(samples: &[Sample]) -> HashMap<String, (u64, u64)> {
    let mut sums = HashMap::new();
    for sample in samples {
        let bare = Sample {
            time_ns: 0,
            weight: 0,
            ..*sample
        };
        let sum = sums
            .entry(format!("{bare:?}"))
            .or_insert((sample.time_ns, 0));
        sum.1 += sample.weight;
    }
    sums
}

#[test]
fn weights_are_added_up_and_all_else_stays() {
    let (bytes, expected, _) = seconds(40);
    let merged = read_merged(&bytes[..]).unwrap();
    assert_eq!(merged.warnings, []);
    let tables = merged.tables;
    assert!(tables.samples.len() < expected.samples.len());
    assert_eq!(added_up(&tables.samples), added_up(&expected.samples));
    assert_eq!(tables.samples.len(), added_up(&tables.samples).len());
    let without = |tables: &Tables| Tables {
        samples: Vec::new(),
        ..tables.clone()
    };
    assert_eq!(without(&tables), without(&read(&bytes[..]).unwrap().tables));
}

#[test]
fn the_length_of_a_recording_takes_no_memory() {
    let rows = |seconds: u64| {
        let mut made = Made::new();
        let thread = made.thread(42);
        let root = made.frame(None, "<module>", Some(1));
        let inner = made.frame(Some(root), "work", Some(2));
        for tick in 0..seconds * 100 {
            let stack = if tick % 3 == 0 { root } else { inner };
            made.sample(tick * SECOND_NS / 100, thread, Some(stack));
            if tick % 100 == 99 {
                made.block((tick + 1) * SECOND_NS / 100);
            }
        }
        read_merged(&made.finish().0[..])
            .unwrap()
            .tables
            .samples
            .len()
    };
    assert_eq!(rows(1), rows(100));
}
