//! `dict`: combined and split tables of both encodings.

use super::{Objects, Read, Stop};
use crate::layout::{DictKeys, fields};
use crate::memory::{Lookup, RemoteAddr, u8_at, u64_at};

/// More entries than `sys.modules` or `threading._active` ever have.
const MAX_ENTRIES: u64 = 1 << 16;

/// `DICT_KEYS_GENERAL` (`Include/internal/pycore_dict.h`, 3.11+): entries keep their hash.
const KIND_GENERAL: u8 = 0;

/// The entries of a keys object: where, how many, and how they are laid out.
#[derive(Clone, Copy, Debug)]
struct Entries {
    start: RemoteAddr,
    count: u64,
    stride: u64,
    key: u64,
    value: u64,
}

impl<L: Lookup> Objects<'_, L> {
    fn keys_entries(&self, keys: RemoteAddr) -> Read<Entries> {
        let invalid = Stop::Invalid("dict keys");
        match self.layout.objects.dict_keys {
            DictKeys::Sized => {
                let head = self.bytes_at(keys, 40)?;
                let size = u64_at(head, 8).ok_or(invalid)?;
                let count = u64_at(head, 32).ok_or(invalid)?;
                if !size.is_power_of_two() || size > 2 * MAX_ENTRIES || count > size {
                    return Err(invalid);
                }
                let width = match size {
                    0..=0xff => 1,
                    0x100..=0xffff => 2,
                    _ => 4,
                };
                let start = keys.offset(40 + size * width).ok_or(invalid)?;
                Ok(Entries {
                    start,
                    count,
                    stride: 24,
                    key: 8,
                    value: 16,
                })
            }
            DictKeys::Log2 => {
                let head = self.bytes_at(keys, 32)?;
                let index_bytes = u8_at(head, 9).ok_or(invalid)?;
                let kind = u8_at(head, 10).ok_or(invalid)?;
                let count = u64_at(head, 24).ok_or(invalid)?;
                if index_bytes > 24 || kind > 2 || count > MAX_ENTRIES {
                    return Err(invalid);
                }
                let start = keys.offset(32 + (1 << index_bytes)).ok_or(invalid)?;
                Ok(if kind == KIND_GENERAL {
                    Entries {
                        start,
                        count,
                        stride: 24,
                        key: 8,
                        value: 16,
                    }
                } else {
                    Entries {
                        start,
                        count,
                        stride: 16,
                        key: 0,
                        value: 8,
                    }
                })
            }
        }
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
