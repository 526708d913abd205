//! All traces of all domains, added up by traceback.

use std::cell::RefCell;

use onlooker_unwinder::layout::Layout;
use onlooker_unwinder::memory::{ReadError, ReadMemory, RemoteAddr, u16_at, u32_at, u64_at};
use rustc_hash::{FxHashMap, FxHashSet};

use super::layout::{
    FRAME_BYTES, FRAME_LINE, Filename, Format, MAX_FRAMES, TRACE_BYTES, TRACE_TRACEBACK,
    TRACEBACK_FRAMES, TRACEBACK_HEAD_BYTES, TRACEBACK_TOTAL,
};
use super::names;
use super::place::{Place, State};
use super::table::{self, Entry, Hash, Header, Value};
use crate::gather::{Piece, gather};

/// A table that grew while it was read is read again so often.
const RESTARTS: u64 = 5;
/// Entries that are looked at to tell what a table holds.
const SAMPLE: usize = 64;

/// What `tracemalloc` knew at one time, or nearly one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Frames that a traceback keeps at most.
    pub max_frames: u32,
    /// Names of files, as the code objects have them.
    pub files: Vec<String>,
    /// Distinct tracebacks.
    pub tracebacks: Vec<Traceback>,
    /// Live blocks by domain and traceback, in no order.
    pub traces: Vec<Traces>,
}

/// Where a block was allocated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Traceback {
    /// Newest first.
    pub frames: Vec<Frame>,
    /// How many frames the stack had when it was not cut off (3.9+); as many as there are in 3.8.
    pub total_frames: u32,
}

/// One line of a traceback. The interpreter keeps no name of the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frame {
    /// Index in [`Snapshot::files`].
    pub file: u32,
    /// From 1; 0 where it was unknown.
    pub line: u32,
}

/// Live blocks of one traceback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traces {
    /// 0 for Python's own memory; C extensions choose others.
    pub domain: u32,
    /// Index in [`Snapshot::tracebacks`].
    pub traceback: u32,
    /// How many blocks.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How well reading went: the target runs, and takes no notice of us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// The interpreter's own figures before the tables were read.
    pub before: State,
    /// And afterwards.
    pub after: State,
    /// Entries that the tables' headers told before they were walked.
    pub entries_before: u64,
    /// And afterwards.
    pub entries_after: u64,
    /// Traces that were read.
    pub traces: u64,
    /// Buckets whose chain changed in every try: what they hold is missing.
    pub torn_buckets: u64,
    /// Blocks that were freed while the tables were read: they are left out.
    pub gone: u64,
    /// Blocks that were allocated meanwhile: they are left out.
    pub new: u64,
    /// Blocks that stayed but whose trace could not be read: they are missing.
    pub stale: u64,
    /// How often chains had to be walked again.
    pub repeated: u64,
    /// How often a table had grown and was read again from its start.
    pub restarts: u64,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The process cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Nothing is traced.
    #[error("tracemalloc is not on")]
    Off,
    /// What is there is not what this version keeps there.
    #[error("no {what} of tracemalloc at {addr}")]
    Invalid {
        /// What should be there.
        what: &'static str,
        /// Where.
        addr: RemoteAddr,
    },
}

