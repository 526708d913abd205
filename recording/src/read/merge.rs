//! Samples that differ only in their time, added up while they are read.
//!
//! A recording of hours has many samples and few distinct ones. Reports that do not show the
//! order in time need the distinct ones only.

use crate::tables::{Sample, StackId, State, StringId, ThreadId, Trust, WeightKind};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// All of a sample but its time and its weight.
type Key = (ThreadId, Option<StackId>, State, Trust, Option<StringId>);

/// Where each distinct sample stands.
#[derive(Default)]
pub(super) struct Merger {
    rows: HashMap<Key, usize>,
}

impl Merger {
    /// Adds samples to those that are there; how many are new. Only weights that count samples
    /// are added up: such a sample stands for as many.
    pub(super) fn add(&mut self, into: &mut Vec<Sample>, samples: Vec<Sample>) -> usize {
        let before = into.len();
        for sample in samples {
            if sample.weight_kind != WeightKind::Samples {
                into.push(sample);
                continue;
            }
            let key = (
                sample.thread,
                sample.stack,
                sample.state,
                sample.trust,
                sample.reason,
            );
            match self.rows.entry(key) {
                Entry::Occupied(row) => {
                    let weight = &mut into[*row.get()].weight;
                    *weight = weight.saturating_add(sample.weight);
                }
                Entry::Vacant(row) => {
                    row.insert(into.len());
                    into.push(sample);
                }
            }
        }
        into.len() - before
    }
}
