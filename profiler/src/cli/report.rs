//! `onlooker report`: from a recording to anything that can be made of one, anywhere.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use onlooker_flamegraph::{Format, Options, Selection, Target};
use onlooker_recording::read::{self, Loaded, ReadError};
use onlooker_recording::tables::Tables;

use super::args::ReportArgs;
use super::output::Output;
use crate::error::Error;

/// How many functions are shown when no report was asked for.
const HOTTEST: usize = 30;

pub(super) fn run(args: &ReportArgs) -> Result<u8, Error> {
    let target = target(args.output.as_deref(), args.format.as_deref())?;
    let format = match target {
        Some(Target::Report(format)) => Some(format),
        Some(Target::Recording) | None => None,
    };
    let Loaded { tables, warnings } = load(&args.input, format)?;
    for warning in &warnings {
        eprintln!("onlooker: {}: {warning}", args.input.display());
    }
    let options = Options {
        selection: args.states.selection(),
        threads: args.threads,
        full_filenames: args.full_filenames,
    };
    let selection = &options.selection;
    if let Some(line) = onlooker_flamegraph::asleep_line(&tables, selection) {
        eprintln!("onlooker: {line}");
    }
    let Some(target) = target else {
        eprintln!(
            "onlooker: {}",
            onlooker_flamegraph::summary_line(tables.counts())
        );
        print_hottest(&tables, selection, HOTTEST, &mut io::stdout());
        return Ok(0);
    };
    // Without -o, a format goes to stdout, where a pipe can take it.
    let output = Output::open(args.output.as_deref().unwrap_or(Path::new("-")))?;
    let path = output.path().to_owned();
    let written = output.write(|out| match target {
        Target::Report(format) => render(&tables, &options, format, out),
        Target::Recording => io::copy(&mut File::open(&args.input)?, out).map(drop),
    });
    written.map_err(|error| Error::Write {
        path,
        error,
        kept: String::new(),
    })?;
    Ok(0)
}

/// Writes a report; what can go wrong then is only the writing.
pub(super) fn render(
    tables: &Tables,
    options: &Options,
    format: Format,
    out: &mut dyn Write,
) -> io::Result<()> {
    match onlooker_flamegraph::render(tables, options, format, out) {
        Ok(_) => Ok(()),
        Err(onlooker_flamegraph::Error::Write(error)) => Err(error),
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}

/// Reads a recording for a report of this format, or for the hottest functions. Only what shows
/// the order in time needs every sample; else memory is bounded by what is distinct.
pub(super) fn read(input: impl Read, format: Option<Format>) -> Result<Loaded, ReadError> {
    match format {
        Some(Format::Speedscope) => read::read(input),
        _ => read::read_merged(input),
    }
}

fn load(path: &Path, format: Option<Format>) -> Result<Loaded, Error> {
    let file = File::open(path).map_err(|error| Error::NoInput {
        path: path.to_owned(),
        error,
    })?;
    read(BufReader::new(file), format).map_err(|error| Error::Data {
        path: path.to_owned(),
        error: error.to_string(),
    })
}

/// What to make: by name, or by the extension of the output. `None` when neither is given.
///
/// # Errors
/// [`Error::Usage`] for names and extensions that are not known, and for an output without an
/// extension (stdout, a device).
pub(super) fn target(path: Option<&Path>, name: Option<&str>) -> Result<Option<Target>, Error> {
    let usage = |error: onlooker_flamegraph::Error| Error::Usage(error.to_string());
    match (name, path) {
        (Some(name), _) => Target::from_name(name).map(Some).map_err(usage),
        (None, None) => Ok(None),
        (None, Some(path)) if path == Path::new("-") => {
            Err(Error::Usage("-o - needs -f FORMAT".to_owned()))
        }
        (None, Some(path)) => Target::from_extension(path)
            .map(Some)
            .map_err(|error| Error::Usage(format!("{error}; or name the format with -f"))),
    }
}

/// The hottest functions as a table.
pub(super) fn print_hottest(
    tables: &Tables,
    selection: &Selection,
    count: usize,
    out: &mut dyn Write,
) {
    let hot = onlooker_flamegraph::hottest(tables, selection, count);
    // Nobody listens any more: no failure.
    let _ = onlooker_flamegraph::write_hottest(&hot, selection.weight, out);
}