/// Reads everything. The target is not stopped and no lock of it is taken.
///
/// # Errors
/// [`Error`].
pub fn read<M: ReadMemory>(
    memory: &mut M,
    layout: &Layout,
    place: &Place,
) -> Result<(Snapshot, Quality), Error> {
    let format = Format::of(layout.version);
    let invalid = |what, addr| Error::Invalid { what, addr };
    let state = |memory: &mut M| {
        let state = place.state(memory)?;
        state.ok_or(invalid("configuration", place.config))
    };
    let before = state(memory)?;
    if !before.tracing {
        return Err(Error::Off);
    }
    let mut reader = Reader {
        memory,
        format,
        quality: Quality {
            before,
            ..Quality::default()
        },
        by_traceback: FxHashMap::default(),
        arrays: FxHashSet::default(),
    };
    let traces = reader.memory.read_u64(place.traces).map(RemoteAddr)?;
    reader.table(traces, 0)?;
    for (domain, table) in reader.domains(place.domains)? {
        reader.table(table, domain)?;
    }
    let Reader {
        mut quality,
        by_traceback,
        ..
    } = reader;
    let (snapshot, lost) = resolve(memory, layout, &format, before.max_frames, &by_traceback)?;
    quality.stale += lost;
    quality.traces = snapshot.traces.iter().map(|t| t.count).sum();
    quality.after = state(memory)?;
    // Tables are cleared when it is turned off.
    if !quality.after.tracing {
        return Err(Error::Off);
    }
    Ok((snapshot, quality))
}

struct Reader<'a, M> {
    memory: &'a mut M,
    format: Format,
    quality: Quality,
    /// Blocks and bytes by domain and address of the traceback.
    by_traceback: FxHashMap<(u32, u64), (u64, u64)>,
    /// The bucket arrays that were walked: each belongs to one domain.
    arrays: FxHashSet<RemoteAddr>,
}

impl<M: ReadMemory> Reader<'_, M> {
    /// Walks a table, reads the traces, walks it again, and adds up the blocks that were there
    /// both times: their traces were not freed meanwhile, so what was read is what they are.
    fn table(&mut self, addr: RemoteAddr, domain: u32) -> Result<(), Error> {
        let (before, first, _) = self.walk(addr, Hash::Pointer)?;
        if !self.arrays.insert(before.array) {
            let what = "table of one domain";
            return Err(Error::Invalid { what, addr });
        }
        let mut blocks = Vec::with_capacity(first.entries.len());
        traces(self.memory, &first.entries, |index, trace| {
            blocks.push((index, trace));
        })?;
        let (_, second, after) = self.walk(addr, Hash::Pointer)?;
        let (stayed, count) = table::in_both(&first.entries, &second.entries);
        let max_bytes = self.quality.before.max_block_bytes();
        let (quality, by_traceback) = (&mut self.quality, &mut self.by_traceback);
        quality.gone += first.entries.len() as u64 - count;
        quality.new += (second.entries.len() as u64).saturating_sub(count);
        for (index, trace) in &blocks {
            if !stayed.get(*index) {
                continue;
            }
            let Some((bytes, traceback)) = trace.filter(|(bytes, _)| *bytes <= max_bytes) else {
                quality.stale += 1;
                continue;
            };
            // In 3.8 the domain is in the key, later it is that of the table.
            let of = domain | first.entries[*index as usize].domain;
            let key = (of, traceback.0);
            let sum = by_traceback.entry(key).or_default();
            sum.0 += 1;
            sum.1 = sum.1.saturating_add(bytes);
        }
        quality.entries_before += before.entries;
        quality.entries_after += after.entries;
        quality.torn_buckets += first.torn_buckets.max(second.torn_buckets);
        quality.repeated += first.repeated + second.repeated;
        Ok(())
    }

    fn walk(
        &mut self,
        addr: RemoteAddr,
        hash: Hash,
    ) -> Result<(Header, table::Entries, Header), Error> {
        let what = "table";
        let header = |memory: &mut M, format| {
            let header = Header::read(memory, format, addr)?;
            header.ok_or(Error::Invalid { what, addr })
        };
        loop {
            let before = header(self.memory, &self.format)?;
            let walked = table::walk(self.memory, &before, hash)?;
            let after = header(self.memory, &self.format)?;
            if before.same_array(&after) || self.quality.restarts >= RESTARTS {
                return Ok((before, walked, after));
            }
            self.quality.restarts += 1;
        }
    }

    /// The tables of the domains but 0.
    fn domains(&mut self, variable: Option<RemoteAddr>) -> Result<Vec<(u32, RemoteAddr)>, Error> {
        let Some(variable) = variable else {
            return Ok(Vec::new());
        };
        let table = self.memory.read_u64(variable).map(RemoteAddr)?;
        let (_, walked, _) = self.walk(table, Hash::Number)?;
        self.quality.torn_buckets += walked.torn_buckets;
        let domains = walked.entries.iter().filter_map(|entry| match entry.value {
            Value::At(table) => Some((entry.key as u32, table)),
            Value::Trace { .. } => None,
        });
        Ok(domains.collect())
    }
}

