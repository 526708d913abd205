//! A difference for people: what did not change is left out.

use std::fmt::Write as _;

use onlooker_flamegraph::units;

use super::document::{Document, Image, Row};
use crate::cli::text::{bytes, printable};

pub(super) fn render(document: &Document, limit: usize) -> String {
    let mut text = String::new();
    for (name, image) in [("A", &document.a), ("B", &document.b)] {
        head(&mut text, name, image);
    }
    for note in &document.notes {
        let _ = writeln!(text, "note: {note}");
    }
    let all = &document.objects;
    let _ = write!(text, "\n{} objects", all.change.counts());
    if let (Some(appeared), Some(gone)) = (all.appeared, all.gone) {
        let (appeared, gone) = (units::count(appeared), units::count(gone));
        let _ = write!(text, " ({appeared} appeared, {gone} are gone)");
    }
    let _ = writeln!(text, " own {}", all.change.bytes());
    types(&mut text, document, limit);
    let rows = document.modules.iter();
    let rows = rows.map(|each| (&each.change, printable(&each.module)));
    changes(&mut text, "module of the type", rows, limit);
    arenas(&mut text, document, limit);
    text
}

fn head(text: &mut String, name: &str, image: &Image) {
    let _ = writeln!(
        text,
        "{name}: process {}, Python {}, {} resident: {}",
        image.pid,
        image.python,
        bytes(image.resident_bytes),
        printable(&image.command.join(" "))
    );
}

fn types(text: &mut String, document: &Document, limit: usize) {
    let rows = document.types.iter();
    let rows = rows
        .filter(|each| {
            let moved = each.appeared.unwrap_or(0) + each.gone.unwrap_or(0);
            each.change.is_change() || moved > 0
        })
        .map(|each| {
            let name = printable(&each.r#type);
            let name = match (each.appeared, each.gone) {
                (Some(appeared), Some(gone)) => format!(
                    "{:>10} {:>10}  {name}",
                    units::count(appeared),
                    units::count(gone)
                ),
                _ => name,
            };
            (&each.change, name)
        });
    let title = if document.same_process {
        format!("{:>10} {:>10}  type", "appeared", "gone")
    } else {
        "type".to_owned()
    };
    table(text, &title, rows, limit);
}

fn changes<'a>(
    text: &mut String,
    title: &str,
    rows: impl Iterator<Item = (&'a Row, String)>,
    limit: usize,
) {
    table(text, title, rows.filter(|(row, _)| row.is_change()), limit);
}

fn table<'a>(
    text: &mut String,
    title: &str,
    rows: impl Iterator<Item = (&'a Row, String)>,
    limit: usize,
) {
    let rows: Vec<_> = rows.collect();
    let _ = writeln!(
        text,
        "\n{:>11} {:>13} {:>10} {:>12}  {title}",
        "gained", "objects", "now", "objects"
    );
    for (row, name) in rows.iter().take(limit) {
        let _ = writeln!(
            text,
            "{:>11} {:>13} {:>10} {:>12}  {name}",
            signed(row.bytes_gained, bytes),
            signed(row.count_gained, units::count),
            bytes(row.own_bytes[1]),
            units::count(row.count[1]),
        );
    }
    more(text, rows.len(), limit);
}

fn arenas(text: &mut String, document: &Document, limit: usize) {
    let Some(arenas) = &document.arenas else {
        return;
    };
    let changed = arenas
        .iter()
        .filter(|arena| arena.bytes_gained != 0 || arena.blocks_gained != 0);
    let changed: Vec<_> = changed.collect();
    let _ = writeln!(
        text,
        "\n{:>11} {:>13} {:>10} {:>12}  arena ({} of {} changed)",
        "gained",
        "blocks",
        "now",
        "blocks",
        changed.len(),
        arenas.len()
    );
    for arena in changed.iter().take(limit) {
        let _ = writeln!(
            text,
            "{:>11} {:>13} {:>10} {:>12}  {:#x}",
            signed(arena.bytes_gained, bytes),
            signed(arena.blocks_gained, units::count),
            bytes(arena.used_bytes[1]),
            units::count(arena.blocks[1]),
            arena.address
        );
    }
    more(text, changed.len(), limit);
}

impl Row {
    fn is_change(&self) -> bool {
        self.count_gained != 0 || self.bytes_gained != 0
    }

    fn counts(&self) -> String {
        let [old, new] = self.count.map(units::count);
        format!("{old} → {new}")
    }

    fn bytes(&self) -> String {
        let [old, new] = self.own_bytes.map(bytes);
        format!("{old} → {new}")
    }
}

fn signed(value: i64, unit: fn(u64) -> String) -> String {
    let text = unit(value.unsigned_abs());
    match value {
        0 => text,
        1.. => format!("+{text}"),
        _ => format!("-{text}"),
    }
}

fn more(text: &mut String, all: usize, limit: usize) {
    if all > limit {
        let _ = writeln!(text, "… and {} more; --limit shows them", all - limit);
    }
}
