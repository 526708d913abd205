//! What can be typed. What it means is decided by each command, after everything is checked.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use onlooker_flamegraph::{By, Mode, Selection};
use onlooker_recording::tables::WeightKind;

use super::pages::PagesArgs;
use super::tracemalloc::TracemallocArgs;

/// Out-of-process stack profiler for CPython 3.8 – 3.15. It only reads: the target is never
/// stopped (unless `--exact` or `--pause` asks for it) and nothing is written to it.
#[derive(Debug, Parser)]
#[command(name = "onlooker", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 over the read budget (reads) or an \
impossible edge was seen (selfcheck); 3 not measurable (reads); 64 wrong arguments; \
65 damaged input; 66 no input; 67 no such process; 68 not a CPython process; 69 unsupported \
version; 70 defect of Onlooker; 71 interpreter not initialised; 72 layout not proven; 73 output \
cannot be created; 74 writing failed; 75 zombie; 76 the process exited; 77 no permission; \
78 command cannot be started; 79 nothing to report; 80 the process is stopped, 81 traced, \
82 uses all harmless signals (record --exact); 83 tracemalloc is not on. A launched program's own exit code is passed \
through (128 + n for signal n).";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the stack of every thread, now
    Dump(DumpArgs),
    /// Sample a process and make a flame graph, or a recording to analyse later
    Record(RecordArgs),
    /// Make a report from a recording
    Report(ReportArgs),
    /// Measure what reading a stack costs, and fail when it costs too much
    Reads(ReadsArgs),
    /// Compare the stacks that are sampled with the calls that a program really makes
    Selfcheck(SelfcheckArgs),
    /// Show what a process's memory is for, and what its forked workers share
    Pages(PagesArgs),
    /// Show what the target's own tracemalloc knows: live bytes by line, file or traceback
    Tracemalloc(TracemallocArgs),
    /// Count every live object of a process, and tell where its memory is
    Heap(super::heap::HeapArgs),
}

/// `onlooker dump`.
#[derive(Debug, Args)]
pub struct DumpArgs {
    /// Process id
    #[arg(short, long, value_name = "PID")]
    pub pid: i32,
    /// Machine-readable output
    #[arg(short, long)]
    pub json: bool,
    /// Flags of py-spy that do not exist here yet
    #[command(flatten)]
    pub foreign: ForeignDump,
}

