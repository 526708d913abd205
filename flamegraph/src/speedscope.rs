//! JSON in the file format of <https://www.speedscope.app>.
//!
//! One `sampled` profile per thread, with its samples in order of time, so that speedscope's
//! "Time Order" view shows the run as it was. Samples that follow each other with the same stack
//! are written once with their weights added; a sample without a Python frame is an empty stack.
//!
//! The format's schema allows further keys and its importer ignores them. The recording's counts
//! stand under the top-level key `onlooker`: `summary` (the line for people), `python`,
//! `duration_ns`, `ticks`, `missed_ticks`, `verified`, `unverified`, `unverified_by` and `lost` (reason to count),
//! `retries`, `read_calls`, `read_bytes`, `own_cpu_ns`, `finished` (whether the writer came to its
//! end), and `samples`, `cut`, `empty`, `left_out` of this report.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use onlooker_recording::tables::{StackId, StringId, Tables, ThreadId, WeightKind};
use serde::{Serialize, Serializer};

use crate::labels::{cut_label, file_names, thread_name};
use crate::render::{Options, Summary};
use crate::select;
use crate::summary::summary_line;
use crate::svg::title;

const SCHEMA: &str = "https://www.speedscope.app/file-format-schema.json";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(rename = "$schema")]
    schema: &'a str,
    name: String,
    exporter: &'a str,
    active_profile_index: usize,
    onlooker: Counts<'a>,
    shared: Shared<'a>,
    profiles: Vec<Profile<'a>>,
}

#[derive(Serialize)]
struct Counts<'a> {
    summary: String,
    python: Vec<&'a str>,
    duration_ns: u64,
    ticks: u64,
    missed_ticks: u64,
    verified: u64,
    unverified: u64,
    unverified_by: BTreeMap<&'a str, u64>,
    lost: BTreeMap<&'a str, u64>,
    retries: u64,
    read_calls: u64,
    read_bytes: u64,
    own_cpu_ns: u64,
    finished: bool,
    samples: u64,
    cut: u64,
    empty: u64,
    left_out: u64,
}

#[derive(Serialize)]
struct Shared<'a> {
    frames: &'a [Frame<'a>],
}

#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
struct Frame<'a> {
    name: std::borrow::Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    name: String,
    unit: &'a str,
    start_value: u64,
    end_value: u64,
    samples: Samples<'a>,
    weights: Vec<u64>,
}

/// Samples of one thread with the same stack, one after the other.
#[derive(Clone, Copy)]
struct Run {
    stack: Option<StackId>,
    cut: Option<StringId>,
    weight: u64,
}

/// Written stack by stack: all of them at once would be as large as the file.
struct Samples<'a> {
    tables: &'a Tables,
    frames: &'a Frames<'a>,
    runs: Vec<Run>,
}

impl Serialize for Samples<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.runs.iter().map(|run| {
            let mut stack = Vec::new();
            let mut next = run.stack;
            while let Some(id) = next {
                let node = self.tables.stacks[id.index()];
                stack.push(self.frames.of_location[node.location.index()]);
                next = node.parent;
            }
            // A cut without any frame leaves an empty stack, here as in every report.
            if let (Some(reason), Some(_)) = (run.cut, run.stack) {
                stack.push(self.frames.of_cut[&reason]);
            }
            stack.reverse();
            stack
        }))
    }
}

/// The shared frames and who uses them.
struct Frames<'a> {
    all: Vec<Frame<'a>>,
    of_location: Vec<usize>,
    of_cut: HashMap<StringId, usize>,
}

impl<'a> Frames<'a> {
    fn new(tables: &'a Tables, options: &Options) -> Self {
        let mut all = Vec::new();
        let mut ids = HashMap::new();
        let mut intern = |frame: Frame<'a>| {
            *ids.entry(frame).or_insert_with_key(|frame| {
                all.push(frame.clone());
                all.len() - 1
            })
        };
        let of_location = tables
            .locations
            .iter()
            .zip(file_names(tables, options.full_filenames))
            .map(|(location, file)| {
                intern(Frame {
                    name: tables.string(location.name).into(),
                    file: Some(file),
                    line: location.line,
                })
            })
            .collect();
        let mut of_cut = HashMap::new();
        for sample in &tables.samples {
            if let Some(reason) = select::cut(tables, sample) {
                of_cut.entry(reason).or_insert_with(|| {
                    intern(Frame {
                        name: cut_label(tables.string(reason)).into(),
                        file: None,
                        line: None,
                    })
                });
            }
        }
        Self {
            all,
            of_location,
            of_cut,
        }
    }
}

