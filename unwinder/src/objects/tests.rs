use super::*;
use crate::layout::{Attributes, DictKeys, Minor, tables};
use crate::memory::{Counting, RecordedMemory};

const A: u64 = 0x7f00_0000_0000;

/// Memory that objects are made in, one after the other.
struct Heap {
    layout: Layout,
    memory: RecordedMemory,
    next: u64,
}

impl Heap {
    fn new(minor: u8) -> Self {
        Self {
            layout: tables::for_version(Minor::new(3, minor)).unwrap(),
            memory: RecordedMemory::new(),
            next: A,
        }
    }

    /// The tables have 3.8 – 3.12; what 3.13 changed is changed here.
    fn inline() -> Self {
        let mut heap = Self::new(12);
        heap.layout.objects.attributes = Attributes::Inline;
        heap.layout.objects.dict_values = 8;
        heap
    }

    fn each() -> impl Iterator<Item = Self> {
        (8..=12).map(Self::new).chain([Self::inline()])
    }

    fn make(&mut self, bytes: &[u8]) -> RemoteAddr {
        let addr = RemoteAddr(self.next);
        // As in a real heap, what lies behind an object is readable too.
        let mut block = bytes.to_vec();
        block.resize((bytes.len() + 4).next_multiple_of(16), 0);
        self.memory.insert(addr, &block);
        self.next += block.len() as u64;
        addr
    }

    fn words(&mut self, words: &[u64]) -> RemoteAddr {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.make(&bytes)
    }

    fn put(&mut self, addr: RemoteAddr, offset: u64, word: u64) {
        let at = RemoteAddr(addr.0 + offset);
        self.memory.insert(at, &word.to_le_bytes());
    }

    /// A compact `str` of this kind (bytes a character).
    fn str(&mut self, data: &[u8], kind: u64, ascii: bool) -> RemoteAddr {
        let objects = &self.layout.objects;
        let start = match ascii {
            true => objects.str_ascii_data,
            false => objects.str_compact_data,
        };
        let mut bytes = vec![0; start as usize];
        let chars = data.len() as u64 / kind;
        bytes[16..24].copy_from_slice(&chars.to_le_bytes());
        bytes[32] = (kind << 2) as u8 | 1 << 5 | u8::from(ascii) << 6;
        bytes.extend(data);
        self.make(&bytes)
    }

    fn ascii(&mut self, text: &str) -> RemoteAddr {
        self.str(text.as_bytes(), 1, true)
    }

    /// Keys of a dict with general entries, values beside them.
    fn keys(&mut self, entries: &[(RemoteAddr, RemoteAddr)]) -> RemoteAddr {
        let count = entries.len() as u64;
        let size = (count * 2).next_power_of_two().max(8);
        let width = match size {
            0..=0xff => 1,
            0x100..=0xffff => 2,
            _ => 4,
        };
        let mut bytes: Vec<u8> = match self.layout.objects.dict_keys {
            DictKeys::Sized => [1, size, 0, 0, count]
                .iter()
                .flat_map(|w| w.to_le_bytes())
                .collect(),
            DictKeys::Log2 => {
                let log2_index_bytes = (size * width).ilog2() as u8;
                let mut head = [0; 32];
                head[8] = size.ilog2() as u8;
                head[9] = log2_index_bytes;
                head[24..].copy_from_slice(&count.to_le_bytes());
                head.to_vec()
            }
        };
        bytes.resize(bytes.len() + (size * width) as usize, 0xff);
        for (key, value) in entries {
            bytes.extend([0, key.0, value.0].iter().flat_map(|w| w.to_le_bytes()));
        }
        self.make(&bytes)
    }

    fn dict(&mut self, keys: RemoteAddr, values: RemoteAddr) -> RemoteAddr {
        self.words(&[1, 0, 0, 0, keys.0, values.0])
    }

    fn read<T>(
        &mut self,
        mut read: impl FnMut(&Objects<'_, View<'_>>) -> Read<T>,
    ) -> Result<T, Reason> {
        let layout = self.layout.clone();
        let mut answers = resolve(&mut self.memory, &layout, 1, |_, o| read(o)).unwrap();
        answers.remove(0)
    }
}