/// `onlooker record`.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// Process id
    #[arg(short, long, value_name = "PID", conflicts_with = "command")]
    pub pid: Option<i32>,
    /// Where to write; `-` is stdout [default: PROGRAM-PID-TIME.olk]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// olk (recording), flamegraph or svg, raw or txt (collapsed stacks), speedscope
    /// [default: by the extension of FILE]
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Samples per second; `max` for as many as possible [default: 100; with --growth none]
    #[arg(short, long, value_name = "HZ", value_parser = rate)]
    pub rate: Option<f64>,
    /// Stop each thread for some microseconds at each of its samples, so that its stack is that
    /// of one exact instant. Interrupts no system call; needs ptrace and perf events. Not
    /// with -s or -r max
    #[arg(long)]
    pub exact: bool,
    /// Find out who makes the process bigger: stop a thread for some microseconds at one page
    /// fault in so many and note its stack. With -r, time samples too. Not with -s or -r max
    #[arg(long, conflicts_with = "exact")]
    pub growth: bool,
    /// Bytes of growth between two stops, like 64K or 1M
    #[arg(long, value_name = "BYTES", default_value = "256K", value_parser = super::heap::bytes, requires = "growth")]
    pub growth_every: u64,
    /// What a graph shows: samples, grown (bytes), kept (of those, what is still there), files
    /// [default: with --growth kept, else samples]
    #[arg(long, value_name = "WEIGHT", value_parser = weight)]
    pub weight: Option<WeightKind>,
    /// Stop after so many seconds [default: until the process ends or Ctrl-C]
    #[arg(short, long, value_name = "SECONDS", value_parser = duration)]
    pub duration: Option<Seconds>,
    /// Let the launched program run on when the duration ends first
    #[arg(long)]
    pub keep: bool,
    /// Whole file names in reports instead of short ones
    #[arg(long)]
    pub full_filenames: bool,
    /// One root frame per thread
    #[arg(short, long)]
    pub threads: bool,
    /// Sample the children too, and theirs, until all have ended
    #[arg(short, long)]
    pub subprocesses: bool,
    /// Which samples the report shows; the recording has them all
    #[command(flatten)]
    pub states: StateArgs,
    /// Flags of py-spy that do not exist here yet
    #[command(flatten)]
    pub foreign: ForeignRecord,
    /// Program to launch and to record, with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `onlooker report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A recording (`.olk`)
    #[arg(value_name = "FILE.olk")]
    pub input: PathBuf,
    /// Where to write; `-` is stdout [default: print the hottest functions]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// flamegraph or svg, raw or txt (collapsed stacks), speedscope, olk
    /// [default: by the extension of -o]
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Growth by allocation site: a table, or JSON with -f json
    #[arg(long)]
    pub sites: bool,
    /// What makes a site: line, function, file, stack
    #[arg(long, value_name = "WHAT", default_value = "line", value_parser = by, requires = "sites")]
    pub by: By,
    /// What a graph shows: samples, grown (bytes), kept (of those, what is still there), files
    /// [default: samples; where there are none, kept]
    #[arg(long, value_name = "WEIGHT", value_parser = weight)]
    pub weight: Option<WeightKind>,
    /// Whole file names instead of short ones
    #[arg(long)]
    pub full_filenames: bool,
    /// One root frame per thread
    #[arg(short, long)]
    pub threads: bool,
    /// Which samples it shows
    #[command(flatten)]
    pub states: StateArgs,
}

/// Which samples count, by what their threads were doing.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct StateArgs {
    /// Show sleeping threads too, as --mode wall
    #[arg(short, long)]
    pub idle: bool,
    /// Show only holders of the interpreter lock, as --mode gil
    #[arg(short, long, conflicts_with = "idle")]
    pub gil: bool,
    /// What to show: cpu (threads that run), wall (all threads), gil (lock holders)
    /// [default: cpu]
    #[arg(long, value_name = "MODE", value_parser = mode, conflicts_with_all = ["idle", "gil"])]
    pub mode: Option<Mode>,
}

impl StateArgs {
    /// What was meant.
    #[must_use]
    pub fn selection(self) -> Selection {
        let short = match (self.gil, self.idle) {
            (true, _) => Mode::Gil,
            (false, true) => Mode::Wall,
            (false, false) => Mode::Cpu,
        };
        Selection {
            mode: self.mode.unwrap_or(short),
            ..Selection::default()
        }
    }
}

fn weight(text: &str) -> Result<WeightKind, String> {
    match text {
        "samples" => Ok(WeightKind::Samples),
        "grown" => Ok(WeightKind::BytesGrown),
        "kept" => Ok(WeightKind::BytesKept),
        "files" => Ok(WeightKind::BytesFile),
        _ => Err("known weights: samples, grown, kept, files".to_owned()),
    }
}

fn by(text: &str) -> Result<By, String> {
    match text {
        "line" => Ok(By::Line),
        "function" => Ok(By::Function),
        "file" => Ok(By::File),
        "stack" => Ok(By::Stack),
        _ => Err("known: line, function, file, stack".to_owned()),
    }
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "cpu" => Ok(Mode::Cpu),
        "wall" => Ok(Mode::Wall),
        "gil" => Ok(Mode::Gil),
        _ => Err("known modes: cpu, wall, gil".to_owned()),
    }
}

