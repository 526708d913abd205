//! Text of the target that is safe on a terminal: what is not printable is escaped as Python does.

use std::fmt::Write as _;

/// Whether a character can be written as it is. Control characters, marks that change the
/// direction of text, unassigned and private characters cannot.
fn is_printable(c: char) -> bool {
    // Quotes and backslashes are for the caller to escape.
    matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1
}

/// The quote that Python takes: a double one only where that saves a backslash.
fn quote(text: &(impl Iterator<Item = u32> + Clone)) -> char {
    let has = |wanted: char| text.clone().any(|point| point == u32::from(wanted));
    if has('\'') && !has('"') { '"' } else { '\'' }
}

fn escape(out: &mut String, point: u32, quote: char) {
    match char::from_u32(point) {
        Some('\n') => out.push_str("\\n"),
        Some('\r') => out.push_str("\\r"),
        Some('\t') => out.push_str("\\t"),
        Some(c) if c == '\\' || c == quote => {
            out.push('\\');
            out.push(c);
        }
        Some(c) if is_printable(c) => out.push(c),
        _ => {
            let _ = match point {
                0..0x100 => write!(out, "\\x{point:02x}"),
                0x100..0x1_0000 => write!(out, "\\u{point:04x}"),
                _ => write!(out, "\\U{point:08x}"),
            };
        }
    }
}

/// A `str` of these code points, quoted; lone surrogates are escaped.
pub(super) fn str(points: &[u32]) -> String {
    let quote = quote(&points.iter().copied());
    let mut out = String::from(quote);
    for point in points {
        escape(&mut out, *point, quote);
    }
    out.push(quote);
    out
}

/// `bytes`, quoted.
pub(super) fn bytes(bytes: &[u8]) -> String {
    let quote = quote(&bytes.iter().map(|byte| u32::from(*byte)));
    let mut out = String::from("b");
    out.push(quote);
    for byte in bytes {
        if byte.is_ascii() {
            escape(&mut out, (*byte).into(), quote);
        } else {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push(quote);
    out
}

/// A name, without quotes.
pub(super) fn name(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_printable(c) {
            out.push(c);
        } else {
            escape(&mut out, c.into(), '\'');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        str(&text.chars().map(u32::from).collect::<Vec<_>>())
    }

    #[test]
    fn nothing_steers_a_terminal() {
        for (text, expected) in [
            ("plain", "'plain'"),
            ("it's", "\"it's\""),
            ("both ' and \"", "'both \\' and \"'"),
            ("a\\b\n\r\t", "'a\\\\b\\n\\r\\t'"),
            ("\x1b[2J\x07\x00\x7f", "'\\x1b[2J\\x07\\x00\\x7f'"),
            // One byte that some terminals take for ESC [.
            ("\u{9b}2J", "'\\x9b2J'"),
            ("\u{202e}evil\u{2028}", "'\\u202eevil\\u2028'"),
            ("\u{a0}\u{feff}\u{e0001}", "'\\xa0\\ufeff\\U000e0001'"),
            ("déjà 日本 🐍", "'déjà 日本 🐍'"),
        ] {
            assert_eq!(of(text), expected);
        }
        assert_eq!(
            str(&[0xdc80, 0xd800, 0x11_0000, u32::MAX]),
            "'\\udc80\\ud800\\U00110000\\Uffffffff'"
        );
        assert_eq!(bytes(b"\x1b]0;\xff'"), "b\"\\x1b]0;\\xff'\"");
        assert_eq!(name("a\x1b.'b'\u{202e}"), "a\\x1b.'b'\\u202e");
    }
}
