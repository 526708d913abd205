//! Tables of sites and of changes, for people.

use std::fmt::Write as _;

use onlooker_flamegraph::units;

use crate::cli::text::{bytes, printable};
use crate::tracemalloc::document::{DiffDocument, Document, LineRow, PlaceRow};

/// The sites of a snapshot.
pub(super) fn sites(document: &Document, limit: usize) -> String {
    let mut text = String::new();
    let command = printable(&document.command.join(" "));
    let _ = writeln!(text, "Process {}: {command}", document.pid);
    let frames = match document.max_frames {
        1 => "1 frame".to_owned(),
        frames => format!("up to {frames} frames"),
    };
    let _ = writeln!(
        text,
        "Python {}, tracemalloc keeps {frames} of each block",
        document.python
    );
    let _ = write!(
        text,
        "{} in {} live blocks",
        bytes(document.bytes),
        units::count(document.count)
    );
    if let Some([before, after]) = document.traced_bytes {
        let own = match before == after {
            true => bytes(after),
            false => format!("{} to {}", bytes(before), bytes(after)),
        };
        let peak = document
            .peak_bytes
            .map_or_else(String::new, |peak| format!(", its peak {}", bytes(peak)));
        let _ = write!(text, " (tracemalloc's own sum: {own}{peak})");
    }
    text.push('\n');
    let changed = document.changed;
    if changed.gone + changed.new > 0 {
        let _ = writeln!(
            text,
            "left out: {} blocks freed and {} allocated while it was read",
            units::count(changed.gone),
            units::count(changed.new)
        );
    }
    for domain in document.domains.iter().filter(|d| d.domain != 0) {
        let _ = writeln!(
            text,
            "of these in domain {}: {} in {} blocks",
            domain.domain,
            bytes(domain.bytes),
            units::count(domain.count)
        );
    }
    let _ = writeln!(
        text,
        "\n{:>10} {:>7} {:>12} {:>10}  by {}",
        "bytes", "share", "blocks", "average", document.by
    );
    for site in document.sites.iter().take(limit) {
        let _ = write!(
            text,
            "{:>10} {:>7} {:>12} {:>10}",
            bytes(site.bytes),
            units::percent(units::share(site.bytes, document.bytes)),
            units::count(site.count),
            bytes(site.bytes / site.count.max(1)),
        );
        place(&mut text, &site.place);
    }
    more(&mut text, document.sites.len(), limit);
    text
}

/// What changed.
pub(super) fn changes(document: &DiffDocument, limit: usize) -> String {
    let mut text = String::new();
    let ([old, new], [old_count, new_count]) = (document.bytes, document.count);
    let _ = writeln!(
        text,
        "{} in {} blocks → {} in {} blocks\n",
        bytes(old),
        units::count(old_count),
        bytes(new),
        units::count(new_count)
    );
    let _ = writeln!(
        text,
        "{:>11} {:>13} {:>10} {:>12}  by {}",
        "gained", "blocks", "now", "blocks", document.by
    );
    for change in document.changes.iter().take(limit) {
        let _ = write!(
            text,
            "{:>11} {:>13} {:>10} {:>12}",
            signed(
                change.bytes_gained,
                bytes(change.bytes_gained.unsigned_abs())
            ),
            signed(
                change.count_gained,
                units::count(change.count_gained.unsigned_abs())
            ),
            bytes(change.bytes[1]),
            units::count(change.count[1]),
        );
        place(&mut text, &change.place);
    }
    more(&mut text, document.changes.len(), limit);
    text
}

fn signed(value: i64, text: String) -> String {
    match value {
        0 => text,
        1.. => format!("+{text}"),
        _ => format!("-{text}"),
    }
}

/// The rest of a row: a line in place, a traceback below it with the newest line last.
fn place(text: &mut String, place: &PlaceRow) {
    match place {
        PlaceRow::Line(line) => {
            let _ = writeln!(text, "  {}", self::line(line));
        }
        PlaceRow::Traceback { traceback } => {
            text.push('\n');
            for each in traceback.iter().rev() {
                let _ = writeln!(text, "    {}", line(each));
            }
        }
    }
}

fn line(row: &LineRow) -> String {
    let file = printable(&row.file);
    match row.line {
        Some(line) => format!("{file}:{line}"),
        None => file,
    }
}

fn more(text: &mut String, all: usize, limit: usize) {
    if all > limit {
        let _ = writeln!(text, "… and {} more; --limit shows them", all - limit);
    }
}
