//! What an object refers to, and how.
//!
//! Exact for the core containers (`tuple`, `list`, `dict`, `set`, `frozenset`, `deque`, cells), for
//! `__dict__`, attributes and slots of instances and for the class of an object: these are the
//! references that CPython counts, each once, as `tp_traverse` of their types tells them. Of all
//! other objects (functions, frames, modules, classes, whatever is written in C) every aligned word
//! may be one: [`How::Word`], which is conservative.

mod plan;
mod tables;

use std::cell::Cell;

use onlooker_unwinder::layout::{Attributes, Layout, fields};
use onlooker_unwinder::memory::{Lookup, RemoteAddr};

use crate::blocks::Blocks;
use crate::objects::Object;
use crate::owned::{is_embedded, managed_values};
use crate::space::Space;
use crate::types::{Shape, Type};
use plan::{Dict, Plan, Scan};

/// Byte of a `PyDictValues` that says whether the instance still uses it (3.13+,
/// `PyDictValues.valid`).
pub(crate) const VALUES_VALID: u64 = 3;
/// `PyCellObject.ob_ref`.
const CELL_CONTENTS: u64 = 16;

/// How an object refers to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By its place in a sequence.
    Item(u64),
    /// As the value of a dict under the key at this address.
    Value(RemoteAddr),
    /// As a key of a dict.
    Key,
    /// As an element of a set.
    Member,
    /// As an attribute, whose name is the `str` at this address.
    Attribute(RemoteAddr),
    /// As an attribute in a slot, whose name is the C string at this address.
    Slot(RemoteAddr),
    /// As what a cell holds.
    Contents,
    /// As its `__dict__`.
    Dict,
    /// As its class.
    Class,
    /// As a name of the attributes of its instances.
    AttributeName,
    /// Perhaps: the word at this distance from it is the address.
    Word(u64),
}

impl How {
    /// Whether it may be chance.
    #[must_use]
    pub fn is_conservative(self) -> bool {
        matches!(self, Self::Word(_))
    }
}

/// Tells references.
#[derive(Debug)]
pub(crate) struct References<'a, B> {
    space: &'a Space<B>,
    layout: &'a Layout,
    blocks: &'a Blocks,
    /// By number of the type.
    plans: Vec<Plan>,
    /// Words that this pass may still tell.
    left: Cell<u64>,
}

impl<'a, B: AsRef<[u8]>> References<'a, B> {
    /// For objects of these types, whose shapes are known.
    pub(crate) fn new(
        space: &'a Space<B>,
        layout: &'a Layout,
        blocks: &'a Blocks,
        types: &[Type],
    ) -> Self {
        let mut room = space.len_bytes() / plan::BYTES_PER_SLOT;
        let this = Self {
            space,
            layout,
            blocks,
            plans: types
                .iter()
                .map(|of| Plan::new(space, layout, of, &mut room))
                .collect(),
            left: Cell::new(0),
        };
        this.begin();
        this
    }

    /// Begins a pass over all objects. Every table has one owner, so a pass tells fewer words than
    /// there are in memory. It ends at twice as many: only damaged memory has tables that many
    /// objects claim, and each of them is as large as somebody liked.
    pub(crate) fn begin(&self) {
        self.left.set(self.space.len_bytes() / 4);
    }

    /// The type, not written in Python, that the objects of a type begin as.
    pub(crate) fn solid(&self, of: u32) -> Option<RemoteAddr> {
        self.plans.get(of as usize).map(|plan| plan.solid)
    }

    #[inline]
    pub(crate) fn word(&self, object: RemoteAddr, offset: u64) -> u64 {
        let at = object.offset(offset);
        at.and_then(|at| self.space.u64(at)).unwrap_or_default()
    }

