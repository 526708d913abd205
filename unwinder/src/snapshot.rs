//! The snapshot: what one plan copied, looked up by remote address.
//!
//! One buffer, reused. Each group has its own index of pieces, sorted by address, so that
//! looking up a frame is one comparison with the piece that held the frame before it, or a
//! binary search. A lookup answers only when *all* bytes are in one piece.

use std::cell::Cell;

use crate::memory::{Lookup, ReadError, ReadMemory, RemoteAddr, Segment};
use crate::plan::{Group, ReadPlan, Slot, Unit, call_of};

#[derive(Clone, Copy, Debug)]
struct Piece {
    start: u64,
    end: u64,
    /// Greatest `end` of this and all pieces before it: where a backward search can stop.
    max_end: u64,
    offset: usize,
    /// Whether it belongs to a unit.
    moves: bool,
}

/// The same memory is read so often in one plan at most.
pub const MAX_COPIES: usize = 3;

#[derive(Clone, Debug, Default)]
struct Index {
    /// First copies.
    pieces: Vec<Piece>,
    /// Second and third copies.
    copies: [Vec<Piece>; MAX_COPIES - 1],
    /// Calls that read first copies of this group.
    calls: u32,
    /// Whether some slot of the plan came back short.
    short: bool,
}

impl Index {
    fn insert(&mut self, slot: &Slot, len: usize, offset: usize, moves: bool) {
        let list = match slot.copy.checked_sub(1) {
            None => &mut self.pieces,
            Some(later) => &mut self.copies[usize::from(later).min(MAX_COPIES - 2)],
        };
        let start = slot.segment.addr.0;
        let end = start.saturating_add(len as u64);
        let at = list.partition_point(|p| p.start <= start);
        let before = at.checked_sub(1).map_or(0, |i| list[i].max_end);
        list.insert(
            at,
            Piece {
                start,
                end,
                max_end: before.max(end),
                offset,
                moves,
            },
        );
        for piece in &mut list[at + 1..] {
            piece.max_end = piece.max_end.max(end);
        }
    }
}

/// How far the memory of a group went at some time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    filled: usize,
    calls: u32,
}

/// Copied memory of a process, by group.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    buf: Vec<u8>,
    filled: usize,
    /// What the plan begins with, as far as it was read.
    unit: Unit,
    /// Which of the units is looked at, in bytes.
    shift: usize,
    groups: Vec<Index>,
    segments: Vec<Segment>,
    /// How often it was begun.
    serial: u64,
}

