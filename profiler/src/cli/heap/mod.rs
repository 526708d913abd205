//! `onlooker heap`: every live object of a process or of an image, and where its memory is.

mod diff;
mod json;
mod save;
mod show;
mod table;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::progress::Progress;
use super::stdout;
use super::text::printable;
use crate::error::Error;
use crate::heap::{self, Limits, Options, Report, take};
use diff::DiffArgs;
use save::Save;
use show::ShowArgs;

/// `onlooker heap`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct HeapArgs {
    /// What to do with images
    #[command(subcommand)]
    pub command: Option<HeapCommand>,
    /// An image (`.olkh`) that `-o` wrote, here or on another machine
    #[arg(value_name = "FILE.olkh", required_unless_present = "pid", conflicts_with_all = ["pid", "output", "pause", "max_memory"])]
    pub image: Option<PathBuf>,
    /// Process id
    #[arg(short, long, value_name = "PID")]
    pub pid: Option<i32>,
    /// Keep the copied memory, too, as an image (`.olkh`) that only its owner may read
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Machine-readable output, with all types
    #[arg(short, long)]
    pub json: bool,
    /// Stop all threads while the memory is copied, so that every figure is of one instant. The
    /// walk comes after the stop; killing Onlooker meanwhile lets the threads go on
    #[arg(long)]
    pub pause: bool,
    /// How many types, modules and objects the table shows
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// Most memory that the copy may take, as 512M or 4G; what does not fit is left out, the
    /// insides of large buffers first, and said [default: half of what is available]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub max_memory: Option<u64>,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum HeapCommand {
    /// Show what changed between two images
    Diff(DiffArgs),
    /// Show single objects of an image and who refers to them
    Show(ShowArgs),
}

pub(super) fn run(args: &HeapArgs) -> Result<u8, Error> {
    match (&args.command, args.pid, &args.image) {
        (Some(HeapCommand::Diff(args)), ..) => diff::run(args),
        (Some(HeapCommand::Show(args)), ..) => show::run(args),
        (None, Some(pid), _) => live(args, pid),
        (None, None, Some(path)) => {
            let progress = reading(path);
            let report = heap::image::report(&mut heap::image::open(path)?);
            drop(progress);
            show(args, &report)
        }
        (None, None, None) => Err(Error::Usage("-p PID or a file is missing".to_owned())),
    }
}

/// Shows that an image is read: checking each byte of it and counting its objects may take long.
fn reading(path: &Path) -> Progress {
    Progress::begin(&format!(
        "reading {}",
        printable(&path.display().to_string())
    ))
}

/// A census of a process, and its image where one is wanted.
fn live(args: &HeapArgs, pid: i32) -> Result<u8, Error> {
    let output = args.output.as_deref().map(Save::new).transpose()?;
    let limits = Limits {
        max_bytes: args.max_memory.unwrap_or_else(half_of_available),
    };
    let progress = Progress::begin("attaching");
    let options = Options {
        limits,
        pause: args.pause,
        keep: output.is_some(),
    };
    let taken = take(pid, options, |done, all| {
        progress.bytes("copying", done, all, "counting objects");
    })?;
    let kept = output.map_or(Ok(()), |output| output.write(&taken.image, &progress));
    drop(progress);
    // What was counted is worth telling, whatever became of the file.
    let code = show(args, &taken.report)?;
    kept.map(|()| code)
}

fn show(args: &HeapArgs, report: &Report) -> Result<u8, Error> {
    stdout::print(&if args.json {
        stdout::json(&json::report(report))?
    } else {
        table::render(report, args.limit)
    })?;
    Ok(0)
}

/// A number of bytes: a plain one, or with K, M, G or T (powers of 1024).
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        Some(b'T' | b't') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let number = digits.parse::<u64>().ok();
    let number = number.and_then(|number| number.checked_mul(1 << shift));
    number
        .filter(|number| *number > 0)
        .ok_or_else(|| "not a number of bytes above 0, like 1000000, 256K or 4G".to_owned())
}

/// Half of `MemAvailable`, so that the census never is what makes a machine run out of memory.
pub(super) fn half_of_available() -> u64 {
    use procfs::Current as _;
    let info = procfs::Meminfo::current().ok();
    info.and_then(|info| info.mem_available)
        .map_or(1 << 30, |bytes| bytes / 2)
}
