//! The live objects of a heap whose blocks are typed.

use onlooker_unwinder::memory::RemoteAddr;

use crate::blocks::{Block, Blocks};
use crate::census::Census;
use crate::guards;
use crate::space::Space;
use crate::types::{Type, Types};

/// One live object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// Its address, what `id()` gives.
    pub addr: RemoteAddr,
    /// The number of its type.
    pub of: u32,
    /// The block that it lies in.
    pub block: Block,
}

/// Where the object in a block is. `debug`: blocks have headers of the debug allocator.
#[inline]
pub(crate) fn addr<B: AsRef<[u8]>>(
    space: &Space<B>,
    debug: bool,
    block: RemoteAddr,
    of: &Type,
) -> RemoteAddr {
    let header = if debug {
        let block = space.tail(block);
        guards::data(block).map_or(guards::HEADER_BYTES, |data| data.at)
    } else {
        0
    };
    RemoteAddr(block.0 + header + of.distance)
}

/// The object in a block, if one is there.
pub(crate) fn of_block<B: AsRef<[u8]>>(
    space: &Space<B>,
    debug: bool,
    blocks: &Blocks,
    types: &Types,
    block: Block,
) -> Option<Object> {
    let of = blocks.type_of(block.index)?;
    let addr = addr(space, debug, block.addr, types.all().get(of as usize)?);
    Some(Object { addr, of, block })
}

impl Census {
    /// Every live object that lies in a block: those of pymalloc by address, then those of malloc
    /// by address. Not those that only the lists of the garbage collector led to.
    pub fn objects_in<'a, B: AsRef<[u8]>>(
        &'a self,
        space: &'a Space<B>,
    ) -> impl Iterator<Item = Object> + 'a {
        let debug = self.domains.is_some();
        let blocks = self.blocks.iter();
        blocks.filter_map(move |block| of_block(space, debug, &self.blocks, &self.types, block))
    }
}
