//! Objects and their referrers for people.

use std::fmt::Write as _;

use onlooker_flamegraph::units;

use super::document::{Document, From, Object};
use crate::cli::text::printable;

pub(super) fn render(document: &Document) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "Process {}, Python {}", document.pid, document.python);
    for each in &document.objects {
        object(&mut text, each);
    }
    let more = document.count - document.objects.len() as u64;
    if more > 0 {
        let _ = writeln!(text, "\n{} more objects (--limit)", units::count(more));
    }
    text
}

fn object(text: &mut String, object: &Object) {
    let _ = write!(
        text,
        "\n{:#x}  {}  {}",
        object.address,
        printable(&object.r#type),
        bytes(object.block_bytes),
    );
    if object.own_bytes > object.block_bytes {
        let _ = write!(text, ", {} with what it owns", bytes(object.own_bytes));
    }
    match object.reference_count {
        Some(1) => text.push_str(", 1 reference\n"),
        Some(count) => {
            let _ = writeln!(text, ", {} references", units::count(count));
        }
        None => text.push_str(", immortal\n"),
    }
    let _ = writeln!(text, "    {}", object.repr);
    for each in &object.referrers {
        referrer(text, each);
    }
    let all = object.referrers_exact + object.referrers_conservative;
    if all == 0 {
        text.push_str("    no referrers found\n");
    }
    let more = all - object.referrers.len() as u64;
    if more > 0 {
        let _ = writeln!(
            text,
            "    {} more referrers (--referrers)",
            units::count(more)
        );
    }
}

fn referrer(text: &mut String, from: &From) {
    let what = match (&from.r#type, from.kind) {
        (Some(of), _) => printable(of),
        (None, "block") => "a block that is no object".to_owned(),
        (None, _) => "a word in stacks, frames or static data".to_owned(),
    };
    let how = if from.kind == "memory" { "" } else { &from.how };
    let mark = if from.conservative {
        "  (conservative)"
    } else {
        ""
    };
    let _ = writeln!(text, "    {:#x}  {what}  {how}{mark}", from.address);
}

/// Not rounded: what a single object takes is a small number that one may want to add up.
fn bytes(value: u64) -> String {
    format!("{} bytes", units::count(value))
}
