//! Which CPython it is, from what a file or a process shows.
//!
//! Three sources, best first: the hex word of `Py_Version` (exported since 3.11) or of
//! the debug offsets (3.13+); the text that `Py_GetVersion` builds in static memory
//! (Python/getversion.c), which is all that older ones have; the file name, which knows the
//! minor version only.

mod text;

use std::fmt;

pub use text::find_version;

/// How finished a release is, as in `sys.version_info.releaselevel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReleaseLevel {
    /// `a`
    Alpha,
    /// `b`: layouts may still change.
    Beta,
    /// `rc`
    Candidate,
    /// A release.
    Final,
}

/// A CPython version; only the minor one is always known.
///
/// Versions order as releases do: `3.15.0b1 < 3.15.0rc1 < 3.15.0 < 3.15.1`. One without a
/// micro version sorts before all that have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PyVersion {
    /// 2 or 3.
    pub major: u8,
    /// The second number, which decides about layouts.
    pub minor: u8,
    /// The third number; `None` when the source does not tell.
    pub micro: Option<u8>,
    /// `Final` when the source does not tell.
    pub level: ReleaseLevel,
    /// The number behind `a`, `b` or `rc`; 0 for a release.
    pub serial: u8,
}

/// Why a word is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VersionError {
    /// CPython 2 and 3 are the only ones that there are.
    #[error("{0:#010x} is not a version of CPython 2 or 3")]
    Major(u32),
    /// The release level must be 0xa, 0xb, 0xc or 0xf.
    #[error("{0:#010x} is not a CPython version: unknown release level")]
    Level(u32),
}

impl PyVersion {
    /// A version of which only the minor one is known.
    pub fn minor_only(major: u8, minor: u8) -> Self {
        Self {
            major,
            minor,
            micro: None,
            level: ReleaseLevel::Final,
            serial: 0,
        }
    }

    /// Reads `PY_VERSION_HEX` (Include/patchlevel.h): `0x030d00f0` is 3.13.0. A level of 0,
    /// which no CPython has, is read as final, for words made from three numbers.
    ///
    /// # Errors
    ///
    /// When the word cannot be a version, as when it was read from a wrong address.
    pub fn from_hex(hex: u32) -> Result<Self, VersionError> {
        let [major, minor, micro, level] = hex.to_be_bytes();
        if !(2..=3).contains(&major) {
            return Err(VersionError::Major(hex));
        }
        let serial = level & 15;
        let level = match level >> 4 {
            0xa => ReleaseLevel::Alpha,
            0xb => ReleaseLevel::Beta,
            0xc => ReleaseLevel::Candidate,
            0xf => ReleaseLevel::Final,
            0 if serial == 0 => ReleaseLevel::Final,
            _ => return Err(VersionError::Level(hex)),
        };
        Ok(Self {
            major,
            minor,
            micro: Some(micro),
            level,
            serial,
        })
    }

    /// Reads names as `python3.12`, `libpython3.7m.so.1.0`, `python3.13t` and
    /// `python3.11-dbg`, with or without directories and the ` (deleted)` of the kernel.
    /// `None` for `python3`, `python`, `bash`, and for what only begins like that, such as
    /// `python3.12-config`.
    pub fn from_file_name(path: &str) -> Option<Self> {
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        let name = path.rsplit('/').next().unwrap_or(path);
        let (numbers, shared) = match name.strip_prefix("libpython") {
            Some(rest) => (rest, true),
            None => (name.strip_prefix("python")?, false),
        };
        let (major, rest) = text::number(numbers.as_bytes())?;
        let (minor, rest) = text::number(rest.strip_prefix(b".")?)?;
        // ABI flags: d debug, m pymalloc, t free-threaded, u wide Unicode.
        let flags = rest.iter().take_while(|&byte| b"dmtu".contains(byte));
        let rest = &rest[flags.count()..];
        let whole = if shared {
            rest.starts_with(b".so") || rest.starts_with(b".a")
        } else {
            matches!(rest, b"" | b"-dbg" | b".exe")
        };
        (whole && (2..=3).contains(&major)).then(|| Self::minor_only(major, minor))
    }

    /// The version as `PY_VERSION_HEX`; `None` without a micro version.
    pub fn to_hex(self) -> Option<u32> {
        let level = match self.level {
            ReleaseLevel::Alpha => 0xa,
            ReleaseLevel::Beta => 0xb,
            ReleaseLevel::Candidate => 0xc,
            ReleaseLevel::Final => 0xf,
        };
        let last = level << 4 | self.serial & 15;
        Some(u32::from_be_bytes([
            self.major,
            self.minor,
            self.micro?,
            last,
        ]))
    }
}

impl fmt::Display for PyVersion {
    /// `3.12.1`, `3.15.0rc1`, or `3.12` when no more is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        let Some(micro) = self.micro else {
            return Ok(());
        };
        write!(f, ".{micro}")?;
        match self.level {
            ReleaseLevel::Alpha => write!(f, "a{}", self.serial),
            ReleaseLevel::Beta => write!(f, "b{}", self.serial),
            ReleaseLevel::Candidate => write!(f, "rc{}", self.serial),
            ReleaseLevel::Final => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