#[test]
fn text_of_every_kind() {
    for mut heap in Heap::each() {
        let utf16: Vec<u8> = "€uro".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let utf32: Vec<u8> = "𝄞x"
            .chars()
            .flat_map(|c| u32::from(c).to_le_bytes())
            .collect();
        for (object, text) in [
            (heap.ascii("plain"), "plain"),
            (heap.ascii(""), ""),
            (heap.str(&[0xe9, b't'], 1, false), "ét"),
            (heap.str(&utf16, 2, false), "€uro"),
            (heap.str(&[0x00, 0xd8], 2, false), "\u{fffd}"),
            (heap.str(&utf32, 4, false), "𝄞x"),
            (heap.str(&[0xff; 4], 4, false), "\u{fffd}"),
        ] {
            assert_eq!(heap.read(|o| o.str(object)).as_deref(), Ok(text));
            assert_eq!(
                heap.read(|o| o.str_is(object, "plain")),
                Ok(text == "plain")
            );
        }
    }
}

#[test]
fn text_that_is_not_compact_is_elsewhere() {
    for mut heap in Heap::each() {
        let data = heap.make(b"far away");
        let object = heap.str(&[0; 8], 1, false);
        heap.put(object, fields::STR_LENGTH, 8);
        heap.memory.insert(RemoteAddr(object.0 + 32), &[1 << 2]);
        heap.put(object, heap.layout.objects.str_compact_data, data.0);
        assert_eq!(heap.read(|o| o.str(object)).as_deref(), Ok("far away"));
    }
}

#[test]
fn long_text_is_cut() {
    let most = MAX_STR_CHARS as usize;
    for mut heap in Heap::each() {
        for (character, kind, ascii) in [("n", 1, true), ("€", 2, false), ("𝄞", 4, false)] {
            for (chars, shown) in [
                (most, character.repeat(most)),
                (most + 1, character.repeat(most) + "…"),
                (20 * most, character.repeat(most) + "…"),
            ] {
                let text = character.repeat(chars);
                let data: Vec<u8> = match kind {
                    1 => text.into_bytes(),
                    2 => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
                    _ => text
                        .chars()
                        .flat_map(|c| u32::from(c).to_le_bytes())
                        .collect(),
                };
                let object = heap.str(&data, kind, ascii);
                let read = heap.read(|o| o.str(object)).unwrap();
                assert!(
                    read == shown,
                    "{chars} of {character}: {} bytes",
                    read.len()
                );
            }
        }
    }
}

#[test]
fn a_str_has_a_type_that_says_so() {
    for mut heap in Heap::each() {
        let object = heap.ascii("plain");
        let of = heap.words(&[0; 64]);
        heap.put(object, fields::OB_TYPE, of.0);
        assert_eq!(heap.read(|o| o.is_str(object)), Ok(false));
        heap.put(of, fields::TYPE_FLAGS, fields::FLAG_STR);
        assert_eq!(heap.read(|o| o.is_str(object)), Ok(true));
    }
}

#[test]
fn text_that_cannot_be() {
    let mut heap = Heap::new(12);
    let invalid = Err(Reason::Invalid("str"));
    // A length that is not the text's: no NUL stands at its end.
    let long = heap.ascii(&"n".repeat(3 * MAX_STR_CHARS as usize));
    for length in [MAX_STR_CHARS + 1, 2 * MAX_STR_CHARS] {
        heap.put(long, fields::STR_LENGTH, length);
        assert_eq!(heap.read(|o| o.str(long)), invalid);
    }
    for length in [1 << 40, 1 << 60, u64::MAX] {
        heap.put(long, fields::STR_LENGTH, length);
        assert!(heap.read(|o| o.str(long)).is_err(), "{length:#x}");
    }
    for kind in [0, 3, 5, 7] {
        let object = heap.ascii("plain");
        heap.memory
            .insert(RemoteAddr(object.0 + 32), &[kind << 2 | 1 << 5]);
        assert_eq!(heap.read(|o| o.str(object)), invalid);
    }
    let object = heap.str(&[0x80], 1, true);
    let error = Err(Reason::Invalid("ASCII str"));
    assert_eq!(heap.read(|o| o.str(object)), error);
    assert!(matches!(
        heap.read(|o| o.str(RemoteAddr(0x5000))),
        Err(Reason::Unreadable(RemoteAddr(0x5000)))
    ));
    assert_eq!(
        heap.read(|o| o.str(RemoteAddr(u64::MAX - 7))),
        Err(Reason::Invalid("pointer"))
    );
}

