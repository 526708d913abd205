//! What each interpreter has in arenas of its own.
//!
//! From 3.12 on an interpreter with a lock of its own has arenas of its own; all others share
//! those of the main one. Objects above 512 bytes are in malloc, which all share.

use onlooker_unwinder::memory::RemoteAddr;
use rustc_hash::FxHashMap;

use super::Taker;
use crate::blocks::Use;
use crate::figures::Share;
use crate::gc::Collector;
use crate::pymalloc;
use crate::space::Space;

/// Who has arenas that the others do not know.
const MAIN: i64 = 0;

impl Taker<'_> {
    /// By interpreter; one that is not there shares the arenas of the main one.
    pub(super) fn shares<B: AsRef<[u8]>>(
        &self,
        space: &Space<B>,
        collectors: &[Collector],
    ) -> FxHashMap<i64, Share> {
        let mut owners: FxHashMap<u64, i64> = FxHashMap::default();
        let mut shares: FxHashMap<i64, Share> = FxHashMap::default();
        shares.insert(MAIN, Share::default());
        let version = self.layout.version;
        let arenas_of = |interpreter: RemoteAddr| {
            pymalloc::arenas_of(space, version, interpreter).unwrap_or_default()
        };
        // The main one is the oldest, and last: what it knows is not another one's own.
        for collector in collectors.iter().filter(|each| each.id != MAIN) {
            for start in arenas_of(collector.interpreter) {
                owners.insert(start, collector.id);
            }
        }
        for collector in collectors.iter().filter(|each| each.id == MAIN) {
            for start in arenas_of(collector.interpreter) {
                owners.remove(&start);
            }
        }
        let blocks = &self.blocks;
        let pools = &blocks.pymalloc.pools;
        for arena in &blocks.pymalloc.arenas {
            let owner = owners.get(&arena.start).copied().unwrap_or(MAIN);
            let share = shares.entry(owner).or_default();
            share.arenas += 1;
            let from = pools.partition_point(|pool| pool.addr.0 < arena.start);
            let to = pools.partition_point(|pool| pool.addr.0 < arena.end());
            for (at, pool) in pools.iter().enumerate().take(to).skip(from) {
                share.blocks += u64::from(pool.count);
                share.block_bytes += u64::from(pool.count) * u64::from(pool.size);
                let first = blocks.first_of(at);
                let objects = (first..first + pool.carved)
                    .filter(|index| blocks.use_of(*index) == Use::Object);
                share.objects += objects.count() as u64;
            }
        }
        shares
    }
}
