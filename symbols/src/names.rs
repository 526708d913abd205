//! Names and lines of code objects, cached by identity.
//!
//! An address is not an identity: a freed code object's address is soon used by the next one.
//! So the header of every code object in a sample is read again (all of them while they are
//! few, the outer ones of a large program in rotation) and compared with what the cached names
//! were read for. A header that differs is a new code object, whatever its address.

use std::sync::Arc;

use onlooker_unwinder::code::{CodeHeader, Identity};
use onlooker_unwinder::layout::Layout;
use onlooker_unwinder::memory::{MAX_SEGMENTS, ReadError, ReadMemory, RemoteAddr, Segment};
use onlooker_unwinder::objects::{self, Objects, Read};

use rustc_hash::FxHashMap;

use crate::said::{AllSaid, Said};
use crate::{LineTable, LineTableFormat, Position};

/// Identities of so many code objects of one sample are read again with every sample.
const ALWAYS_CHECKED: usize = 64;
/// So many cached code objects are kept, replaced ones among them. Beyond twice what was in use
/// at the last look there is another.
const MIN_CACHED: usize = 1 << 10;
/// What was needed within so many seconds is in use.
const KEEP_SECONDS: usize = 10;

/// What a code object says: its name, its file, its lines. Never given twice within one table;
/// code objects that say the same share it, so that one that is compiled again is nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CodeId(pub u64);

/// Where a code object stands in its table: found without hashing. Good until the table drops
/// or replaces the code object, which [`Refreshed`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CodeSlot(u32);

/// What is known of one code object.
#[derive(Clone, Debug)]
pub struct CodeObject {
    /// The id of what it says.
    pub id: CodeId,
    /// Its header.
    pub header: CodeHeader,
    /// Qualified name from 3.11, plain name before; cut where it is very long
    /// ([`objects::MAX_STR_CHARS`]). `<empty>` where it has no character, `<unreadable>` where it
    /// cannot be read.
    pub name: Arc<str>,
    /// `co_filename`.
    pub filename: Arc<str>,
    said: Arc<Said>,
    identity: Identity,
    /// The sample that it was last needed in, and the one in which its identity was last read.
    needed: u64,
}

impl CodeObject {
    /// The source position of the instruction at byte offset `lasti`.
    #[must_use]
    pub fn position(&self, lasti: i32) -> Position {
        match &self.said.lines {
            Some(lines) => lines.locate(lasti),
            None => Position {
                line: u32::try_from(self.header.first_line).ok(),
                ..Position::default()
            },
        }
    }
}

/// What one refresh found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refreshed {
    /// Code objects that were not known, or are others than were known at their address.
    pub new: usize,
    /// Addresses where no code object is.
    pub invalid: usize,
    /// Whether slots that were given out stand for something else now.
    pub slots_changed: bool,
}

/// The code objects of one process.
#[derive(Debug)]
pub struct CodeTable {
    by_addr: FxHashMap<RemoteAddr, CodeSlot>,
    slots: Vec<CodeObject>,
    /// Beyond so many slots there is a look at what is in use.
    evict_beyond: usize,
    said: AllSaid,
    sample: u64,
    rate_hz: usize,
    rotation: usize,
    wanted: Vec<RemoteAddr>,
    segments: Vec<Segment>,
    buf: Vec<u8>,
    fresh: Vec<(CodeHeader, Identity)>,
}

impl CodeTable {
    /// A table for about `rate_hz` samples a second: identities that are checked in rotation
    /// are each checked at least once a second.
    #[must_use]
    pub fn new(rate_hz: usize) -> Self {
        Self {
            by_addr: FxHashMap::default(),
            slots: Vec::new(),
            evict_beyond: MIN_CACHED,
            said: AllSaid::default(),
            sample: 0,
            rate_hz: rate_hz.max(1),
            rotation: 0,
            wanted: Vec::new(),
            segments: Vec::new(),
            buf: Vec::new(),
            fresh: Vec::new(),
        }
    }

    /// The code object at an address, as of the last refresh that had it.
    #[must_use]
    pub fn get(&self, addr: RemoteAddr) -> Option<&CodeObject> {
        self.by_addr.get(&addr).map(|slot| self.at(*slot))
    }

    /// The slot of the code object at an address.
    #[must_use]
    pub fn slot(&self, addr: RemoteAddr) -> Option<CodeSlot> {
        self.by_addr.get(&addr).copied()
    }

    /// The code object in a slot, if it is still the one with this id. One that was replaced
    /// keeps its slot until the next eviction.
    #[must_use]
    pub fn find(&self, slot: CodeSlot, id: CodeId) -> Option<&CodeObject> {
        self.slots.get(slot.0 as usize).filter(|code| code.id == id)
    }

    /// The code object in a slot.
    #[must_use]
    pub fn at(&self, slot: CodeSlot) -> &CodeObject {
        &self.slots[slot.0 as usize]
    }

