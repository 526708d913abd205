//! How full size classes and arenas are, for people.

use std::cmp::Reverse;
use std::fmt::Write as _;

use onlooker_heap::census::{ArenaUse, SizeClass};

use super::percent;
use crate::cli::heap::json;
use crate::cli::text::{bytes, printable};
use crate::heap::Report;

/// The classes that have most memory, smallest blocks first.
pub(super) fn size_classes(text: &mut String, taken: &Report, limit: usize) {
    let mut classes: Vec<&SizeClass> = taken.census.size_classes.iter().collect();
    if classes.is_empty() {
        return;
    }
    let all = classes.len();
    classes.sort_by_key(|class| {
        Reverse((class.used + class.free).saturating_mul(class.block_bytes.into()))
    });
    classes.truncate(limit);
    classes.sort_by_key(|class| class.block_bytes);
    let _ = writeln!(
        text,
        "\n{:>12} {:>12} {:>8}  blocks of pymalloc by size",
        "used", "free", "full"
    );
    for class in classes {
        let _ = writeln!(
            text,
            "{:>12} {:>12} {:>8}  {} B",
            class.used,
            class.free,
            percent(class.used, class.used + class.free),
            class.block_bytes
        );
    }
    let more = all.saturating_sub(limit);
    if more > 0 {
        let _ = writeln!(text, "{:>36}{more} more sizes (--limit)", "");
    }
}

/// What the arenas are full of, all together and those that are emptiest.
pub(super) fn fragmentation(text: &mut String, taken: &Report, limit: usize) {
    let arenas = &taken.census.arenas;
    if arenas.is_empty() {
        return;
    }
    let all: u64 = arenas.iter().map(|arena| arena.bytes).sum();
    let used: u64 = arenas.iter().map(|arena| arena.used_bytes).sum();
    let (count, sparse, pinned) = json::sparse(taken);
    let _ = writeln!(
        text,
        "\n{} arenas of {} are {} full; {count} of them ({}) less than 10 %",
        arenas.len(),
        bytes(all),
        percent(used, all),
        bytes(sparse),
    );
    for (name, arenas) in pinned.iter().take(5) {
        let name = printable(name);
        let _ = writeln!(text, "{arenas:>12} of these are held mostly by {name}");
    }
    let limit = limit.div_ceil(2);
    let mut emptiest: Vec<&ArenaUse> = arenas.iter().collect();
    emptiest.sort_by_key(|arena| arena.used_bytes.saturating_mul(1000) / arena.bytes.max(1));
    let _ = writeln!(
        text,
        "{:>12} {:>12} {:>8}  {:<18} held mostly by",
        "used", "of", "full", "emptiest arenas"
    );
    for arena in emptiest.iter().take(limit) {
        let name = json::pinned_by(&taken.census, arena);
        let _ = writeln!(
            text,
            "{:>12} {:>12} {:>8}  {:<18} {}",
            bytes(arena.used_bytes),
            bytes(arena.bytes),
            percent(arena.used_bytes, arena.bytes),
            format!("{:#x}", arena.start),
            printable(name.as_deref().unwrap_or("no type")),
        );
    }
    let more = arenas.len().saturating_sub(limit);
    if more > 0 {
        let _ = writeln!(text, "{:>36}{more} more arenas (--limit)", "");
    }
}
