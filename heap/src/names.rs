//! Names of types: `module.qualname`.

use std::cell::RefCell;

use onlooker_unwinder::layout::{Layout, Offset, fields};
use onlooker_unwinder::memory::{Lookup, MAX_SEGMENTS, ReadMemory, RemoteAddr, Segment};
use onlooker_unwinder::objects::Objects;

use crate::space::Space;
use crate::types::{MAX_NAME_BYTES, Type, c_string};

/// `PyTypeObject.tp_base`, `.tp_dict`.
const BASE: Offset = 256;
const DICT: Offset = 264;
const MAX_BASES: usize = 64;

/// The name of a type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// `__module__`.
    pub module: String,
    /// `__qualname__`.
    pub qualname: String,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.module, self.qualname)
    }
}

/// Brings the C strings that the names of types and of their bases need into the space: those of
/// static types lie in read-only data, which was not copied.
pub fn fetch<B: AsRef<[u8]>, M: ReadMemory>(space: &mut Space<B>, memory: &mut M, types: &[Type]) {
    let mut wanted = Vec::new();
    for found in types {
        let mut addr = found.addr;
        for _ in 0..MAX_BASES {
            let word = |offset| addr.offset(offset).and_then(|at| space.u64(at));
            wanted.extend(word(fields::TYPE_NAME));
            match word(BASE) {
                Some(base) if base != 0 => addr = RemoteAddr(base),
                _ => break,
            }
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    wanted.retain(|addr| space.bytes(RemoteAddr(*addr), 1).is_none());
    let mut rest: &[u64] = &wanted;
    while !rest.is_empty() {
        let batch = &rest[..rest.len().min(MAX_SEGMENTS)];
        let segments: Vec<Segment> = batch
            .iter()
            .map(|addr| Segment {
                addr: RemoteAddr(*addr),
                len: MAX_NAME_BYTES as u32,
            })
            .collect();
        let total = segments.iter().map(|s| s.len as usize).sum();
        let mut buffer = vec![0; total];
        let got = memory.read(&segments, &mut buffer).unwrap_or(0);
        let mut at = 0;
        let mut done = 0;
        for segment in &segments {
            let end = at + segment.len as usize;
            // The last one may end where its mapping ends.
            let bytes = &buffer[at..end.min(got.max(at))];
            if bytes.is_empty() {
                break;
            }
            let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            let with_end = bytes.get(..=text.len()).unwrap_or(bytes);
            space.add(segment.addr, with_end.into());
            at = end;
            done += 1;
            if end > got {
                break;
            }
        }
        // The one that cannot be read is passed over.
        rest = &rest[done.max(usize::from(got == 0))..];
    }
}

/// The name of a type. What cannot be read is `?`.
#[must_use]
pub fn of<B: AsRef<[u8]>>(space: &Space<B>, layout: &Layout, found: &Type) -> Name {
    let raw = c_string(space, found.raw_name).unwrap_or_else(|| "?".to_owned());
    let (module, last) = raw.rsplit_once('.').unwrap_or(("builtins", &raw));
    if !found.is_heap_type() {
        return Name {
            module: module.to_owned(),
            qualname: last.to_owned(),
        };
    }
    let missing = RefCell::new(Vec::new());
    let objects = Objects::new(space, layout, &missing);
    let dict = objects.pointer(found.addr, DICT).ok();
    let stated = dict
        .filter(|dict| !dict.is_null())
        .and_then(|dict| objects.dict_get(dict, "__module__").ok()?)
        .filter(|value| {
            let flags = objects.type_flags(*value);
            flags.is_ok_and(|flags| flags & fields::FLAG_STR != 0)
        })
        .and_then(|value| objects.str(value).ok());
    // `ht_qualname` stands before `ht_cached_keys` in every version.
    let qualname = objects
        .pointer(found.addr, layout.objects.cached_keys.saturating_sub(8))
        .ok()
        .and_then(|name| objects.str(name).ok());
    Name {
        module: stated.unwrap_or_else(|| module.to_owned()),
        qualname: qualname.unwrap_or_else(|| last.to_owned()),
    }
}
