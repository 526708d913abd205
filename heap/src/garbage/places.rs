//! A set of very many addresses of objects, each with a number.
//!
//! Whether a word is in it, and under which number, is asked for every word that may be a
//! reference: so it takes one look-up of the tile that the address lies in, one of a bit, and a count of
//! bits within one cache line. A tile of a mebibyte takes 8.5 KiB, less than 1 % of it.

use rustc_hash::FxHashMap;

/// Objects are aligned to 16 bytes, as all that the allocators give.
const ALIGNMENT_BITS: u32 = 4;
const TILE_BITS: u32 = 20;
const SLOTS: usize = 1 << (TILE_BITS - ALIGNMENT_BITS);
const WORDS: usize = SLOTS / 64;
/// Words of one cache line, which have one rank.
const LINE: usize = 8;

#[derive(Clone, Debug)]
struct Tile {
    /// Its first address.
    base: u64,
    bits: Box<[u64; WORDS]>,
    /// How many are in the set before each line.
    ranks: Box<[u32; WORDS / LINE]>,
}

/// The addresses, which are numbered in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    tiles: Vec<Tile>,
    index: FxHashMap<u64, u32>,
    len: usize,
}

impl Places {
    /// Of addresses in any order. One that is no address of an object is left out.
    pub(super) fn of(addresses: impl Iterator<Item = u64>) -> Self {
        let mut this = Self::default();
        let mut last = (u64::MAX, 0);
        for addr in addresses {
            if !addr.is_multiple_of(1 << ALIGNMENT_BITS) {
                continue;
            }
            let tile = addr >> TILE_BITS;
            if last.0 != tile {
                last = (tile, this.tile(tile));
            }
            let slot = slot(addr);
            this.tiles[last.1].bits[slot / 64] |= 1 << (slot % 64);
        }
        this.number();
        this
    }

    /// The place of a tile, which is made if it is not there.
    fn tile(&mut self, number: u64) -> usize {
        let next = self.tiles.len() as u32;
        let place = *self.index.entry(number).or_insert(next);
        if place == next {
            self.tiles.push(Tile {
                base: number << TILE_BITS,
                bits: Box::new([0; WORDS]),
                ranks: Box::new([0; WORDS / LINE]),
            });
        }
        place as usize
    }

    fn number(&mut self) {
        self.tiles.sort_unstable_by_key(|tile| tile.base);
        let mut rank = 0;
        for (place, tile) in (0..).zip(&mut self.tiles) {
            self.index.insert(tile.base >> TILE_BITS, place);
            let (lines, _) = tile.bits.as_chunks::<LINE>();
            for (line, before) in lines.iter().zip(&mut tile.ranks[..]) {
                *before = rank;
                rank += line.iter().map(|word| word.count_ones()).sum::<u32>();
            }
        }
        self.len = rank as usize;
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The number of an address, if it is one of them.
    #[inline]
    pub(super) fn find(&self, addr: u64) -> Option<u32> {
        if !addr.is_multiple_of(1 << ALIGNMENT_BITS) {
            return None;
        }
        let place = *self.index.get(&(addr >> TILE_BITS))?;
        let tile = self.tiles.get(place as usize)?;
        let slot = slot(addr);
        let (at, bit) = (slot / 64, 1 << (slot % 64));
        let word = tile.bits[at];
        if word & bit == 0 {
            return None;
        }
        let line = at / LINE;
        let before = tile.bits[line * LINE..at].iter();
        let before: u32 = before.map(|word| word.count_ones()).sum();
        Some(tile.ranks[line] + before + (word & (bit - 1)).count_ones())
    }

    /// All, in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.tiles.iter().flat_map(|tile| {
            let words = tile
                .bits
                .iter()
                .zip((tile.base..).step_by(64 << ALIGNMENT_BITS));
            words.flat_map(|(word, base)| {
                let mut left = *word;
                std::iter::from_fn(move || {
                    let bit = (left != 0).then(|| u64::from(left.trailing_zeros()))?;
                    left &= left - 1;
                    Some(base + (bit << ALIGNMENT_BITS))
                })
            })
        })
    }
}

/// The place of an address in its tile.
fn slot(addr: u64) -> usize {
    (addr >> ALIGNMENT_BITS) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_numbers_in_their_order() {
        let all = [
            0x10,
            0x20,
            0x1000,
            0xf_fff0,
            0x10_0000,
            0x7fff_0000_0400,
            0x7fff_0000_2410,
        ];
        let shuffled = [3, 6, 0, 5, 1, 4, 2, 3, 0].map(|at: usize| all[at]);
        let places = Places::of(shuffled.into_iter().chain([0x18, 7]));
        assert_eq!(places.len(), all.len());
        assert_eq!(places.iter().collect::<Vec<_>>(), all);
        for (number, addr) in (0..).zip(all) {
            assert_eq!(places.find(addr), Some(number), "{addr:#x}");
            for beside in [addr + 8, addr + 16, addr ^ 1 << 40] {
                let known = all.contains(&beside);
                assert_eq!(places.find(beside).is_some(), known, "{beside:#x}");
            }
        }
    }
}
