//! Where the variables of `tracemalloc` are, and how a place is proven.
//!
//! In 3.12 and newer they are fields of `_PyRuntime.tracemalloc`, whose offset moves with patch
//! releases and is in no table of the interpreter: [`Place::in_runtime`] finds it by its shape.
//! Before they are static variables, named by the symbol table of the image that has
//! `_PyRuntime`; where that was stripped, [`Place::in_data`] finds the tables by their shape.

use onlooker_unwinder::layout::Minor;
use onlooker_unwinder::memory::{ReadError, ReadMemory, RemoteAddr, u32_at, u64_at};

use super::layout::{
    COMPARE_FUNCTION, CONFIG_BYTES, CONFIG_INITIALIZED, CONFIG_MAX_FRAMES, CONFIG_TRACING, Format,
    HASH_FUNCTION, MAX_FRAMES, STATE_BYTES, STATE_DOMAINS, STATE_FILENAMES, STATE_PEAK,
    STATE_TRACEBACKS, STATE_TRACED, STATE_TRACES,
};
use super::snapshot;
use super::table::{self, Hash, Header};
use crate::gather::{Piece, gather};

/// `_PyRuntime.tracemalloc` lies within so many bytes of the runtime's start (3.12 – 3.15: at
/// 2 768 to 10 432).
const RUNTIME_BYTES: usize = 64 << 10;
/// A data segment is looked at in steps of so many bytes.
const DATA_STEP_BYTES: u64 = 1 << 20;

/// The addresses of the variables (not of what they point to).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// `_Py_tracemalloc_config`, or the first field of `_PyRuntime.tracemalloc`.
    pub config: RemoteAddr,
    /// `tracemalloc_traces`, a pointer to the table of domain 0.
    pub traces: RemoteAddr,
    /// `tracemalloc_domains`, a pointer to the table of the other domains' tables. `None` in 3.8,
    /// where one table has all domains.
    pub domains: Option<RemoteAddr>,
    /// `tracemalloc_traced_memory`; `None` where no symbol names it.
    pub traced_bytes: Option<RemoteAddr>,
    /// `tracemalloc_peak_traced_memory`; `None` where no symbol names it.
    pub peak_bytes: Option<RemoteAddr>,
}

/// The values of the variables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whether blocks are traced now.
    pub tracing: bool,
    /// Frames that a traceback keeps at most.
    pub max_frames: u32,
    /// What `tracemalloc.get_traced_memory()` returns: now, and at most since the start.
    pub traced_bytes: Option<u64>,
    /// The second of both.
    pub peak_bytes: Option<u64>,
}

impl State {
    /// Takes the configuration apart; `None` when it is none.
    fn parse(config: &[u8]) -> Option<Self> {
        let initialized = u32_at(config, CONFIG_INITIALIZED)?;
        let tracing = u32_at(config, CONFIG_TRACING)?;
        let max_frames = u32_at(config, CONFIG_MAX_FRAMES)?;
        // Initialised is 0, 1 or (finalised) 2. Without tables nothing is traced.
        let sane = initialized <= 2
            && tracing <= u32::from(initialized == 1)
            && (1..=MAX_FRAMES).contains(&max_frames);
        sane.then_some(Self {
            tracing: tracing == 1,
            max_frames,
            ..Self::default()
        })
    }

    /// No block is larger: twice the peak of all of them together, for it may grow while the
    /// tables are read; a tebibyte where it is unknown.
    pub(super) fn max_block_bytes(&self) -> u64 {
        self.peak_bytes
            .map_or(1 << 40, |peak| peak.saturating_mul(2))
    }

