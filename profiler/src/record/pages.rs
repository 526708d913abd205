//! Pages that were seen to come in, and which of them are still there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::huge::HugePages;
use crate::sys::pagemap::{self, Page};
use crate::sys::remap::Remap;

/// Bits of an entry of `/proc/PID/pagemap` (`Documentation/admin-guide/mm/pagemap.rst`).
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const FILE: u64 = 1 << 61;
/// Number of the page of memory, 0 without CAP_SYS_ADMIN.
const FRAME: u64 = (1 << 55) - 1;
const ENTRY_BYTES: u64 = 8;
/// Entries that are read at once: two megabytes of memory.
const WINDOW: usize = 512;

/// What a fault brought in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// A page of anonymous memory, of so many bytes.
    Anonymous(u64),
    /// Huge pages of anonymous memory, which begin there and came in since the fault that was seen
    /// before.
    Huge(Vec<u64>),
    /// A page of a file or of shared memory, of so many bytes.
    File(u64),
    /// Nothing that stays: the page is gone again, or is the shared page of zeros.
    Nothing,
}

/// A page and the sample that saw it come in.
#[derive(Clone, Copy, Debug)]
struct Kept {
    sample: u32,
    bytes: u64,
    /// The page of memory that it was; 0 where that is not told.
    frame: u64,
    /// Later faults have higher ones; so have pages that were moved, among which later faults
    /// still do.
    order: u64,
}

/// A look which pages are still there.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// The first page that was not looked at yet.
    next: u64,
    /// Whether all were.
    pub(super) done: bool,
    /// Those that are gone, as they were when they were looked at.
    missing: Vec<(u64, u64)>,
}

/// The pages of one process.
#[derive(Debug)]
pub(super) struct Pages {
    pagemap: File,
    page_bytes: u64,
    huge: HugePages,
    /// By number of the page: its latest fault that was seen.
    kept: BTreeMap<u64, Kept>,
    seen: u64,
    /// Samples whose pages are gone or came in again.
    gone: Vec<u32>,
    /// No more bytes than these can be there: what was resident at the last look, and what came
    /// in since; `None` before the first one.
    most: Option<u64>,
}

impl Pages {
    pub(super) fn open(pid: i32) -> io::Result<Self> {
        let page_bytes = page_bytes();
        let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
        Ok(Self {
            huge: HugePages::of(&pagemap),
            pagemap,
            page_bytes,
            kept: BTreeMap::new(),
            seen: 0,
            gone: Vec::new(),
            most: None,
        })
    }

    /// What a fault at this address brought in, the last one of so many. Call it while the thread
    /// stands still, at best.
    pub(super) fn classify(&self, addr: u64, faults: u64) -> Came {
        let start = addr - addr % self.page_bytes;
        let page = pagemap::page(&self.pagemap, start, self.page_bytes)
            .unwrap_or_else(|_| self.page_of_entry(addr));
        let huge = page.huge && self.huge.bytes > 0;
        let bytes = if huge {
            self.huge.bytes
        } else {
            self.page_bytes
        };
        match page {
            Page { present: false, .. } | Page { zero: true, .. } => Came::Nothing,
            Page { file: true, .. } => Came::File(bytes),
            Page { .. } if huge => {
                let known = |start| self.is_known(start);
                Came::Huge(self.huge.came(&self.pagemap, addr, faults, known))
            }
            Page { .. } => Came::Anonymous(bytes),
        }
    }

    /// Before Linux 6.7 huge pages and the page of zeros are not told.
    fn page_of_entry(&self, addr: u64) -> Page {
        let entry = self.entry(addr / self.page_bytes);
        Page {
            present: entry & PRESENT != 0,
            file: entry & FILE != 0,
            ..Page::default()
        }
    }

    fn entry(&self, page: u64) -> u64 {
        let mut entry = [0; ENTRY_BYTES as usize];
        let read = self.pagemap.read_exact_at(&mut entry, page * ENTRY_BYTES);
        read.map_or(0, |()| u64::from_ne_bytes(entry))
    }

    /// The pages of so many bytes from there.
    fn pages(&self, start: u64, bytes: u64) -> Range<u64> {
        let end = start.saturating_add(bytes).div_ceil(self.page_bytes);
        start / self.page_bytes..end
    }

