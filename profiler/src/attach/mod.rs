//! From a process id to a proven interpreter.
//!
//! 1. The process lives and may be read ([`crate::target`]).
//! 2. `find` collects places where `_PyRuntime` may be, best first.
//! 3. `version` tells which CPython it is, which gives a layout: its own debug offsets, a
//!    table, or ([`dwarf`]) the debug information of an unknown build.
//! 4. A sample proves the layout (`onlooker_unwinder::layout::proof`) or the place is given up.

pub mod dwarf;
mod find;
mod known;
mod scan;
mod seek;
mod version;

use std::time::{Duration, Instant};

use onlooker_symbols::PyVersion;
use onlooker_unwinder::layout::debug_offsets::{self, DebugOffsetsError};
use onlooker_unwinder::layout::proof::{self, ProofError};
use onlooker_unwinder::layout::{Layout, Minor, tables};
use onlooker_unwinder::memory::{ReadError, ReadMemory, RemoteAddr, Segment};
use onlooker_unwinder::sampler::Sampler;
use onlooker_unwinder::sampler::readahead::Mappings;

use crate::error::Error;
use crate::target::maps::{MappedFile, Maps};
use crate::target::memory::TargetMemory;
use crate::target::{self};
use find::Candidate;
pub use known::Known;
pub use seek::Seeker;
pub(crate) use version::writable_ranges;

/// How long an interpreter that is just starting is waited for.
pub const STARTING: Duration = Duration::from_secs(1);

/// An interpreter whose layout is proven.
#[derive(Debug)]
pub struct Attached {
    /// The process.
    pub pid: i32,
    /// `3.12.1`, or `3.12` where the patch release is unknown.
    pub version: PyVersion,
    /// Path of the executable, as the kernel shows it.
    pub executable: String,
    /// Takes samples.
    pub sampler: Sampler<TargetMemory>,
    /// How the runtime was found.
    pub found: Found,
}

impl Attached {
    /// Whether the patch release is known. Up to 3.10 only the text of `Py_GetVersion` tells it,
    /// which an interpreter builds a moment after its first thread state.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.version.micro.is_some()
    }
}

/// How the runtime was found, in order of trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// Symbol `_PyRuntime` in `.dynsym` or `.symtab`.
    Symbol,
    /// Section `.PyRuntime` (3.10+).
    Section,
    /// Scan of the writable data of an executable or library.
    Scan,
}

/// How memory is opened; the segment is one that can be read.
type Open = fn(i32, Segment) -> Result<TargetMemory, ReadError>;

/// Attaches to a process; one that has not initialised its interpreter yet is waited for at
/// most for `patience`.
///
/// Only reads, and only the process's own files and memory.
///
/// # Errors
/// One of those that [`crate::error::exit`] lists.
pub fn attach(pid: i32, patience: Duration) -> Result<Attached, Error> {
    patiently(pid, patience, TargetMemory::open)
}

/// As [`attach`], through `/proc/PID/mem` alone, now and later: nothing that is read becomes a copy
/// of the target's own where a fork shares it ([`FileMemory`]). Slower for stacks.
///
/// # Errors
/// As [`attach`].
///
/// [`FileMemory`]: crate::target::memory::FileMemory
pub fn attach_for_memory(pid: i32, patience: Duration) -> Result<Attached, Error> {
    patiently(pid, patience, TargetMemory::open_file)
}

fn patiently(pid: i32, patience: Duration, open: Open) -> Result<Attached, Error> {
    let deadline = Instant::now() + patience;
    let mut was_there = false;
    loop {
        match once(pid, open) {
            // All of these can be a process that is just starting, or between two programs.
            Err(
                Error::NotReady { .. }
                | Error::NotPython { .. }
                | Error::NotProven { .. }
                | Error::Read { .. },
            ) if Instant::now() < deadline => {
                was_there = true;
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) if was_there => return Err(error.meanwhile()),
            result => return result,
        }
    }
}

/// One try to attach, without waiting for anything.
///
/// # Errors
/// As [`attach`].
pub fn attach_once(pid: i32) -> Result<Attached, Error> {
    once(pid, TargetMemory::open)
}

