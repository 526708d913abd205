//! Every object of a census that lies in a block, with its address.

use onlooker_unwinder::memory::RemoteAddr;

use crate::blocks::{Block, NO_TYPE, Use};
use crate::census::Census;
use crate::guards;
use crate::space::Space;

/// One live object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its header: what `id()` is.
    pub addr: RemoteAddr,
    /// Its type, as numbered by [`Census::types`] and [`Census::names`].
    pub of: u32,
    /// Its block.
    pub block: Block,
    /// Whether the block is a chunk of malloc.
    pub is_chunk: bool,
}

impl Census {
    /// Every live object that lies in a block: those of pymalloc by address, then those of malloc
    /// by address. Not those that only the lists of the garbage collector led to.
    pub fn objects_in<'a, B: AsRef<[u8]>>(
        &'a self,
        space: &'a Space<B>,
    ) -> impl Iterator<Item = Object> + 'a {
        let first_chunk = self.blocks.of_chunk(0);
        let has_guards = self.domains.is_some();
        self.blocks.iter().filter_map(move |block| {
            let of = self.blocks.types[block.index as usize];
            if of == NO_TYPE || self.blocks.use_of(block.index) != Use::Object {
                return None;
            }
            Some(Object {
                addr: object_addr(
                    space,
                    block.addr,
                    self.types.all()[of as usize].distance,
                    has_guards,
                ),
                of,
                block,
                is_chunk: block.index >= first_chunk,
            })
        })
    }
}

/// Where the object of a block begins, `distance` behind what its allocator keeps for itself.
pub(crate) fn object_addr<B: AsRef<[u8]>>(
    space: &Space<B>,
    block: RemoteAddr,
    distance: u64,
    has_guards: bool,
) -> RemoteAddr {
    let header = if has_guards {
        guards::data(space.tail(block)).map_or(guards::HEADER_BYTES, |(at, _)| at)
    } else {
        0
    };
    RemoteAddr(block.0 + header + distance)
}
