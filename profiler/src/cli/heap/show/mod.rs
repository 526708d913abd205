//! `onlooker heap show`: single objects of an image, and who refers to them.

mod document;
mod table;

use std::path::PathBuf;

use clap::Args;
use onlooker_heap::show::{Heap, Subject};
use onlooker_unwinder::memory::RemoteAddr;

use crate::cli::stdout;
use crate::cli::text::printable;
use crate::error::Error;
use crate::heap::{Report, image};
use document::Document;

/// Types of another module that are named where the one asked for has no objects.
const MAX_HINTS: usize = 5;

/// `onlooker heap show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// An image (`.olkh`)
    #[arg(value_name = "FILE.olkh")]
    pub image: PathBuf,
    /// Objects of this type, as the census names it: `builtins.str`, `__main__.Order`; the largest
    /// first
    #[arg(
        long = "type",
        value_name = "TYPE",
        required_unless_present = "address"
    )]
    pub of: Option<String>,
    /// The object at this address, in hexadecimal with 0x
    #[arg(long, value_name = "ADDRESS", value_parser = address, conflicts_with = "of")]
    pub address: Option<u64>,
    /// How many objects
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub limit: usize,
    /// How many referrers of each
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub referrers: usize,
    /// Machine-readable output
    #[arg(short, long)]
    pub json: bool,
}

pub(super) fn run(args: &ShowArgs) -> Result<u8, Error> {
    let progress = super::reading(&args.image);
    let mut image = image::open(&args.image)?;
    let report = image::report(&mut image);
    let heap = Heap::new(&image.space, &image.meta.layout, &report.census);
    let (subjects, count) = subjects(args, &report, &heap)?;
    let addresses: Vec<RemoteAddr> = subjects.iter().map(|each| each.addr).collect();
    progress.working("looking for referrers");
    let referrers = heap.referrers(&addresses, args.referrers);
    drop(progress);
    let document = Document::new(&report, &heap, count, subjects.into_iter().zip(referrers));
    stdout::print(&if args.json {
        stdout::json(&document)?
    } else {
        table::render(&document)
    })?;
    Ok(0)
}

/// What is asked for, and how many there are.
fn subjects<B: AsRef<[u8]>>(
    args: &ShowArgs,
    report: &Report,
    heap: &Heap<'_, B>,
) -> Result<(Vec<Subject>, u64), Error> {
    if let Some(address) = args.address {
        let subject = heap
            .subject_at(RemoteAddr(address))
            .ok_or_else(|| Error::Report(format!("no object at {address:#x} in the image")))?;
        return Ok((vec![subject], 1));
    }
    let name = args.of.as_deref().unwrap_or_default();
    let (objects, count) = heap.largest(name, args.limit);
    if count == 0 {
        return Err(Error::Report(none_of(name, report)));
    }
    let subjects = objects.iter().filter_map(|object| heap.subject(object));
    Ok((subjects.collect(), count))
}

/// That there are no objects of a type, and which may be meant.
fn none_of(name: &str, report: &Report) -> String {
    let last = name.rsplit('.').next().unwrap_or(name);
    let counts = report.census.counts.iter();
    let alike: Vec<String> = counts
        .filter(|each| each.name.qualname.rsplit('.').next() == Some(last))
        .map(|each| printable(&each.name.to_string()))
        .take(MAX_HINTS)
        .collect();
    let hint = if alike.is_empty() {
        "`onlooker heap FILE --json` lists all types".to_owned()
    } else {
        format!("perhaps {}", alike.join(", "))
    };
    format!("no live objects of type {name} in the image; {hint}")
}

fn address(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| "not an address, as 0x7f2b3c4d5e60".to_owned())
}
