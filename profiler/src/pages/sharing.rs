//! What a worker still shares with its parent, and why not the rest.
//!
//! After a fork both map the same frames of anonymous memory. Whoever writes first gets a copy.
//! A page of the worker is shared when both map the same frame at the same address. Of another
//! one the kernel tells who wrote it: a frame that was written since its last fork carries a mark
//! ([`FrameFlags::is_own`]). Without root neither frames nor marks may be seen; then a page is
//! shared when some other process maps it, and who wrote it is unknown.

use std::io;

use onlooker_heap::gather::{Piece, gather};
use onlooker_heap::headers::{Difference, LOOKAHEAD_BYTES, PAGE_BYTES, Types};
use onlooker_unwinder::memory::{ReadError, ReadMemory};
use serde::Serialize;

use super::pagemap::{FrameFlags, Page, PageMap};
use super::smaps::Mapping;

/// Pages whose copies are compared at once.
const BATCH_PAGES: usize = 1024;

/// Why a page is not shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The parent has no page there.
    New,
    /// The worker wrote it.
    Worker,
    /// The parent wrote it; the worker has the original.
    Parent,
    /// Both wrote it.
    Both,
    /// The kernel does not say.
    Unknown,
}

/// A page of a worker that its parent has too, and that is no longer shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its address, the same in both.
    pub addr: u64,
    /// The index of its mapping.
    pub mapping: usize,
    /// Who wrote it.
    pub why: Why,
    /// Whether the next page is resident in both, so that it may be read along.
    next: bool,
}

/// Bytes by why they are not shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reasons {
    /// [`Why::New`].
    pub new: u64,
    /// [`Why::Worker`].
    pub worker: u64,
    /// [`Why::Parent`].
    pub parent: u64,
    /// [`Why::Both`].
    pub both: u64,
    /// [`Why::Unknown`].
    pub unknown: u64,
}

impl Reasons {
    fn add(&mut self, why: Why) {
        *match why {
            Why::New => &mut self.new,
            Why::Worker => &mut self.worker,
            Why::Parent => &mut self.parent,
            Why::Both => &mut self.both,
            Why::Unknown => &mut self.unknown,
        } += PAGE_BYTES;
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.new + self.worker + self.parent + self.both + self.unknown
    }
}

/// Bytes of copied pages by what the copies differ in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// Nothing: what was written was undone.
    pub same: u64,
    /// Counts of references only.
    pub references: u64,
    /// Headers of the collector only.
    pub collector: u64,
    /// Both of these only.
    pub headers: u64,
    /// Values.
    pub values: u64,
    /// Could not be compared: swapped out, or gone meanwhile.
    pub unread: u64,
}

/// What a mapping, or several, share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Split {
    /// Anonymous bytes that the parent maps too.
    pub shared: u64,
    /// Anonymous bytes that it does not.
    pub unshared: u64,
}

/// A worker beside its parent. Resident and swapped pages; what belongs to a file is in none but
/// `files`.
#[derive(Debug, Default)]
pub struct Sharing {
    /// Of each mapping.
    pub mappings: Vec<Split>,
    /// Resident bytes of files, which all processes that map them share.
    pub files: u64,
    /// Why the unshared bytes are.
    pub why: Reasons,
    /// The unshared pages that the parent has too: the seam for whoever knows which objects lie
    /// in them.
    pub copied: Vec<Copied>,
    /// Whether frames and marks could be seen.
    pub proven: bool,
}

