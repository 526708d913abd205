//! What can go wrong while a report is made.

use std::io;
use std::path::PathBuf;

use crate::format::Target;

/// Why there is no report.
///
/// Tables without a single sample are no error: every format has a valid form that says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A format was asked for by a name that none has.
    #[error("unknown format {name:?}; known formats: {}", Target::NAMES.join(", "))]
    UnknownFormat {
        /// What was asked for.
        name: String,
    },
    /// The name of the output file does not tell the format.
    #[error(
        "the extension of {} names no format; known extensions: {}",
        path.display(),
        Target::EXTENSIONS.join(", ")
    )]
    UnknownExtension {
        /// The output file.
        path: PathBuf,
    },
    /// The output could not be written.
    #[error("the report could not be written: {0}")]
    Write(#[from] io::Error),
}
