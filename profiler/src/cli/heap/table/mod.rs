//! The census for people.

mod arenas;
mod garbage;

use std::fmt::Write as _;

use onlooker_heap::blocks::Use;
use onlooker_heap::guards::Side;
use onlooker_heap::malloc::Heap;
use onlooker_heap::rss::Part;

use super::json;
use crate::cli::text::{bytes, printable};
use crate::heap::Report;

const BAR: usize = 60;

fn percent(part: u64, whole: u64) -> String {
    let tenths = (part * 1000 + whole / 2).checked_div(whole).unwrap_or(0);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

pub(super) fn render(taken: &Report, limit: usize) -> String {
    let mut text = String::new();
    head(&mut text, taken);
    types(&mut text, taken, limit);
    garbage::garbage(&mut text, taken, limit);
    resident(&mut text, taken);
    arenas::size_classes(&mut text, taken, limit);
    arenas::fragmentation(&mut text, taken, limit);
    largest(&mut text, taken, limit);
    violations(&mut text, taken);
    text
}

fn head(text: &mut String, taken: &Report) {
    let census = &taken.census;
    let pymalloc = &census.blocks.pymalloc;
    let command = printable(&taken.command.join(" "));
    let _ = writeln!(text, "Process {}: {command}", taken.pid);
    let own: u64 = census.counts.iter().map(|each| each.own_bytes).sum();
    let _ = writeln!(
        text,
        "Python {}: {} live objects own {}; {} immortal, {} tracked by the garbage collector, {} frozen",
        taken.python,
        census.objects,
        bytes(own),
        census.immortal,
        census.gc_tracked(),
        census.frozen,
    );
    let _ = write!(text, "{} blocks of pymalloc", pymalloc.blocks());
    if let Some(raw) = pymalloc.raw_blocks {
        let _ = write!(text, ", {raw} larger ones");
    }
    if let Some(statics) = &census.statics {
        let count: u64 = statics.iter().map(|(_, count)| count).sum();
        let _ = write!(text, "; {count} static objects beside them");
    }
    match taken.pause_ns {
        Some(ns) => {
            let _ = writeln!(text, "; stopped for {} ms", ns.div_ceil(1_000_000));
        }
        None => {
            let _ = writeln!(text, "; read while it ran");
        }
    }
    interpreters(text, taken);
    for note in notes(taken) {
        let _ = writeln!(text, "note: {note}");
    }
}

/// What each interpreter has, where there are several.
fn interpreters(text: &mut String, taken: &Report) {
    let all = &taken.census.interpreters;
    for each in all.iter().filter(|_| all.len() > 1) {
        let _ = match each.share {
            Some(share) => writeln!(
                text,
                "interpreter {}: {} objects among {} blocks ({}) in {} arenas of its own",
                each.id,
                share.objects,
                share.blocks,
                bytes(share.block_bytes),
                share.arenas
            ),
            None => writeln!(
                text,
                "interpreter {}: shares the main one's arenas",
                each.id
            ),
        };
    }
}

/// Resident bytes of one part.
fn part(taken: &Report, wanted: Part) -> u64 {
    let mut parts = taken.parts.bytes.iter();
    parts
        .find(|(part, _)| *part == wanted)
        .map_or(0, |(_, bytes)| *bytes)
}

/// What is missing from the figures, and why.
fn notes(taken: &Report) -> Vec<String> {
    let census = &taken.census;
    let mut notes = Vec::new();
    let inconsistent = census.blocks.pymalloc.inconsistent().count();
    if inconsistent > 0 {
        notes.push(format!(
            "{inconsistent} pools changed while they were read; of them only the count is certain"
        ));
    }
    let absent = census.blocks.pymalloc.absent().count();
    if absent > 0 {
        notes.push(format!(
            "{absent} pools are swapped out or were left out; what is in them is not known"
        ));
    }
    if census.arenas.is_empty() {
        notes.push(
            "no arenas of pymalloc (PYTHONMALLOC=malloc?): objects are those that malloc's chunks and \
             the lists of the garbage collector show; small ones without garbage collection may be missing \
             where a chunk was reused"
                .to_owned(),
        );
    } else if census.blocks.pymalloc.scanned {
        notes.push(
            "the interpreter is stripped: arenas were found by the shape of their pools".to_owned(),
        );
    }
    let open: u64 = census.heaps.iter().map(Heap::unwalked_bytes).sum();
    if open > 0 {
        notes.push(format!(
            "{} of malloc's heaps could not be walked; objects above 512 bytes in it are counted only \
             where the garbage collector knows them",
            bytes(open)
        ));
    }
    for (what, left_out) in &taken.left_out {
        notes.push(format!(
            "{} of {} were not copied (--max-memory)",
            bytes(*left_out),
            what.name().replace('_', " ")
        ));
    }
    if taken.swapped_bytes > 0 {
        notes.push(format!(
            "{} are swapped out and were not looked at",
            bytes(taken.swapped_bytes)
        ));
    }
    let excess = taken.parts.excess_bytes;
    if excess > 0 {
        notes.push(format!(
            "the parts are {} more than the RSS, which changed while it was read",
            bytes(excess)
        ));
    }
    if !taken.residency_known {
        notes.push("the kernel does not tell which pages are resident: all were read".to_owned());
    }
    let lists = census.collectors().map(|each| each.lists);
    if lists.clone().any(|lists| lists.is_none()) {
        notes.push("the lists of the garbage collector were not found".to_owned());
    } else if lists.clone().flatten().any(|lists| lists.collecting) {
        notes.push("a garbage collection was going on: its lists are not whole".to_owned());
    } else if lists.flatten().any(|lists| !lists.all_closed()) {
        notes.push("the lists of the garbage collector changed while they were read".to_owned());
    }
    let foreign = part(taken, Part::MallocUsed);
    if foreign > part(taken, Part::PythonObjects) {
        notes.push(format!(
            "{} in malloc are of no object that is known: buffers of extension modules (numpy and \
             others) count there, not with the types that they belong to",
            bytes(foreign)
        ));
    }
    let tracked = census.gc_tracked();
    if let Some(listed) = census.gc_listed().filter(|listed| *listed != tracked) {
        notes.push(format!(
            "the lists of the garbage collector have {listed} objects, of which {tracked} were recognised: \
             counts by type are as much off"
        ));
    }
    notes
}

fn types(text: &mut String, taken: &Report, limit: usize) {
    let census = &taken.census;
    let all: u64 = census.counts.iter().map(|each| each.own_bytes).sum();
    let _ = writeln!(
        text,
        "\n{:>12} {:>12} {:>8}  type",
        "count", "own bytes", "share"
    );
    for each in census.counts.iter().take(limit) {
        let _ = writeln!(
            text,
            "{:>12} {:>12} {:>8}  {}",
            each.count,
            bytes(each.own_bytes),
            percent(each.own_bytes, all),
            printable(&each.name.to_string())
        );
    }
    let more = census.counts.len().saturating_sub(limit);
    if more > 0 {
        let _ = writeln!(text, "{:>36}{more} more types (--limit)", "");
    }
    let _ = writeln!(
        text,
        "\n{:>12} {:>12} {:>8}  module of the type",
        "count", "own bytes", "share"
    );
    for (module, sum) in json::modules(&census.counts).iter().take(limit.div_ceil(2)) {
        let _ = writeln!(
            text,
            "{:>12} {:>12} {:>8}  {}",
            sum.count,
            bytes(sum.bytes),
            percent(sum.bytes, all),
            printable(module)
        );
    }
    let _ = writeln!(
        text,
        "\n{:>12} {:>12}  blocks in use that are no object",
        "count", "bytes"
    );
    for (what, sum) in census.uses.iter().filter(|(what, _)| **what != Use::Object) {
        let name = what.name().replace('_', " ");
        let _ = writeln!(text, "{:>12} {:>12}  {name}", sum.count, bytes(sum.bytes));
    }
}

fn resident(text: &mut String, taken: &Report) {
    let total = taken.resident_bytes;
    let _ = writeln!(text, "\nResident: {}", bytes(total));
    for (part, resident) in &taken.parts.bytes {
        let width = (resident * BAR as u64).checked_div(total).unwrap_or(0) as usize;
        let _ = writeln!(
            text,
            "{:>12} {:>8}  {:<22} {}",
            bytes(*resident),
            percent(*resident, total),
            part.name().replace('_', " "),
            "#".repeat(width)
        );
    }
}

fn largest(text: &mut String, taken: &Report, limit: usize) {
    let _ = writeln!(
        text,
        "\n{:>12}  {:<18} largest objects",
        "own bytes", "address"
    );
    for each in taken.census.largest.iter().take(limit.div_ceil(2)) {
        let _ = writeln!(
            text,
            "{:>12}  {:<18} {}",
            bytes(each.own_bytes),
            format!("{:#x}", each.addr.0),
            printable(&each.name.to_string())
        );
    }
}

fn violations(text: &mut String, taken: &Report) {
    let census = &taken.census;
    let Some(domains) = &census.domains else {
        return;
    };
    let _ = write!(text, "\nDebug allocator:");
    for (name, sum) in domains {
        let _ = write!(
            text,
            " {} blocks of {name} ({})",
            sum.count,
            bytes(sum.bytes)
        );
    }
    let _ = writeln!(text, "; {} guards overwritten", census.damage.len());
    for each in &census.damage {
        let violation = &each.violation;
        let side = match violation.side {
            Side::Before => "before",
            Side::Behind => "behind",
        };
        let what = match (violation.len, violation.domain) {
            (Some(len), Some(domain)) => format!("{len} bytes of domain {}", domain.name()),
            (Some(len), None) => format!("{len} bytes whose domain is gone"),
            (None, _) => "a block whose header is gone".to_owned(),
        };
        let name = each.object.and_then(|(object, of)| {
            let name = census.names.get(of as usize)?;
            Some(format!(" ({name} at {object})"))
        });
        let name = name.unwrap_or_default();
        let found: String = violation
            .found
            .iter()
            .map(|b| format!(" {b:02x}"))
            .collect();
        let addr = violation.addr;
        let _ = writeln!(
            text,
            "  {side} {what} at {addr}{}:{found}",
            printable(&name)
        );
    }
}
