//! What each block is, in two bytes.

use super::{Blocks, Use};

/// What a block is in two bytes, for there are as many as there is memory: a use that is not
/// [`Use::Object`] as its number, an object as the number of its type, from [`FIRST_TYPE`] on.
pub(super) type Mark = u16;

/// Uses by their marks.
pub(super) const USES: [Use; 8] = [
    Use::Free,
    Use::Parked,
    Use::DictKeys,
    Use::Values,
    Use::ListItems,
    Use::SetTable,
    Use::Buffer,
    Use::Unowned,
];
pub(super) const FREE: Mark = 0;
pub(super) const FIRST_TYPE: Mark = 16;
/// An object of a type whose number is too large: it is kept beside.
pub(super) const MANY_TYPES: Mark = Mark::MAX;

/// The mark of a block; `of` is the type of an object.
#[inline]
pub(super) fn mark_of(what: Use, of: u32) -> Mark {
    if what == Use::Object {
        let mark = of.saturating_add(FIRST_TYPE.into());
        Mark::try_from(mark).unwrap_or(MANY_TYPES)
    } else {
        let mark = USES.iter().position(|each| *each == what);
        mark.unwrap_or_default() as Mark
    }
}

impl Blocks {
    /// What block `index` is.
    #[inline]
    #[must_use]
    pub fn use_of(&self, index: u32) -> Use {
        let mark = self.marks.get(index as usize).copied().unwrap_or_default();
        USES.get(usize::from(mark)).copied().unwrap_or(Use::Object)
    }

    /// The type of the object in block `index`.
    #[inline]
    #[must_use]
    pub fn type_of(&self, index: u32) -> Option<u32> {
        match *self.marks.get(index as usize)? {
            MANY_TYPES => self.many.get(&index).copied(),
            mark => mark.checked_sub(FIRST_TYPE).map(u32::from),
        }
    }

    /// Says what a block is; `of` is the type of an object and [`NO_TYPE`] for anything else.
    #[inline]
    pub(crate) fn set(&mut self, index: u32, what: Use, of: u32) {
        let mark = mark_of(what, of);
        if mark == MANY_TYPES {
            self.many.insert(index, of);
        }
        if let Some(place) = self.marks.get_mut(index as usize) {
            *place = mark;
        }
    }
}
