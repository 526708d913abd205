//! How full the arenas are, for people.

use std::fmt::Write as _;

use super::percent;
use crate::cli::heap::json;
use crate::cli::text::{bytes, printable};
use crate::heap::Report;

pub(super) fn fragmentation(text: &mut String, taken: &Report) {
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
}
