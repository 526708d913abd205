//! Single objects of a heap: what they are, what they own, what they look like and who refers to
//! them.
//!
//! Over the census's own structures: a [`Heap`] looks at a space whose blocks are typed. Nothing
//! is read but the space, and nothing that it holds is believed: values are cut, text is escaped,
//! tables end with their blocks.

mod how;
mod number;
mod referrers;
mod repr;
mod text;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use onlooker_unwinder::layout::{Layout, Minor};
use onlooker_unwinder::memory::{Lookup, RemoteAddr};
use rustc_hash::FxHashSet;

pub use crate::references::How;
pub use referrers::{Referrer, Referrers, Source};

use crate::census::Census;
use crate::names;
use crate::objects::{self, Object};
use crate::owned;
use crate::references::References;
use crate::space::Space;
use crate::types::{Type, is_immortal};

/// A heap after its census.
#[derive(Debug)]
pub struct Heap<'a, B> {
    space: &'a Space<B>,
    layout: &'a Layout,
    census: &'a Census,
    references: References<'a, B>,
}

/// What is known of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its address, what `id()` gives.
    pub addr: RemoteAddr,
    /// Its type, as `module.qualname`.
    pub type_name: String,
    /// Its block; for an object of the interpreter's own data, the size that its type tells.
    pub block_bytes: u64,
    /// Its block and the separate blocks that only it owns.
    pub own_bytes: u64,
    /// How many references count; `None` for an immortal object (3.12+).
    pub reference_count: Option<u64>,
    /// What it looks like, in at most some hundred characters.
    pub repr: String,
}

impl<'a, B: AsRef<[u8]>> Heap<'a, B> {
    /// A view of `space`, of which `census` was taken.
    #[must_use]
    pub fn new(space: &'a Space<B>, layout: &'a Layout, census: &'a Census) -> Self {
        let types = census.types.all();
        Self {
            space,
            layout,
            census,
            references: References::new(space, layout, &census.blocks, types),
        }
    }

    fn is_debug(&self) -> bool {
        self.census.domains.is_some()
    }

    /// The largest objects of a type, by what they own, at most `limit`, and how many there are.
    /// The lower address comes first where they own as much.
    #[must_use]
    pub fn largest(&self, type_name: &str, limit: usize) -> (Vec<Object>, u64) {
        let wanted: Vec<bool> = self
            .census
            .names
            .iter()
            .map(|name| name.to_string() == type_name)
            .collect();
        let mut count = 0;
        let mut largest = BinaryHeap::new();
        for object in self.census.objects_in(self.space) {
            if !wanted.get(object.of as usize).is_some_and(|wanted| *wanted) {
                continue;
            }
            count += 1;
            largest.push((Reverse(self.own_bytes(&object)), object));
            if largest.len() > limit {
                largest.pop();
            }
        }
        let sorted = largest.into_sorted_vec().into_iter();
        (sorted.map(|(_, object)| object).collect(), count)
    }

    /// The object at an address, or in whose block it lies; also one of the interpreter's own
    /// data, which has no block.
    #[must_use]
    pub fn subject_at(&self, addr: RemoteAddr) -> Option<Subject> {
        let blocks = &self.census.blocks;
        let Some(block) = blocks.locate(addr) else {
            let of = self.census.types.of_object(self.space, addr)?;
            let bytes = of.basic_bytes;
            return Some(self.describe(addr, &of, bytes, bytes));
        };
        let debug = self.is_debug();
        let object = objects::of_block(self.space, debug, blocks, &self.census.types, block)?;
        self.subject(&object)
    }

    /// What is known of an object.
    #[must_use]
    pub fn subject(&self, object: &Object) -> Option<Subject> {
        let of = self.census.types.all().get(object.of as usize)?;
        let own_bytes = self.own_bytes(object);
        Some(self.describe(object.addr, of, object.block.bytes, own_bytes))
    }

    fn describe(&self, addr: RemoteAddr, of: &Type, block_bytes: u64, own_bytes: u64) -> Subject {
        let word = self.space.u64(addr).unwrap_or_default();
        let version = self.layout.version;
        // From 3.14 on the upper half is flags.
        let count = if version >= Minor::new(3, 14) {
            word & 0xffff_ffff
        } else {
            word
        };
        Subject {
            addr,
            type_name: self.name_of(of),
            block_bytes,
            own_bytes,
            reference_count: (!is_immortal(version, word)).then_some(count),
            repr: self.repr(addr),
        }
    }

    fn own_bytes(&self, object: &Object) -> u64 {
        let mut own = object.block.bytes;
        let blocks = &self.census.blocks;
        let mut seen = FxHashSet::default();
        if let Some(of) = self.census.types.all().get(object.of as usize) {
            owned::parts(self.space, self.layout, of, object.addr, |part, what| {
                let block = blocks.locate(part);
                let owned = block.filter(|block| blocks.use_of(block.index) == what);
                let new = owned.filter(|block| seen.insert(block.index));
                own += new.map_or(0, |block| block.bytes);
                new.is_some()
            });
        }
        own
    }

    /// The name of a type by its number.
    #[must_use]
    pub fn type_name(&self, of: u32) -> String {
        let of = self.census.types.all().get(of as usize);
        of.map_or_else(|| "?".to_owned(), |of| self.name_of(of))
    }

    fn name_of(&self, of: &Type) -> String {
        let number = self.census.types.find(of.addr.0);
        let known = number.and_then(|of| self.census.names.get(of as usize));
        match known.filter(|name| !name.qualname.is_empty()) {
            Some(name) => name.to_string(),
            // The census names those that have objects in blocks.
            None => names::of(self.space, self.layout, of).to_string(),
        }
    }
}
