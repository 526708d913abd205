//! The one way from tables to a report.

use std::io::{BufWriter, Write};

use onlooker_recording::tables::Tables;

use crate::error::Error;
use crate::fold;
use crate::format::Format;
use crate::labels::group_by;
use crate::select::Selection;
use crate::{collapsed, speedscope, svg};

/// How a report is made. The default takes every sample, does not tell threads apart and shortens
/// file names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Options {
    /// Which samples count.
    pub selection: Selection,
    /// Whether each thread stands under a root frame of its own. Speedscope always has one
    /// profile per thread.
    pub threads: bool,
    /// Whether file names stay as the code objects have them. Otherwise they are cut to what
    /// tells the recording's files apart.
    pub full_filenames: bool,
}

/// What went into a report. Nothing is dropped without a count here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Weight of all samples with a stack, in the unit of [`Selection::weight`]. Where it would
    /// not fit it stays at the largest number.
    pub weight: u64,
    /// Samples with a stack. Here and below a row whose weight counts samples is as many.
    pub samples: u64,
    /// Distinct stacks among them, as the recording tells them apart. A report that shows no
    /// columns may show fewer.
    pub distinct_stacks: u64,
    /// Of `samples`: those that did not pass every check.
    pub unverified: u64,
    /// Of `samples`: those whose stack is cut.
    pub cut: u64,
    /// Samples that count but have no Python frame; they appear in no flame graph and no line.
    pub empty: u64,
    /// Samples that the selection left out.
    pub left_out: u64,
}

/// Writes a report and returns what went into it.
///
/// The output is buffered here and flushed at the end. The cost grows with the number of samples
/// and, far more steeply, of distinct stacks. The tables must be consistent, as a reader of
/// recordings makes sure: ids exist, and a stack node's parent has a smaller id.
pub fn render(
    tables: &Tables,
    options: &Options,
    format: Format,
    out: &mut dyn Write,
) -> Result<Summary, Error> {
    let folded = fold::fold(tables, &options.selection, group_by(tables, options));
    let mut out = BufWriter::new(out);
    match format {
        Format::Flamegraph => svg::write(tables, options, &folded, &mut out)?,
        Format::Raw => collapsed::write(tables, options, &folded, &mut out)?,
        Format::Speedscope => speedscope::write(tables, options, &folded.summary, &mut out)?,
    }
    out.flush()?;
    Ok(folded.summary)
}
