//! Memory that belongs to no allocator: static data, frames, stacks.

use crate::blocks::Blocks;
use crate::space::Space;

/// Start and end of each, within one piece of the space. `heaps` are start and end of malloc's.
pub(crate) fn outside<B: AsRef<[u8]>>(
    space: &Space<B>,
    blocks: &Blocks,
    heaps: impl Iterator<Item = (u64, u64)>,
) -> Vec<(u64, u64)> {
    let arenas = blocks.pymalloc.arenas.iter();
    // Chunks with a mapping of their own; the others lie in heaps.
    let chunks = blocks.chunks.iter();
    let chunks = chunks.map(|chunk| (chunk.addr.0, chunk.addr.0.saturating_add(chunk.bytes)));
    let mut taken: Vec<(u64, u64)> = arenas
        .map(|arena| (arena.start, arena.end()))
        .chain(heaps)
        .chain(chunks)
        .collect();
    taken.sort_unstable();
    let mut outside = Vec::new();
    let mut next = taken.iter().peekable();
    for range in space.ranges() {
        let mut from = range.start;
        while let Some((start, end)) = next.peek().filter(|(start, _)| *start < range.end()) {
            if from < *start {
                outside.push((from, *start));
            }
            from = from.max(*end);
            if from >= range.end() {
                break;
            }
            next.next();
        }
        if from < range.end() {
            outside.push((from, range.end()));
        }
    }
    outside
}
