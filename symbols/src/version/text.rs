//! The text of `sys.version`, found in memory: `3.10.13 (main, May  9 2026, 17:05:33) [GCC
//! 12.2.0]`.
//!
//! `Py_GetVersion` (Python/getversion.c) formats version, build and compiler into a static
//! buffer when the interpreter starts, so the text is in the writable data of the process
//! and not in the file. Distributors change the first part: `3.7.4 |Anaconda, Inc.|
//! (default, …`, `3.13.0 experimental free-threading build (main, …`. PyPy's text has the
//! same shape but for the compiler: `\n[PyPy 7.3.9 with GCC 10.2.1]`.

use super::{PyVersion, ReleaseLevel};

/// Each of the parts is cut off at 80 bytes by its format, `%.80s (%.80s) %.80s`.
const MAX_PART_BYTES: usize = 80;

/// Finds the first version text of CPython in memory, or `None`. Cost: one pass.
///
/// Meant for [the writable memory](crate::ElfFile::writable_ranges) of an interpreter;
/// elsewhere a text may be a copy of another's.
pub fn find_version(memory: &[u8]) -> Option<PyVersion> {
    // Rarer than digits and always there, the dot is what is looked for.
    let dots = memory.iter().enumerate().filter(|&(_, &byte)| byte == b'.');
    dots.filter_map(|(dot, _)| dot.checked_sub(1))
        .find_map(|start| version_at(memory, start))
}

/// The version text that begins at `start`, in the middle of no other number.
fn version_at(memory: &[u8], start: usize) -> Option<PyVersion> {
    let before = start.checked_sub(1).map(|at| memory[at]);
    if before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'.') {
        return None;
    }
    let (major, rest) = number(&memory[start..])?;
    let (minor, rest) = number(rest.strip_prefix(b".")?)?;
    let (micro, rest) = number(rest.strip_prefix(b".")?)?;
    let (level, serial, rest) = release_level(rest)?;
    // A plus sign: built from the sources after this release.
    let rest = rest.strip_prefix(b"+").unwrap_or(rest);
    let rest = skip_past(rest.strip_prefix(b" ")?, b'(')?;
    // Branch, date and time.
    let build = &rest[..rest.iter().take(MAX_PART_BYTES).position(|&b| b == b')')?];
    let compiler = rest[build.len() + 1..].trim_ascii_start();
    let is_cpython = (2..=3).contains(&major)
        && build.windows(2).any(|pair| pair == b", ")
        && compiler.starts_with(b"[")
        && !compiler.starts_with(b"[PyPy");
    is_cpython.then_some(PyVersion {
        major,
        minor,
        micro: Some(micro),
        level,
        serial,
    })
}

/// What follows the first `needle` within one part of printable text.
fn skip_past(text: &[u8], needle: u8) -> Option<&[u8]> {
    let part = text.iter().take(MAX_PART_BYTES);
    let mut printable = part.take_while(|byte| (b' '..=b'~').contains(byte));
    let at = printable.position(|&byte| byte == needle)?;
    text.get(at + 1..)
}

fn release_level(text: &[u8]) -> Option<(ReleaseLevel, u8, &[u8])> {
    let levels = [
        (&b"a"[..], ReleaseLevel::Alpha),
        (b"b", ReleaseLevel::Beta),
        (b"rc", ReleaseLevel::Candidate),
        // Python 2.
        (b"c", ReleaseLevel::Candidate),
    ];
    for (name, level) in levels {
        if let Some(rest) = text.strip_prefix(name) {
            let (serial, rest) = number(rest)?;
            return Some((level, serial, rest));
        }
    }
    Some((ReleaseLevel::Final, 0, text))
}

/// A decimal number below 256 and what follows it.
pub(super) fn number(text: &[u8]) -> Option<(u8, &[u8])> {
    let digits = text.iter().take(4).take_while(|byte| byte.is_ascii_digit());
    let (digits, rest) = text.split_at(digits.count());
    let value = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((value, rest))
}