    /// Calls `each` with every word that is, or may be, a reference of `object`. NULL and what
    /// points to no object may be among them.
    pub(crate) fn of(&self, object: &Object, mut each: impl FnMut(u64, How)) {
        let Some(plan) = self.plans.get(object.of as usize) else {
            return;
        };
        let addr = object.addr;
        if let Some(class) = plan.class {
            each(class.0, How::Class);
        }
        match plan.shape {
            Shape::Tuple => {
                let count = self.word(addr, fields::OB_SIZE);
                if let Some(items) = addr.offset(self.layout.objects.tuple_items) {
                    self.items(items, count, &mut each);
                }
            }
            Shape::List => {
                let count = self.word(addr, fields::OB_SIZE);
                let items = RemoteAddr(self.word(addr, fields::LIST_ITEMS));
                self.items(items, count, &mut each);
            }
            Shape::Dict => self.dict(addr, &mut each),
            Shape::Set => self.set(addr, u64::MAX, &mut each),
            Shape::Deque => self.deque(addr, u64::MAX, &mut each),
            Shape::Cell => each(self.word(addr, CELL_CONTENTS), How::Contents),
            Shape::Type => self.attribute_names(addr, &mut each),
            _ => {}
        }
        for slot in &plan.slots {
            each(self.word(addr, slot.offset), How::Slot(slot.name));
        }
        let dict_at = match plan.dict {
            Dict::None => None,
            Dict::Managed => {
                self.managed(addr, plan, &mut each);
                None
            }
            Dict::At(offset) => self.dict_place(addr, plan, offset),
        };
        if let Some(offset) = dict_at {
            each(self.word(addr, offset), How::Dict);
        }
        let (from, to) = match plan.scan {
            Scan::Nothing => return,
            Scan::Between(from, to) => (from, to),
            Scan::From(from) => (from, u64::MAX),
        };
        let end = (object.block.addr.0 + object.block.bytes).saturating_sub(addr.0);
        let Some(start) = addr.offset(from) else {
            return;
        };
        let count = to.min(end).saturating_sub(from) / 8;
        self.words(start, count, |index, word| {
            let offset = from + 8 * index;
            if dict_at != Some(offset) {
                each(word, How::Word(offset));
            }
        });
    }

    #[inline]
    pub(crate) fn items(&self, items: RemoteAddr, count: u64, each: &mut impl FnMut(u64, How)) {
        self.words(items, count, |index, word| each(word, How::Item(index)));
    }

    /// Where the `__dict__` is; a negative `tp_dictoffset` counts from the end of the items
    /// (`_PyObject_GetDictPtr`, up to 3.11).
    fn dict_place(&self, object: RemoteAddr, plan: &Plan, offset: i64) -> Option<u64> {
        if let Ok(offset) = u64::try_from(offset) {
            return Some(offset);
        }
        let count = self.word(object, fields::OB_SIZE).cast_signed();
        let items = count.unsigned_abs().checked_mul(plan.item_bytes)?;
        let end = plan.basic_bytes.checked_add(items)?;
        end.checked_next_multiple_of(8)?.checked_add_signed(offset)
    }

    /// The attributes of an instance whose dict is before it, or made only when asked for.
    fn managed(&self, object: RemoteAddr, plan: &Plan, each: &mut impl FnMut(u64, How)) {
        let before = |distance| {
            let at = object.0.checked_sub(distance).map(RemoteAddr);
            at.and_then(|at| self.space.u64(at)).unwrap_or_default()
        };
        let dict = before(24);
        let values = match self.layout.objects.attributes {
            Attributes::DictOffset => return,
            Attributes::Inline => {
                each(dict, How::Dict);
                plan.inline_values
                    .and_then(|offset| object.offset(offset))
                    .filter(|values| self.byte(*values, VALUES_VALID) == Some(1))
            }
            Attributes::ValuesBefore | Attributes::TaggedBefore => {
                let values = managed_values(self.space, self.layout, object);
                if values.is_none() {
                    each(dict, How::Dict);
                }
                values
            }
        };
        if let Some(values) = values {
            self.values(plan.keys, values, |name, value| {
                each(value, How::Attribute(name));
            });
        }
    }

    fn byte(&self, addr: RemoteAddr, offset: u64) -> Option<u8> {
        Some(self.space.bytes(addr.offset(offset)?, 1)?[0])
    }

    /// Keys and values of a dict. The keys of a class are the class's, and values that lie in an
    /// instance are the instance's.
    fn dict(&self, dict: RemoteAddr, each: &mut impl FnMut(u64, How)) {
        let keys = RemoteAddr(self.word(dict, fields::DICT_KEYS));
        let values = RemoteAddr(self.word(dict, fields::DICT_VALUES));
        if values.is_null() {
            self.entries(keys, u64::MAX, |key, value| {
                if value != 0 {
                    each(key, How::Key);
                    each(value, How::Value(RemoteAddr(key)));
                }
            });
        } else if !is_embedded(self.space, self.layout, values) {
            self.values(keys, values, |key, value| each(value, How::Value(key)));
        }
    }

    /// The names that the instances of a class share. Only classes made at run time have the
    /// field.
    fn attribute_names(&self, class: RemoteAddr, each: &mut impl FnMut(u64, How)) {
        if self.word(class, fields::TYPE_FLAGS) & crate::types::HEAP_TYPE != 0 {
            let keys = self.word(class, self.layout.objects.cached_keys);
            let keys = RemoteAddr(keys);
            self.entries(keys, u64::MAX, |key, _| each(key, How::AttributeName));
        }
    }
}