/// Writes one profile per thread that has a stack; a single empty one where none has, because
/// speedscope refuses a file without profiles.
pub(crate) fn write(
    tables: &Tables,
    options: &Options,
    summary: &Summary,
    out: &mut dyn Write,
) -> io::Result<()> {
    let frames = Frames::new(tables, options);
    let mut profiles: Vec<Profile<'_>> = runs_of_threads(tables, options)
        .into_iter()
        .zip(0..)
        .filter(|(runs, _)| runs.iter().any(|run| run.stack.is_some()))
        .map(|(runs, thread)| {
            profile(
                profile_name(tables, ThreadId(thread)),
                tables,
                options,
                &frames,
                runs,
            )
        })
        .collect();
    if profiles.is_empty() {
        let name = "no samples".to_owned();
        profiles.push(profile(name, tables, options, &frames, Vec::new()));
    }
    let file = File {
        schema: SCHEMA,
        name: title(tables),
        exporter: concat!("onlooker@", env!("CARGO_PKG_VERSION")),
        active_profile_index: 0,
        onlooker: counts(tables, summary),
        shared: Shared {
            frames: &frames.all,
        },
        profiles,
    };
    serde_json::to_writer(&mut *out, &file)?;
    out.write_all(b"\n")
}

fn runs_of_threads(tables: &Tables, options: &Options) -> Vec<Vec<Run>> {
    let mut threads = vec![Vec::<Run>::new(); tables.threads.len()];
    for sample in &tables.samples {
        if !options.selection.takes(sample) {
            continue;
        }
        let runs = &mut threads[sample.thread.index()];
        let cut = select::cut(tables, sample);
        match runs.last_mut() {
            Some(last) if (last.stack, last.cut) == (sample.stack, cut) => {
                last.weight = last.weight.saturating_add(sample.weight);
            }
            _ => runs.push(Run {
                stack: sample.stack,
                cut,
                weight: sample.weight,
            }),
        }
    }
    threads
}

fn profile<'a>(
    name: String,
    tables: &'a Tables,
    options: &Options,
    frames: &'a Frames<'a>,
    runs: Vec<Run>,
) -> Profile<'a> {
    let weights: Vec<u64> = runs.iter().map(|run| run.weight).collect();
    Profile {
        kind: "sampled",
        name,
        unit: match options.selection.weight {
            WeightKind::Samples => "none",
            WeightKind::Nanoseconds => "nanoseconds",
            WeightKind::BytesGrown | WeightKind::BytesKept | WeightKind::BytesFile => "bytes",
        },
        start_value: 0,
        end_value: weights
            .iter()
            .fold(0, |sum, weight| u64::saturating_add(sum, *weight)),
        samples: Samples {
            tables,
            frames,
            runs,
        },
        weights,
    }
}

fn profile_name(tables: &Tables, thread: ThreadId) -> String {
    let process = &tables.processes[tables.threads[thread.index()].process.index()];
    format!(
        "process {} thread {}",
        process.pid,
        thread_name(tables, thread, true)
    )
}

fn by_reason(counts: &[(String, u64)]) -> BTreeMap<&str, u64> {
    let mut reasons = BTreeMap::new();
    for (reason, count) in counts {
        let sum: &mut u64 = reasons.entry(reason.as_str()).or_default();
        *sum = sum.saturating_add(*count);
    }
    reasons
}

fn counts<'a>(tables: &'a Tables, summary: &Summary) -> Counts<'a> {
    let totals = tables.counts();
    Counts {
        summary: summary_line(totals),
        python: tables
            .processes
            .iter()
            .map(|process| process.python.as_str())
            .collect(),
        duration_ns: totals.duration_ns,
        ticks: totals.ticks,
        missed_ticks: totals.missed_ticks,
        verified: totals.verified,
        unverified: totals.unverified,
        unverified_by: by_reason(&totals.unverified_by),
        lost: by_reason(&totals.lost),
        retries: totals.retries,
        read_calls: totals.read_calls,
        read_bytes: totals.read_bytes,
        own_cpu_ns: totals.own_cpu_ns,
        finished: tables.totals.is_some(),
        samples: summary.samples,
        cut: summary.cut,
        empty: summary.empty,
        left_out: summary.left_out,
    }
}
