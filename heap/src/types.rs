//! Which blocks are objects: the type of a type closes.
//!
//! An object's header lies at a distance from the start of its block that its type's flags tell
//! (`_PyType_PreHeaderSize`): 0, 16 behind the links of the garbage collector, 32 where two words of
//! a managed `__dict__` or weak references come first. A word is a type when what it points to has
//! a type of its own, and so on up to the one that is its own type.

use onlooker_unwinder::layout::{Minor, Offset, fields};
use onlooker_unwinder::memory::{Lookup, RemoteAddr, u64_at};
use rustc_hash::FxHashMap;

use crate::pymalloc::Arena;
use crate::space::Space;

const ITEM_SIZE: Offset = 40;
/// `PyTypeObject.tp_base`.
pub(crate) const BASE: Offset = 256;
const READY: u64 = 1 << 12;
const HAVE_GC: u64 = 1 << 14;
/// `Py_TPFLAGS_HEAPTYPE`.
pub(crate) const HEAP_TYPE: u64 = 1 << 9;
const MANAGED_WEAKREF: u64 = 1 << 3;
const GC_HEAD_BYTES: u64 = 16;
/// A class whose instances are larger is none.
const MAX_BASIC_SIZE: u64 = 1 << 28;
const MAX_ITEM_SIZE: u64 = 1 << 24;
const RECENT: usize = 64;
/// Metaclasses of metaclasses, and bases of bases.
const MAX_DEPTH: u32 = 64;

/// What the fields of an object are, as far as its blocks, what it refers to and its value need
/// it. Subclasses have the shape of what they are made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `dict`.
    Dict,
    /// `list`.
    List,
    /// `tuple`.
    Tuple,
    /// `set` and `frozenset`.
    Set,
    /// `str`.
    Str,
    /// `bytes`.
    Bytes,
    /// `int` and `bool`.
    Int,
    /// `float`.
    Float,
    /// `None`.
    None,
    /// A variable that functions share.
    Cell,
    /// `bytearray`.
    ByteArray,
    /// `collections.deque`.
    Deque,
    /// `array.array`.
    Array,
    /// A class.
    Type,
    /// Anything else.
    Other,
}

/// One type.
#[derive(Clone, Debug)]
pub struct Type {
    /// Where it is.
    pub addr: RemoteAddr,
    /// `tp_name`, a C string.
    pub raw_name: RemoteAddr,
    /// `tp_flags`.
    pub flags: u64,
    /// `tp_basicsize`.
    pub basic_bytes: u64,
    /// `tp_itemsize`.
    pub item_bytes: u64,
    /// Distance of the object from the start of its block.
    pub distance: u64,
    /// What its instances look like.
    pub shape: Shape,
    /// Whether it is `collections.OrderedDict` or made from it: a dict with more behind it.
    pub is_ordered: bool,
}

impl Type {
    /// Whether its instances have links of the garbage collector before them.
    #[must_use]
    #[inline]
    pub fn has_gc(&self) -> bool {
        self.flags & HAVE_GC != 0
    }

    /// How small an instance can be: `tp_basicsize`, but for `str`, whose compact ASCII form is a
    /// shorter struct (`PyASCIIObject`, `Include/cpython/unicodeobject.h`: 48 bytes up to 3.11, 40
    /// from 3.12 on).
    pub(crate) fn least_bytes(&self) -> u64 {
        if self.flags & fields::FLAG_STR != 0 {
            self.basic_bytes.min(40)
        } else {
            self.basic_bytes
        }
    }

    fn find_shape<B: AsRef<[u8]>>(&mut self, space: &Space<B>) {
        self.shape = shape(space, self);
        // `PyODict_Type`, which says that it is a dict by its flag.
        self.is_ordered = self.shape == Shape::Dict
            && base_names(space, self.addr).any(|name| name == "collections.OrderedDict");
    }

    /// Whether it was made at run time.
    #[must_use]
    pub fn is_heap_type(&self) -> bool {
        self.flags & HEAP_TYPE != 0
    }
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A live object of this type.
    Object(u32),
    /// An object that is not in use: its reference count is gone.
    Parked,
    /// No object.
    Nothing,
}

/// All types that were met.
#[derive(Clone, Debug)]
pub struct Types {
    version: Minor,
    known: FxHashMap<u64, u32>,
    refused: FxHashMap<u64, ()>,
    types: Vec<Type>,
    /// The last addresses that were types, each at a place that it tells: blocks beside each other mostly
    /// have the same few.
    recent: [(u64, u32); RECENT],
    /// Start and end of arenas, neighbours together.
    arenas: Vec<(u64, u64)>,
}

