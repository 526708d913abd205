//! The read plan: everything that one sample needs, as an ordered list of slots.

use std::ops::Range;

use crate::memory::{MAX_SEGMENTS, RemoteAddr, Segment};

/// Which slots belong together: group 0 is the process, group `i + 1` its thread `i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group(pub u32);

impl Group {
    /// Runtime, interpreters and locks.
    pub const PROCESS: Self = Self(0);

    /// The group of the thread at `index` of the sampler's list.
    #[must_use]
    pub fn thread(index: usize) -> Self {
        Self(index as u32 + 1)
    }

    /// Position in a table of groups.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a slot is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Words of the runtime, of an interpreter, of a lock.
    Process,
    /// A thread state.
    ThreadState,
    /// The `_PyCFrame` of 3.11 and 3.12.
    CFrame,
    /// Live part of a data-stack chunk.
    Chunk,
    /// A frame outside the chunks: in a generator, on the C stack, a frame object.
    Frame,
}

/// One piece of memory in a plan.
///
/// The same address may stand in a plan several times: a later copy tells whether the memory
/// changed while the call ran. `copy` numbers them from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Where and how much.
    pub segment: Segment,
    /// Which group it belongs to.
    pub group: Group,
    /// What for.
    pub purpose: Purpose,
    /// 0 for the first copy.
    pub copy: u8,
}

impl Slot {
    /// A first copy.
    #[must_use]
    pub fn new(group: Group, purpose: Purpose, addr: RemoteAddr, len: u32) -> Self {
        Self {
            segment: Segment { addr, len },
            group,
            purpose,
            copy: 0,
        }
    }
}

/// An ordered list of slots; the slots of one group stand together.
#[derive(Clone, Debug, Default)]
pub struct ReadPlan {
    slots: Vec<Slot>,
    unit: Unit,
}

/// What is read again and again at the beginning of a plan: one attempt at a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Bytes of one.
    pub(crate) bytes: usize,
    /// How many the plan has, one behind the other; 0 for a plan without.
    pub(crate) count: usize,
}

impl ReadPlan {
    /// Empties the plan and keeps its memory.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.unit = Unit::default();
    }

    /// Adds a slot. Empty ones are left out: the kernel would count them as read.
    pub fn push(&mut self, slot: Slot) {
        if slot.segment.len > 0 {
            self.slots.push(slot);
        }
    }

    /// All slots in the order in which they are read.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Notes that all slots so far are one unit, and adds it until there are `count`.
    pub(crate) fn repeat(&mut self, count: usize) {
        let bytes = self.bytes();
        self.unit = Unit { bytes, count };
        let len = self.slots.len();
        for number in 1..count {
            for at in 0..len {
                let slot = self.slots[at];
                let copy = u8::try_from(number).unwrap_or(u8::MAX);
                self.slots.push(Slot { copy, ..slot });
            }
        }
    }

    /// Bytes of all slots.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.iter().map(|s| s.segment.len as usize).sum()
    }

    /// What its beginning consists of.
    pub(crate) fn unit(&self) -> Unit {
        self.unit
    }

    /// The slots of the next call from `start` on: as many whole groups as fit. A group is
    /// split only where it has more segments than one call takes.
    #[must_use]
    pub fn call(&self, start: usize) -> Range<usize> {
        call_of(&self.slots, start)
    }
}

/// See [`ReadPlan::call`].
pub(crate) fn call_of(slots: &[Slot], start: usize) -> Range<usize> {
    let limit = start.saturating_add(MAX_SEGMENTS);
    if limit >= slots.len() {
        return start..slots.len();
    }
    let group = slots[limit].group;
    let mut end = limit;
    while end > start && slots[end - 1].group == group {
        end -= 1;
    }
    if end == start {
        start..limit
    } else {
        start..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(counts: &[usize]) -> ReadPlan {
        let mut plan = ReadPlan::default();
        for (group, count) in counts.iter().enumerate() {
            for i in 0..*count {
                let addr = RemoteAddr(0x1000 + 16 * i as u64);
                plan.push(Slot::new(Group(group as u32), Purpose::Frame, addr, 8));
            }
        }
        plan
    }

    #[test]
    fn a_plan_is_split_between_groups() {
        let plan = slots(&[1000, 20, 10]);
        assert_eq!(plan.call(0), 0..1020);
        assert_eq!(plan.call(1020), 1020..1030);
    }

    #[test]
    fn a_group_is_split_only_when_it_is_too_large() {
        let plan = slots(&[4, 2500, 4]);
        assert_eq!(plan.call(0), 0..4);
        assert_eq!(plan.call(4), 4..1028);
        assert_eq!(plan.call(1028), 1028..2052);
        assert_eq!(plan.call(2052), 2052..2508);
        assert_eq!(plan.call(2508), 2508..2508);
    }

    #[test]
    fn empty_slots_are_left_out() {
        let mut plan = ReadPlan::default();
        plan.push(Slot::new(
            Group::PROCESS,
            Purpose::Process,
            RemoteAddr(0x1000),
            0,
        ));
        assert!(plan.slots().is_empty());
    }
}
