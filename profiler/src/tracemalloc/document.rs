//! A snapshot as a JSON document: what `--json` prints, `-o x.json` keeps and `diff` reads.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use onlooker_heap::tracemalloc::{
    By, Change, Frame, Quality, Site, SitePlace, Snapshot, Traceback, Traces,
};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The first field, by which `diff` knows its own.
const FORMAT: &str = "onlooker-tracemalloc-1";

/// Everything about one snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub struct Document {
    format: String,
    /// The process.
    pub pid: i32,
    /// `3.12.1`.
    pub python: String,
    /// Its command line.
    pub command: Vec<String>,
    /// Frames that a traceback keeps at most.
    pub max_frames: u32,
    /// Blocks that were read.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The interpreter's own sum, before and after the tables were read; null where its
    /// variable was not found.
    pub traced_bytes: Option<[u64; 2]>,
    /// Its peak, afterwards.
    pub peak_bytes: Option<u64>,
    /// Entries by the tables' own count, before and after.
    pub entries: [u64; 2],
    /// What changed while the tables were read.
    pub changed: Changed,
    /// What is missing.
    pub unread: Unread,
    /// By domain.
    pub domains: Vec<Domain>,
    /// What `sites` are added up by: `line`, `file` or `traceback`.
    pub by: String,
    /// Most bytes first.
    pub sites: Vec<SiteRow>,
    /// Names of files, for `tracebacks`.
    files: Vec<String>,
    tracebacks: Vec<TracebackRow>,
    /// Domain, index of the traceback, blocks, bytes.
    traces: Vec<(u32, u32, u64, u64)>,
}

/// What could not be read because the target changed it meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// Chains of a table that were never whole.
    pub torn_buckets: u64,
    /// Blocks whose size and traceback could not be read.
    pub stale: u64,
}

/// Blocks that are left out because they did not live the whole time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Freed meanwhile.
    pub gone: u64,
    /// Allocated meanwhile.
    pub new: u64,
}

/// One domain.
#[derive(Debug, Serialize, Deserialize)]
pub struct Domain {
    /// Its number.
    pub domain: u32,
    /// Live blocks.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One place.
#[derive(Debug, Serialize, Deserialize)]
pub struct SiteRow {
    /// Where.
    #[serde(flatten)]
    pub place: PlaceRow,
    /// Live blocks.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A place: a file, a line, or a traceback, newest frame first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PlaceRow {
    /// `--by traceback`.
    Traceback {
        /// Its lines.
        traceback: Vec<LineRow>,
    },
    /// `--by line` and `--by file`.
    Line(LineRow),
}

/// A line of a file, or a file.
#[derive(Debug, Serialize, Deserialize)]
pub struct LineRow {
    /// The file, as in the code object.
    pub file: String,
    /// From 1; missing where files are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct TracebackRow {
    total_frames: u32,
    /// Index of the file, line; newest first.
    frames: Vec<(u32, u32)>,
}

/// What changed, as JSON.
#[derive(Debug, Serialize)]
pub struct DiffDocument {
    /// What `changes` are added up by.
    pub by: &'static str,
    /// Blocks before and after.
    pub count: [u64; 2],
    /// Bytes before and after.
    pub bytes: [u64; 2],
    /// The largest change first.
    pub changes: Vec<ChangeRow>,
}

/// One place that changed.
#[derive(Debug, Serialize)]
pub struct ChangeRow {
    /// Where.
    #[serde(flatten)]
    pub place: PlaceRow,
    /// Blocks before and after.
    pub count: [u64; 2],
    /// Bytes before and after.
    pub bytes: [u64; 2],
    /// Blocks gained.
    pub count_gained: i64,
    /// Bytes gained.
    pub bytes_gained: i64,
}

/// The name of a way to add up.
#[must_use]
pub fn name(by: By) -> &'static str {
    match by {
        By::Line => "line",
        By::File => "file",
        By::Traceback => "traceback",
    }
}

impl PlaceRow {
    fn new(place: SitePlace, by: By) -> Self {
        let mut lines = place.into_iter().map(|(file, line)| LineRow { file, line });
        match by {
            By::Traceback => Self::Traceback {
                traceback: lines.collect(),
            },
            By::Line | By::File => Self::Line(lines.next().unwrap_or(LineRow {
                file: String::new(),
                line: None,
            })),
        }
    }
}

impl SiteRow {
    /// The row of a site.
    #[must_use]
    pub fn new(site: Site, by: By) -> Self {
        Self {
            place: PlaceRow::new(site.place, by),
            count: site.count,
            bytes: site.bytes,
        }
    }
}

