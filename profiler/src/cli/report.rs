//! `onlooker report`: from a recording to anything that can be made of one, anywhere.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use onlooker_flamegraph::{By, Format, Options, Selection, Target};
use onlooker_recording::read::{self, Loaded, ReadError};
use onlooker_recording::tables::{Sample, Tables, WeightKind};

use super::args::ReportArgs;
use super::output::Output;
use crate::error::Error;

/// How many functions are shown when no report was asked for.
const HOTTEST: usize = 30;

pub(super) fn run(args: &ReportArgs) -> Result<u8, Error> {
    let by = args.sites.then_some(args.by);
    let target = target(args.output.as_deref(), args.format.as_deref(), by)?;
    let report = match target {
        Some(Wanted::Report(report)) => Some(report),
        Some(Wanted::Recording) | None => None,
    };
    let Loaded { tables, warnings } = load(&args.input, report)?;
    for warning in &warnings {
        say!("{}: {warning}", args.input.display());
    }
    let growth_only =
        || onlooker_flamegraph::has_growth(&tables) && !has(&tables, WeightKind::Samples);
    let weight = args.weight.unwrap_or_else(|| match growth_only() {
        true => WeightKind::BytesKept,
        false => WeightKind::Samples,
    });
    let grew = match weight {
        WeightKind::Samples if by.is_none() => true,
        WeightKind::BytesFile if by.is_none() => has(&tables, weight),
        _ => onlooker_flamegraph::has_growth(&tables),
    };
    if !grew {
        return Err(Error::NothingGrew {
            path: args.input.clone(),
        });
    }
    let options = Options {
        selection: Selection {
            weight,
            ..args.states.selection()
        },
        threads: args.threads,
        full_filenames: args.full_filenames,
    };
    let selection = &options.selection;
    if let Some(line) = onlooker_flamegraph::asleep_line(&tables, selection) {
        say!("{line}");
    }
    let Some(target) = target else {
        say!("{}", onlooker_flamegraph::summary_line(tables.counts()));
        match by {
            Some(by) => print_sites(&tables, by, HOTTEST, &mut io::stdout()),
            None => print_hottest(&tables, selection, HOTTEST, &mut io::stdout()),
        }
        return Ok(0);
    };
    // Without -o, a format goes to stdout, where a pipe can take it.
    let output = Output::open(args.output.as_deref().unwrap_or(Path::new("-")))?;
    let path = output.path().to_owned();
    let written = output.write(|out| match target {
        Wanted::Report(report) => render(&tables, &options, report, out),
        Wanted::Recording => io::copy(&mut File::open(&args.input)?, out).map(drop),
    });
    written.map_err(|error| Error::Write {
        path,
        error,
        kept: String::new(),
    })?;
    Ok(0)
}

/// Whether there is any sample of this weight.
fn has(tables: &Tables, weight: WeightKind) -> bool {
    let counts = |sample: &Sample| sample.weight_kind == weight;
    tables.samples.iter().any(counts)
}

/// What an output file is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The recording itself.
    Recording,
    /// Something made of it.
    Report(Report),
}

/// What can be made of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// Of all samples.
    Of(Format),
    /// JSON of growth by site.
    Sites(By),
}

/// Writes a report; what can go wrong then is only the writing.
pub(super) fn render(
    tables: &Tables,
    options: &Options,
    report: Report,
    out: &mut dyn Write,
) -> io::Result<()> {
    let format = match report {
        Report::Of(format) => format,
        Report::Sites(by) => {
            let sites = onlooker_flamegraph::sites(tables, by);
            return onlooker_flamegraph::write_sites_json(&sites, out);
        }
    };
    match onlooker_flamegraph::render(tables, options, format, out) {
        Ok(_) => Ok(()),
        Err(onlooker_flamegraph::Error::Write(error)) => Err(error),
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}

/// Reads a recording for this, or for the hottest functions. Only what shows the order in time
/// needs every sample; else memory is bounded by what is distinct.
pub(super) fn read(input: impl Read, report: Option<Report>) -> Result<Loaded, ReadError> {
    match report {
        Some(Report::Of(Format::Speedscope)) => read::read(input),
        _ => read::read_merged(input),
    }
}

fn load(path: &Path, report: Option<Report>) -> Result<Loaded, Error> {
    let file = File::open(path).map_err(|error| Error::NoInput {
        path: path.to_owned(),
        error,
    })?;
    read(BufReader::new(file), report).map_err(|error| Error::Data {
        path: path.to_owned(),
        error: error.to_string(),
    })
}

/// What to make: by name, or by the extension of the output. `None` when neither is given. With
/// `sites`, `json` is one of them.
///
/// # Errors
/// [`Error::Usage`] for names and extensions that are not known, and for an output without an
/// extension (stdout, a device).
pub(super) fn target(
    path: Option<&Path>,
    name: Option<&str>,
    sites: Option<By>,
) -> Result<Option<Wanted>, Error> {
    let usage = |error: onlooker_flamegraph::Error| Error::Usage(error.to_string());
    let known = |target| {
        Some(match target {
            Target::Recording => Wanted::Recording,
            Target::Report(format) => Wanted::Report(Report::Of(format)),
        })
    };
    if let Some(by) = sites
        && is_json(path, name)
    {
        return Ok(Some(Wanted::Report(Report::Sites(by))));
    }
    match (name, path) {
        (Some(name), _) => Target::from_name(name).map(known).map_err(usage),
        (None, None) => Ok(None),
        (None, Some(path)) if path == Path::new("-") => {
            Err(Error::Usage("-o - needs -f FORMAT".to_owned()))
        }
        (None, Some(path)) => Target::from_extension(path)
            .map(known)
            .map_err(|error| Error::Usage(format!("{error}; or name the format with -f"))),
    }
}

/// Whether JSON is asked for, and not that of speedscope.
pub(super) fn is_json(path: Option<&Path>, name: Option<&str>) -> bool {
    let ends = |path: &Path, end| {
        let name = path.to_string_lossy().to_ascii_lowercase();
        name.ends_with(end)
    };
    match (name, path) {
        (Some(name), _) => name.eq_ignore_ascii_case("json"),
        (None, Some(path)) => ends(path, ".json") && !ends(path, ".speedscope.json"),
        (None, None) => false,
    }
}

/// Growth by site as a table.
pub(super) fn print_sites(tables: &Tables, by: By, count: usize, out: &mut dyn Write) {
    // Nobody listens any more: no failure.
    let _ = onlooker_flamegraph::write_sites(tables, by, count, out);
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