    /// Whether anything is kept of the huge page that begins there.
    fn is_known(&self, start: u64) -> bool {
        let pages = self.pages(start, self.huge.bytes);
        self.kept.range(pages).next().is_some()
    }

    /// Takes off what is kept of these pages.
    fn take(&mut self, pages: Range<u64>) -> Vec<(u64, Kept)> {
        let taken: Vec<u64> = self.kept.range(pages).map(|(page, _)| *page).collect();
        let taken = taken.into_iter();
        taken
            .filter_map(|page| self.kept.remove_entry(&page))
            .collect()
    }

    /// What was in these pages is gone.
    fn is_gone(&mut self, pages: Range<u64>) {
        let gone = self.take(pages).into_iter();
        self.gone.extend(gone.map(|(_, kept)| kept.sample));
    }

    /// A huge page has come in there, of how many bytes: nothing was there any more.
    pub(super) fn huge_came(&mut self, start: u64, sample: u32) -> u64 {
        self.is_gone(self.pages(start, self.huge.bytes));
        let bytes = self.huge.bytes;
        self.came(start, sample, bytes);
        bytes
    }

    /// A page belongs to its latest fault.
    pub(super) fn came(&mut self, addr: u64, sample: u32, bytes: u64) {
        let page = addr / self.page_bytes;
        self.seen += 1;
        self.most = self.most.map(|most| most.saturating_add(bytes));
        let kept = Kept {
            sample,
            bytes,
            frame: frame(self.entry(page)),
            order: self.seen,
        };
        let old = self.kept.insert(page, kept);
        self.gone.extend(old.map(|old| old.sample));
    }

    /// The process has moved memory: its pages have gone there with what they hold. What was there
    /// before is gone, and what the new size leaves off.
    pub(super) fn moved(&mut self, remap: &Remap) {
        let old = self.pages(remap.old, remap.old_bytes);
        let new = self.pages(remap.new, remap.new_bytes);
        if new.start == old.start {
            // Where it grows nothing is mapped any more.
            self.is_gone(old.end.min(new.end)..old.end.max(new.end));
            return;
        }
        let mut taken = self.take(old.clone());
        self.is_gone(new.clone());
        // A look may have missed them where they were.
        taken.sort_unstable_by_key(|(_, kept)| kept.order);
        for (page, kept) in taken {
            let page = page - old.start + new.start;
            if page < new.end {
                self.seen += 1;
                let order = self.seen;
                self.kept.insert(page, Kept { order, ..kept });
            } else {
                self.gone.push(kept.sample);
            }
        }
    }

    /// Looks which pages are not there any more, or came in again since, for as long as `more` says
    /// so: until the look has seen all. A page's entries come in pieces of two megabytes.
    ///
    /// Only one fault in so many is seen. So a page may have gone and come in again unseen: it is
    /// another page of memory then, and a later fault was seen nearer than faults that are seen
    /// are apart. (The kernel moves pages too, but not only where memory comes in.)
    pub(super) fn look(&self, look: &mut Look, mut more: impl FnMut() -> bool) {
        let mut window = [0; WINDOW * ENTRY_BYTES as usize];
        // First page of the window, and how many it has.
        let (mut first, mut count) = (0, 0);
        for (&page, kept) in self.kept.range(look.next..) {
            if page < first || page >= first + count {
                look.next = page;
                if !more() {
                    return;
                }
                first = page;
                let read = self.pagemap.read_at(&mut window, page * ENTRY_BYTES);
                count = read.unwrap_or(0) as u64 / ENTRY_BYTES;
                if count == 0 {
                    // The process has ended: nothing is known.
                    continue;
                }
            }
            let at = ((page - first) * ENTRY_BYTES) as usize;
            let bytes = window[at..].first_chunk().copied().unwrap_or_default();
            let entry = u64::from_ne_bytes(bytes);
            let moved = frame(entry) != kept.frame && frame(entry) != 0 && kept.frame != 0;
            // A file or shared memory has taken the place of what was there.
            let another = entry & FILE != 0;
            let missing = entry & (PRESENT | SWAPPED) == 0;
            if missing || another || (moved && self.came_again(page, *kept)) {
                look.missing.push((page, kept.order));
            }
        }
        look.done = true;
    }

