//! Why a file is no image.

use super::VERSION;

/// Why a file is no image that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// It does not begin as one.
    #[error("not an image of memory: it does not begin as one (`onlooker heap -p PID -o FILE`)")]
    Foreign,
    /// A version that is not known.
    #[error("an image of format {0}; this version of Onlooker reads format {VERSION}")]
    Version(u32),
    /// It ends too early.
    #[error("a truncated image: {bytes} bytes of {expected}")]
    Truncated {
        /// Its length.
        bytes: u64,
        /// The length that it should have at least.
        expected: u64,
    },
    /// A checksum, or a value that no writer writes.
    #[error("a damaged image: {0}")]
    Damaged(&'static str),
}