#[test]
fn bytes_have_a_bound() {
    for mut heap in Heap::each() {
        let table = vec![7; 100_000];
        let mut object = vec![0; 32];
        object[16..24].copy_from_slice(&100_000_u64.to_le_bytes());
        object.extend(&table);
        let object = heap.make(&object);
        assert_eq!(heap.read(|o| o.bytes(object)), Ok(table));
        heap.put(object, fields::OB_SIZE, (1 << 20) + 1);
        let invalid = Err(Reason::Invalid("bytes"));
        assert_eq!(heap.read(|o| o.bytes(object)), invalid);
    }
}

#[test]
fn ints_that_idents_are_made_of() {
    let ident = 0x7f12_3456_7890_u64;
    let digits = ident & 0x3fff_ffff | (ident >> 30) << 32;
    for mut heap in Heap::each() {
        let (zero, two, negative, long) = match heap.layout.objects.int_has_tag {
            true => (1, 2 << 3, 2 << 3 | 2, 4 << 3),
            false => (0, 2, u64::MAX - 1, 4),
        };
        for (size, value) in [
            (zero, Ok(0)),
            (two, Ok(ident)),
            (negative, Err(Reason::Invalid("non-negative int"))),
            (long, Err(Reason::Invalid("non-negative int"))),
        ] {
            let object = heap.words(&[1, 0, size, digits, 0]);
            assert_eq!(heap.read(|o| o.unsigned(object)), value);
        }
    }
}

#[test]
fn dicts_of_both_encodings_combined_and_split() {
    for mut heap in Heap::each() {
        let names: Vec<_> = ["one", "two", "gone"].map(|n| heap.ascii(n)).to_vec();
        let values: Vec<_> = (1..=3).map(|n| heap.words(&[n])).collect();
        // A deleted entry keeps its key and has no value.
        let entries = [
            (names[0], values[0]),
            (names[2], RemoteAddr::NULL),
            (names[1], values[1]),
        ];
        let keys = heap.keys(&entries);
        let dict = heap.dict(keys, RemoteAddr::NULL);
        let items = vec![(names[0], values[0]), (names[1], values[1])];
        assert_eq!(heap.read(|o| o.dict_items(dict)), Ok(items));
        let found = heap.read(|o| o.dict_get(dict, "two"));
        assert_eq!(found, Ok(Some(values[1])));
        assert_eq!(heap.read(|o| o.dict_get(dict, "gone")), Ok(None));

        let mut array = vec![0; heap.layout.objects.dict_values as usize / 8];
        array.extend([values[2].0, 0, values[0].0]);
        let array = heap.words(&array);
        let split = heap.dict(keys, array);
        let items = vec![(names[0], values[2]), (names[1], values[0])];
        assert_eq!(heap.read(|o| o.dict_items(split)), Ok(items));
    }
}

#[test]
fn a_dict_as_large_as_any_that_is_read() {
    // `sys.modules` of a large program has thousands of entries; the bound is 65 536.
    for mut heap in Heap::each() {
        let name = heap.ascii("name");
        let value = heap.words(&[1]);
        for count in [5000, 60_000] {
            let keys = heap.keys(&vec![(name, value); count]);
            let dict = heap.dict(keys, RemoteAddr::NULL);
            let items = heap.read(|o| o.dict_items(dict)).unwrap();
            assert_eq!(items.len(), count);
        }
    }
}

#[test]
fn dict_keys_that_cannot_be() {
    for mut heap in Heap::each() {
        let keys = heap.keys(&[]);
        let dict = heap.dict(keys, RemoteAddr::NULL);
        let sized = heap.layout.objects.dict_keys == DictKeys::Sized;
        let (size, count) = if sized { (8, 32) } else { (8, 24) };
        let invalid = Err(Reason::Invalid("dict keys"));
        for (offset, word) in [(count, 1 << 17), (count, u64::MAX), (size, u64::MAX)] {
            let before = heap.memory.clone();
            heap.put(keys, offset, word);
            assert_eq!(heap.read(|o| o.dict_items(dict)), invalid);
            heap.memory = before;
        }
    }
}

