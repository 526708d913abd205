//! `dict`: combined and split tables of both encodings.

use super::{Objects, Read, Stop};
use crate::layout::{DictKeys, fields};
use crate::memory::{Lookup, RemoteAddr, u8_at, u64_at};

/// More entries than `sys.modules` or `threading._active` ever have.
const MAX_ENTRIES: u64 = 1 << 16;

/// `DICT_KEYS_GENERAL` (`Include/internal/pycore_dict.h`, 3.11+): entries keep their hash.
const KIND_GENERAL: u8 = 0;

/// More slots than any memory has words for.
const MAX_SLOTS: u64 = 1 << 40;

/// The entries of a keys object: where, how many, and how they are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entries {
    /// The first entry.
    pub start: RemoteAddr,
    /// How many were used at some time; a deleted one keeps its place.
    pub count: u64,
    /// Distance from one to the next.
    pub stride: u64,
    /// Offset of the key in an entry.
    pub key: u64,
    /// Offset of the value in an entry.
    pub value: u64,
}

impl Entries {
    /// Bytes at the start of a keys object that tell where its entries are.
    #[must_use]
    pub fn head_bytes(encoding: DictKeys) -> usize {
        match encoding {
            DictKeys::Sized => 40,
            DictKeys::Log2 => 32,
        }
    }

    /// What the head of the keys object at `keys` says; `None` where no such object can be.
    #[must_use]
    pub fn parse(encoding: DictKeys, keys: RemoteAddr, head: &[u8]) -> Option<Self> {
        let (indices, count, has_hash) = match encoding {
            DictKeys::Sized => {
                let size = u64_at(head, 8)?;
                let count = u64_at(head, 32)?;
                if !size.is_power_of_two() || size > MAX_SLOTS || count > size {
                    return None;
                }
                let width = match size {
                    0..=0xff => 1,
                    0x100..=0xffff => 2,
                    0x1_0000..=0xffff_ffff => 4,
                    _ => 8,
                };
                (40 + size * width, count, true)
            }
            DictKeys::Log2 => {
                let index_bytes = u8_at(head, 9)?;
                let kind = u8_at(head, 10)?;
                let count = u64_at(head, 24)?;
                if index_bytes > 43 || kind > 2 || count > MAX_SLOTS {
                    return None;
                }
                (32 + (1 << index_bytes), count, kind == KIND_GENERAL)
            }
        };
        let (stride, key, value) = if has_hash { (24, 8, 16) } else { (16, 0, 8) };
        Some(Self {
            start: keys.offset(indices)?,
            count,
            stride,
            key,
            value,
        })
    }
}

impl<L: Lookup> Objects<'_, L> {
    fn keys_entries(&self, keys: RemoteAddr) -> Read<Entries> {
        let encoding = self.layout.objects.dict_keys;
        let head = self.bytes_at(keys, Entries::head_bytes(encoding) as u64)?;
        Entries::parse(encoding, keys, head)
            .filter(|entries| entries.count <= MAX_ENTRIES)
            .ok_or(Stop::Invalid("dict keys"))
    }

    /// Keys and values of a `dict`, in insertion order.
    ///
    /// # Errors
    /// What is missing, or why it is no `dict`.
    pub fn dict_items(&self, dict: RemoteAddr) -> Read<Vec<(RemoteAddr, RemoteAddr)>> {
        let keys = self.pointer(dict, fields::DICT_KEYS)?;
        let values = self.pointer(dict, fields::DICT_VALUES)?;
        let split = (!values.is_null())
            .then(|| {
                values
                    .offset(self.layout.objects.dict_values)
                    .ok_or(Stop::Invalid("dict"))
            })
            .transpose()?;
        self.items(keys, split)
    }

    /// Keys and values of a keys object, with the values in an array of their own if `split`.
    ///
    /// # Errors
    /// What is missing, or why it is none.
    pub(super) fn items(
        &self,
        keys: RemoteAddr,
        split: Option<RemoteAddr>,
    ) -> Read<Vec<(RemoteAddr, RemoteAddr)>> {
        let entries = self.keys_entries(keys)?;
        let table = self.bytes_at(entries.start, entries.count * entries.stride)?;
        let values = match split {
            Some(values) => Some(self.bytes_at(values, entries.count * 8)?),
            None => None,
        };
        let mut items = Vec::with_capacity(entries.count as usize);
        for i in 0..entries.count {
            let key = u64_at(table, i * entries.stride + entries.key).unwrap_or_default();
            let value = match values {
                Some(values) => u64_at(values, 8 * i),
                None => u64_at(table, i * entries.stride + entries.value),
            };
            let value = value.unwrap_or_default();
            // A deleted entry keeps its place with NULL for a value.
            if key != 0 && value != 0 {
                items.push((RemoteAddr(key), RemoteAddr(value)));
            }
        }
        Ok(items)
    }

    /// The value under an ASCII key; `None` when there is none. The keys that must be looked
    /// at are all asked for at once.
    ///
    /// # Errors
    /// What is missing, or why it is no `dict`.
    pub fn dict_get(&self, dict: RemoteAddr, key: &str) -> Read<Option<RemoteAddr>> {
        self.find(&self.dict_items(dict)?, key)
    }

    /// The value under `key` among `items`.
    ///
    /// # Errors
    /// What is missing of the keys.
    pub(super) fn find(
        &self,
        items: &[(RemoteAddr, RemoteAddr)],
        key: &str,
    ) -> Read<Option<RemoteAddr>> {
        let mut missing = false;
        for (candidate, value) in items {
            match self.str_is(*candidate, key) {
                Ok(true) => return Ok(Some(*value)),
                Err(Stop::Missing) => missing = true,
                // A key that is no str, or one that is being replaced.
                Ok(false) | Err(Stop::Invalid(_)) => {}
            }
        }
        if missing {
            Err(Stop::Missing)
        } else {
            Ok(None)
        }
    }
}
