//! What a worker still shares with its parent, and why not the rest.
//!
//! After a fork both map the same frames of anonymous memory. Whoever writes first gets a copy.
//! A page of the worker is shared when both map the same frame at the same address. Of another
//! one the kernel tells who wrote it: a frame that was written since its last fork carries a mark
//! ([`Mark`]). Huge pages that the kernel makes unshare what nobody wrote. Without root neither
//! frames nor marks may be seen; then a page is shared when some other process maps it, and who
//! wrote it is unknown.

use std::io;

use onlooker_heap::headers::PAGE_BYTES;
use serde::Serialize;

use super::frames::{FrameFlags, Mark};
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
    /// The kernel made it a part of a huge page in one of them: nobody need have written it.
    Huge,
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
    /// [`Why::Huge`].
    pub huge: u64,
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
            Why::Huge => &mut self.huge,
            Why::Unknown => &mut self.unknown,
        } += PAGE_BYTES;
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.new + self.worker + self.parent + self.both + self.huge + self.unknown
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

/// How often a page is looked at that moves meanwhile.
const LOOKS: usize = 4;

/// Looks at every page of a worker and at the parent's page at the same address.
///
/// The kernel moves frames when it makes room for a huge page, of any process, thousands at once:
/// what it says of a frame holds for a page that is in it before and after.
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
            let read = || window(worker, parent, addr, mapping.end);
            for pair in Pair::settle(read, flags)? {
                look.at(index, addr, &pair);
                addr += PAGE_BYTES;
            }
        }
    }
    look.sharing.proven = flags.is_some() && look.seen && !look.hidden;
    Ok(look.sharing)
}

/// The pages of both from `start` to `end` or to the end of a window.
fn window(
    worker: &PageMap,
    parent: &PageMap,
    start: u64,
    end: u64,
) -> io::Result<Vec<(Page, Page)>> {
    let ours = worker.window(start, end)?;
    let theirs = parent.window(start, end)?;
    // What is not mapped has words too; a process without memory has ended.
    if ours.is_empty() || ours.len() != theirs.len() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(ours.into_iter().zip(theirs).collect())
}

/// What is in the same place of a worker and of its parent.
struct Pair {
    ours: Page,
    theirs: Page,
    is_zero: bool,
    /// Why the worker's page is not the parent's; `None` when it is.
    why: Option<Why>,
}

impl Pair {
    fn new((ours, theirs): (Page, Page), flags: Option<&FrameFlags>) -> Self {
        let zero = |flags: &FrameFlags| ours.frame().is_some_and(|f| flags.is_zero_page(f));
        let is_anonymous = ours.exists() && !ours.is_file();
        let is_zero = is_anonymous && flags.is_some_and(zero);
        Self {
            ours,
            theirs,
            is_zero,
            why: (is_anonymous && !is_zero)
                .then(|| why(ours, theirs, flags))
                .flatten(),
        }
    }

    /// Reads a window until each page has stood still while its frame was asked about. One that
    /// never does has no reason that is known.
    fn settle(
        read: impl Fn() -> io::Result<Vec<(Page, Page)>>,
        flags: Option<&FrameFlags>,
    ) -> io::Result<Vec<Self>> {
        let pages = read()?.into_iter();
        let mut pairs: Vec<_> = pages.map(|pages| Self::new(pages, flags)).collect();
        for look in 1..=LOOKS {
            let flags = flags.filter(|_| look < LOOKS);
            let again = read()?;
            if again.len() != pairs.len() {
                return Err(io::ErrorKind::NotFound.into());
            }
            let mut moved = false;
            for (pair, pages) in pairs.iter_mut().zip(again) {
                if (pair.ours, pair.theirs) != pages {
                    *pair = Self::new(pages, flags);
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        Ok(pairs)
    }
}

struct Look {
    sharing: Sharing,
    /// Whether a frame was seen.
    seen: bool,
    /// Whether one was not.
    hidden: bool,
}

impl Look {
    /// One page, in the order of their addresses.
    fn at(&mut self, mapping: usize, addr: u64, pair: &Pair) {
        let (ours, theirs) = (pair.ours, pair.theirs);
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
        if pair.is_zero {
            return;
        }
        let split = &mut self.sharing.mappings[mapping];
        let Some(why) = pair.why else {
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
            let mark = |frame| flags.and_then(|flags| flags.mark(frame));
            Some(match (mark(ours), mark(theirs)) {
                (None, _) | (_, None) => Why::Unknown,
                (Some(Mark::Own), Some(Mark::Own)) => Why::Both,
                (Some(Mark::Own), _) => Why::Worker,
                (_, Some(Mark::Own)) => Why::Parent,
                // Both may have put something new there.
                (Some(Mark::Huge), Some(Mark::Huge)) => Why::Unknown,
                (Some(Mark::Huge), _) | (_, Some(Mark::Huge)) => Why::Huge,
                // Not written here, and yet not the parent's any more: that has forked again.
                (Some(Mark::Shared), Some(Mark::Shared)) => Why::Parent,
            })
        }
        // In the same place of the swap.
        _ if !ours.is_present() && ours.is_placed() && ours == theirs => None,
        // Frames are hidden.
        _ if ours.is_present() && !ours.is_exclusive() => None,
        _ => Some(Why::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A page that is in memory, in a frame that the kernel may well not have.
    fn page(frame: u64) -> Page {
        Page::present_at(frame)
    }

    #[test]
    fn a_frame_that_moves_between_two_looks_is_shared_still() {
        let turn = Cell::new(0);
        // The second look meets it in the middle of the move.
        let looks = [
            vec![(page(1), page(1)), (page(10), page(10))],
            vec![(page(2), page(1)), (page(10), page(10))],
            vec![(page(2), page(2)), (page(10), page(10))],
        ];
        let read = || {
            turn.set(turn.get() + 1);
            Ok(looks[turn.get().min(looks.len()) - 1].clone())
        };
        let pairs = Pair::settle(read, FrameFlags::open().as_ref()).expect("pages");
        assert!(pairs.iter().all(|pair| pair.why.is_none()));
        assert_eq!(turn.get(), 4);
    }

    #[test]
    fn one_that_never_stands_still_has_no_reason_that_is_known() {
        let turn = Cell::new(1);
        let read = || {
            turn.set(turn.get() + 1);
            Ok(vec![(page(turn.get()), page(1))])
        };
        let pairs = Pair::settle(read, FrameFlags::open().as_ref()).expect("pages");
        assert_eq!(pairs[0].why, Some(Why::Unknown));
        assert_eq!(turn.get(), 2 + LOOKS as u64);
    }
}
