//! Formats and how they are named on a command line or by a file's extension.

use std::path::Path;

use crate::error::Error;

/// A report that [`render`](crate::render) can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Flame graph as an SVG picture with search and zoom.
    Flamegraph,
    /// Collapsed stacks, one line per distinct stack.
    Raw,
    /// JSON for <https://www.speedscope.app>, one profile per thread in order of time.
    Speedscope,
}

/// What an output file is to hold: the recording itself or a report made from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The recording, written by `onlooker-recording` and not by this crate.
    Recording,
    /// A report.
    Report(Format),
}

impl Target {
    /// Every name that [`Target::from_name`] knows.
    pub const NAMES: &'static [&'static str] =
        &["flamegraph", "svg", "raw", "txt", "speedscope", "olk"];

    /// Every extension that [`Target::from_extension`] knows.
    pub const EXTENSIONS: &'static [&'static str] = &[".svg", ".txt", ".speedscope.json", ".olk"];

    /// The target with this name, in any case: one of [`Target::NAMES`].
    pub fn from_name(name: &str) -> Result<Self, Error> {
        match name.to_ascii_lowercase().as_str() {
            "flamegraph" | "svg" => Ok(Self::Report(Format::Flamegraph)),
            "raw" | "txt" => Ok(Self::Report(Format::Raw)),
            "speedscope" => Ok(Self::Report(Format::Speedscope)),
            "olk" => Ok(Self::Recording),
            _ => Err(Error::UnknownFormat {
                name: name.to_owned(),
            }),
        }
    }

    /// The target that the extension of a file's name stands for: one of
    /// [`Target::EXTENSIONS`], in any case.
    ///
    /// A plain `.json` is refused: other JSON reports may follow, and a guess that later turns
    /// into another format would break scripts.
    pub fn from_extension(path: &Path) -> Result<Self, Error> {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().to_ascii_lowercase())
            .unwrap_or_default();
        if name.ends_with(".svg") {
            Ok(Self::Report(Format::Flamegraph))
        } else if name.ends_with(".txt") {
            Ok(Self::Report(Format::Raw))
        } else if name.ends_with(".speedscope.json") {
            Ok(Self::Report(Format::Speedscope))
        } else if name.ends_with(".olk") {
            Ok(Self::Recording)
        } else {
            Err(Error::UnknownExtension {
                path: path.to_owned(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_and_extension_is_known() {
        for name in Target::NAMES {
            assert!(Target::from_name(name).is_ok(), "{name}");
            assert!(Target::from_name(&name.to_uppercase()).is_ok(), "{name}");
        }
        for extension in Target::EXTENSIONS {
            let path = format!("some.dir/profile{extension}");
            assert!(
                Target::from_extension(Path::new(&path)).is_ok(),
                "{extension}"
            );
        }
    }

    #[test]
    fn what_is_unknown_is_refused_with_the_list() {
        let error = Target::from_name("chrometrace").unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown format \"chrometrace\"; known formats: flamegraph, svg, raw, txt, speedscope, olk"
        );
        for path in ["out.json", "out", "-", "dir.svg/out", ""] {
            let error = Target::from_extension(Path::new(path)).unwrap_err();
            assert!(
                error
                    .to_string()
                    .ends_with("known extensions: .svg, .txt, .speedscope.json, .olk"),
                "{path}: {error}"
            );
        }
    }
}
