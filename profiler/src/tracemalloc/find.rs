//! From a proven interpreter to the variables of its `tracemalloc`.
//!
//! 3.12 and newer: `_PyRuntime.tracemalloc`, by its shape. Before: static variables of the image
//! that has `_PyRuntime`. Their names are in its `.symtab`; the configuration is exported and so
//! survives `strip`. Where the others do not (Debian's 3.11), the tables are found by shape.

use onlooker_heap::tracemalloc::{Place, State};
use onlooker_symbols::ElfFile;
use onlooker_unwinder::layout::Minor;
use onlooker_unwinder::memory::{ReadError, RemoteAddr};

use crate::attach::{self, Attached};
use crate::error::Error;
use crate::target;
use crate::target::maps::{MappedFile, Maps};

/// The variables and the symbol of the runtime that tells their image.
const SYMBOLS: [&str; 6] = [
    "_PyRuntime",
    "_Py_tracemalloc_config",
    "tracemalloc_traces",
    "tracemalloc_domains",
    "tracemalloc_traced_memory",
    "tracemalloc_peak_traced_memory",
];

/// Where the variables are.
pub(super) fn place(attached: &mut Attached) -> Result<Place, Error> {
    let pid = attached.pid;
    let version = attached.sampler.layout().version;
    let hidden = |attached: &Attached, why: &str| Error::TracemallocHidden {
        pid,
        version: attached.version.to_string(),
        why: why.to_owned(),
    };
    let read = |error: ReadError| attach::read_error(pid, error);
    let runtime = attached.sampler.runtime();
    if version >= Minor::new(3, 12) {
        let memory = attached.sampler.memory_mut();
        return match Place::in_runtime(memory, version, runtime).map_err(read)? {
            Some(place) => Ok(place),
            // 3.12 makes the tables when tracemalloc is first turned on.
            None if version == Minor::new(3, 12) => Err(Error::TracemallocOff { pid }),
            None => Err(hidden(attached, "nothing in _PyRuntime has their shape")),
        };
    }
    let maps = Maps::read(pid).map_err(|error| target::refused(pid, &error))?;
    let Some((image, statics)) = statics(pid, &maps, runtime) else {
        let why = "no symbol _Py_tracemalloc_config in the image of its runtime";
        return Err(hidden(attached, why));
    };
    let memory = attached.sampler.memory_mut();
    let state = State::of_config(memory, statics.config).map_err(read)?;
    match state {
        None => return Err(hidden(attached, "its configuration is none")),
        Some(state) if !state.tracing => return Err(Error::TracemallocOff { pid }),
        Some(_) => {}
    }
    if let Some(place) = statics.place(version) {
        return Ok(place);
    }
    let data: Vec<(u64, u64)> = attach::writable_ranges(&maps, &image).collect();
    let place = Place::in_data(memory, version, statics.config, &data).map_err(read)?;
    place.ok_or_else(|| {
        let why = "the symbols of its static variables were stripped, and no single table in its \
                   data has the shape of theirs";
        hidden(attached, why)
    })
}

/// The addresses of the static variables, as far as symbols name them.
struct Statics {
    config: RemoteAddr,
    traces: Option<RemoteAddr>,
    domains: Option<RemoteAddr>,
    traced_bytes: Option<RemoteAddr>,
    peak_bytes: Option<RemoteAddr>,
}

impl Statics {
    /// `None` when a table's symbol is missing.
    fn place(&self, version: Minor) -> Option<Place> {
        let has_domains = version >= Minor::new(3, 9);
        Some(Place {
            config: self.config,
            traces: self.traces?,
            domains: match has_domains {
                true => Some(self.domains?),
                false => None,
            },
            traced_bytes: self.traced_bytes,
            peak_bytes: self.peak_bytes,
        })
    }
}

/// The image whose `_PyRuntime` is `runtime`, and what its symbols say.
fn statics(pid: i32, maps: &Maps, runtime: RemoteAddr) -> Option<(MappedFile, Statics)> {
    maps.files
        .iter()
        .filter(|file| file.executable)
        .find_map(|image| {
            let bytes = image.symbols(pid).ok()?;
            let elf = ElfFile::parse(&bytes).ok()?;
            let pieces = image.pieces.iter().map(|p| (p.start, p.end, p.file_offset));
            let bias = elf.bias(&pieces.collect::<Vec<_>>()).ok()?;
            let symbols = elf.symbols(&SYMBOLS);
            let mut symbols = symbols.into_iter().map(|symbol| {
                let symbol = symbol.filter(|symbol| symbol.unique)?;
                symbol.addr.loaded_at(bias).map(RemoteAddr)
            });
            let mut next = || symbols.next().flatten();
            if next()? != runtime {
                return None;
            }
            let statics = Statics {
                config: next()?,
                traces: next(),
                domains: next(),
                traced_bytes: next(),
                peak_bytes: next(),
            };
            Some((image.clone(), statics))
        })
}
