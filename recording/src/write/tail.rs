//! The end of one table: rows that still have to be written, or to be written once more.

use crate::limits::REPEAT_AFTER_BLOCKS;
use std::collections::VecDeque;

/// What a row takes in a block.
pub(super) trait Row {
    /// An upper bound of its bytes before compression; at least 8.
    fn cost(&self) -> usize;
}

/// Counts down the bytes that a block may still take. The row that uses it up is still taken.
pub(super) struct Budget(pub(super) usize);

impl Budget {
    /// How many of `rows`, from the first on, still go into the block.
    pub(super) fn fit<T: Row>(&mut self, rows: &[T]) -> usize {
        let mut taken = 0;
        for row in rows {
            if self.0 == 0 {
                break;
            }
            self.0 = self.0.saturating_sub(row.cost());
            taken += 1;
        }
        taken
    }
}

/// Rows of a table that were not yet written twice. Older ones are forgotten.
pub(super) struct Tail<T> {
    /// Id of `rows[0]`.
    first: u32,
    rows: Vec<T>,
    /// Rows before this id have been written.
    written: u32,
    /// Rows before this id are due to be written again.
    due: u32,
    /// Rows of `rows` that the current block holds again.
    repeated: usize,
    /// `written` as it was after each of the last blocks.
    marks: VecDeque<u32>,
}

impl<T> Default for Tail<T> {
    fn default() -> Self {
        Self {
            first: 0,
            rows: Vec::new(),
            written: 0,
            due: 0,
            repeated: 0,
            marks: VecDeque::new(),
        }
    }
}

impl<T: Row> Tail<T> {
    /// The id that the next row will get.
    pub(super) fn next_id(&self) -> u32 {
        u32::try_from(self.rows.len())
            .ok()
            .and_then(|rows| self.first.checked_add(rows))
            .expect("fewer than 2^32 rows")
    }

    /// Adds a row.
    pub(super) fn push(&mut self, row: T) -> u32 {
        let id = self.next_id();
        self.rows.push(row);
        id
    }

    /// New rows for the current block, and the id of the first one.
    pub(super) fn take_new(&mut self, budget: &mut Budget) -> (u32, &[T]) {
        let (first, start) = (self.written, (self.written - self.first) as usize);
        let count = budget.fit(&self.rows[start..]);
        self.written += count as u32;
        (first, &self.rows[start..start + count])
    }

    /// Rows that are due to be written again, and the id of the first one.
    pub(super) fn take_again(&mut self, budget: &mut Budget) -> (u32, &[T]) {
        let due = (self.due - self.first) as usize;
        self.repeated = budget.fit(&self.rows[..due]);
        (self.first, &self.rows[..self.repeated])
    }

    /// To be called after each block: forgets what was written twice.
    pub(super) fn end_block(&mut self) {
        self.rows.drain(..self.repeated);
        self.first += self.repeated as u32;
        self.repeated = 0;
        self.marks.push_back(self.written);
        if self.marks.len() > REPEAT_AFTER_BLOCKS {
            self.due = self.marks.pop_front().unwrap_or(self.due);
        }
    }

    /// Makes every row due that has been written: nothing comes after the end.
    pub(super) fn end_recording(&mut self) {
        self.marks.clear();
        self.due = self.written;
    }

    /// Whether rows have to go into a block now.
    pub(super) fn pending(&self) -> bool {
        self.written < self.next_id() || self.first + (self.repeated as u32) < self.due
    }
}

#[cfg(test)]
impl<T> Tail<T> {
    /// How many rows are in memory.
    pub(super) fn kept(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Row for u8 {
        fn cost(&self) -> usize {
            8
        }
    }

    #[test]
    fn every_row_is_written_twice_then_forgotten() {
        let mut tail = Tail::default();
        let mut seen = [0; 5];
        for block in 0..REPEAT_AFTER_BLOCKS + 6 {
            if block < 5 {
                assert_eq!(tail.push(block as u8), block as u32);
            }
            let mut budget = Budget(1000);
            for again in [false, true] {
                let (first, rows) = if again {
                    tail.take_again(&mut budget)
                } else {
                    tail.take_new(&mut budget)
                };
                for (at, row) in rows.iter().enumerate() {
                    assert_eq!(first as usize + at, usize::from(*row));
                    seen[usize::from(*row)] += 1;
                }
            }
            assert!(!tail.pending());
            tail.end_block();
        }
        assert_eq!(seen, [2; 5]);
        assert_eq!(tail.kept(), 0);
    }

    #[test]
    fn a_full_block_leaves_rows_for_the_next() {
        let mut tail = Tail::default();
        for row in 0..10 {
            tail.push(row);
        }
        assert_eq!(tail.take_new(&mut Budget(9)), (0, &[0, 1][..]));
        assert!(tail.pending());
        tail.end_block();
        assert_eq!(tail.take_new(&mut Budget(100)).0, 2);
        tail.end_block();
        tail.end_recording();
        assert!(tail.pending());
        assert_eq!(tail.take_again(&mut Budget(100)).1.len(), 10);
        tail.end_block();
        assert!(!tail.pending());
    }
}
