//! `onlooker tracemalloc`: what the target's own tracemalloc wrote down, without asking it.

mod table;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use onlooker_flamegraph::{Mode, Options, Selection};
use onlooker_heap::tracemalloc::{By, Quality, Snapshot, diff};
use onlooker_recording::tables::WeightKind;

use super::output::Output;
use super::progress::Progress;
use super::report::{self, Report, Wanted};
use super::stdout;
use crate::attach;
use crate::error::Error;
use crate::target;
use crate::tracemalloc::document::{ChangeRow, DiffDocument, Document, Origin, name};
use crate::tracemalloc::{self, chart};

/// `onlooker tracemalloc`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct TracemallocArgs {
    /// What to do with snapshots
    #[command(subcommand)]
    pub command: Option<TracemallocCommand>,
    /// Process id
    #[arg(short, long, value_name = "PID", required = true)]
    pub pid: Option<i32>,
    /// What blocks are added up by
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Way::Line)]
    pub by: Way,
    /// Rows of the table
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub limit: usize,
    /// Print the whole snapshot, which `diff` reads, instead of a table
    #[arg(short, long)]
    pub json: bool,
    /// Write a file instead: x.json is the snapshot, x.svg a flame graph of live bytes, x.txt
    /// collapsed stacks; `-` is stdout
    #[arg(short, long, value_name = "FILE", conflicts_with = "json")]
    pub output: Option<PathBuf>,
    /// json, flamegraph or svg, raw or txt, speedscope [default: by the extension of FILE]
    #[arg(short, long, value_name = "FORMAT", requires = "output")]
    pub format: Option<String>,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum TracemallocCommand {
    /// Show what changed between two snapshots
    Diff(DiffArgs),
}

/// `onlooker tracemalloc diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The earlier snapshot (JSON)
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// The later one
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// What blocks are added up by
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Way::Line)]
    pub by: Way,
    /// Rows of the table
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub limit: usize,
    /// Machine-readable output
    #[arg(short, long)]
    pub json: bool,
}

/// What `--by` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// File and line of the newest frame
    Line,
    /// File of the newest frame
    File,
    /// The whole traceback
    Traceback,
}

impl From<Way> for By {
    fn from(way: Way) -> Self {
        match way {
            Way::Line => Self::Line,
            Way::File => Self::File,
            Way::Traceback => Self::Traceback,
        }
    }
}

/// What `-o` writes.
enum Kind {
    Snapshot,
    Report(Report),
}

pub(super) fn run(args: &TracemallocArgs) -> Result<u8, Error> {
    match (&args.command, args.pid) {
        (Some(TracemallocCommand::Diff(args)), _) => compare(args),
        (None, Some(pid)) => show(args, pid),
        (None, None) => Err(Error::Usage("-p PID is missing".to_owned())),
    }
}

fn show(args: &TracemallocArgs, pid: i32) -> Result<u8, Error> {
    let output = match &args.output {
        Some(path) => {
            let kind = kind(path, args.format.as_deref())?;
            Some((Output::open(path)?, kind))
        }
        None => None,
    };
    let progress = Progress::begin("reading the tables of tracemalloc");
    let mut attached = attach::attach_for_memory(pid, attach::STARTING)?;
    let (snapshot, quality) = tracemalloc::read(&mut attached)?;
    drop(progress);
    let origin = Origin {
        pid,
        python: attached.version.to_string(),
        command: target::command_line(pid),
    };
    let by = By::from(args.by);
    let document = Document::new(origin.clone(), &snapshot, &quality, by);
    complain(&document, &quality);
    let Some((output, kind)) = output else {
        let text = if args.json {
            stdout::json(&document)?
        } else {
            table::sites(&document, args.limit)
        };
        stdout::print(&text)?;
        return Ok(0);
    };
    let path = output.path().to_owned();
    let written = output.write(|out| match kind {
        Kind::Snapshot => out.write_all(
            stdout::json(&document)
                .map_err(io::Error::other)?
                .as_bytes(),
        ),
        Kind::Report(report) => draw(&origin, &snapshot, report, out),
    });
    written.map_err(|error| Error::Write {
        path,
        error,
        kept: String::new(),
    })?;
    Ok(0)
}

fn draw(
    origin: &Origin,
    snapshot: &Snapshot,
    report: Report,
    out: &mut dyn Write,
) -> io::Result<()> {
    let options = Options {
        selection: Selection {
            mode: Mode::Wall,
            weight: WeightKind::BytesKept,
            ..Selection::default()
        },
        ..Options::default()
    };
    report::render(&chart::tables(origin, snapshot), &options, report, out)
}

/// What `-o` and `-f` mean.
fn kind(path: &Path, format: Option<&str>) -> Result<Kind, Error> {
    if report::is_json(Some(path), format) {
        return Ok(Kind::Snapshot);
    }
    match report::target(Some(path), format, None)? {
        Some(Wanted::Report(report)) => Ok(Kind::Report(report)),
        _ => Err(Error::Usage(
            "tracemalloc writes json, flamegraph, raw and speedscope".to_owned(),
        )),
    }
}

/// Says what is missing.
fn complain(document: &Document, quality: &Quality) {
    let unread = document.unread;
    if unread.torn_buckets > 0 {
        say!(
            "{} chains of the tables changed whenever they were read and are missing",
            unread.torn_buckets
        );
    }
    if unread.stale > 0 {
        say!(
            "size and traceback of {} blocks could not be read; they are missing",
            unread.stale
        );
    }
    if document.traced_bytes.is_none() {
        say!("the interpreter's own sum could not be found (no symbols) to compare with");
    }
    if quality.before.max_frames == 1 && document.by == name(By::Traceback) {
        say!("tracemalloc keeps one frame of each block; start it with more for tracebacks");
    }
}

fn compare(args: &DiffArgs) -> Result<u8, Error> {
    let (old_document, old) = Document::load(&args.old)?;
    let (new_document, new) = Document::load(&args.new)?;
    let by = By::from(args.by);
    let document = DiffDocument {
        by: name(by),
        count: [old_document.count, new_document.count],
        bytes: [old_document.bytes, new_document.bytes],
        changes: diff(&old, &new, by)
            .into_iter()
            .map(|change| ChangeRow::new(change, by))
            .collect(),
    };
    stdout::print(&if args.json {
        stdout::json(&document)?
    } else {
        table::changes(&document, args.limit)
    })?;
    Ok(0)
}
