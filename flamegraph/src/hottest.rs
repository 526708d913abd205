//! The functions that took most, for an answer right after recording.

use std::collections::HashMap;
use std::io::{self, Write};

use onlooker_recording::tables::{Tables, WeightKind};

use crate::fold::{self, GroupBy, Tree};
use crate::labels::file_names;
use crate::select::Selection;
use crate::text::{shorten, visible};
use crate::units::{bytes, count, duration, percent, share};

/// A function and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Hot {
    /// Qualified name from 3.11, plain name before.
    pub name: String,
    /// Short file name.
    pub file: String,
    /// Weight of the samples in which it was the innermost frame.
    pub own: u64,
    /// Weight of the samples in which it was anywhere on the stack, each counted once however
    /// often the function called itself.
    pub total: u64,
    /// `own` as a share of all samples with a stack, 0 to 1.
    pub own_share: f64,
    /// `total` as a share of all samples with a stack, 0 to 1.
    pub total_share: f64,
}

/// The `n` functions that took most themselves, those with the larger total first where that is
/// equal.
///
/// A function is a name in a file: the lines of its frames are added up, and so are two functions
/// of the same qualified name in one file. The cost is linear in the distinct stacks' frames that
/// are not shared.
#[must_use]
pub fn hottest(tables: &Tables, selection: &Selection, n: usize) -> Vec<Hot> {
    let folded = fold::fold(tables, selection, GroupBy::Nothing);
    let (functions, of_location) = functions(tables);
    let mut tree = Tree::new();
    for row in &folded.rows {
        tree.add(tables, Tree::ROOT, row.stack, row.weight, |location| {
            of_location[location.index()]
        });
    }
    let totals = tree.totals();
    let mut own_of = vec![0_u64; functions.len()];
    let mut total_of = vec![0_u64; functions.len()];
    // How often a function is on the path from the root to the node that is visited. Only its
    // outermost frame adds to its total: the inner ones are inside of that already.
    let mut on_path = vec![0_u32; functions.len()];
    let mut path: Vec<usize> = Vec::new();
    let ranks: Vec<u32> = (0..).take(functions.len()).collect();
    tree.walk(&ranks, |id, depth| {
        for left in path.drain(depth - 1..) {
            on_path[left] -= 1;
        }
        let node = tree.nodes[id as usize];
        let function = node.label as usize;
        own_of[function] = own_of[function].saturating_add(node.own);
        if on_path[function] == 0 {
            total_of[function] = total_of[function].saturating_add(totals[id as usize]);
        }
        on_path[function] += 1;
        path.push(function);
    });

    let mut order: Vec<usize> = (0..functions.len())
        .filter(|&function| total_of[function] > 0)
        .collect();
    order.sort_by(|&left, &right| {
        (own_of[right], total_of[right])
            .cmp(&(own_of[left], total_of[left]))
            .then_with(|| functions[left].cmp(&functions[right]))
    });
    let whole = folded.summary.weight;
    order
        .into_iter()
        .take(n)
        .map(|function| Hot {
            name: functions[function].0.to_owned(),
            file: functions[function].1.to_owned(),
            own: own_of[function],
            total: total_of[function],
            own_share: share(own_of[function], whole),
            total_share: share(total_of[function], whole),
        })
        .collect()
}

/// The functions of a recording as name and short file, and the function of each location.
fn functions(tables: &Tables) -> (Vec<(&str, &str)>, Vec<u32>) {
    let mut functions = Vec::new();
    let mut ids = HashMap::new();
    let of_location = tables
        .locations
        .iter()
        .zip(file_names(tables, false))
        .map(|(location, file)| {
            let function = (tables.string(location.name), file);
            *ids.entry(function).or_insert_with(|| {
                functions.push(function);
                u32::try_from(functions.len() - 1).expect("fewer than 2^32 functions")
            })
        })
        .collect();
    (functions, of_location)
}

/// Width of a terminal that nobody has made wider.
const COLUMNS: usize = 80;

/// Writes functions as a plain table of at most 80 columns with a heading. Names that do not fit
/// lose their middle. No functions give no output.
pub fn write_hottest(hot: &[Hot], weight: WeightKind, out: &mut dyn Write) -> io::Result<()> {
    if hot.is_empty() {
        return Ok(());
    }
    let amount = |value: u64| match weight {
        WeightKind::Samples => count(value),
        WeightKind::Nanoseconds => duration(value),
        WeightKind::BytesGrown | WeightKind::BytesKept | WeightKind::BytesFile => {
            bytes(value as f64)
        }
    };
    let own_heading = match weight {
        WeightKind::Samples => "samples",
        WeightKind::Nanoseconds => "time",
        WeightKind::BytesGrown => "grown",
        WeightKind::BytesKept => "kept",
        WeightKind::BytesFile => "files",
    };
    let own: Vec<String> = hot.iter().map(|hot| amount(hot.own)).collect();
    let width = own
        .iter()
        .map(|own| own.chars().count())
        .chain([own_heading.len()])
        .max()
        .unwrap_or(0);
    writeln!(
        out,
        "{:>6}  {:>6}  {own_heading:>width$}  function",
        "own", "total"
    )?;
    let room = COLUMNS.saturating_sub(6 + 2 + 6 + 2 + width + 2);
    for (hot, own) in hot.iter().zip(own) {
        let name = if hot.name.is_empty() { "?" } else { &hot.name };
        let file = if hot.file.is_empty() { "?" } else { &hot.file };
        let function = format!("{} ({})", visible(name), visible(file));
        writeln!(
            out,
            "{:>6}  {:>6}  {own:>width$}  {}",
            percent(hot.own_share),
            percent(hot.total_share),
            shorten(&function, room)
        )?;
    }
    Ok(())
}
