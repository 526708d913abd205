//! Puts the rows of all readable blocks together and resolves their ids.
//!
//! Ids are resolved when the whole file has been read: a row that was lost with its block comes
//! again later, and what refers to it may stand in between. What still refers to something
//! missing is dropped and counted; nothing is guessed. Where nothing is missing, ids stay as
//! they were written.

use super::decode::{Rows, Run};
use super::error::{Table, Warning};
use crate::tables::{
    Header, Location, LocationId, Mapping, Process, ProcessId, RssPoint, Sample, StackId,
    StackNode, StringId, Tables, Thread, ThreadId,
};
use std::collections::BTreeMap;

/// Rows by their id in the file. A tree, for a damaged or hostile file has gaps of any size.
type Gathered<T> = BTreeMap<u32, T>;

/// Rows of every table, as far as they were read.
#[derive(Default)]
pub(super) struct Gathering {
    header: Option<Header>,
    strings: Gathered<String>,
    locations: Gathered<Location>,
    stacks: Gathered<StackNode>,
    processes: Gathered<Process>,
    threads: Gathered<Thread>,
    mappings: Gathered<Mapping>,
    pub(super) samples: Vec<Sample>,
    pub(super) rss: Vec<RssPoint>,
}

/// From ids in the file to rows in [`Tables`]: the ids that were kept, in order.
struct Kept(Vec<u32>);

impl Kept {
    fn row(&self, id: u32) -> Option<u32> {
        // Without a gap before it an id is its own row.
        if self.0.get(id as usize) == Some(&id) {
            return Some(id);
        }
        self.0.binary_search(&id).ok().map(|row| row as u32)
    }
}

fn gather<T>(into: &mut Gathered<T>, run: Run<T>) {
    for (id, row) in (run.first_id..u32::MAX).zip(run.rows) {
        into.entry(id).or_insert(row);
    }
}

/// Keeps the rows that `resolve` resolves, and warns about the others.
fn keep<T>(
    table: Table,
    gathered: Gathered<T>,
    warnings: &mut Vec<Warning>,
    resolve: impl Fn(T) -> Option<T>,
) -> (Kept, Vec<T>) {
    let total = gathered.len();
    let (ids, rows): (Vec<u32>, Vec<T>) = gathered
        .into_iter()
        .filter_map(|(id, row)| resolve(row).map(|row| (id, row)))
        .unzip();
    warn_dropped(table, total - rows.len(), warnings);
    (Kept(ids), rows)
}

fn warn_dropped(table: Table, rows: usize, warnings: &mut Vec<Warning>) {
    if rows > 0 {
        let rows = rows as u64;
        warnings.push(Warning::Unresolved { table, rows });
    }
}

/// Stacks are resolved one after the other: a parent always comes before its children.
fn keep_stacks(
    gathered: &Gathered<StackNode>,
    locations: &Kept,
    warnings: &mut Vec<Warning>,
) -> (Kept, Vec<StackNode>) {
    let (mut kept, mut rows) = (Kept(Vec::new()), Vec::new());
    for (&id, node) in gathered {
        let parent = match node.parent {
            None => Some(None),
            Some(StackId(parent)) => kept.row(parent).map(|row| Some(StackId(row))),
        };
        if let (Some(parent), Some(location)) = (parent, locations.row(node.location.0)) {
            kept.0.push(id);
            rows.push(StackNode {
                parent,
                location: LocationId(location),
            });
        }
    }
    warn_dropped(Table::Stacks, gathered.len() - rows.len(), warnings);
    (kept, rows)
}

/// `Some(None)` for no id, `None` for one that cannot be resolved.
fn optional(kept: &Kept, id: Option<u32>) -> Option<Option<u32>> {
    match id {
        None => Some(None),
        Some(id) => kept.row(id).map(Some),
    }
}

impl Gathering {
    /// Adds the rows of a block; those that are there already stay.
    pub(super) fn add(&mut self, rows: Rows) {
        if self.header.is_none() {
            self.header = rows.header;
        }
        gather(&mut self.strings, rows.strings);
        gather(&mut self.locations, rows.locations);
        gather(&mut self.stacks, rows.stacks);
        gather(&mut self.processes, rows.processes);
        gather(&mut self.threads, rows.threads);
        gather(&mut self.mappings, rows.mappings);
    }

    /// The tables, without totals.
    pub(super) fn resolve(self, warnings: &mut Vec<Warning>) -> Tables {
        if self.header.is_none() {
            warnings.push(Warning::NoHeader);
        }
        let strings = Kept(self.strings.keys().copied().collect());
        let processes = Kept(self.processes.keys().copied().collect());
        let (locations, location_rows) = keep(Table::Locations, self.locations, warnings, |row| {
            Some(Location {
                name: StringId(strings.row(row.name.0)?),
                filename: StringId(strings.row(row.filename.0)?),
                ..row
            })
        });
        let (stacks, stack_rows) = keep_stacks(&self.stacks, &locations, warnings);
        let (threads, thread_rows) = keep(Table::Threads, self.threads, warnings, |row| {
            Some(Thread {
                process: ProcessId(processes.row(row.process.0)?),
                name: StringId(strings.row(row.name.0)?),
                ..row
            })
        });
        let (_, mapping_rows) = keep(Table::Mappings, self.mappings, warnings, |row| {
            Some(Mapping {
                process: ProcessId(processes.row(row.process.0)?),
                ..row
            })
        });
        let samples = keep_in_place(Table::Samples, self.samples, warnings, |row| {
            Some(Sample {
                thread: ThreadId(threads.row(row.thread.0)?),
                stack: optional(&stacks, row.stack.map(|id| id.0))?.map(StackId),
                reason: optional(&strings, row.reason.map(|id| id.0))?.map(StringId),
                ..*row
            })
        });
        let rss = keep_in_place(Table::Rss, self.rss, warnings, |row| {
            Some(RssPoint {
                process: ProcessId(processes.row(row.process.0)?),
                ..*row
            })
        });
        Tables {
            header: self.header.unwrap_or_default(),
            strings: self.strings.into_values().collect(),
            locations: location_rows,
            stacks: stack_rows,
            processes: self.processes.into_values().collect(),
            threads: thread_rows,
            samples,
            rss,
            mappings: mapping_rows,
            ..Tables::default()
        }
    }
}

/// As [`keep`], for rows that nothing refers to. There are many of them, so they stay where
/// they are.
fn keep_in_place<T>(
    table: Table,
    mut rows: Vec<T>,
    warnings: &mut Vec<Warning>,
    resolve: impl Fn(&T) -> Option<T>,
) -> Vec<T> {
    let total = rows.len();
    rows.retain_mut(|row| {
        resolve(row).is_some_and(|resolved| {
            *row = resolved;
            true
        })
    });
    warn_dropped(table, total - rows.len(), warnings);
    rows
}