impl ChangeRow {
    /// The row of a change.
    #[must_use]
    pub fn new(change: Change, by: By) -> Self {
        Self {
            count_gained: change.count_gained(),
            bytes_gained: change.bytes_gained(),
            place: PlaceRow::new(change.place, by),
            count: change.count,
            bytes: change.bytes,
        }
    }
}

/// Where a snapshot is from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The process.
    pub pid: i32,
    /// Its version of Python.
    pub python: String,
    /// Its command line.
    pub command: Vec<String>,
}

impl Document {
    /// The document of a snapshot.
    #[must_use]
    pub fn new(origin: Origin, snapshot: &Snapshot, quality: &Quality, by: By) -> Self {
        let mut domains: BTreeMap<u32, Domain> = BTreeMap::new();
        for traces in &snapshot.traces {
            let sum = domains.entry(traces.domain).or_insert(Domain {
                domain: traces.domain,
                count: 0,
                bytes: 0,
            });
            sum.count = sum.count.saturating_add(traces.count);
            sum.bytes = sum.bytes.saturating_add(traces.bytes);
        }
        let sites = onlooker_heap::tracemalloc::sites(snapshot, by);
        let tracebacks = snapshot.tracebacks.iter().map(|traceback| TracebackRow {
            total_frames: traceback.total_frames,
            frames: traceback.frames.iter().map(|f| (f.file, f.line)).collect(),
        });
        let traces = snapshot.traces.iter();
        let (before, after) = (quality.before, quality.after);
        Self {
            format: FORMAT.to_owned(),
            pid: origin.pid,
            python: origin.python,
            command: origin.command,
            max_frames: snapshot.max_frames,
            count: quality.traces,
            bytes: domains
                .values()
                .fold(0, |sum: u64, domain| sum.saturating_add(domain.bytes)),
            traced_bytes: before
                .traced_bytes
                .zip(after.traced_bytes)
                .map(|(before, after)| [before, after]),
            peak_bytes: after.peak_bytes,
            entries: [quality.entries_before, quality.entries_after],
            changed: Changed {
                gone: quality.gone,
                new: quality.new,
            },
            unread: Unread {
                torn_buckets: quality.torn_buckets,
                stale: quality.stale,
            },
            domains: domains.into_values().collect(),
            by: name(by).to_owned(),
            sites: sites.into_iter().map(|s| SiteRow::new(s, by)).collect(),
            files: snapshot.files.clone(),
            tracebacks: tracebacks.collect(),
            traces: traces
                .map(|t| (t.domain, t.traceback, t.count, t.bytes))
                .collect(),
        }
    }

    /// Reads a document that was kept.
    ///
    /// # Errors
    /// [`Error::NoInput`]; [`Error::Data`] for anything that is no such document, whole.
    pub fn load(path: &Path) -> Result<(Self, Snapshot), Error> {
        let data = |error: String| Error::Data {
            path: path.to_owned(),
            error,
        };
        let file = File::open(path).map_err(|error| Error::NoInput {
            path: path.to_owned(),
            error,
        })?;
        let document: Self = serde_json::from_reader(BufReader::new(file))
            .map_err(|error| data(format!("not a snapshot of `onlooker tracemalloc`: {error}")))?;
        if document.format != FORMAT {
            return Err(data(format!(
                "a snapshot of format {:?}, not {FORMAT:?}",
                document.format
            )));
        }
        let snapshot = document
            .snapshot()
            .ok_or_else(|| data("a traceback or a file that it names is not in it".to_owned()))?;
        Ok((document, snapshot))
    }

    /// The snapshot again; `None` when an index leads nowhere.
    fn snapshot(&self) -> Option<Snapshot> {
        let tracebacks = self.tracebacks.iter().map(|row| {
            let frames = row.frames.iter().map(|(file, line)| {
                let known = (*file as usize) < self.files.len();
                known.then_some(Frame {
                    file: *file,
                    line: *line,
                })
            });
            Some(Traceback {
                frames: frames.collect::<Option<_>>()?,
                total_frames: row.total_frames,
            })
        });
        let traces = self
            .traces
            .iter()
            .map(|&(domain, traceback, count, bytes)| {
                let known = (traceback as usize) < self.tracebacks.len();
                known.then_some(Traces {
                    domain,
                    traceback,
                    count,
                    bytes,
                })
            });
        Some(Snapshot {
            max_frames: self.max_frames,
            files: self.files.clone(),
            tracebacks: tracebacks.collect::<Option<_>>()?,
            traces: traces.collect::<Option<_>>()?,
        })
    }
}
