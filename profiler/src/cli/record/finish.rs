//! The end of a recording: the report, the honest line, the hottest functions.

use std::fs;
use std::io::{self, BufWriter, Seek};

use onlooker_flamegraph::By;

use super::super::report;
use super::plan::{Plan, Stops};
use super::spool::Spooled;
use crate::error::Error;
use crate::target;

/// How many functions the table at the end shows.
const HOTTEST: usize = 10;

/// Makes the report, removes the spool, says what there is.
pub(super) fn finish(plan: Plan, mut spool: Spooled, root: i32) -> Result<(), Error> {
    let tables = spool.load(plan.report)?;
    let Plan {
        report: format,
        output,
        options,
        stops,
        ..
    } = plan;
    if let Some(final_path) = spool.becomes.clone() {
        // The temporary file of the check is not needed.
        drop(output);
        // A rename to itself, too, fails when the folder is gone.
        let renamed = fs::rename(&spool.path, &final_path);
        renamed.map_err(|error| spool.kept(&final_path, error))?;
        let shown = final_path.display();
        say!("wrote {shown}; render it with `onlooker report {shown} -o flame.svg`");
    } else if let Some(output) = output {
        let to = output.path().to_owned();
        let named = output.is_file();
        let file = &mut spool.file;
        let written = output.write(|out| match format {
            Some(format) => report::render(&tables, &options, format, out),
            // A recording that goes to stdout or a device.
            None => {
                file.rewind()?;
                io::copy(file, out).map(drop)
            }
        });
        written.map_err(|error| spool.kept(&to, error))?;
        let _ = fs::remove_file(&spool.path);
        if named {
            say!("wrote {}", to.display());
        }
    }
    let summary = onlooker_flamegraph::summary_line(&spool.totals);
    say!("{summary}");
    let selection = &options.selection;
    if let Some(line) = onlooker_flamegraph::asleep_line(&tables, selection) {
        say!("{line}");
        if target::is_stopped(root) {
            say!("process {root} is stopped (state T); `kill -CONT {root}` lets it go on");
        }
    }
    // A table is many small pieces.
    let mut out = BufWriter::new(io::stderr().lock());
    match stops {
        Some(Stops::Growth { .. }) => {
            report::print_sites(&tables, By::default(), HOTTEST, &mut out);
        }
        _ => report::print_hottest(&tables, selection, HOTTEST, &mut out),
    }
    Ok(())
}
