//! What is reached from objects that are known to be alive.

use onlooker_unwinder::memory::RemoteAddr;

use super::fields::Visits;
use super::places::Places;
use crate::bits::Bits;
use crate::blocks::Blocks;
use crate::objects::Object;

/// Objects that wait to be looked at. What does not fit is found again by going through all
/// objects, in the order of their addresses.
const MAX_WAITING: usize = 4096;
/// Tags of a `_PyStackRef` (3.14+), and of whoever else puts bits into a pointer.
pub(super) const TAGS: u64 = 7;

/// The object at an address.
#[inline]
pub(super) fn object_at(blocks: &Blocks, addr: u64) -> Option<Object> {
    let addr = RemoteAddr(addr);
    let block = blocks.locate(addr)?;
    let of = blocks.type_of(block.index)?;
    Some(Object { addr, of, block })
}

/// Which of some objects are alive.
pub(super) struct Marks<'a> {
    blocks: &'a Blocks,
    places: &'a Places,
    alive: Bits,
    /// Alive, and looked at or waiting for it.
    met: Bits,
    waiting: Vec<u64>,
    overflown: bool,
}

impl<'a> Marks<'a> {
    /// None are alive yet.
    pub(super) fn new(blocks: &'a Blocks, places: &'a Places) -> Self {
        Self {
            blocks,
            places,
            alive: Bits::none_of(places.len()),
            met: Bits::none_of(places.len()),
            waiting: Vec::new(),
            overflown: false,
        }
    }

    pub(super) fn is_alive(&self, number: u32) -> bool {
        self.alive.get(number)
    }

    /// Notes that what a word points to, if it is one of them, is alive.
    #[inline]
    pub(super) fn mark(&mut self, word: u64) {
        let addr = word & !TAGS;
        let Some(number) = self.places.find(addr) else {
            return;
        };
        if self.alive.get(number) {
            return;
        }
        self.alive.set(number);
        if self.waiting.len() < MAX_WAITING {
            self.met.set(number);
            self.waiting.push(addr);
        } else {
            self.overflown = true;
        }
    }

    /// Marks all that is reached from what is marked.
    pub(super) fn spread<B: AsRef<[u8]>>(&mut self, visits: &Visits<'_, B>) {
        self.drain(visits);
        while std::mem::take(&mut self.overflown) {
            let places = self.places;
            for (number, addr) in (0..).zip(places.iter()) {
                if self.alive.get(number) && !self.met.get(number) {
                    self.met.set(number);
                    self.waiting.push(addr);
                    self.drain(visits);
                }
            }
        }
    }

    fn drain<B: AsRef<[u8]>>(&mut self, visits: &Visits<'_, B>) {
        while let Some(addr) = self.waiting.pop() {
            if let Some(object) = object_at(self.blocks, addr) {
                visits.of(&object, |word, _| self.mark(word));
            }
        }
    }

    /// Those that are not alive.
    pub(super) fn others(&self) -> impl Iterator<Item = u64> + '_ {
        let all = (0..).zip(self.places.iter());
        all.filter(|(number, _)| !self.alive.get(*number))
            .map(|(_, addr)| addr)
    }
}
