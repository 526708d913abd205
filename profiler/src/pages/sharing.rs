//! What a worker still shares with its parent, and why not the rest.
//!
//! After a fork both map the same frames of anonymous memory. Whoever writes first gets a copy.
//! A page of the worker is shared when both map the same frame at the same address. Of another
//! one the kernel tells who wrote it: a frame that was written since its last fork carries a mark
//! ([`FrameFlags::is_own`]). Without root neither frames nor marks may be seen; then a page is
//! shared when some other process maps it, and who wrote it is unknown.

use std::io;

use onlooker_heap::headers::PAGE_BYTES;
use serde::Serialize;

use super::frames::FrameFlags;
use crate::target::pagemap::{Page, PageMap};
use crate::target::smaps::Mapping;

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

/// A page of a worker that is not shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unshared {
    /// Its address, the same in both.
    pub addr: u64,
    /// Why it is not shared.
    pub why: Why,
    /// Whether the next page is resident in both, so that it may be read along.
    pub(super) next: bool,
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
    /// The unshared pages one by one, by address.
    pub pages: Vec<Unshared>,
    /// Whether frames and marks could be seen, of every page: without CAP_SYS_ADMIN the kernel
    /// gives zero for each frame.
    pub proven: bool,
}

/// Looks at every page of a worker and at the parent's page at the same address.
///
/// # Errors
/// What the kernel says about the page maps; `NotFound` when a process has ended.
pub fn sharing(
    mappings: &[Mapping],
    worker: &PageMap,
    parent: &PageMap,
    flags: Option<&FrameFlags>,
) -> io::Result<Sharing> {
    let mut look = Look {
        flags,
        sharing: Sharing {
            mappings: vec![Split::default(); mappings.len()],
            ..Sharing::default()
        },
        seen: false,
        hidden: false,
    };
    for (index, mapping) in mappings.iter().enumerate() {
        // The vsyscall page lies in the kernel's half.
        if mapping.sizes.rss_bytes + mapping.sizes.swap_bytes == 0 || mapping.start >= 1 << 63 {
            continue;
        }
        let mut addr = mapping.start;
        while addr < mapping.end {
            let ours = worker.window(addr, mapping.end)?;
            let theirs = parent.window(addr, mapping.end)?;
            // What is not mapped has words too; a process without memory has ended.
            if ours.is_empty() || ours.len() != theirs.len() {
                return Err(io::ErrorKind::NotFound.into());
            }
            for (ours, theirs) in ours.into_iter().zip(theirs) {
                look.at(index, addr, ours, theirs);
                addr += PAGE_BYTES;
            }
        }
    }
    look.sharing.proven = flags.is_some() && look.seen && !look.hidden;
    Ok(look.sharing)
}

struct Look<'a> {
    flags: Option<&'a FrameFlags>,
    sharing: Sharing,
    /// Whether a frame was seen.
    seen: bool,
    /// Whether one was not.
    hidden: bool,
}

impl Look<'_> {
    /// One page, in the order of their addresses.
    fn at(&mut self, mapping: usize, addr: u64, ours: Page, theirs: Page) {
        let before = self.sharing.pages.last_mut();
        if let Some(before) = before.filter(|before| before.addr + PAGE_BYTES == addr) {
            before.next = ours.is_present() && theirs.is_present();
        }
        if !ours.exists() {
            return;
        }
        if ours.is_file() {
            self.sharing.files += PAGE_BYTES;
            return;
        }
        for page in [ours, theirs] {
            self.seen |= page.frame().is_some();
            self.hidden |= page.is_present() && page.frame().is_none();
        }
        let zero = |flags: &FrameFlags| ours.frame().is_some_and(|f| flags.is_zero_page(f));
        if self.flags.is_some_and(zero) {
            return;
        }
        let split = &mut self.sharing.mappings[mapping];
        let Some(why) = why(ours, theirs, self.flags) else {
            split.shared += PAGE_BYTES;
            return;
        };
        split.unshared += PAGE_BYTES;
        self.sharing.why.add(why);
        self.sharing.pages.push(Unshared {
            addr,
            why,
            next: false,
        });
    }
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