/// Most words that are looked at point into arenas, which lie side by side: few steps find them.
fn joined(arenas: &[Arena]) -> Vec<(u64, u64)> {
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for arena in arenas {
        match joined.last_mut() {
            Some((_, end)) if arena.start <= *end => *end = arena.end().max(*end),
            _ => joined.push((arena.start, arena.end())),
        }
    }
    joined
}

impl Types {
    /// No types yet. `arenas` hold none: a type is too large for pymalloc.
    #[must_use]
    pub fn new(version: Minor, arenas: &[Arena]) -> Self {
        Self {
            version,
            known: FxHashMap::default(),
            refused: FxHashMap::default(),
            types: Vec::new(),
            recent: [(0, 0); RECENT],
            arenas: joined(arenas),
        }
    }

    /// The types, in the order in which they were met.
    #[must_use]
    pub fn all(&self) -> &[Type] {
        &self.types
    }

    /// The number of a type that was met.
    #[must_use]
    pub fn find(&self, addr: u64) -> Option<u32> {
        self.known.get(&addr).copied()
    }

    /// The type of what lies at `object`, met or not, if that is a live object.
    #[must_use]
    pub fn of_object<B: AsRef<[u8]>>(&self, space: &Space<B>, object: RemoteAddr) -> Option<Type> {
        let head = space.bytes(object, 16)?;
        if !object.is_plausible_pointer() || !is_live(self.version, u64_at(head, 0)?) {
            return None;
        }
        self.resolve(space, RemoteAddr(u64_at(head, fields::OB_TYPE)?))
    }

    /// The type at an address, met or not.
    #[must_use]
    pub fn resolve<B: AsRef<[u8]>>(&self, space: &Space<B>, addr: RemoteAddr) -> Option<Type> {
        if let Some(known) = self.find(addr.0) {
            return self.types.get(known as usize).cloned();
        }
        let mut found = self.check(space, addr, 0)?;
        found.find_shape(space);
        Some(found)
    }

    /// The type at an address, if there is one.
    #[inline]
    pub fn at<B: AsRef<[u8]>>(&mut self, space: &Space<B>, addr: u64) -> Option<u32> {
        let recent = (addr >> 5) as usize % RECENT;
        if self.recent[recent].0 == addr && addr != 0 {
            return Some(self.recent[recent].1);
        }
        if let Some(known) = self.known.get(&addr) {
            self.recent[recent] = (addr, *known);
            return Some(*known);
        }
        if !RemoteAddr(addr).is_plausible_pointer() {
            return None;
        }
        let next = self.arenas.partition_point(|(_, end)| *end <= addr);
        if self
            .arenas
            .get(next)
            .is_some_and(|(start, _)| *start <= addr)
            || self.refused.contains_key(&addr)
        {
            return None;
        }
        let Some(found) = self.check(space, RemoteAddr(addr), 0) else {
            self.refused.insert(addr, ());
            return None;
        };
        let index = self.types.len() as u32;
        self.types.push(found);
        self.known.insert(addr, index);
        Some(index)
    }

    fn check<B: AsRef<[u8]>>(
        &self,
        space: &Space<B>,
        addr: RemoteAddr,
        depth: u32,
    ) -> Option<Type> {
        let bytes = space.bytes(addr, fields::TYPE_BYTES as usize)?;
        let word = |offset| u64_at(bytes, offset);
        let meta = RemoteAddr(word(fields::OB_TYPE)?);
        let flags = word(fields::TYPE_FLAGS)?;
        let raw_name = RemoteAddr(word(fields::TYPE_NAME)?);
        let basic_bytes = word(fields::TYPE_BASIC_SIZE)?;
        let item_bytes = word(ITEM_SIZE)?;
        let sane = is_live(self.version, word(0)?)
            && meta.is_plausible_pointer()
            && flags & READY != 0
            && raw_name.0 > 0x1000
            && raw_name.0 < 1 << 56
            && (16..=MAX_BASIC_SIZE).contains(&basic_bytes)
            && item_bytes <= MAX_ITEM_SIZE;
        if !sane || depth > MAX_DEPTH {
            return None;
        }
        if meta != addr {
            let meta = self.check(space, meta, depth + 1)?;
            if meta.flags & fields::FLAG_TYPE == 0 {
                return None;
            }
        } else if flags & fields::FLAG_TYPE == 0 {
            return None;
        }
        Some(Type {
            addr,
            raw_name,
            flags,
            basic_bytes,
            item_bytes,
            distance: self.distance(flags),
            shape: Shape::Other,
            is_ordered: false,
        })
    }