/// Hands each entry's trace to `take` with the entry's place: bytes and traceback, or `None` where
/// it is gone.
fn traces<M: ReadMemory>(
    memory: &mut M,
    entries: &[Entry],
    mut take: impl FnMut(u32, Option<(u64, RemoteAddr)>),
) -> Result<(), ReadError> {
    // Where traces are, and the places of their entries.
    let mut pointed: Vec<(u64, u32)> = Vec::new();
    for (index, entry) in (0..).zip(entries) {
        match entry.value {
            Value::At(RemoteAddr::NULL) => take(index, None),
            Value::At(addr) => pointed.push((addr.0, index)),
            Value::Trace { bytes, traceback } => {
                let there = traceback.is_plausible_pointer();
                take(index, there.then_some((bytes, traceback)));
            }
        }
    }
    pointed.sort_unstable();
    let pieces: Vec<Piece> = pointed
        .iter()
        .map(|(addr, _)| Piece::new(*addr, TRACE_BYTES as u32))
        .collect();
    gather(memory, &pieces, |i, bytes| {
        let trace = bytes.and_then(|bytes| {
            let traceback = RemoteAddr(u64_at(bytes, TRACE_TRACEBACK)?);
            let size = u64_at(bytes, 0)?;
            traceback
                .is_plausible_pointer()
                .then_some((size, traceback))
        });
        take(pointed[i].1, trace);
    })
}

/// Whether the entries of a table lead to traces: some do, and all of those looked at.
pub(super) fn are_traces<M: ReadMemory>(
    memory: &mut M,
    format: &Format,
    entries: &[Entry],
) -> Result<bool, ReadError> {
    let some = &entries[..entries.len().min(SAMPLE)];
    let mut tracebacks = Vec::new();
    let mut all = true;
    traces(memory, some, |_, trace| match trace {
        Some((_, traceback)) => tracebacks.push(traceback.0),
        None => all = false,
    })?;
    tracebacks.sort_unstable();
    tracebacks.dedup();
    let read = read_tracebacks(memory, format, MAX_FRAMES, &tracebacks)?;
    Ok(all && !read.is_empty() && read.iter().all(Option::is_some))
}

/// A traceback whose files are still addresses.
struct RawTraceback {
    frames: Vec<(u64, u32)>,
    total_frames: u32,
}

