//! Blocks in parts, so that several threads may say what they are.

use super::marks::{FIRST_TYPE, MANY_TYPES, Mark, mark_of};
use super::{Blocks, Use};
use crate::pymalloc::Pool;

/// Some pools without a gap in their numbers, and what their blocks are.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) pools: &'a [Pool],
    /// The number of the first block.
    pub(crate) first: u32,
    pub(super) marks: &'a mut [Mark],
    /// Types that are too large for a mark, by number of the block.
    many: Vec<(u32, u32)>,
}

impl Part<'_> {
    /// As [`Blocks::set`], once for each block at most.
    #[inline]
    pub(crate) fn set(&mut self, index: u32, what: Use, of: u32) {
        let mark = mark_of(what, of);
        if mark == MANY_TYPES {
            self.many.push((index, of));
        }
        if let Some(place) = self.marks.get_mut((index - self.first) as usize) {
            *place = mark;
        }
    }

    /// Gives types other numbers, each the one at its place. What is to be [joined](Blocks::join).
    pub(crate) fn finish(mut self, numbers: &[u32]) -> Vec<(u32, u32)> {
        let is_same = numbers.iter().zip(0..).all(|(new, old)| *new == old);
        if is_same {
            return self.many;
        }
        let new = |of: u32| numbers.get(of as usize).copied().unwrap_or(of);
        self.many.iter_mut().for_each(|(_, of)| *of = new(*of));
        for (place, index) in self.marks.iter_mut().zip(self.first..) {
            if *place >= FIRST_TYPE && *place != MANY_TYPES {
                let of = new(u32::from(*place - FIRST_TYPE));
                *place = mark_of(Use::Object, of);
                if *place == MANY_TYPES {
                    self.many.push((index, of));
                }
            }
        }
        self.many
    }
}

impl Blocks {
    /// The blocks of pymalloc in at most `count` parts of about as many, for as many threads.
    pub(crate) fn split(&mut self, count: usize) -> Vec<Part<'_>> {
        let each = (self.first_chunk as usize).div_ceil(count.max(1)).max(1);
        let mut parts = Vec::new();
        let mut marks = &mut self.marks[..self.first_chunk as usize];
        let mut pools = &self.pymalloc.pools[..];
        let mut first = 0;
        while !pools.is_empty() {
            let mut blocks = 0;
            let whole = pools.iter().take_while(|pool| {
                let fits = blocks < each;
                blocks += if fits { pool.carved as usize } else { 0 };
                fits
            });
            let (here, other_pools) = pools.split_at(whole.count());
            let (own, other_marks) = marks.split_at_mut(blocks);
            parts.push(Part {
                pools: here,
                first,
                marks: own,
                many: Vec::new(),
            });
            first += blocks as u32;
            (pools, marks) = (other_pools, other_marks);
        }
        parts
    }

    /// Takes over what [`Part::finish`] gave.
    pub(crate) fn join(&mut self, many: Vec<(u32, u32)>) {
        self.many.extend(many);
    }
}
