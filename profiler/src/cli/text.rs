//! Names and figures in tables.

use std::fmt;
use std::io::{self, Write as _};

use onlooker_flamegraph::units;

/// A line on standard error. Paths and names of the target may be part of it.
pub(super) fn say(line: fmt::Arguments<'_>) {
    // Nobody listens any more: no failure.
    let _ = writeln!(io::stderr(), "onlooker: {}", printable(&line.to_string()));
}

/// Names come from the target: they must not steer the terminal. Control characters, marks that
/// change the direction of text or are not seen, unassigned and private characters become U+FFFD;
/// `heap show` escapes these in values.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if is_printable(c) { c } else { '\u{fffd}' })
        .collect()
}

fn is_printable(c: char) -> bool {
    // Behind a letter, for an accent alone would be escaped too.
    matches!(c, ' '..='~') || format!("a{c}").escape_debug().count() == 2
}

/// Bytes in the unit that reads best.
#[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
pub(super) fn bytes(value: u64) -> String {
    units::bytes(value as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_a_terminal() {
        for (text, expected) in [
            ("it's \"a\\b\"", "it's \"a\\b\""),
            ("\x1b[2J\x07\n\u{9b}", "\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}"),
            ("a\u{202e}b\u{2066}c", "a\u{fffd}b\u{fffd}c"),
            (
                "\u{200e}\u{200f}\u{202a}\u{2069}\u{61c}",
                "\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}",
            ),
            (
                "\u{200b}\u{feff}\u{2028}\u{e000}",
                "\u{fffd}\u{fffd}\u{fffd}\u{fffd}",
            ),
            ("déjà e\u{301} नमस्ते 日本 🐍", "déjà e\u{301} नमस्ते 日本 🐍"),
        ] {
            assert_eq!(printable(text), expected);
        }
    }
}
