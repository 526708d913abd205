//! Both allocators, walked.

use onlooker_unwinder::layout::Layout;
use onlooker_unwinder::memory::RemoteAddr;

use crate::malloc::{Malloc, Region};
use crate::pymalloc::{Geometry, Pymalloc, Roots};
use crate::space::Space;

/// Both allocators, walked.
#[derive(Debug)]
pub struct Walk {
    /// Arenas and pools.
    pub pymalloc: Pymalloc,
    /// Chunks.
    pub malloc: Malloc,
    regions: Vec<Region>,
    pub(super) geometry: Geometry,
}

impl Walk {
    /// Walks both allocators. `regions` are where malloc may be, by address.
    #[must_use]
    pub fn new<B: AsRef<[u8]>>(
        space: &Space<B>,
        layout: &Layout,
        roots: &Roots,
        regions: Vec<Region>,
    ) -> Self {
        let geometry = Geometry::of(layout.version);
        let pymalloc = Pymalloc::walk(space, layout, roots);
        let malloc = Malloc::walk(space, &regions, &pymalloc.arenas);
        Self {
            pymalloc,
            malloc,
            regions,
            geometry,
        }
    }

    /// What did not close, and is worth to be copied again: address and length.
    #[must_use]
    pub fn open(&self) -> Vec<(RemoteAddr, u64)> {
        let pools = self.pymalloc.inconsistent();
        let heaps = self.malloc.heaps.iter().filter(|heap| !heap.closed);
        pools
            .map(|pool| (pool.addr, self.geometry.pool_bytes))
            .chain(heaps.map(|heap| (RemoteAddr(heap.start), heap.end - heap.start)))
            .collect()
    }

    /// Looks at it again after it was copied again.
    pub fn again<B: AsRef<[u8]>>(&mut self, space: &Space<B>) {
        self.pymalloc.again(space, self.geometry);
        if self.malloc.heaps.iter().any(|heap| !heap.closed) {
            self.malloc = Malloc::walk(space, &self.regions, &self.pymalloc.arenas);
        }
    }
}