fn once(pid: i32, open: Open) -> Result<Attached, Error> {
    target::check_alive(pid)?;
    let maps = Maps::read(pid).map_err(|error| target::refused(pid, &error))?;
    let Some(probe) = probe(&maps) else {
        // A kernel thread has no mappings; neither has a process that is about to end.
        target::check_alive(pid).map_err(Error::meanwhile)?;
        return Err(not_python(pid, "it has no program in memory"));
    };
    let memory = open(pid, probe).map_err(|error| read_error(pid, error))?;
    let mut search = Search {
        pid,
        maps,
        open,
        memory,
        best: None,
    };
    search.run()
}

/// The first mapped byte of a process, to see whether it can be read at all.
fn probe(maps: &Maps) -> Option<Segment> {
    let piece = maps.files.first()?.pieces.first()?;
    Some(Segment {
        addr: RemoteAddr(piece.start),
        len: 1,
    })
}

/// The error for a failed read of the process.
#[must_use]
pub fn read_error(pid: i32, error: ReadError) -> Error {
    match error {
        ReadError::Denied => target::denied(pid),
        ReadError::Gone => Error::Exited { pid },
        error if !target::is_alive(pid) => {
            let _ = error;
            Error::Exited { pid }
        }
        error => Error::Read { pid, error },
    }
}

fn not_python(pid: i32, why: &str) -> Error {
    Error::NotPython {
        pid,
        executable: target::executable(pid),
        why: why.to_owned(),
    }
}

/// Where a layout is taken from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The interpreter's own debug offsets, or the table of its version.
    Release,
    /// The debug information of the build.
    DebugInformation,
}

struct Search {
    pid: i32,
    maps: Maps,
    open: Open,
    memory: TargetMemory,
    /// The most telling failure so far.
    best: Option<Error>,
}

impl Search {
    fn run(&mut self) -> Result<Attached, Error> {
        let images = find::images(&self.maps);
        for image in &images {
            let Ok(bytes) = image.symbols(self.pid) else {
                continue;
            };
            for candidate in find::in_file(image, &bytes) {
                if let Some(attached) = self.try_candidate(&candidate, image, Some(&bytes))? {
                    return Ok(attached);
                }
            }
            if let Some(version) = find::unsupported(image, &bytes) {
                self.note(self.unsupported(&version));
            }
        }
        // Symbols and sections can be stripped, the file can be out of reach.
        if self.best.is_none() {
            for image in images.iter().filter(|image| find::may_hold_runtime(image)) {
                for candidate in scan::scan(&mut self.memory, &self.maps, image) {
                    if let Some(attached) = self.try_candidate(&candidate, image, None)? {
                        return Ok(attached);
                    }
                }
            }
        }
        target::check_alive(self.pid).map_err(|_| Error::Exited { pid: self.pid })?;
        Err(self.best.take().unwrap_or_else(|| {
            let why = format!(
                "no `_PyRuntime` in its {} mapped programs and libraries",
                images.len()
            );
            not_python(self.pid, &why)
        }))
    }

    fn note(&mut self, error: Error) {
        let rank = |error: &Error| match error {
            Error::NotProven { .. } => 3,
            Error::NotReady { .. } => 2,
            Error::Unsupported { .. } => 1,
            _ => 0,
        };
        if self
            .best
            .as_ref()
            .is_none_or(|best| rank(best) < rank(&error))
        {
            self.best = Some(error);
        }
    }

    fn unsupported(&self, version: &str) -> Error {
        let known: Vec<String> = tables::SUPPORTED.iter().map(Minor::to_string).collect();
        let why = format!("supported are {}", known.join(", "));
        Error::Unsupported {
            pid: self.pid,
            version: version.to_owned(),
            why,
        }
    }

