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
    pub(crate) fn set(&mut self, index: u32) {
        if let Some(word) = self.0.get_mut(index as usize / 64) {
            *word |= 1 << (index % 64);
        }
    }

    /// Whether it is in it.
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
    }
}