    /// Begins a new sample.
    pub fn begin(&mut self) {
        self.sample += 1;
        self.wanted.clear();
    }

    /// Notes that a frame of this sample has its code at `addr`; newest frames first.
    pub fn want(&mut self, addr: RemoteAddr) {
        match self.slot(addr) {
            Some(slot) => self.want_slot(slot),
            None if self.wanted.contains(&addr) => {}
            None => self.wanted.push(addr),
        }
    }

    /// The same for a code object that is known.
    pub fn want_slot(&mut self, slot: CodeSlot) {
        let code = &mut self.slots[slot.0 as usize];
        if code.needed != self.sample {
            code.needed = self.sample;
            self.wanted.push(code.header.addr);
        }
    }

    /// Drops what was replaced or not needed lately, when there is much; whether slots changed.
    /// Between samples only: what a sample holds would lose its names.
    pub fn evict(&mut self) -> bool {
        if self.slots.len() <= self.evict_beyond {
            return false;
        }
        let lately = KEEP_SECONDS.saturating_mul(self.rate_hz) as u64;
        let since = self.sample.saturating_sub(lately);
        let by_addr = &self.by_addr;
        let mut at = 0;
        self.slots.retain(|code| {
            let current = by_addr.get(&code.header.addr) == Some(&CodeSlot(at));
            at += 1;
            current && code.needed >= since
        });
        self.by_addr.clear();
        for (at, code) in self.slots.iter().enumerate() {
            self.by_addr.insert(code.header.addr, CodeSlot(at as u32));
        }
        self.evict_beyond = MIN_CACHED.max(2 * self.slots.len());
        self.said.evict();
        true
    }

    /// Forgets the code object at an address. Its slot keeps its place until the next eviction
    /// and is not given out again.
    fn forget(&mut self, addr: RemoteAddr) -> bool {
        self.by_addr.remove(&addr).is_some()
    }

    /// Reads the identities of what was wanted, in one call, and the names of what is new.
    ///
    /// # Errors
    /// When the process is gone or may not be read. An address without a code object is no
    /// error; it is not in the table afterwards.
    pub fn refresh<M: ReadMemory>(
        &mut self,
        memory: &mut M,
        layout: &Layout,
    ) -> Result<Refreshed, ReadError> {
        let mut refreshed = Refreshed::default();
        self.rotate();
        self.fresh.clear();
        let header_bytes = layout.code.header_bytes as usize;
        let with_text = layout.code.version.is_none();
        let wanted = std::mem::take(&mut self.wanted);
        let mut next = 0;
        // Two segments a code object at most, where its name is part of its identity.
        for batch in wanted.chunks(MAX_SEGMENTS / 2) {
            self.segments.clear();
            for addr in batch {
                self.segments.push(Segment {
                    addr: *addr,
                    len: header_bytes as u32,
                });
                if with_text && let Some(known) = self.by_addr.get(addr) {
                    let known = &self.slots[known.0 as usize];
                    self.segments.push(text_segment(&known.header));
                }
            }
            let total: usize = self.segments.iter().map(|s| s.len as usize).sum();
            self.buf.resize(self.buf.len().max(total), 0);
            let got = match memory.read(&self.segments, &mut self.buf[..total]) {
                Ok(got) => got,
                Err(ReadError::Unmapped(_)) => 0,
                Err(error) => return Err(error),
            };
            if got < total {
                // Some address is no memory: read them one by one.
                self.read_singly(memory, layout, batch, &mut refreshed)?;
                next += batch.len();
                continue;
            }
            let mut offset = 0;
            for addr in batch {
                let bytes = &self.buf[offset..offset + header_bytes];
                offset += header_bytes;
                let header = CodeHeader::parse(layout, *addr, bytes);
                let known = self.get(*addr);
                let mut identity = header.map(|h| h.identity);
                if with_text && known.is_some() {
                    let text = &self.buf[offset..offset + TEXT_BYTES];
                    offset += TEXT_BYTES;
                    identity = identity.map(|i| with_fingerprint(i, text));
                }
                match (header, identity) {
                    (Some(_), Some(identity)) if known.is_some_and(|k| k.identity == identity) => {}
                    (Some(header), Some(identity)) => self.fresh.push((header, identity)),
                    _ => {
                        refreshed.slots_changed |= self.forget(*addr);
                        refreshed.invalid += 1;
                    }
                }
            }
            next += batch.len();
        }
        debug_assert_eq!(next, wanted.len());
        self.wanted = wanted;
        if !self.fresh.is_empty() {
            refreshed.new += self.fresh.len();
            for at in 0..self.fresh.len() {
                let addr = self.fresh[at].0.addr;
                refreshed.slots_changed |= self.forget(addr);
            }
            self.read_names(memory, layout, with_text)?;
        }
        Ok(refreshed)
    }