    /// Reads the configuration; `None` where none is.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn of_config<M: ReadMemory>(
        memory: &mut M,
        config: RemoteAddr,
    ) -> Result<Option<Self>, ReadError> {
        let mut bytes = [0; CONFIG_BYTES as usize];
        match memory.read_exact(config, &mut bytes) {
            Ok(()) => Ok(Self::parse(&bytes)),
            Err(ReadError::Unmapped(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Place {
    /// Reads the variables; `None` when they cannot be those of `tracemalloc`.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn state<M: ReadMemory>(&self, memory: &mut M) -> Result<Option<State>, ReadError> {
        let Some(state) = State::of_config(memory, self.config)? else {
            return Ok(None);
        };
        let mut word = |addr: Option<RemoteAddr>| addr.map(|a| memory.read_u64(a)).transpose();
        Ok(Some(State {
            traced_bytes: word(self.traced_bytes)?,
            peak_bytes: word(self.peak_bytes)?,
            ..state
        }))
    }

    /// Finds `_PyRuntime.tracemalloc` of 3.12 and newer by its shape: a configuration, sums that
    /// go together and four pointers to tables.
    ///
    /// `None` when nothing has it: then `tracemalloc` was never initialised (3.12 makes the
    /// tables when it is first used, newer ones at the start), or this build keeps it elsewhere.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn in_runtime<M: ReadMemory>(
        memory: &mut M,
        version: Minor,
        runtime: RemoteAddr,
    ) -> Result<Option<Self>, ReadError> {
        let format = Format::of(version);
        let mut bytes = vec![0; RUNTIME_BYTES];
        let piece = onlooker_unwinder::memory::Segment {
            addr: runtime,
            len: RUNTIME_BYTES as u32,
        };
        let got = memory.read(&[piece], &mut bytes)?;
        bytes.truncate(got);
        for offset in (0..bytes.len() as u64).step_by(8) {
            let state = bytes.get(offset as usize..).unwrap_or_default();
            if (state.len() as u64) < STATE_BYTES || !may_be_state(state) {
                continue;
            }
            let mut tables = true;
            for field in [
                STATE_FILENAMES,
                STATE_TRACEBACKS,
                STATE_TRACES,
                STATE_DOMAINS,
            ] {
                let table = RemoteAddr(u64_at(state, field).unwrap_or_default());
                tables = tables && Header::read(memory, &format, table)?.is_some();
            }
            if let Some(base) = runtime.offset(offset).filter(|_| tables) {
                return Ok(Self::at_state(base));
            }
        }
        Ok(None)
    }

    /// The place of a `struct _tracemalloc_runtime_state`.
    fn at_state(base: RemoteAddr) -> Option<Self> {
        Some(Self {
            config: base,
            traces: base.offset(STATE_TRACES)?,
            domains: Some(base.offset(STATE_DOMAINS)?),
            traced_bytes: Some(base.offset(STATE_TRACED)?),
            peak_bytes: Some(base.offset(STATE_PEAK)?),
        })
    }

    /// Finds the tables of 3.9 – 3.11 in the writable data of an image by their shape, where no
    /// symbol names them but `config` (which is exported). `None` when none has it, or when
    /// several have, or when the version is another.
    ///
    /// The table of traces is the one whose keys are addresses of blocks and whose values have a
    /// traceback. That of the domains compares its keys by the same function and hashes them by
    /// another. The sums have no shape, so nothing is said about them.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn in_data<M: ReadMemory>(
        memory: &mut M,
        version: Minor,
        config: RemoteAddr,
        ranges: &[(u64, u64)],
    ) -> Result<Option<Self>, ReadError> {
        if !(Minor::new(3, 9)..Minor::new(3, 12)).contains(&version) {
            return Ok(None);
        }
        let format = Format::of(version);
        let tables = tables_in(memory, &format, ranges)?;
        let mut traces = Vec::new();
        for table in &tables {
            let walked = table::walk(memory, &table.header, Hash::Pointer)?;
            if snapshot::are_traces(memory, &format, &walked.entries)? {
                traces.push(*table);
            }
        }
        let [traces] = traces[..] else {
            return Ok(None);
        };
        let mut domains = tables
            .iter()
            .filter(|table| table.compare == traces.compare && table.hash != traces.hash);
        let (Some(domains), None) = (domains.next(), domains.next()) else {
            return Ok(None);
        };
        Ok(Some(Self {
            config,
            traces: traces.variable,
            domains: Some(domains.variable),
            traced_bytes: None,
            peak_bytes: None,
        }))
    }
}

/// Whether `bytes` can begin with a `struct _tracemalloc_runtime_state` that has tables.
fn may_be_state(bytes: &[u8]) -> bool {
    let word = |offset| u64_at(bytes, offset).unwrap_or_default();
    State::parse(bytes).is_some()
        && u32_at(bytes, CONFIG_INITIALIZED) == Some(1)
        && word(STATE_TRACED) <= word(STATE_PEAK)
        && [
            STATE_FILENAMES,
            STATE_TRACEBACKS,
            STATE_TRACES,
            STATE_DOMAINS,
        ]
        .into_iter()
        .all(|field| RemoteAddr(word(field)).is_plausible_pointer())
}

/// A variable that points to what has the shape of a table.
#[derive(Clone, Copy)]
struct Found {
    variable: RemoteAddr,
    header: Header,
    hash: u64,
    compare: u64,
}

/// Every variable of `ranges` that points to a table.
fn tables_in<M: ReadMemory>(
    memory: &mut M,
    format: &Format,
    ranges: &[(u64, u64)],
) -> Result<Vec<Found>, ReadError> {
    let mut steps = Vec::new();
    for (start, end) in ranges {
        let mut from = *start;
        while from < *end {
            let len = (end - from).min(DATA_STEP_BYTES);
            steps.push(Piece::new(from, len as u32));
            from += len;
        }
    }
    // (what it points to, the variable)
    let mut pointers: Vec<(u64, u64)> = Vec::new();
    gather(memory, &steps, |i, bytes| {
        let addresses = (steps[i].addr.0..).step_by(8);
        for (addr, word) in addresses.zip(bytes.unwrap_or_default().chunks_exact(8)) {
            let pointer = u64_at(word, 0).unwrap_or_default();
            if RemoteAddr(pointer).is_plausible_pointer() {
                pointers.push((pointer, addr));
            }
        }
    })?;
    pointers.sort_unstable();
    let pieces: Vec<Piece> = pointers
        .iter()
        .map(|(pointer, _)| Piece::new(*pointer, format.table.bytes))
        .collect();
    let mut found = Vec::new();
    gather(memory, &pieces, |i, bytes| {
        let Some((bytes, header)) = bytes.and_then(|b| Some((b, Header::parse(format, b)?))) else {
            return;
        };
        found.push(Found {
            variable: RemoteAddr(pointers[i].1),
            header,
            hash: u64_at(bytes, HASH_FUNCTION).unwrap_or_default(),
            compare: u64_at(bytes, COMPARE_FUNCTION).unwrap_or_default(),
        });
    })?;
    Ok(found)
}
