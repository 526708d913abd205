//! The tables of containers: words, entries of dicts, sets, deques.

use onlooker_unwinder::layout::fields;
use onlooker_unwinder::memory::{Lookup, RemoteAddr, u64_at};
use onlooker_unwinder::objects::Entries;

use super::{How, References};
use crate::owned::{DEQUE_ITEMS, DEQUE_LEFT, DEQUE_LINK};
use crate::space::PAGE_BYTES;

/// `dequeobject.leftindex`.
const DEQUE_LEFT_INDEX: u64 = 40;
/// `sizeof(setentry)`.
const SET_ENTRY_WORDS: u64 = 2;

impl<B: AsRef<[u8]>> References<'_, B> {
    /// Calls `each` with the number and the value of `count` words. A table never goes beyond its
    /// block, whatever its owner says, and ends where the pass has told all that it may.
    #[inline]
    pub(crate) fn words(&self, addr: RemoteAddr, count: u64, mut each: impl FnMut(u64, u64)) {
        let mut bytes = self.space.tail(addr);
        let mut end = addr.0.saturating_add(count.saturating_mul(8));
        if let Some(block) = self.blocks.locate(addr) {
            end = end.min(block.addr.0 + block.bytes);
        } else {
            end = end.min(addr.0.saturating_add(bytes.len() as u64));
        }
        let mut index = 0;
        while let Some(at) = addr.offset(8 * index).filter(|at| at.0 + 8 <= end) {
            if bytes.len() < 8 {
                bytes = self.space.tail(at);
            }
            if bytes.len() < 8 {
                // Pages that are not here: a table may be larger than all memory.
                let page_end = at.0.saturating_add(PAGE_BYTES - at.0 % PAGE_BYTES);
                let Some(next) = self.space.next_present(page_end) else {
                    return;
                };
                index = (next - addr.0).div_ceil(8);
                bytes = &[];
                continue;
            }
            let left = self.left.get().min((end - at.0) / 8);
            let words = bytes.as_chunks::<8>().0;
            let words = &words[..words.len().min(left as usize)];
            if words.is_empty() {
                return;
            }
            self.left.set(self.left.get() - words.len() as u64);
            for word in words {
                each(index, u64::from_le_bytes(*word));
                index += 1;
            }
            bytes = &[];
        }
    }

    fn parse_entries(&self, keys: RemoteAddr) -> Option<Entries> {
        let encoding = self.layout.objects.dict_keys;
        let head = self.space.bytes(keys, Entries::head_bytes(encoding))?;
        Entries::parse(encoding, keys, head)
    }

    /// Keys and values of a keys object, of the first `most` entries. A value is NULL where it was
    /// deleted, or is kept with an instance.
    pub(crate) fn entries(&self, keys: RemoteAddr, most: u64, mut each: impl FnMut(u64, u64)) {
        let Some(entries) = self.parse_entries(keys) else {
            return;
        };
        let stride = entries.stride / 8;
        let mut key = 0;
        self.words(
            entries.start,
            entries.count.min(most).saturating_mul(stride),
            |index, word| match 8 * (index % stride) {
                at if at == entries.key => key = word,
                at if at == entries.value => each(key, word),
                _ => {}
            },
        );
    }

    /// The keys of a class with the values of a dict or an instance.
    pub(crate) fn values(
        &self,
        keys: RemoteAddr,
        values: RemoteAddr,
        mut each: impl FnMut(RemoteAddr, u64),
    ) {
        let Some(entries) = self.parse_entries(keys) else {
            return;
        };
        let Some(values) = values.offset(self.layout.objects.dict_values) else {
            return;
        };
        self.words(values, entries.count, |index, value| {
            if value == 0 {
                return;
            }
            let name = index
                .checked_mul(entries.stride)
                .and_then(|at| entries.start.offset(at)?.offset(entries.key))
                .and_then(|at| self.space.u64(at));
            each(RemoteAddr(name.unwrap_or_default()), value);
        });
    }

    /// The elements of a set in its first `most` places. NULL and the mark of what was removed are
    /// among them.
    pub(crate) fn set(&self, set: RemoteAddr, most: u64, each: &mut impl FnMut(u64, How)) {
        let table = RemoteAddr(self.word(set, fields::SET_TABLE));
        let slots = self.word(set, fields::SET_MASK).saturating_add(1);
        let count = slots.min(most).saturating_mul(SET_ENTRY_WORDS);
        self.words(table, count, |index, word| {
            if index % SET_ENTRY_WORDS == 0 {
                each(word, How::Member);
            }
        });
    }

    /// The first `most` items of a deque.
    pub(crate) fn deque(&self, deque: RemoteAddr, most: u64, each: &mut impl FnMut(u64, How)) {
        let count = self.word(deque, fields::OB_SIZE);
        let count = count.min(self.left.get()).min(most);
        self.left.set(self.left.get() - count);
        let mut block = RemoteAddr(self.word(deque, DEQUE_LEFT));
        let mut first = self.word(deque, DEQUE_LEFT_INDEX) % DEQUE_ITEMS;
        let mut done = 0;
        while done < count {
            let here = (DEQUE_ITEMS - first).min(count - done);
            let Some(bytes) = self.space.bytes(block, DEQUE_LINK as usize + 8) else {
                return;
            };
            for item in 0..here {
                let word = u64_at(bytes, 8 * (1 + first + item)).unwrap_or_default();
                each(word, How::Item(done + item));
            }
            done += here;
            first = 0;
            block = RemoteAddr(u64_at(bytes, DEQUE_LINK).unwrap_or_default());
        }
    }
}
