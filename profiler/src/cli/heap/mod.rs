//! `onlooker heap`: every live object of a process, and where its memory is.

mod json;
mod table;

use std::io::{self, Write as _};

use clap::Args;

use super::progress::Progress;
use crate::error::Error;
use crate::heap::{Limits, Options, take};

/// `onlooker heap`.
#[derive(Debug, Args)]
pub struct HeapArgs {
    /// Process id
    #[arg(short, long, value_name = "PID")]
    pub pid: i32,
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

pub(super) fn run(args: &HeapArgs) -> Result<u8, Error> {
    let limits = Limits {
        max_bytes: args.max_memory.unwrap_or_else(half_of_available),
    };
    let progress = Progress::begin("attaching");
    let options = Options {
        limits,
        pause: args.pause,
    };
    let taken = take(args.pid, options, |done, all| {
        progress.bytes("copying", done, all, "counting objects");
    })?;
    drop(progress);
    let text = if args.json {
        serde_json::to_string(&json::report(&taken)).map_err(|e| Error::Report(e.to_string()))?
            + "\n"
    } else {
        table::render(&taken, args.limit)
    };
    match io::stdout().write_all(text.as_bytes()) {
        // `onlooker heap | head` is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Write {
            path: "-".into(),
            error,
            kept: String::new(),
        }),
        _ => Ok(0),
    }
}

/// A number of bytes: a plain one, or with K, M, G or T.
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
        .ok_or_else(|| "not a number of bytes, as 1000000, 512M or 4G".to_owned())
}

/// Half of `MemAvailable`, so that the census never is what makes a machine run out of memory.
pub(super) fn half_of_available() -> u64 {
    use procfs::Current as _;
    let info = procfs::Meminfo::current().ok();
    info.and_then(|info| info.mem_available)
        .map_or(1 << 30, |bytes| bytes / 2)
}
