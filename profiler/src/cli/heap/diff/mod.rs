//! `onlooker heap diff`: what changed between two images.

mod document;
mod table;

use std::path::PathBuf;

use clap::Args;
use onlooker_heap::diff::{Side, diff};
use onlooker_heap::image::Meta;

use crate::cli::stdout;
use crate::error::Error;
use crate::heap::{Report, image};
use document::Document;

/// `onlooker heap diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The earlier image
    #[arg(value_name = "A.olkh")]
    pub old: PathBuf,
    /// The later one
    #[arg(value_name = "B.olkh")]
    pub new: PathBuf,
    /// Rows of each table
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// Machine-readable output, with all rows
    #[arg(short, long)]
    pub json: bool,
}

pub(super) fn run(args: &DiffArgs) -> Result<u8, Error> {
    let progress = super::reading(&args.old);
    // Both before the first census: a file that is none is told at once.
    let mut old = image::open(&args.old)?;
    progress.working("reading the other image");
    let mut new = image::open(&args.new)?;
    progress.working("counting objects");
    let reports = [image::report(&mut old), image::report(&mut new)];
    let one_process = is_same_process(&old.meta, &new.meta);
    progress.working("comparing");
    let difference = diff(
        &Side {
            census: &reports[0].census,
            space: &old.space,
        },
        &Side {
            census: &reports[1].census,
            space: &new.space,
        },
        one_process,
    );
    drop(progress);
    let metas = [&old.meta, &new.meta];
    let notes = notes(metas, &reports, one_process);
    let document = Document::new(metas, &reports, one_process, notes, difference);
    stdout::print(&if args.json {
        stdout::json(&document)?
    } else {
        table::render(&document, args.limit)
    })?;
    Ok(0)
}

/// Whether addresses in both mean the same: it is one process, and one Python in it (`exec` keeps
/// the process).
fn is_same_process(old: &Meta, new: &Meta) -> bool {
    let known = old.process.identity.is_some() && old.process.identity == new.process.identity;
    known && old.process.pid == new.process.pid && old.roots == new.roots
}

/// What keeps the figures of both from being compared one by one.
fn notes(metas: [&Meta; 2], reports: &[Report; 2], one_process: bool) -> Vec<String> {
    let mut notes = Vec::new();
    let [old, new] = metas.map(|meta| &meta.process);
    if !one_process {
        notes.push(format!(
            "two processes ({} and {}): their objects are compared by type only",
            old.pid, new.pid
        ));
    }
    if old.python != new.python {
        notes.push(format!(
            "Python {} and {}: the same object may be of another size",
            old.python, new.python
        ));
    }
    if metas[0].taken_unix_ns > metas[1].taken_unix_ns {
        notes.push("the first image is the later one".to_owned());
    }
    for (side, report) in ["first", "second"].iter().zip(reports) {
        if !report.left_out.is_empty() {
            notes.push(format!(
                "the {side} image is not whole (--max-memory): what it lacks looks as if it were not there"
            ));
        }
    }
    notes
}