/// Looks at every page of a worker and at the parent's page at the same address.
///
/// # Errors
/// What the kernel says about the page maps.
pub fn sharing(
    mappings: &[Mapping],
    worker: &PageMap,
    parent: &PageMap,
    flags: Option<&FrameFlags>,
) -> io::Result<Sharing> {
    let mut sharing = Sharing {
        proven: flags.is_some(),
        mappings: vec![Split::default(); mappings.len()],
        ..Sharing::default()
    };
    for (index, mapping) in mappings.iter().enumerate() {
        // The vsyscall page lies in the kernel's half.
        if mapping.sizes.rss_bytes + mapping.sizes.swap_bytes == 0 || mapping.start >= 1 << 63 {
            continue;
        }
        let ours = worker.read(mapping.start, mapping.end)?;
        let mut theirs = parent.read(mapping.start, mapping.end)?;
        theirs.resize(ours.len(), Page::default());
        let resident = |i: usize| {
            let both = ours.get(i).zip(theirs.get(i));
            both.is_some_and(|(ours, theirs)| ours.is_present() && theirs.is_present())
        };
        let addresses = (mapping.start..).step_by(PAGE_BYTES as usize);
        for (i, (page, addr)) in ours.iter().zip(addresses).enumerate() {
            if !page.exists() {
                continue;
            }
            if page.is_file() {
                sharing.files += PAGE_BYTES;
                continue;
            }
            let zero = |flags: &FrameFlags| page.frame().is_some_and(|f| flags.is_zero_page(f));
            if flags.is_some_and(zero) {
                continue;
            }
            let split = &mut sharing.mappings[index];
            let Some(why) = why(*page, theirs[i], flags) else {
                split.shared += PAGE_BYTES;
                continue;
            };
            split.unshared += PAGE_BYTES;
            sharing.why.add(why);
            if why != Why::New && theirs[i].exists() {
                sharing.copied.push(Copied {
                    addr,
                    mapping: index,
                    why,
                    next: resident(i + 1),
                });
            }
        }
    }
    Ok(sharing)
}

/// Why a page of the worker is not the parent's; `None` when it is.
fn why(ours: Page, theirs: Page, flags: Option<&FrameFlags>) -> Option<Why> {
    if !theirs.exists() {
        return Some(Why::New);
    }
    if theirs.is_file() {
        // The parent still has the file's page: only the worker can have written.
        return Some(Why::Worker);
    }
    match (ours.frame(), theirs.frame()) {
        (Some(ours), Some(theirs)) if ours == theirs => None,
        (Some(ours), Some(theirs)) => {
            let own = |frame| flags.and_then(|flags| flags.is_own(frame));
            Some(match (own(ours), own(theirs)) {
                (Some(true), Some(true)) => Why::Both,
                (Some(true), Some(false)) => Why::Worker,
                // Not written here, and yet not the parent's any more.
                (Some(false), Some(_)) => Why::Parent,
                _ => Why::Unknown,
            })
        }
        // In the same place of the swap.
        _ if !ours.is_present() && ours.is_placed() && ours == theirs => None,
        // Frames are hidden.
        _ if ours.is_present() && !ours.is_exclusive() => None,
        _ => Some(Why::Unknown),
    }
}

/// Compares the copies of the unshared pages.
///
/// # Errors
/// When a process is gone or may not be read.
pub fn contents<W: ReadMemory, P: ReadMemory>(
    copied: &[Copied],
    worker: W,
    parent: &mut P,
) -> Result<Contents, ReadError> {
    let mut sums = Contents::default();
    let mut types = Types::new(worker);
    for batch in copied.chunks(BATCH_PAGES) {
        let pieces: Vec<Piece> = batch
            .iter()
            .map(|page| {
                let ahead = if page.next { LOOKAHEAD_BYTES } else { 0 };
                Piece::new(page.addr, (PAGE_BYTES + ahead) as u32)
            })
            .collect();
        let ours = copies(types.memory_mut(), &pieces)?;
        let theirs = copies(parent, &pieces)?;
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let sum = match ours.as_ref().zip(theirs.as_ref()) {
                None => &mut sums.unread,
                Some((ours, theirs)) => match types.compare(ours, theirs) {
                    Difference::Nothing => &mut sums.same,
                    Difference::References => &mut sums.references,
                    Difference::Collector => &mut sums.collector,
                    Difference::Headers => &mut sums.headers,
                    Difference::Values => &mut sums.values,
                },
            };
            *sum += PAGE_BYTES;
        }
    }
    Ok(sums)
}

fn copies<M: ReadMemory>(
    memory: &mut M,
    pieces: &[Piece],
) -> Result<Vec<Option<Vec<u8>>>, ReadError> {
    let mut copies = Vec::with_capacity(pieces.len());
    gather(memory, pieces, |_, bytes| {
        copies.push(bytes.map(<[u8]>::to_vec));
    })?;
    Ok(copies)
}
