//! One bit for each of very many.

/// Numbers that are in a set, an eighth of a byte each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    /// None of `count` is in it.
    pub(crate) fn none_of(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    /// Puts one into it.
    #[inline]
    pub(crate) fn set(&mut self, index: u32) {
        if let Some(word) = self.0.get_mut(index as usize / 64) {
            *word |= 1 << (index % 64);
        }
    }

    /// Puts all of others into it.
    pub(crate) fn add(&mut self, others: &Self) {
        for (word, other) in self.0.iter_mut().zip(&others.0) {
            *word |= other;
        }
    }

    /// Those that are in this and not in `others`, in their order.
    pub(crate) fn without<'a>(&'a self, others: &'a Self) -> impl Iterator<Item = u32> + 'a {
        let others = others.0.iter().copied().chain(std::iter::repeat(0));
        let words = (0..).step_by(64).zip(self.0.iter().zip(others));
        words.flat_map(|(first, (word, other))| {
            let mut left = word & !other;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(first + bit)
            })
        })
    }

    /// Whether it is in it.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> bool {
        let word = self.0.get(index as usize / 64);
        word.is_some_and(|word| word & (1 << (index % 64)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_bit_of_its_own() {
        let mut bits = Bits::none_of(130);
        bits.set(0);
        bits.set(64);
        bits.set(129);
        bits.set(1 << 20);
        let set: Vec<u32> = (0..200).filter(|index| bits.get(*index)).collect();
        assert_eq!(set, [0, 64, 129]);
        let mut others = Bits::none_of(100);
        others.set(64);
        others.set(1);
        assert!(bits.without(&others).eq([0, 129]));
        assert!(bits.without(&Bits::default()).eq([0, 64, 129]));
    }
}
