//! Objects of the interpreter, read from bytes that are already here.
//!
//! Like the walk, reading an object does no reads of its own: what it lacks is returned as
//! misses. [`resolve`] runs many such readers side by side and fetches the misses of all of
//! them in one call per round. Nothing that an object says about itself is believed without a
//! bound.

mod dict;
mod instance;
mod int;
mod text;

pub use dict::Entries;
pub use int::{DIGIT_BITS, Int};
pub use text::MAX_STR_CHARS;

use std::cell::RefCell;

use crate::layout::{Layout, fields};
use crate::memory::{Lookup, ReadError, ReadMemory, RemoteAddr};
use crate::plan::{Group, Purpose, Slot};
use crate::snapshot::{Snapshot, View};

/// Rounds of misses before a reader is given up.
const MAX_ROUNDS: usize = 64;
/// No single miss fetches more: the entries of the largest dict that is read (1.5 MiB).
const MAX_MISS_BYTES: u64 = 2 << 20;
const PAGE: u64 = 4096;
/// Read ahead behind a miss, inside its page: most strings and small objects are whole then.
const READAHEAD_BYTES: u64 = 192;

/// Why an object could not be read from what is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Bytes are missing; they were noted.
    Missing,
    /// The memory holds no such object (any more).
    Invalid(&'static str),
}

/// An object, or why not.
pub type Read<T> = Result<T, Stop>;

/// Why an object has no value to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The memory holds no such object (any more).
    #[error("no valid {0}")]
    Invalid(&'static str),
    /// Its memory is not readable.
    #[error("unreadable memory at {0}")]
    Unreadable(RemoteAddr),
}

/// Reads objects from a view.
#[derive(Debug)]
pub struct Objects<'a, L> {
    view: &'a L,
    layout: &'a Layout,
    missing: &'a RefCell<Vec<(RemoteAddr, u64)>>,
}

impl<'a, L: Lookup> Objects<'a, L> {
    /// A reader over `view`; misses are noted in `missing`.
    #[must_use]
    pub fn new(
        view: &'a L,
        layout: &'a Layout,
        missing: &'a RefCell<Vec<(RemoteAddr, u64)>>,
    ) -> Self {
        Self {
            view,
            layout,
            missing,
        }
    }

    /// `len` bytes at `addr`.
    ///
    /// # Errors
    /// [`Stop::Missing`] with the miss noted; [`Stop::Invalid`] for a pointer that is none.
    pub fn bytes_at(&self, addr: RemoteAddr, len: u64) -> Read<&'a [u8]> {
        if addr.0 < PAGE || addr.0.checked_add(len).is_none_or(|end| end >= 1 << 57) {
            return Err(Stop::Invalid("pointer"));
        }
        let wanted = usize::try_from(len).map_err(|_| Stop::Invalid("length"))?;
        self.view.bytes(addr, wanted).ok_or_else(|| {
            self.missing.borrow_mut().push((addr, len));
            Stop::Missing
        })
    }

    /// The word at `addr + offset`.
    ///
    /// # Errors
    /// As [`bytes_at`](Self::bytes_at).
    pub fn word(&self, addr: RemoteAddr, offset: u64) -> Read<u64> {
        let addr = addr.offset(offset).ok_or(Stop::Invalid("pointer"))?;
        let bytes = self.bytes_at(addr, 8)?;
        crate::memory::u64_at(bytes, 0).ok_or(Stop::Invalid("word"))
    }

    /// The pointer at `addr + offset`; NULL is allowed.
    ///
    /// # Errors
    /// As [`bytes_at`](Self::bytes_at).
    pub fn pointer(&self, addr: RemoteAddr, offset: u64) -> Read<RemoteAddr> {
        let pointer = RemoteAddr(self.word(addr, offset)?);
        if pointer.is_null() || pointer.is_plausible_pointer() {
            Ok(pointer)
        } else {
            Err(Stop::Invalid("pointer"))
        }
    }

    /// The flags of the object's type.
    ///
    /// # Errors
    /// As [`bytes_at`](Self::bytes_at).
    pub fn type_flags(&self, object: RemoteAddr) -> Read<u64> {
        let ob_type = self.pointer(object, fields::OB_TYPE)?;
        self.word(ob_type, fields::TYPE_FLAGS)
    }
}

/// Runs `count` readers until each has its answer, fetching the misses of all in one call per
/// round.
///
/// # Errors
/// When the process is gone or may not be read. What one reader lacks is its own answer.
pub fn resolve<M: ReadMemory, T>(
    memory: &mut M,
    layout: &Layout,
    count: usize,
    mut read: impl FnMut(usize, &Objects<'_, View<'_>>) -> Read<T>,
) -> Result<Vec<Result<T, Reason>>, ReadError> {
    let group = Group::PROCESS;
    let mut snapshot = Snapshot::default();
    snapshot.ensure_groups(1);
    let mut answers: Vec<Option<Result<T, Reason>>> = (0..count).map(|_| None).collect();
    let mut asked: Vec<Option<RemoteAddr>> = vec![None; count];
    let missing = RefCell::new(Vec::new());
    let mut slots = Vec::new();
    for _ in 0..MAX_ROUNDS {
        slots.clear();
        let view = snapshot.view(group);
        let objects = Objects::new(&view, layout, &missing);
        for (i, answer) in answers.iter_mut().enumerate().filter(|(_, a)| a.is_none()) {
            missing.borrow_mut().clear();
            match read(i, &objects) {
                Ok(value) => *answer = Some(Ok(value)),
                Err(Stop::Invalid(what)) => *answer = Some(Err(Reason::Invalid(what))),
                Err(Stop::Missing) => {
                    let missing = missing.borrow();
                    let first = missing.first().map(|(addr, _)| *addr);
                    // Asked for and still not here: it cannot be read.
                    if first == asked[i] {
                        let addr = first.unwrap_or_default();
                        *answer = Some(Err(Reason::Unreadable(addr)));
                        continue;
                    }
                    asked[i] = first;
                    slots.extend(missing.iter().map(|(addr, len)| fetch(group, *addr, *len)));
                }
            }
        }
        if slots.is_empty() {
            break;
        }
        slots.sort_unstable_by_key(|s| (s.segment.addr, s.segment.len));
        slots.dedup();
        snapshot.fetch(memory, &slots)?;
    }
    let reason = Reason::Invalid("object within the bound of rounds");
    Ok(answers
        .into_iter()
        .map(|a| a.unwrap_or(Err(reason)))
        .collect())
}

fn fetch(group: Group, addr: RemoteAddr, len: u64) -> Slot {
    let len = len.min(MAX_MISS_BYTES);
    let page_end = (addr.0 | (PAGE - 1)).saturating_add(1);
    let ahead = page_end.saturating_sub(addr.0).min(READAHEAD_BYTES);
    Slot::new(group, Purpose::Frame, addr, len.max(ahead) as u32)
}

#[cfg(test)]
mod tests;
