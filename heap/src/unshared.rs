//! Which types lie in the pages that a forked worker does not share with its parent.
//!
//! A page is unshared as a whole, so the question has two answers. *Which types' memory* it is:
//! each byte of the page belongs to the block that it lies in, and so to a type. *Which objects
//! were written*: the words in which the two copies differ ([`Changes`]) lie in blocks too.

use std::cmp::Reverse;

use onlooker_unwinder::layout::Layout;
use onlooker_unwinder::memory::RemoteAddr;
use rustc_hash::FxHashMap;

use crate::blocks::{Block, NO_TYPE, Use};
use crate::census::Census;
use crate::guards;
use crate::headers::{Changes, Contents, Difference, PAGE_BYTES};
use crate::names::Name;
use crate::owned;
use crate::space::Space;

/// An unshared page of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its address.
    pub addr: u64,
    /// How it stands to the parent's page at the same address.
    pub state: State,
}

/// How an unshared page stands to the parent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The parent has none.
    New,
    /// The two could not be compared.
    Unread,
    /// They differ in these words; `None` when in none.
    Compared(Option<Box<Changes>>),
}

impl State {
    /// Adds so many bytes of the page to what they are.
    pub fn add_to(&self, contents: &mut Contents, new: &mut u64, bytes: u64) {
        match self {
            Self::New => *new += bytes,
            Self::Unread => contents.add(None, bytes),
            Self::Compared(changes) => {
                let difference = changes.as_ref().map(|changes| changes.difference());
                contents.add(Some(difference.unwrap_or(Difference::Nothing)), bytes);
            }
        }
    }
}

/// What memory is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// Objects of a type, and the separate blocks that they own.
    Type(Name),
    /// Blocks that are not in use, and objects on CPython's free lists.
    Free,
    /// Blocks in use by nothing that was recognised.
    Unowned,
    /// No block: headers of pools and chunks, data of the interpreter and of libraries, stacks.
    Outside,
}

impl What {
    /// As in reports: `builtins.str`, or a word in parentheses.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Type(name) => name.to_string(),
            Self::Free => "(free)".to_owned(),
            Self::Unowned => "(unowned)".to_owned(),
            Self::Outside => "(no block)".to_owned(),
        }
    }
}

/// How many blocks differ from the parent's in what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// In their counts of references.
    pub references: u64,
    /// In their headers of the collector.
    pub collector: u64,
    /// In values.
    pub values: u64,
}

/// The unshared memory of one type. Bytes are those of its blocks within unshared pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The type.
    pub what: What,
    /// All of them. Those of all rows are the unshared pages.
    pub bytes: u64,
    /// Unshared pages that any of it lies in. Types share pages, so these do not add up.
    pub pages: u64,
    /// Of `bytes`: in pages that the parent does not have.
    pub new: u64,
    /// The rest of `bytes`, by what their whole pages differ in.
    pub contents: Contents,
    /// Blocks that differ themselves; one in two pages may count twice.
    pub written: Written,
}

/// The types of the unshared pages, most bytes first. `pages` are in order of their addresses.
#[must_use]
pub fn by_type<B: AsRef<[u8]>>(
    space: &Space<B>,
    layout: &Layout,
    census: &Census,
    pages: &[Page],
) -> Vec<Row> {
    let owners = owners(space, layout, census, pages);
    let mut rows = Rows::new(census);
    // What lies in a page, by number of the row.
    let mut here: Vec<(usize, u64)> = Vec::new();
    for page in pages {
        here.clear();
        let end = page.addr.saturating_add(PAGE_BYTES);
        let mut rest = PAGE_BYTES;
        for block in census.blocks.within(page.addr, end) {
            let from = block.addr.0.max(page.addr);
            let to = block.addr.0.saturating_add(block.bytes).min(end);
            let bytes = to.saturating_sub(from).min(rest);
            rest -= bytes;
            let number = rows.number(census, &owners, block);
            match here.iter_mut().find(|(known, _)| *known == number) {
                Some((_, sum)) => *sum += bytes,
                None => here.push((number, bytes)),
            }
            if let State::Compared(Some(changes)) = &page.state {
                rows.rows[number].add_written(changes, from - page.addr, to - page.addr);
            }
        }
        if rest > 0 {
            here.push((rows.outside(), rest));
        }
        for &(number, bytes) in &here {
            rows.rows[number].add(&page.state, bytes);
        }
    }
    rows.finish()
}