    /// Looks at all pages at once.
    pub(super) fn look_at_all(&self) -> Look {
        let mut look = Look::default();
        self.look(&mut look, || true);
        look
    }

    /// Whether a later fault was seen near by.
    fn came_again(&self, page: u64, kept: Kept) -> bool {
        let apart = (kept.bytes / self.page_bytes).max(1);
        let near = page.saturating_sub(apart - 1)..page.saturating_add(apart);
        self.kept
            .range(near)
            .any(|(_, other)| other.order > kept.order)
    }

    /// Takes off what a look has missed, but for pages that came in since. So many bytes of
    /// anonymous memory are resident now; `None` where that is not told.
    pub(super) fn forget(&mut self, look: Look, resident: Option<u64>) {
        self.most = resident.or(self.most);
        for (page, order) in look.missing {
            if self.kept.get(&page).is_some_and(|kept| kept.order == order) {
                let old = self.kept.remove(&page);
                self.gone.extend(old.map(|old| old.sample));
            }
        }
    }

    /// The process has become another program, whose memory this is.
    pub(super) fn begin_again(&mut self, pid: i32) {
        let all = std::mem::take(&mut self.kept);
        self.gone.extend(all.values().map(|kept| kept.sample));
        self.most = None;
        self.huge.begin_again();
        if let Ok(file) = File::open(format!("/proc/{pid}/pagemap")) {
            self.pagemap = file;
        }
    }

    /// Samples that keep nothing, since the last call.
    pub(super) fn take_gone(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.gone)
    }

    /// What is kept of which sample. A page stands for many that were not seen: all are made
    /// smaller alike where they stand for more than there can be.
    pub(super) fn kept(&self) -> Vec<(u32, u64)> {
        let sum: u128 = self.kept.values().map(|k| u128::from(k.bytes)).sum();
        let most = self.most.map_or(sum, u128::from).min(sum);
        let part = |bytes: u64| (u128::from(bytes) * most / sum.max(1)) as u64;
        let kept = self.kept.values();
        kept.map(|k| (k.sample, part(k.bytes))).collect()
    }
}

/// The page of memory of an entry; 0 where that is not told or it is not in memory.
fn frame(entry: u64) -> u64 {
    if entry & PRESENT == 0 {
        0
    } else {
        entry & FRAME
    }
}