impl Snapshot {
    /// Forgets everything and reads `plan`: one call where it fits into one.
    ///
    /// A slot that cannot be read is left out and the call is resumed behind it, so one stale
    /// address costs one more call and nothing else.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn take<M: ReadMemory>(
        &mut self,
        memory: &mut M,
        plan: &ReadPlan,
        groups: usize,
    ) -> Result<(), ReadError> {
        let done = self.begin(memory, plan, groups)?;
        self.fetch(memory, &plan.slots()[done..])
    }

    /// Forgets everything and makes the first call of [`take`](Self::take); how many slots are
    /// done with.
    pub(crate) fn begin<M: ReadMemory>(
        &mut self,
        memory: &mut M,
        plan: &ReadPlan,
        groups: usize,
    ) -> Result<usize, ReadError> {
        self.filled = 0;
        self.serial += 1;
        self.groups.resize_with(groups, Index::default);
        for index in &mut self.groups {
            index.pieces.clear();
            index.copies.iter_mut().for_each(Vec::clear);
            index.calls = 0;
            index.short = false;
        }
        self.unit = plan.unit();
        self.shift = 0;
        let slots = &plan.slots()[plan.call(0)];
        if slots.is_empty() {
            return Ok(0);
        }
        let done = self.call(memory, slots)?;
        if plan.unit().bytes > 0 {
            self.unit.count = plan.unit().count.min(self.filled / plan.unit().bytes);
        }
        Ok(done)
    }

    /// Tells what was read from what is read after the next [`take`](Self::take).
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// How many units of the plan were read.
    pub(crate) fn units(&self) -> usize {
        self.unit.count
    }

    /// How many attempts they are when `copies` of each are compared, itself among them.
    pub(crate) fn attempts(&self, copies: usize) -> usize {
        let behind = copies.saturating_sub(1);
        self.unit.count.saturating_sub(behind)
    }

    /// Looks at unit `number` from now on, and at those behind it as its later copies.
    pub(crate) fn select(&mut self, number: usize) {
        self.shift = number * self.unit.bytes;
    }

    /// Reads more slots into the same snapshot.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn fetch<M: ReadMemory>(
        &mut self,
        memory: &mut M,
        slots: &[Slot],
    ) -> Result<(), ReadError> {
        let mut next = 0;
        while next < slots.len() {
            let call = call_of(slots, next);
            next = call.start + self.call(memory, &slots[call])?;
        }
        Ok(())
    }

    /// Reads slots in one call; how many are done with.
    fn call<M: ReadMemory>(&mut self, memory: &mut M, slots: &[Slot]) -> Result<usize, ReadError> {
        self.segments.clear();
        self.segments.extend(slots.iter().map(|s| s.segment));
        let total: usize = slots.iter().map(|s| s.segment.len as usize).sum();
        let offset = self.filled;
        if self.buf.len() < offset + total {
            self.buf.resize(offset + total, 0);
        }
        let got = match memory.read(&self.segments, &mut self.buf[offset..offset + total]) {
            Ok(got) => got,
            Err(ReadError::Unmapped(_)) => 0,
            Err(error) => return Err(error),
        };
        let done = self.place(slots, got);
        self.filled = offset + got;
        Ok(done)
    }

    /// Files the bytes of one call; returns how many slots are done with.
    fn place(&mut self, slots: &[Slot], got: usize) -> usize {
        let mut offset = self.filled;
        let mut left = got;
        let mut counted = None;
        for (i, slot) in slots.iter().enumerate() {
            let group = slot.group.index();
            if self.groups.len() <= group {
                self.groups.resize_with(group + 1, Index::default);
            }
            let index = &mut self.groups[group];
            if slot.copy == 0 && counted != Some(group) {
                counted = Some(group);
                index.calls += 1;
            }
            let len = left.min(slot.segment.len as usize);
            if len > 0 && usize::from(slot.copy) < MAX_COPIES {
                // The first unit says where the others are.
                let moves = offset < self.unit.bytes * self.unit.count;
                index.insert(slot, len, offset, moves);
            }
            offset += len;
            left -= len;
            if len < slot.segment.len as usize {
                index.short = true;
                return i + 1;
            }
        }
        slots.len()
    }

    /// Grows to hold `groups` groups.
    pub fn ensure_groups(&mut self, groups: usize) {
        if self.groups.len() < groups {
            self.groups.resize_with(groups, Index::default);
        }
    }

    /// The memory of one group.
    #[must_use]
    pub fn view(&self, group: Group) -> View<'_> {
        let index = self.groups.get(group.index());
        View {
            buf: &self.buf,
            pieces: index.map_or(&[], |i| &i.pieces),
            shift: self.shift,
            hint: Cell::new(0),
        }
    }

    /// The memory of one group, with that of another unit.
    pub(crate) fn unit(&self, group: Group, number: usize) -> View<'_> {
        View {
            shift: number * self.unit.bytes,
            ..self.view(group)
        }
    }

    /// A later copy of one group, from 1 on.
    #[must_use]
    pub fn later_copy(&self, group: Group, copy: u8) -> View<'_> {
        let index = self.groups.get(group.index());
        let copy = usize::from(copy.saturating_sub(1));
        View {
            buf: &self.buf,
            pieces: index
                .and_then(|i| i.copies.get(copy))
                .map_or(&[], Vec::as_slice),
            shift: self.shift,
            hint: Cell::new(0),
        }
    }

    /// Forgets the later copies of one group.
    pub(crate) fn forget_copies(&mut self, group: Group) {
        if let Some(index) = self.groups.get_mut(group.index()) {
            index.copies.iter_mut().for_each(Vec::clear);
        }
    }

    /// Where its memory of one group ends.
    pub(crate) fn mark(&self, group: Group) -> Mark {
        Mark {
            filled: self.filled,
            calls: self.calls(group),
        }
    }

    /// Forgets what was read of one group behind a mark, and that it was.
    pub(crate) fn forget_behind(&mut self, group: Group, mark: Mark) {
        let Some(index) = self.groups.get_mut(group.index()) else {
            return;
        };
        index.calls = mark.calls;
        index.pieces.retain(|piece| piece.offset < mark.filled);
        let mut max_end = 0;
        for piece in &mut index.pieces {
            max_end = piece.end.max(max_end);
            piece.max_end = max_end;
        }
    }

    /// How many bytes were copied.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.filled
    }

    /// How many calls read first copies of this group. One means: a single short window.
    #[must_use]
    pub fn calls(&self, group: Group) -> u32 {
        self.groups.get(group.index()).map_or(0, |i| i.calls)
    }

    /// Whether a slot of this group could not be read whole.
    #[must_use]
    pub fn is_short(&self, group: Group) -> bool {
        self.groups.get(group.index()).is_some_and(|i| i.short)
    }
}

/// One group of a snapshot.
#[derive(Clone, Debug)]
pub struct View<'a> {
    buf: &'a [u8],
    pieces: &'a [Piece],
    /// How much further the unit that is looked at lies than the first one.
    shift: usize,
    /// The piece of the last answer; stacks stay in one chunk for many frames.
    hint: Cell<usize>,
}