/// `onlooker reads`.
#[derive(Debug, Args)]
pub struct ReadsArgs {
    /// Process id
    #[arg(short, long, value_name = "PID", conflicts_with = "command")]
    pub pid: Option<i32>,
    /// Warm samples to take
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub samples: u32,
    /// Measure only the thread with this kernel thread id
    #[arg(long, value_name = "TID")]
    pub thread: Option<i32>,
    /// With a command: measure after so many seconds [default: once the stack has been the same
    /// for a second]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub after: Option<f64>,
    /// Machine-readable output
    #[arg(short, long)]
    pub json: bool,
    /// Fail when a cold sample takes more calls
    #[arg(long, value_name = "N")]
    pub max_cold_calls: Option<u64>,
    /// Fail when a warm sample (median) takes more calls
    #[arg(long, value_name = "N")]
    pub max_warm_calls: Option<u64>,
    /// Fail when a warm sample (median) reads more bytes
    #[arg(long, value_name = "N")]
    pub max_bytes: Option<u64>,
    /// Fail when calls grow at all or bytes by more than 10 % over this file
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Write what was measured, to be the baseline of later runs
    #[arg(long, value_name = "FILE")]
    pub write_baseline: Option<PathBuf>,
    /// For comparison: read only the newest chunk of each stack ahead of the walk
    #[arg(long, hide = true)]
    pub newest_chunk_only: bool,
    /// Program to launch and to measure, with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `onlooker selfcheck`.
#[derive(Debug, Args)]
pub struct SelfcheckArgs {
    /// Samples per second
    #[arg(short, long, value_name = "HZ", default_value = "1000", value_parser = rate)]
    pub rate: f64,
    /// End the sampled run after so many seconds, and a run under the oracle, which is slower,
    /// after ten times as many [default: when the program ends]
    #[arg(short, long, value_name = "SECONDS", value_parser = duration)]
    pub duration: Option<Seconds>,
    /// Runs under the oracle, for programs that do not make the same calls each time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub oracle_runs: u32,
    /// Machine-readable output
    #[arg(short, long)]
    pub json: bool,
    /// Program to run, with its arguments; it runs twice
    #[arg(last = true, value_name = "COMMAND", required = true)]
    pub command: Vec<OsString>,
}

/// A duration: seconds, or py-spy's word for no end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seconds {
    /// So many seconds.
    Some(f64),
    /// `unlimited`.
    Unlimited,
}

fn duration(text: &str) -> Result<Seconds, String> {
    if text == "unlimited" {
        return Ok(Seconds::Unlimited);
    }
    seconds(text).map(Seconds::Some)
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 1e9 => Ok(value),
        _ => Err("not a number of seconds above 0".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    if text == "max" {
        return Ok(f64::INFINITY);
    }
    match text.parse::<f64>() {
        Ok(value) if (0.01..=100_000.0).contains(&value) => Ok(value),
        _ => Err("not a rate between 0.01 and 100000 samples a second, nor `max`".to_owned()),
    }
}

macro_rules! foreign {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty, $flag:literal $(, $short:literal)?;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Args)]
        pub struct $name {
            $(
                #[arg(long = $flag $(, short = $short)?, hide = true)]
                #[doc = concat!("`--", $flag, "` of py-spy.")]
                pub $field: $kind,
            )*
        }
        impl $name {
            /// The first flag that was given.
            #[must_use]
            pub fn given(&self) -> Option<&'static str> {
                $(if Given::given(&self.$field) { return Some(concat!("--", $flag)); })*
                None
            }
        }
    };
}

trait Given {
    fn given(&self) -> bool;
}

impl Given for bool {
    fn given(&self) -> bool {
        *self
    }
}

impl Given for Option<String> {
    fn given(&self) -> bool {
        self.is_some()
    }
}

foreign! {
    /// Flags of `py-spy dump` that are refused by name.
    ForeignDump {
        locals: bool, "locals", 'l';
        native: bool, "native", 'n';
        nonblocking: bool, "nonblocking";
        subprocesses: bool, "subprocesses", 's';
        full_filenames: bool, "full-filenames";
        core: Option<String>, "core", 'c';
    }
}

foreign! {
    /// Flags of `py-spy record` that are refused by name.
    ForeignRecord {
        native: bool, "native", 'n';
        nonblocking: bool, "nonblocking";
        function: bool, "function", 'F';
        nolineno: bool, "nolineno";
        core: Option<String>, "core", 'c';
    }
}
