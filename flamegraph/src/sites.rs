//! Growth by site: who made the process bigger, and what of it was kept.
//!
//! A site is where the innermost Python frame of a page fault stood. Samples of growth are few (one
//! for each 256 KiB by default), so each is looked at by itself.

use std::collections::BTreeMap;
use std::io::{self, Write};

use onlooker_recording::tables::{Location, Sample, Tables, WeightKind};
use serde::Serialize;

use crate::labels::file_names;
use crate::text::{shorten, visible};
use crate::units::{bytes, count, percent, share};

/// What makes two page faults be of one site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum By {
    /// Function, file and line.
    #[default]
    Line,
    /// Function and file.
    Function,
    /// File.
    File,
    /// The whole stack.
    Stack,
}

/// A site and what it took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Site {
    /// Name of the function; `None` by file, and where no Python ran.
    pub function: Option<String>,
    /// Its file, as the code object has it.
    pub file: Option<String>,
    /// The line, from 1; `None` by function and by file.
    pub line: Option<u32>,
    /// By stack: every frame, outermost first, as `name (file:line)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<Vec<String>>,
    /// Bytes that became resident.
    pub grown_bytes: u64,
    /// Of those: bytes that were still resident at the last look.
    pub kept_bytes: u64,
    /// Page faults that were looked at.
    pub events: u64,
}

/// The sites of a recording, those that kept most first.
#[must_use]
pub fn sites(tables: &Tables, by: By) -> Vec<Site> {
    let mut sites: BTreeMap<Key, Site> = BTreeMap::new();
    for sample in &tables.samples {
        let (grown, kept) = match sample.weight_kind {
            WeightKind::BytesGrown => (sample.weight, 0),
            WeightKind::BytesKept => (0, sample.weight),
            _ => continue,
        };
        let site = sites.entry(key(tables, sample, by)).or_default();
        site.grown_bytes = site.grown_bytes.saturating_add(grown);
        site.kept_bytes = site.kept_bytes.saturating_add(kept);
        site.events += u64::from(grown > 0);
    }
    let named = |((function, file, line, stack), site)| Site {
        function,
        file,
        line,
        stack,
        ..site
    };
    let mut sites: Vec<Site> = sites.into_iter().map(named).collect();
    // Stable: equal ones stay in the order of their names.
    sites.sort_by_key(|site| std::cmp::Reverse((site.kept_bytes, site.grown_bytes)));
    sites
}

type Key = (
    Option<String>,
    Option<String>,
    Option<u32>,
    Option<Vec<String>>,
);

fn key(tables: &Tables, sample: &Sample, by: By) -> Key {
    let text = |id| Some(tables.string(id).to_owned());
    let Some(innermost) = tables.frames(sample.stack).next() else {
        return (None, None, None, (by == By::Stack).then(Vec::new));
    };
    let (name, file) = (text(innermost.name), text(innermost.filename));
    match by {
        By::Line => (name, file, innermost.line, None),
        By::Function => (name, file, None, None),
        By::File => (None, file, None, None),
        By::Stack => {
            let frames = tables.frames(sample.stack);
            let mut stack: Vec<String> = frames.map(|frame| place(tables, frame)).collect();
            stack.reverse();
            (name, file, innermost.line, Some(stack))
        }
    }
}

fn place(tables: &Tables, frame: &Location) -> String {
    let (name, file) = (tables.string(frame.name), tables.string(frame.filename));
    match frame.line {
        Some(line) => format!("{name} ({file}:{line})"),
        None => format!("{name} ({file})"),
    }
}

/// Whether a recording has samples of growth.
#[must_use]
pub fn has_growth(tables: &Tables) -> bool {
    let grown = |sample: &Sample| sample.weight_kind == WeightKind::BytesGrown;
    tables.samples.iter().any(grown)
}

/// Writes sites as JSON: `{"sites": […]}`.
///
/// # Errors
/// When the output refuses.
pub fn write_sites_json(sites: &[Site], out: &mut dyn Write) -> io::Result<()> {
    #[derive(Serialize)]
    struct Report<'a> {
        sites: &'a [Site],
    }
    serde_json::to_writer_pretty(&mut *out, &Report { sites })?;
    writeln!(out)
}

/// Width of a terminal that nobody has made wider.
const COLUMNS: usize = 100;

/// Writes the first `n` sites as a table with a heading, and what all of them took together.
///
/// # Errors
/// When the output refuses.
pub fn write_sites(tables: &Tables, by: By, n: usize, out: &mut dyn Write) -> io::Result<()> {
    let sites = sites(tables, by);
    let sum = |of: fn(&Site) -> u64| sites.iter().map(of).fold(0, u64::saturating_add);
    let (grown, kept) = (sum(|s| s.grown_bytes), sum(|s| s.kept_bytes));
    let heading = ["kept", "", "grown", "", "events"];
    let [a, b, c, d, e] = heading;
    writeln!(out, "{a:>10} {b:>6}  {c:>10} {d:>6}  {e:>7}  site")?;
    let shorter = shorter(tables);
    for site in sites.iter().take(n) {
        let row = format!(
            "{:>10} {:>6}  {:>10} {:>6}  {:>7}  ",
            bytes(site.kept_bytes as f64),
            percent(share(site.kept_bytes, kept)),
            bytes(site.grown_bytes as f64),
            percent(share(site.grown_bytes, grown)),
            count(site.events),
        );
        let room = COLUMNS.saturating_sub(row.len());
        let name = name(site, &shorter);
        writeln!(out, "{row}{}", shorten(&visible(&name), room))?;
        for frame in site.stack.iter().flatten().rev().skip(1) {
            let indent = " ".repeat(row.len() + 2);
            writeln!(out, "{indent}{}", shorten(&visible(frame), room))?;
        }
    }
    let of_files = tables.samples.iter();
    let of_files = of_files.filter(|s| s.weight_kind == WeightKind::BytesFile);
    let files = of_files.map(|s| s.weight).fold(0, u64::saturating_add);
    writeln!(
        out,
        "{} kept of {} grown; {} of files and shared memory came in besides",
        bytes(kept as f64),
        bytes(grown as f64),
        bytes(files as f64),
    )
}

/// Short file names by whole ones.
fn shorter(tables: &Tables) -> BTreeMap<&str, &str> {
    let whole = tables.locations.iter().map(|l| tables.string(l.filename));
    whole.zip(file_names(tables, false)).collect()
}

fn name(site: &Site, shorter: &BTreeMap<&str, &str>) -> String {
    let Some(file) = site.file.as_deref() else {
        return "(no Python)".to_owned();
    };
    let file = shorter.get(file).copied().unwrap_or(file);
    match (&site.function, site.line) {
        (Some(function), Some(line)) => format!("{function} ({file}:{line})"),
        (Some(function), None) => format!("{function} ({file})"),
        (None, _) => file.to_owned(),
    }
}
