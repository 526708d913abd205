//! The one type that does all the reading, and so can count it exactly.

use super::{ReadError, ReadMemory, Segment};

/// What a read was for. Costs are reported per class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Interpreter and thread states, chunks, frames: what the read budget is about.
    Stacks,
    /// Code objects, names, line tables.
    Code,
    /// Everything at attach and everything else (proof, thread names).
    Other,
}

/// What reading cost. Exact counts, not estimates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// System calls.
    pub calls: u64,
    /// Segments that were asked for.
    pub segments: u64,
    /// Bytes that were copied.
    pub bytes: u64,
}

impl Cost {
    /// What was spent since `earlier` was taken.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            calls: self.calls - earlier.calls,
            segments: self.segments - earlier.segments,
            bytes: self.bytes - earlier.bytes,
        }
    }
}

/// Counts every read of the memory inside it.
#[derive(Debug)]
pub struct Counting<M> {
    inner: M,
    class: Class,
    costs: [Cost; 3],
}

impl<M> Counting<M> {
    /// Starts with all counts at zero, class [`Class::Other`].
    pub fn new(inner: M) -> Self {
        Self {
            inner,
            class: Class::Other,
            costs: [Cost::default(); 3],
        }
    }

    /// Sets what the reads from now on are for and returns what they were for until now.
    pub fn set_class(&mut self, class: Class) -> Class {
        std::mem::replace(&mut self.class, class)
    }

    /// All that was spent for `class` so far.
    #[must_use]
    pub fn cost(&self, class: Class) -> Cost {
        self.costs[class as usize]
    }

    /// The memory inside.
    pub fn inner_mut(&mut self) -> &mut M {
        &mut self.inner
    }
}

impl<M: ReadMemory> ReadMemory for Counting<M> {
    fn read(&mut self, segments: &[Segment], buf: &mut [u8]) -> Result<usize, ReadError> {
        let result = self.inner.read(segments, buf);
        let cost = &mut self.costs[self.class as usize];
        // A call that failed was made all the same.
        cost.calls += 1;
        cost.segments += segments.len() as u64;
        cost.bytes += *result.as_ref().unwrap_or(&0) as u64;
        result
    }
}