    fn distance(&self, flags: u64) -> u64 {
        let managed = if self.version < Minor::new(3, 11) {
            0
        } else if self.version == Minor::new(3, 11) {
            fields::FLAG_MANAGED_DICT
        } else {
            fields::FLAG_MANAGED_DICT | MANAGED_WEAKREF
        };
        let links = if flags & HAVE_GC != 0 {
            GC_HEAD_BYTES
        } else {
            0
        };
        links + if flags & managed != 0 { 16 } else { 0 }
    }

    /// What a block holds, from its bytes.
    #[inline]
    pub fn of_block<B: AsRef<[u8]>>(&mut self, space: &Space<B>, block: &[u8]) -> Found {
        for distance in [0, 16, 32] {
            let Some(word) = u64_at(block, distance + fields::OB_TYPE) else {
                break;
            };
            let Some(index) = self.at(space, word) else {
                continue;
            };
            let found = &self.types[index as usize];
            if found.distance != distance || distance + found.least_bytes() > block.len() as u64 {
                continue;
            }
            let count = u64_at(block, distance).unwrap_or_default();
            return if is_live(self.version, count) {
                Found::Object(index)
            } else {
                Found::Parked
            };
        }
        Found::Nothing
    }

    /// Finds out what the instances of each type look like, by the names of its bases. Needs the
    /// names of static types, which lie in read-only data.
    pub fn find_shapes<B: AsRef<[u8]>>(&mut self, space: &Space<B>) {
        for found in &mut self.types {
            found.find_shape(space);
        }
    }
}

/// Whether a reference count is one of a live object. One on a free list has 0, or in its place
/// the link to the next (3.14+), which is far above any count.
#[must_use]
#[inline]
pub(crate) fn is_live(version: Minor, word: u64) -> bool {
    // From 3.14 on the upper bits are flags (`Include/refcount.h`).
    let count = if version >= Minor::new(3, 14) {
        word & 0xffff_ffff_ffff
    } else {
        word
    };
    count != 0 && count <= 1 << 32
}

/// Whether an object is immortal (`_Py_IsImmortal`, 3.12+).
#[must_use]
#[inline]
pub(crate) fn is_immortal(version: Minor, word: u64) -> bool {
    version >= Minor::new(3, 12) && (word as u32).cast_signed() < 0
}

fn shape<B: AsRef<[u8]>>(space: &Space<B>, found: &Type) -> Shape {
    match found.flags {
        f if f & fields::FLAG_DICT != 0 => return Shape::Dict,
        f if f & fields::FLAG_LIST != 0 => return Shape::List,
        f if f & fields::FLAG_TUPLE != 0 => return Shape::Tuple,
        f if f & fields::FLAG_STR != 0 => return Shape::Str,
        f if f & fields::FLAG_BYTES != 0 => return Shape::Bytes,
        f if f & fields::FLAG_INT != 0 => return Shape::Int,
        f if f & fields::FLAG_TYPE != 0 => return Shape::Type,
        _ => {}
    }
    let known = base_names(space, found.addr).find_map(|name| match name.as_str() {
        "set" | "frozenset" => Some(Shape::Set),
        "float" => Some(Shape::Float),
        "NoneType" => Some(Shape::None),
        "cell" => Some(Shape::Cell),
        "bytearray" => Some(Shape::ByteArray),
        "collections.deque" => Some(Shape::Deque),
        "array.array" => Some(Shape::Array),
        _ => None,
    });
    known.unwrap_or(Shape::Other)
}

/// The C names of a type and of what it is made from, as far as they are here.
fn base_names<B: AsRef<[u8]>>(
    space: &Space<B>,
    addr: RemoteAddr,
) -> impl Iterator<Item = String> + '_ {
    let word = |addr: RemoteAddr, offset| addr.offset(offset).and_then(|at| space.u64(at));
    let base = move |addr: &RemoteAddr| {
        let base = word(*addr, BASE).filter(|base| *base != 0)?;
        Some(RemoteAddr(base))
    };
    std::iter::successors(Some(addr), base)
        .take(MAX_DEPTH as usize)
        .filter_map(move |addr| c_string(space, RemoteAddr(word(addr, fields::TYPE_NAME)?)))
}

/// Longest name of a type that is read.
pub const MAX_NAME_BYTES: usize = 256;

/// A C string; `None` where its beginning is not here.
#[must_use]
pub fn c_string<B: AsRef<[u8]>>(space: &Space<B>, addr: RemoteAddr) -> Option<String> {
    let mut text = Vec::new();
    while text.len() < MAX_NAME_BYTES {
        let at = addr.offset(text.len() as u64)?;
        let Some(byte) = space.bytes(at, 1) else {
            return (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned());
        };
        if byte[0] == 0 {
            break;
        }
        text.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&text).into_owned())
}
