//! Names made fit to print.
//!
//! A name in a code object is any Unicode text: it may hold line breaks, terminal controls or the
//! characters that separate the fields of a report. None of them may break a line, a picture or
//! the reader's terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// `text` with everything escaped that would not be seen as a character of its own: controls,
/// line and paragraph separators, overrides of the writing direction, and the two non-characters
/// that XML forbids.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_invisible) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other if is_invisible(other) => {
                write!(out, "\\u{{{:x}}}", u32::from(other)).expect("a string takes every write");
            }
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// `text` as a part of a collapsed stack: visible, and without the `;` that ends a frame.
pub(crate) fn frame_part(text: &str) -> Cow<'_, str> {
    let text = visible(text);
    if text.contains(';') {
        Cow::Owned(text.replace(';', ","))
    } else {
        text
    }
}

/// At most `max_chars` characters of `text`, its middle replaced by `…` where it is longer: of a
/// path the end tells most, of a name the start.
pub(crate) fn shorten(text: &str, max_chars: usize) -> Cow<'_, str> {
    let length = text.chars().count();
    if length <= max_chars {
        return Cow::Borrowed(text);
    }
    let kept = max_chars.saturating_sub(1);
    let head = kept.div_ceil(2);
    let mut out: String = text.chars().take(head).collect();
    out.push('…');
    out.extend(text.chars().skip(length - (kept - head)));
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_invisible_is_left() {
        assert_eq!(visible("déjà_vu λ 名"), "déjà_vu λ 名");
        assert_eq!(visible("a\nb\tc\r"), "a\\nb\\tc\\r");
        assert_eq!(visible("\x1b[31m\u{0}\u{85}"), "\\u{1b}[31m\\u{0}\\u{85}");
        assert_eq!(visible("\u{202e}gpj\u{ffff}"), "\\u{202e}gpj\\u{ffff}");
        assert_eq!(
            visible("\u{61c}\u{200e}\u{2069}"),
            "\\u{61c}\\u{200e}\\u{2069}"
        );
        assert_eq!(frame_part("a;b\n;"), "a,b\\n,");
    }

    #[test]
    fn the_middle_goes_first() {
        assert_eq!(shorten("abcdefgh", 8), "abcdefgh");
        assert_eq!(shorten("abcdefgh", 7), "abc…fgh");
        assert_eq!(shorten("abcdefgh", 6), "abc…gh");
        assert_eq!(shorten("äöüß", 3), "ä…ß");
        assert_eq!(shorten("abc", 1), "…");
    }
}