impl Row {
    fn new(what: What) -> Self {
        Self {
            what,
            bytes: 0,
            pages: 0,
            new: 0,
            contents: Contents::default(),
            written: Written::default(),
        }
    }

    fn add(&mut self, state: &State, bytes: u64) {
        self.bytes += bytes;
        self.pages += 1;
        state.add_to(&mut self.contents, &mut self.new, bytes);
    }

    /// A block that lies in the page from offset `start` to `end`.
    fn add_written(&mut self, changes: &Changes, start: u64, end: u64) {
        let written = &mut self.written;
        written.references += u64::from(changes.references.any(start, end));
        written.collector += u64::from(changes.collector.any(start, end));
        written.values += u64::from(changes.values.any(start, end));
    }
}

/// A row for each name of a type, then the three that are none.
struct Rows {
    rows: Vec<Row>,
    /// The row of each type, by its number.
    of_type: Vec<usize>,
}

impl Rows {
    fn new(census: &Census) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        // Types may have one name.
        let mut known: FxHashMap<&Name, usize> = FxHashMap::default();
        let of_type = census.names.iter().map(|name| {
            *known.entry(name).or_insert_with(|| {
                rows.push(Row::new(What::Type(name.clone())));
                rows.len() - 1
            })
        });
        let of_type = of_type.collect();
        rows.extend([What::Free, What::Unowned, What::Outside].map(Row::new));
        Self { rows, of_type }
    }

    fn outside(&self) -> usize {
        self.rows.len() - 1
    }

    /// The row that a block belongs to.
    fn number(&self, census: &Census, owners: &FxHashMap<u32, u32>, block: Block) -> usize {
        let of = match census.blocks.use_of(block.index) {
            Use::Free | Use::Parked => return self.outside() - 2,
            Use::Object => census.blocks.type_of(block.index).unwrap_or(NO_TYPE),
            _ => owners.get(&block.index).copied().unwrap_or(NO_TYPE),
        };
        let unowned = self.outside() - 1;
        self.of_type.get(of as usize).copied().unwrap_or(unowned)
    }

    fn finish(self) -> Vec<Row> {
        let mut rows = self.rows;
        rows.retain(|row| row.pages > 0);
        rows.sort_by_cached_key(|row| (Reverse(row.bytes), row.what.name()));
        rows
    }
}

/// Of the separate blocks that lie in these pages (keys, items, tables, buffers): the type of the
/// object that has each. A census notes only what such a block is.
fn owners<B: AsRef<[u8]>>(
    space: &Space<B>,
    layout: &Layout,
    census: &Census,
    pages: &[Page],
) -> FxHashMap<u32, u32> {
    let blocks = &census.blocks;
    let is_part = |index: u32| {
        let what = blocks.use_of(index);
        !matches!(what, Use::Free | Use::Parked | Use::Object | Use::Unowned)
    };
    let of_pages = pages.iter().flat_map(|page| {
        let end = page.addr.saturating_add(PAGE_BYTES);
        blocks.within(page.addr, end)
    });
    let parts = of_pages.filter(|block| is_part(block.index));
    let mut owners: FxHashMap<u32, u32> = parts.map(|block| (block.index, NO_TYPE)).collect();
    if owners.is_empty() {
        return owners;
    }
    let mut seen = vec![false; blocks.count()];
    for block in blocks.iter() {
        let Some(of) = blocks.type_of(block.index) else {
            continue;
        };
        let found = &census.types.all()[of as usize];
        let Some(object) = object_in(space, census, block, found.distance) else {
            continue;
        };
        owned::parts(space, layout, found, object, |part, _| {
            let Some(index) = blocks.locate(part).map(|block| block.index) else {
                return false;
            };
            // As in the census, the first one that has it.
            let is_new = !std::mem::replace(&mut seen[index as usize], true);
            if let Some(owner) = owners.get_mut(&index).filter(|_| is_new) {
                *owner = of;
            }
            is_new
        });
    }
    owners
}

/// The object in a block: behind the debug allocator's header, if there is one, and behind what its
/// type keeps before it.
fn object_in<B: AsRef<[u8]>>(
    space: &Space<B>,
    census: &Census,
    block: Block,
    distance: u64,
) -> Option<RemoteAddr> {
    let header = match census.domains {
        Some(_) => {
            guards::data(space.tail(block.addr)).map_or(guards::HEADER_BYTES, |data| data.at)
        }
        None => 0,
    };
    block.addr.offset(header)?.offset(distance)
}
