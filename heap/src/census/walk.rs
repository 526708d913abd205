//! Both allocators and the lists of the garbage collector, walked.

use onlooker_unwinder::layout::Layout;
use onlooker_unwinder::memory::RemoteAddr;

use crate::gc::Collector;
use crate::malloc::{Malloc, Region};
use crate::pymalloc::{Found, Geometry, Pymalloc, Roots};
use crate::space::Space;

/// What the space was walked for: all that a census is taken from.
#[derive(Debug)]
pub struct Walk {
    /// Arenas and pools.
    pub pymalloc: Pymalloc,
    /// Heaps and their chunks.
    pub malloc: Malloc,
    /// Lists of the garbage collector, by interpreter.
    pub collectors: Vec<Collector>,
    /// Whether the space is of one instant: the target was stopped while it was copied, or did not
    /// run. Nothing else can tell what is garbage.
    pub at_once: bool,
    pub(super) geometry: Geometry,
}

/// Memory that is worth to be copied again: address and length.
pub type Wanted = Vec<(RemoteAddr, u64)>;

impl Walk {
    /// Walks. `regions` are where malloc may be, by address.
    #[must_use]
    pub fn new<B: AsRef<[u8]>>(
        space: &Space<B>,
        layout: &Layout,
        roots: &Roots,
        regions: &[Region],
    ) -> Self {
        let found = Found::new(space, layout, roots);
        Self::of(space, layout, roots, found, regions)
    }

    /// Walks with arenas that are known.
    #[must_use]
    pub fn of<B: AsRef<[u8]>>(
        space: &Space<B>,
        layout: &Layout,
        roots: &Roots,
        found: Found,
        regions: &[Region],
    ) -> Self {
        let geometry = Geometry::of(layout.version);
        let pymalloc = Pymalloc::of(space, geometry, found);
        let malloc = Malloc::walk(space, regions, &pymalloc.arenas);
        let collectors = Collector::all(space, layout, roots.runtime);
        Self {
            pymalloc,
            malloc,
            collectors,
            at_once: false,
            geometry,
        }
    }

    /// Blocks that did not close because they changed while they were copied; what is swapped out
    /// or was left out is not among them, for it does not come.
    #[must_use]
    pub fn torn_blocks<B: AsRef<[u8]>>(&self, space: &Space<B>) -> Wanted {
        let pools = self.pymalloc.inconsistent();
        pools
            .map(|pool| (pool.addr, self.geometry.pool_bytes))
            .chain(self.malloc.wanted(space))
            .collect()
    }

    /// The same for lists of the garbage collector. Around each place a whole pool, so that this
    /// does not tear one.
    #[must_use]
    pub fn torn_lists<B: AsRef<[u8]>>(&self, space: &Space<B>) -> Wanted {
        let places = self.collectors.iter().flat_map(|each| each.wanted(space));
        let bytes = self.geometry.pool_bytes;
        let mut pools: Wanted = places
            .map(|place| (RemoteAddr(place.0 & !(bytes - 1)), bytes))
            .collect();
        pools.sort_unstable();
        pools.dedup();
        pools
    }

    /// Goes on after `copied` was copied again. `brk` is where the `brk` heap lies by now.
    pub fn again<B: AsRef<[u8]>>(
        &mut self,
        space: &Space<B>,
        copied: &[(RemoteAddr, u64)],
        brk: Option<(u64, u64)>,
    ) {
        for (addr, len) in copied {
            let end = addr.0.saturating_add(*len);
            self.pymalloc.again(space, self.geometry, addr.0, end);
        }
        self.malloc.again(space, brk);
        for collector in &mut self.collectors {
            collector.again(space);
        }
    }

    /// Whether another copy would not be better: all that is here closed and is of one instant.
    #[must_use]
    pub fn is_whole<B: AsRef<[u8]>>(&self, space: &Space<B>) -> bool {
        let mut collectors = self.collectors.iter();
        self.torn_blocks(space).is_empty()
            && self.torn_lists(space).is_empty()
            && !collectors.any(|each| each.is_collecting(space))
    }

    /// Whether every list of the garbage collector was found, came back to its head and is of one
    /// instant. A list that leads into memory that is swapped out or was left out does not.
    pub(super) fn lists_are_complete<B: AsRef<[u8]>>(&self, space: &Space<B>) -> bool {
        let mut collectors = self.collectors.iter();
        collectors.all(|each| each.is_complete() && !each.is_collecting(space))
    }
}