/// Reads tracebacks, whose addresses must be sorted and distinct. They are never freed while
/// `tracemalloc` is on. One that would reach into the next is none, so that all of them together
/// are no larger than the target.
fn read_tracebacks<M: ReadMemory>(
    memory: &mut M,
    format: &Format,
    max_frames: u32,
    addresses: &[u64],
) -> Result<Vec<Option<RawTraceback>>, ReadError> {
    let heads: Vec<Piece> = addresses
        .iter()
        .map(|addr| Piece::new(*addr, TRACEBACK_HEAD_BYTES as u32))
        .collect();
    let mut read: Vec<Option<RawTraceback>> = Vec::with_capacity(addresses.len());
    let mut bodies = Vec::new();
    gather(memory, &heads, |i, bytes| {
        let head = bytes.and_then(|bytes| {
            let frames = u16_at(bytes, TRACEBACK_FRAMES)?;
            let total = match format.has_total {
                true => u16_at(bytes, TRACEBACK_TOTAL)?,
                false => frames,
            };
            let end =
                addresses[i].checked_add(TRACEBACK_HEAD_BYTES + u64::from(frames) * FRAME_BYTES)?;
            let apart = addresses.get(i + 1).is_none_or(|next| end <= *next);
            let sane = (1..=max_frames).contains(&frames.into()) && total >= frames && apart;
            sane.then_some((frames, total))
        });
        read.push(head.map(|(frames, total)| {
            let addr = addresses[i].wrapping_add(TRACEBACK_HEAD_BYTES);
            bodies.push((i, Piece::new(addr, u32::from(frames) * FRAME_BYTES as u32)));
            RawTraceback {
                frames: Vec::with_capacity(frames.into()),
                total_frames: total.into(),
            }
        }));
    })?;
    let pieces: Vec<Piece> = bodies.iter().map(|(_, piece)| *piece).collect();
    gather(memory, &pieces, |i, bytes| {
        let slot = &mut read[bodies[i].0];
        let Some(bytes) = bytes else {
            *slot = None;
            return;
        };
        let frames = bytes
            .chunks_exact(FRAME_BYTES as usize)
            .filter_map(|frame| Some((u64_at(frame, 0)?, u32_at(frame, FRAME_LINE)?)));
        if let Some(traceback) = slot {
            traceback.frames.extend(frames);
        }
    })?;
    Ok(read)
}

/// Gives names to what was added up; also tells how many traces had no valid traceback.
fn resolve<M: ReadMemory>(
    memory: &mut M,
    layout: &Layout,
    format: &Format,
    max_frames: u32,
    sums: &FxHashMap<(u32, u64), (u64, u64)>,
) -> Result<(Snapshot, u64), ReadError> {
    let mut addresses: Vec<u64> = sums.keys().map(|(_, traceback)| *traceback).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let raw = read_tracebacks(memory, format, max_frames, &addresses)?;

    let mut names: Vec<u64> = raw
        .iter()
        .flatten()
        .flat_map(|traceback| traceback.frames.iter().map(|(file, _)| *file))
        .collect();
    names.sort_unstable();
    names.dedup();
    let texts = match format.filename {
        Filename::Object => names::objects(memory, layout, &names)?,
        Filename::Utf8 => names::utf8(memory, &names)?,
    };

    let mut snapshot = Snapshot {
        max_frames,
        ..Snapshot::default()
    };
    // Names that are equal are one file, whatever their addresses.
    let ids: RefCell<FxHashMap<String, u32>> = RefCell::default();
    let file_ids: Vec<Option<u32>> = texts
        .into_iter()
        .map(|text| {
            let text = text?;
            let files = &mut snapshot.files;
            let id = *ids.borrow_mut().entry(text).or_insert_with_key(|text| {
                files.push(text.clone());
                files.len() as u32 - 1
            });
            Some(id)
        })
        .collect();
    let file = |addr: u64| file_ids[names.binary_search(&addr).ok()?];
    let mut traceback_ids: Vec<Option<u32>> = Vec::with_capacity(raw.len());
    for traceback in raw {
        let named = traceback.and_then(|traceback| {
            let frames = traceback.frames.iter().map(|(addr, line)| {
                let file = file(*addr)?;
                Some(Frame { file, line: *line })
            });
            Some(Traceback {
                frames: frames.collect::<Option<_>>()?,
                total_frames: traceback.total_frames,
            })
        });
        traceback_ids.push(named.map(|traceback| {
            snapshot.tracebacks.push(traceback);
            snapshot.tracebacks.len() as u32 - 1
        }));
    }
    let mut lost = 0;
    for ((domain, addr), (count, bytes)) in sums {
        let id = addresses.binary_search(addr).ok();
        match id.and_then(|id| traceback_ids[id]) {
            Some(traceback) => snapshot.traces.push(Traces {
                domain: *domain,
                traceback,
                count: *count,
                bytes: *bytes,
            }),
            None => lost += count,
        }
    }
    Ok((snapshot, lost))
}
