//! What the lists of the garbage collector add and take back.

use onlooker_unwinder::memory::{Lookup, RemoteAddr, u64_at};

use super::{Taker, Tally};
use crate::bits::Bits;
use crate::blocks::{NO_TYPE, Use};
use crate::figures::{Interpreter, Reached, Sum};
use crate::gc::{self, Collector};
use crate::space::Space;
use crate::types::is_live;

/// Links of the garbage collector before an object.
pub(super) const GC_HEAD_BYTES: u64 = 16;

/// An object that claims to be larger is counted as if it were so large.
const MAX_OBJECT_BYTES: u64 = 1 << 40;

/// What the lists of the garbage collector say.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) interpreters: Vec<Interpreter>,
    /// Blocks with a frozen object.
    pub(super) frozen: Bits,
    /// Frozen ones, those outside of blocks included.
    pub(super) frozen_count: u64,
    /// Blocks with an object on a list.
    pub(super) members: Bits,
    /// Links that lie in no block.
    pub(super) outside: Vec<RemoteAddr>,
}

impl Taker<'_> {
    /// What the lists of every interpreter lead to.
    pub(super) fn lists<B: AsRef<[u8]>>(
        &self,
        space: &Space<B>,
        collectors: &[Collector],
    ) -> Listed {
        let mut listed = Listed {
            frozen: Bits::none_of(self.blocks.count()),
            members: Bits::none_of(self.blocks.count()),
            ..Listed::default()
        };
        for collector in collectors {
            for (links, is_frozen) in collector.elements() {
                listed.frozen_count += u64::from(is_frozen);
                match self.blocks.locate(links) {
                    Some(block) => {
                        listed.members.set(block.index);
                        if is_frozen {
                            listed.frozen.set(block.index);
                        }
                    }
                    None => listed.outside.push(links),
                }
            }
            listed.interpreters.push(Interpreter {
                id: collector.id,
                lists: collector.lists(space),
                shares_lists: collector.shares_lists,
                share: None,
            });
        }
        listed
    }

    /// Takes back what only looked like an object: one that is tracked is on a list. Only where the
    /// lists are whole, and what a neighbour points back to is one all the same: it may have been
    /// copied before it left its list, or after it came to it.
    pub(super) fn drop_look_alikes<B: AsRef<[u8]>>(&mut self, space: &Space<B>, listed: &Listed) {
        let mut look_alikes = Vec::new();
        for index in self.seen.tracked.without(&listed.members) {
            let object = self.blocks.get(index).zip(self.blocks.type_of(index));
            let links = object.and_then(|(block, of)| {
                let object = self.object_addr(space, block.addr, of);
                object.0.checked_sub(GC_HEAD_BYTES).map(RemoteAddr)
            });
            if links.is_some_and(|links| !gc::is_linked(space, links)) {
                look_alikes.push(index);
            }
        }
        for index in look_alikes {
            self.blocks.set(index, Use::Unowned, NO_TYPE);
        }
    }

    /// Counts objects on a list that are in no block that was walked, by what their types say of
    /// their size.
    pub(super) fn reach<B: AsRef<[u8]>>(
        &mut self,
        space: &Space<B>,
        outside: &[RemoteAddr],
    ) -> (Sum, Vec<Reached>) {
        let mut reached = Sum::default();
        let mut objects = Vec::new();
        for links in outside {
            let object = RemoteAddr(links.0 + GC_HEAD_BYTES);
            let Some(head) = space.bytes(object, 24) else {
                continue;
            };
            let word = |offset| u64_at(head, offset).unwrap_or_default();
            let Some(of) = self.seen.types.at(space, word(8)) else {
                continue;
            };
            if !is_live(self.layout.version, word(0)) {
                continue;
            }
            let found = &self.seen.types.all()[of as usize];
            let items = if found.item_bytes > 0 { word(16) } else { 0 };
            let items = items.cast_signed().unsigned_abs();
            let bytes = items
                .saturating_mul(found.item_bytes)
                .saturating_add(found.distance + found.basic_bytes)
                .min(MAX_OBJECT_BYTES);
            self.tallies
                .resize(self.seen.types.all().len(), Tally::default());
            let tally = &mut self.tallies[of as usize];
            tally.count += 1;
            tally.gc_tracked += 1;
            tally.own_bytes += bytes;
            tally.block_bytes += bytes;
            reached.count += 1;
            reached.bytes += bytes;
            objects.push(Reached { addr: object, of });
        }
        (reached, objects)
    }
}