    /// Proves a place; `None` where something else stands there.
    fn try_candidate(
        &mut self,
        candidate: &Candidate,
        image: &MappedFile,
        file: Option<&[u8]>,
    ) -> Result<Option<Attached>, Error> {
        // Debug information comes second because taking it apart costs more than all the rest.
        for source in [Source::Release, Source::DebugInformation] {
            let (version, layout) = match self.layout(candidate, image, file, source) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(error) => {
                    self.note(error);
                    return Ok(None);
                }
            };
            let memory = self.reopen()?;
            let mut sampler = Sampler::new(memory, layout, candidate.runtime);
            sampler.set_mappings(Mappings::new(self.maps.anonymous.clone()));
            match proof::prove(&mut sampler) {
                Ok(()) => {
                    return Ok(Some(Attached {
                        pid: self.pid,
                        version,
                        executable: target::executable(self.pid),
                        sampler,
                        found: candidate.found,
                    }));
                }
                Err(ProofError::Read(error)) => return Err(read_error(self.pid, error)),
                Err(error @ (ProofError::NoInterpreter | ProofError::NoThread)) => {
                    self.note(Error::NotReady {
                        pid: self.pid,
                        why: error.to_string(),
                    });
                    // Looked at again and again while a program starts.
                    return Ok(None);
                }
                Err(error) => {
                    let version = version.to_string();
                    self.note(Error::NotProven {
                        pid: self.pid,
                        version,
                        error,
                    });
                }
            }
        }
        Ok(None)
    }

    fn reopen(&self) -> Result<TargetMemory, Error> {
        let probe = probe(&self.maps).unwrap_or(Segment {
            addr: RemoteAddr(0),
            len: 1,
        });
        (self.open)(self.pid, probe).map_err(|error| read_error(self.pid, error))
    }

    /// The version at a place and its layout as `source` has it; `None` where that has none.
    fn layout(
        &mut self,
        candidate: &Candidate,
        image: &MappedFile,
        file: Option<&[u8]>,
        source: Source,
    ) -> Result<Option<(PyVersion, Layout)>, Error> {
        let mut table = vec![0; debug_offsets::TABLE_BYTES];
        let segment = Segment {
            addr: candidate.runtime,
            len: debug_offsets::TABLE_BYTES as u32,
        };
        let got = match self.memory.read(&[segment], &mut table) {
            Ok(got) => got,
            Err(ReadError::Unmapped(_)) => 0,
            Err(error) => return Err(read_error(self.pid, error)),
        };
        table.truncate(got);
        match debug_offsets::parse(&table) {
            Ok(layout) => {
                let head = debug_offsets::head(&table).map_or(0, |head| head.version_hex);
                let version = u32::try_from(head)
                    .ok()
                    .and_then(|h| PyVersion::from_hex(h).ok());
                let minor = layout.version;
                let version =
                    version.unwrap_or_else(|| PyVersion::minor_only(minor.major, minor.minor));
                return Ok((source == Source::Release).then_some((version, layout)));
            }
            Err(DebugOffsetsError::NoCookie(_) | DebugOffsetsError::Short(_)) => {}
            Err(DebugOffsetsError::UnknownVersion(version)) => {
                return Err(self.unsupported(&version.to_string()));
            }
            Err(error @ DebugOffsetsError::FreeThreaded(version)) => {
                return Err(Error::Unsupported {
                    pid: self.pid,
                    version: version.to_string(),
                    why: error.to_string(),
                });
            }
            Err(error) => {
                return Err(Error::NotReady {
                    pid: self.pid,
                    why: error.to_string(),
                });
            }
        }
        let version = match candidate.version {
            Some(version) => version,
            None => version::of_image(&mut self.memory, &self.maps, image, file)
                .ok_or_else(|| not_python(self.pid, "its version could not be found"))?,
        };
        let minor = Minor::new(version.major, version.minor);
        let Some(layout) = tables::for_version(minor) else {
            if minor >= Minor::new(3, 13) && tables::SUPPORTED.contains(&minor) {
                // Its debug offsets are written when the runtime is initialised at the latest.
                let why = "its debug offsets are not there".to_owned();
                return Err(Error::NotReady { pid: self.pid, why });
            }
            return Err(self.unsupported(&version.to_string()));
        };
        // A runtime of another size is another build: its table would have to be luck.
        let expected = tables::runtime_size(minor);
        let released = candidate.size.is_none() || expected.is_none() || candidate.size == expected;
        if source == Source::Release {
            return Ok(released.then_some((version, layout)));
        }
        let whole = file.and_then(|_| image.whole(self.pid).ok());
        let debug = whole.and_then(|bytes| dwarf::layout(&layout, &bytes).ok());
        if debug.is_none() && !released {
            return Err(Error::Unsupported {
                pid: self.pid,
                version: version.to_string(),
                why: format!(
                    "its `_PyRuntime` has {} bytes where the release has {}, and the build has \
                     no debug information to take its layout from",
                    candidate.size.unwrap_or_default(),
                    expected.unwrap_or_default()
                ),
            });
        }
        Ok(debug
            .filter(|debug| !released || *debug != layout)
            .map(|layout| (version, layout)))
    }
}