#[test]
fn attributes_where_each_version_keeps_them() {
    for mut heap in Heap::each() {
        let name = heap.ascii("_name");
        let value = heap.words(&[1]);
        let objects = heap.layout.objects;
        let keys = heap.keys(&[(name, value)]);
        let dict = heap.dict(keys, RemoteAddr::NULL);
        let mut array = vec![0; objects.dict_values as usize / 8];
        array.push(value.0);
        let array_at = heap.words(&array);
        let ob_type = heap.words(&[0; 120]);
        heap.put(ob_type, objects.cached_keys, keys.0);
        heap.put(ob_type, fields::TYPE_BASIC_SIZE, 16);
        heap.put(ob_type, fields::TYPE_DICT_OFFSET, 16);
        let managed = fields::FLAG_MANAGED_DICT | fields::FLAG_INLINE_VALUES;
        heap.put(ob_type, fields::TYPE_FLAGS, managed);
        // Four words before the object, the object, and behind it a dict pointer or values.
        let object = |before: [u64; 2], after: &[u64]| {
            let mut words = vec![before[0], before[1], 0, 0, 1, ob_type.0];
            words.extend(after);
            words
        };
        let variants = match objects.attributes {
            Attributes::DictOffset => vec![object([0, 0], &[dict.0])],
            Attributes::ValuesBefore => {
                vec![object([array_at.0, 0], &[]), object([0, dict.0], &[])]
            }
            Attributes::TaggedBefore => {
                vec![object([0, array_at.0 - 1], &[]), object([0, dict.0], &[])]
            }
            Attributes::Inline => vec![object([0, 0], &array), object([0, dict.0], &[])],
        };
        for words in variants {
            let object = RemoteAddr(heap.words(&words).0 + 32);
            let found = heap.read(|o| o.attribute(object, "_name"));
            assert_eq!(found, Ok(Some(value)), "{}", heap.layout.version);
            assert_eq!(heap.read(|o| o.attribute(object, "other")), Ok(None));
        }
        // No word before an object is believed: all ones, and no object there at all.
        let object = RemoteAddr(heap.words(&object([u64::MAX; 2], &[u64::MAX])).0 + 32);
        assert!(heap.read(|o| o.attribute(object, "_name")).is_err());
        assert!(heap.read(|o| o.attribute(RemoteAddr(16), "_name")).is_err());
    }
}

#[test]
fn many_readers_share_their_calls() {
    let mut heap = Heap::new(12);
    let texts: Vec<_> = (0..500).map(|n| heap.ascii(&format!("name {n}"))).collect();
    let mut memory = Counting::new(heap.memory.clone());
    let answers = resolve(&mut memory, &heap.layout, 500, |i, o| o.str(texts[i])).unwrap();
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer.as_deref(), Ok(format!("name {n}").as_str()));
    }
    // All headers and, read ahead, all texts; what lies across a page is asked for again. The
    // last read-ahead goes past the end of the heap.
    let cost = memory.cost(crate::memory::Class::Other);
    assert!(cost.calls <= 5, "{cost:?}");
}

#[test]
fn a_reader_that_never_ends_is_given_up() {
    // Each word names the next one: an object that asks for more in every round.
    let words: Vec<u8> = (0..1 << 13)
        .flat_map(|n| (A + 4096 * n).to_le_bytes())
        .collect();
    let mut memory = RecordedMemory::new();
    for n in 0..200 {
        memory.insert(RemoteAddr(A + 4096 * n), &words[8 * n as usize + 8..][..8]);
    }
    let layout = Heap::new(12).layout;
    let answers = resolve(&mut memory, &layout, 1, |_, o| {
        let mut addr = RemoteAddr(A);
        for _ in 0..150 {
            addr = o.pointer(addr, 0)?;
        }
        Ok(addr)
    });
    assert!(answers.unwrap()[0].is_err());
}
