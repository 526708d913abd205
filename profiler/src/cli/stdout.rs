//! What a command prints when it has ended.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::error::Error;

/// Writes a report to standard output: `onlooker … | head` is no failure.
///
/// # Errors
/// [`Error::Write`], when it cannot be written for any other reason.
pub(super) fn print(text: &str) -> Result<(), Error> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Write {
            path: "-".into(),
            error,
            kept: String::new(),
        }),
        _ => Ok(()),
    }
}

/// A document in one line.
pub(super) fn json(document: &impl Serialize) -> Result<String, Error> {
    let text = serde_json::to_string(document).map_err(|e| Error::Report(e.to_string()))?;
    Ok(text + "\n")
}
