//! Addresses of very many links in four bytes each.

use onlooker_unwinder::memory::RemoteAddr;

/// Links are aligned to 16 bytes, as all that the allocators give (3.8+ on 64 bits).
const ALIGNMENT_BITS: u32 = 4;
/// What four bytes tell of an address: a place in 64 GiB.
const LOW_BITS: u32 = 32 + ALIGNMENT_BITS;

/// Addresses in their order. Neighbours mostly have their upper part in common, which is kept once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    low: Vec<u32>,
    /// From which place on the upper part is another one.
    high: Vec<(usize, u64)>,
}

impl Links {
    /// Whether an address can be that of links.
    pub(super) fn can_be(addr: u64) -> bool {
        addr.is_multiple_of(1 << ALIGNMENT_BITS)
    }

    pub(super) fn len(&self) -> usize {
        self.low.len()
    }

    /// Adds one that [can be](Self::can_be) one.
    pub(super) fn push(&mut self, addr: u64) {
        let high = addr >> LOW_BITS;
        if self.high.last().is_none_or(|(_, last)| *last != high) {
            self.high.push((self.low.len(), high));
        }
        self.low.push((addr >> ALIGNMENT_BITS) as u32);
    }

    pub(super) fn last(&self) -> Option<u64> {
        let (low, (_, high)) = self.low.last().zip(self.high.last())?;
        Some(whole(*low, *high))
    }

    /// Keeps the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.low.truncate(len);
        while self.high.last().is_some_and(|(from, _)| *from >= len) {
            self.high.pop();
        }
    }

    /// All in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = RemoteAddr> + '_ {
        let ends = self.high.iter().skip(1).map(|(from, _)| *from);
        let ends = ends.chain([self.low.len()]);
        self.high.iter().zip(ends).flat_map(|((from, high), end)| {
            let low = self.low[*from..end].iter();
            low.map(|low| RemoteAddr(whole(*low, *high)))
        })
    }
}

fn whole(low: u32, high: u64) -> u64 {
    high << LOW_BITS | u64::from(low) << ALIGNMENT_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_were_put_in() {
        let all = [
            0x7fff_0000_0010,
            0x7fff_ffff_fff0,
            0x5555_0000_0000,
            0x7fff_0000_0020,
            0x10,
            0xffff_ffff_ffff_fff0,
        ];
        for len in (0..=all.len()).rev() {
            let mut links = Links::default();
            all.iter().for_each(|addr| links.push(*addr));
            links.truncate(len);
            let found: Vec<u64> = links.iter().map(|addr| addr.0).collect();
            assert_eq!(found, all[..len]);
            assert_eq!(links.last(), all[..len].last().copied());
            links.push(0x30);
            assert_eq!((links.len(), links.last()), (len + 1, Some(0x30)));
            assert_eq!(links.iter().last(), Some(RemoteAddr(0x30)));
        }
        assert!(Links::can_be(0x20) && !Links::can_be(0x24));
    }
}