impl View<'_> {
    /// Whether some piece begins at or before `addr` and has its byte.
    #[must_use]
    pub fn holds(&self, addr: RemoteAddr) -> bool {
        self.bytes(addr, 1).is_some()
    }

    /// The end of the readable bytes from `addr` on, within one piece.
    #[must_use]
    pub fn end_of(&self, addr: RemoteAddr) -> Option<RemoteAddr> {
        self.find(addr.0, addr.0.checked_add(1)?)
            .map(|p| RemoteAddr(p.end))
    }

    #[inline]
    fn find(&self, start: u64, end: u64) -> Option<&Piece> {
        if let Some(piece) = self.pieces.get(self.hint.get())
            && piece.start <= start
            && end <= piece.end
        {
            return Some(piece);
        }
        let mut at = self.pieces.partition_point(|p| p.start <= start);
        while at > 0 {
            at -= 1;
            let piece = &self.pieces[at];
            if end <= piece.end {
                self.hint.set(at);
                return Some(piece);
            }
            if piece.max_end < end {
                return None;
            }
        }
        None
    }
}

impl Lookup for View<'_> {
    #[inline]
    fn bytes(&self, addr: RemoteAddr, len: usize) -> Option<&[u8]> {
        let end = addr.0.checked_add(len as u64)?;
        let piece = self.find(addr.0, end)?;
        let shift = if piece.moves { self.shift } else { 0 };
        let offset = piece.offset + shift + (addr.0 - piece.start) as usize;
        self.buf.get(offset..offset + len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Counting, RecordedMemory};
    use crate::plan::Purpose;

    fn memory() -> Counting<RecordedMemory> {
        let mut memory = RecordedMemory::new();
        for page in [1_u64, 2, 4] {
            let bytes: Vec<u8> = (0..4096).map(|i| (page as usize + i / 256) as u8).collect();
            memory.insert(RemoteAddr(page << 12), &bytes);
        }
        Counting::new(memory)
    }

    fn slot(group: u32, addr: u64, len: u32) -> Slot {
        Slot::new(Group(group), Purpose::Chunk, RemoteAddr(addr), len)
    }

    fn plan(slots: &[Slot]) -> ReadPlan {
        let mut plan = ReadPlan::default();
        slots.iter().for_each(|s| plan.push(*s));
        plan
    }

    #[test]
    fn one_call_serves_all_groups() {
        let mut memory = memory();
        let mut snapshot = Snapshot::default();
        let plan = plan(&[slot(0, 0x1000, 8), slot(1, 0x2000, 16), slot(1, 0x4000, 8)]);
        snapshot.take(&mut memory, &plan, 2).unwrap();
        assert_eq!(memory.cost(crate::memory::Class::Other).calls, 1);
        assert_eq!(
            snapshot.view(Group(1)).bytes(RemoteAddr(0x2008), 8),
            Some(&[2; 8][..])
        );
        assert_eq!(
            snapshot.view(Group(1)).bytes(RemoteAddr(0x1000), 8),
            None,
            "other group"
        );
        assert_eq!(
            snapshot.view(Group(1)).bytes(RemoteAddr(0x2009), 8),
            None,
            "not whole"
        );
    }

    #[test]
    fn an_unreadable_slot_costs_one_more_call_and_nothing_else() {
        let mut memory = memory();
        let mut snapshot = Snapshot::default();
        let plan = plan(&[slot(0, 0x3000, 8), slot(1, 0x2ff8, 64), slot(2, 0x4000, 8)]);
        snapshot.take(&mut memory, &plan, 3).unwrap();
        assert_eq!(memory.cost(crate::memory::Class::Other).calls, 3);
        assert!(snapshot.is_short(Group(0)) && snapshot.is_short(Group(1)));
        assert!(!snapshot.is_short(Group(2)));
        assert!(
            snapshot
                .view(Group(1))
                .bytes(RemoteAddr(0x2ff8), 8)
                .is_some(),
            "readable part"
        );
        assert!(
            snapshot
                .view(Group(2))
                .bytes(RemoteAddr(0x4000), 8)
                .is_some()
        );
    }

    #[test]
    fn overlapping_pieces_are_all_found() {
        let mut memory = memory();
        let mut snapshot = Snapshot::default();
        let plan = plan(&[slot(0, 0x1000, 0x800)]);
        snapshot.take(&mut memory, &plan, 1).unwrap();
        snapshot
            .fetch(&mut memory, &[slot(0, 0x1400, 8), slot(0, 0x17f8, 0x100)])
            .unwrap();
        let view = snapshot.view(Group(0));
        assert!(
            view.bytes(RemoteAddr(0x1500), 0x100).is_some(),
            "behind a smaller piece"
        );
        assert!(view.bytes(RemoteAddr(0x17f8), 0x100).is_some());
        assert!(
            view.bytes(RemoteAddr(0x17f0), 0x100).is_none(),
            "across two pieces"
        );
    }

    #[test]
    fn later_copies_stand_apart() {
        let mut memory = memory();
        let mut snapshot = Snapshot::default();
        let mut second = slot(0, 0x1000, 8);
        second.copy = 1;
        let plan = plan(&[slot(0, 0x2000, 8), second]);
        snapshot.take(&mut memory, &plan, 1).unwrap();
        assert!(
            snapshot
                .view(Group(0))
                .bytes(RemoteAddr(0x1000), 8)
                .is_none()
        );
        assert!(
            snapshot
                .later_copy(Group(0), 1)
                .bytes(RemoteAddr(0x1000), 8)
                .is_some()
        );
    }
}