    /// Keeps the newest code objects and everything unknown in `wanted`, and of the rest as
    /// many as must be looked at for each to have its turn within a second.
    fn rotate(&mut self) {
        if self.wanted.len() <= ALWAYS_CHECKED {
            return;
        }
        let rest = self.wanted.len() - ALWAYS_CHECKED;
        let turn = rest.div_ceil(self.rate_hz);
        let from = self.rotation % rest;
        self.rotation = self.rotation.wrapping_add(turn);
        let mut index = 0;
        let by_addr = &self.by_addr;
        self.wanted.retain(|addr| {
            let at = index;
            index += 1;
            at < ALWAYS_CHECKED
                || (at - ALWAYS_CHECKED + rest - from) % rest < turn
                || !by_addr.contains_key(addr)
        });
    }

    fn read_singly<M: ReadMemory>(
        &mut self,
        memory: &mut M,
        layout: &Layout,
        batch: &[RemoteAddr],
        refreshed: &mut Refreshed,
    ) -> Result<(), ReadError> {
        let mut bytes = vec![0; layout.code.header_bytes as usize];
        for addr in batch {
            let header = match memory.read_exact(*addr, &mut bytes) {
                Ok(()) => CodeHeader::parse(layout, *addr, &bytes),
                Err(ReadError::Unmapped(_)) => None,
                Err(error) => return Err(error),
            };
            match header {
                Some(header) => self.fresh.push((header, header.identity)),
                None => {
                    refreshed.slots_changed |= self.forget(*addr);
                    refreshed.invalid += 1;
                }
            }
        }
        Ok(())
    }

    fn read_names<M: ReadMemory>(
        &mut self,
        memory: &mut M,
        layout: &Layout,
        with_text: bool,
    ) -> Result<(), ReadError> {
        let fresh = std::mem::take(&mut self.fresh);
        let names = objects::resolve(memory, layout, 4 * fresh.len(), |i, objects| {
            let header = &fresh[i / 4].0;
            match i % 4 {
                0 => objects
                    .str(header.qualname.unwrap_or(header.name))
                    .map(Text::Str),
                1 => objects.str(header.filename).map(Text::Str),
                2 => objects.bytes(header.line_table).map(Text::Bytes),
                _ => fingerprint(objects, header, with_text).map(Text::Fingerprint),
            }
        })?;
        let mut names = names.into_iter();
        let format = LineTableFormat::of_version(layout.version.major, layout.version.minor);
        for (header, _) in &fresh {
            let mut text = |empty: &str| match names.next() {
                Some(Ok(Text::Str(text))) if text.is_empty() => Arc::from(empty),
                Some(Ok(Text::Str(text))) => Arc::from(text),
                _ => Arc::from("<unreadable>"),
            };
            let (name, filename) = (text("<empty>"), text(""));
            let lines = match names.next() {
                Some(Ok(Text::Bytes(table))) => {
                    Some(LineTable::new(format, &table, header.first_line))
                }
                _ => None,
            };
            let identity = match names.next() {
                Some(Ok(Text::Fingerprint(words))) if with_text => words
                    .iter()
                    .fold(header.identity, |identity, word| identity.with(*word)),
                _ => header.identity,
            };
            let (said, id) = self.said.intern(Said {
                name,
                filename,
                first_line: header.first_line,
                lines,
            });
            let code = CodeObject {
                id,
                header: *header,
                name: Arc::clone(&said.name),
                filename: Arc::clone(&said.filename),
                said,
                identity,
                needed: self.sample,
            };
            self.by_addr
                .insert(header.addr, CodeSlot(self.slots.len() as u32));
            self.slots.push(code);
        }
        self.fresh = fresh;
        Ok(())
    }
}

enum Text {
    Str(String),
    Bytes(Vec<u8>),
    Fingerprint([u64; 2]),
}

/// Length and hash of the name, which stand next to each other in a `str`.
const TEXT_BYTES: usize = 16;

fn text_segment(header: &CodeHeader) -> Segment {
    use onlooker_unwinder::layout::fields::STR_LENGTH;
    Segment {
        addr: RemoteAddr(header.name.0.wrapping_add(STR_LENGTH)),
        len: TEXT_BYTES as u32,
    }
}

fn with_fingerprint(identity: Identity, text: &[u8]) -> Identity {
    let word = |at: usize| {
        text.get(at..at + 8)
            .and_then(|b| b.try_into().ok())
            .map_or(0, u64::from_le_bytes)
    };
    identity.with(word(0)).with(word(8))
}

fn fingerprint<L: onlooker_unwinder::memory::Lookup>(
    objects: &Objects<'_, L>,
    header: &CodeHeader,
    with_text: bool,
) -> Read<[u64; 2]> {
    if with_text {
        objects.str_fingerprint(header.name)
    } else {
        Ok([0, 0])
    }
}
