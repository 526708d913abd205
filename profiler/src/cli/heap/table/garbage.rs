//! What nobody can reach any more, for people.

use std::fmt::Write as _;

use onlooker_heap::census::Untold;

use crate::cli::text::{bytes, printable};
use crate::heap::Report;

/// How much there is, of which types most, or why that is not told.
pub(super) fn garbage(text: &mut String, taken: &Report, limit: usize) {
    let garbage = match &taken.census.garbage {
        Ok(garbage) => garbage,
        Err(untold) => {
            let why = match untold {
                Untold::Moving => "the process ran while it was copied (--pause tells it)",
                Untold::Collecting => "a collection was going on",
                Untold::Incomplete => "not all that the garbage collector tracks was copied",
            };
            let _ = writeln!(text, "\ngarbage not collected yet: not told, for {why}");
            return;
        }
    };
    let _ = writeln!(
        text,
        "\ngarbage not collected yet: {} objects own {}",
        garbage.objects,
        bytes(garbage.own_bytes)
    );
    let limit = limit.div_ceil(2);
    for each in garbage.types.iter().take(limit) {
        let _ = writeln!(
            text,
            "{:>12} {:>12}  {}",
            each.count,
            bytes(each.own_bytes),
            printable(&each.name.to_string())
        );
    }
    let more = garbage.types.len().saturating_sub(limit);
    if more > 0 {
        let _ = writeln!(text, "{:>27}{more} more types (--limit)", "");
    }
}