/// Bytes of a page of memory.
pub(super) fn page_bytes() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok().flatten().map_or(4096, i64::cast_unsigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than malloc keeps for later: it goes back to the kernel at once.
    const LARGE: usize = 64 << 20;

    fn own() -> Pages {
        Pages::open(nix::unistd::getpid().as_raw()).expect("own pages")
    }

    #[test]
    fn memory_files_and_nothing_are_told_apart() {
        let pages = own();
        let page = page_bytes();
        let touched = vec![1_u8; LARGE];
        let untouched: Vec<u8> = Vec::with_capacity(LARGE);
        let middle = |v: &Vec<u8>| v.as_ptr().addr() as u64 + LARGE as u64 / 2;
        let bytes = match pages.classify(middle(&touched), 1) {
            Came::Anonymous(bytes) => bytes,
            Came::Huge(pages) if pages.len() == 1 => page,
            other => panic!("{other:?}"),
        };
        assert_eq!(bytes, page);
        assert_eq!(pages.classify(middle(&untouched), 1), Came::Nothing);
        let code = memory_files_and_nothing_are_told_apart as fn() as usize as u64;
        assert!(matches!(pages.classify(code, 1), Came::File(_)));
    }

    #[test]
    fn what_went_away_is_not_kept_and_a_page_belongs_to_its_latest_fault() {
        let mut pages = own();
        let stays = vec![1_u8; LARGE];
        let goes = vec![1_u8; LARGE];
        let first = |v: &Vec<u8>| v.as_ptr().addr() as u64 + LARGE as u64 / 2;
        pages.came(first(&stays), 1, 4096);
        pages.came(first(&stays) + 1, 2, 4096);
        pages.came(first(&goes), 3, 4096);
        assert_eq!(pages.take_gone(), [1]);
        assert!(pages.look_at_all().missing.is_empty());
        drop(goes);
        let missing = pages.look_at_all();
        pages.forget(missing, None);
        assert_eq!(pages.take_gone(), [3]);
        assert_eq!(pages.kept(), [(2, 4096)]);
    }

    /// Kept by the page of its address, in pages of [`start`].
    fn kept_at(pages: &Pages, start: u64) -> Vec<(u64, u32)> {
        let at = |page: u64| page - start / page_bytes();
        let kept = pages.kept.iter();
        kept.map(|(page, kept)| (at(*page), kept.sample)).collect()
    }

    #[test]
    fn pages_go_where_their_memory_is_moved_to() {
        let mut pages = own();
        let start: u64 = 1 << 40;
        let at = |page: u64| start + page * page_bytes();
        let moves = |old: u64, old_pages: u64, new: u64, new_pages: u64| Remap {
            time_ns: 0,
            old: at(old),
            old_bytes: old_pages * page_bytes(),
            new: at(new),
            new_bytes: new_pages * page_bytes(),
        };
        for page in [4, 2, 0, 10, 100, 104, 110] {
            pages.came(at(page), page as u32, 4096);
        }
        // Of those at 0 to 5 the last one is cut off; 100 to 104 were free again.
        pages.moved(&moves(0, 5, 100, 4));
        assert_eq!(
            kept_at(&pages, start),
            [(10, 10), (100, 0), (102, 2), (104, 104), (110, 110)]
        );
        assert_eq!(pages.take_gone(), [100, 4]);
        // In its place: it grows, and it shrinks.
        pages.moved(&moves(100, 4, 100, 6));
        pages.moved(&moves(100, 6, 100, 1));
        assert_eq!(kept_at(&pages, start), [(10, 10), (100, 0), (110, 110)]);
        assert_eq!(pages.take_gone(), [104, 2]);
        // A look that was made before takes nothing off, wherever they are now.
        let look = pages.look_at_all();
        assert_eq!(look.missing.len(), 3);
        pages.moved(&moves(100, 1, 0, 1));
        pages.moved(&moves(0, 1, 100, 1));
        pages.forget(look, None);
        assert_eq!(kept_at(&pages, start), [(100, 0)]);
        // Later faults stay the later ones.
        pages.came(at(102), 7, 4096);
        pages.moved(&moves(100, 3, 200, 3));
        let orders: Vec<u64> = pages.kept.values().map(|kept| kept.order).collect();
        assert!(orders[0] < orders[1], "{orders:?}");
    }

    #[test]
    fn no_more_is_kept_than_there_is() {
        let mut pages = own();
        let memory = vec![1_u8; LARGE];
        let start = memory.as_ptr().addr() as u64;
        pages.came(start, 1, 3 << 20);
        pages.came(start + (4 << 20), 2, 1 << 20);
        let look = pages.look_at_all();
        pages.forget(look, Some(2 << 20));
        assert_eq!(pages.kept(), [(1, 3 << 19), (2, 1 << 19)]);
        pages.came(start + (8 << 20), 3, 2 << 20);
        let sum: u64 = pages.kept().iter().map(|(_, bytes)| bytes).sum();
        assert!(sum <= 4 << 20, "{sum}");
        let look = pages.look_at_all();
        pages.forget(look, Some(1 << 40));
        assert_eq!(pages.kept(), [(1, 3 << 20), (2, 1 << 20), (3, 2 << 20)]);
    }

    #[test]
    fn a_look_in_pieces_sees_all_and_leaves_what_came_in_since() {
        let mut pages = own();
        let memory = vec![1_u8; LARGE];
        let start = memory.as_ptr().addr() as u64;
        let apart = 4 << 20;
        let count = LARGE as u64 / apart;
        (0..count).for_each(|n| pages.came(start + n * apart, n as u32, 4096));
        drop(memory);
        let mut look = Look::default();
        let mut pieces = 0;
        while !look.done {
            // One piece of two megabytes at a time.
            let mut first = true;
            pages.look(&mut look, || std::mem::take(&mut first));
            pieces += 1;
            assert!(pieces <= count + 1, "{look:?}");
        }
        assert!(pieces > count / 2, "{pieces}");
        pages.came(start, 100, 4096);
        pages.forget(look, None);
        assert_eq!(pages.kept(), [(100, 4096)]);
    }
}
