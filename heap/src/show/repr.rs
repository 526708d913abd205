//! What an object looks like, in few characters: values of the built-in types, as deep as that
//! stays short.

use std::cell::RefCell;

use onlooker_unwinder::layout::fields;
use onlooker_unwinder::memory::{Lookup, RemoteAddr};
use onlooker_unwinder::objects::Objects;

use super::{Heap, number, text};
use crate::types::{Shape, Type};

/// Containers within containers that are shown.
const MAX_DEPTH: usize = 3;
/// Items of a container that are shown.
const MAX_ITEMS: u64 = 6;
/// Entries of a dict, places of a set that are looked at for these: many may be empty.
const MAX_PLACES: u64 = 256;
/// Characters of a `str` that are shown, and bytes of a `bytes`.
const MAX_TEXT: u64 = 60;
/// A container that is longer by now shows no more items.
const MAX_CHARS: usize = 200;
/// `PySetObject.used`.
const SET_USED: u64 = 24;
const MORE: &str = "...";

/// Containers that are being shown, the outermost first.
type Path = Vec<RemoteAddr>;

impl<B: AsRef<[u8]>> Heap<'_, B> {
    /// What the object at an address looks like. Never more than some hundred characters, all of
    /// them printable, whatever is there.
    #[must_use]
    pub fn repr(&self, addr: RemoteAddr) -> String {
        let mut out = String::new();
        self.show(&mut out, addr, &mut Path::new());
        out
    }

    fn show(&self, out: &mut String, addr: RemoteAddr, path: &mut Path) {
        let Some(of) = self.census.types.of_object(self.space, addr) else {
            *out += &format!("<unreadable at {addr}>");
            return;
        };
        let name = self.name_of(&of);
        // A subclass is shown as a call of its name.
        let (module, base) = name.rsplit_once('.').unwrap_or(("", &name));
        let is_own = module == "builtins" || name == "collections.deque";
        let class = text::name(base);
        if let Some(value) = self.value(addr, &of, &name) {
            *out += &if is_own {
                value
            } else {
                format!("{class}({value})")
            };
            return;
        }
        if of.shape == Shape::Set && self.references.word(addr, SET_USED) == 0 {
            *out += &format!("{class}()");
            return;
        }
        let (open, close) = match (of.shape, base) {
            (Shape::List, _) => ("[", "]"),
            (Shape::Tuple, _) => ("(", ")"),
            (Shape::Dict, _) => ("{", "}"),
            (Shape::Set, "set") => ("{", "}"),
            (Shape::Set, _) => ("({", "})"),
            (Shape::Deque, _) => ("([", "])"),
            _ => {
                *out += &format!("<{} at {addr}>", text::name(&name));
                return;
            }
        };
        let is_named = !is_own || open.starts_with('(') && of.shape != Shape::Tuple;
        if is_named {
            *out += &class;
        }
        let is_wrapped = is_named && !open.starts_with('(');
        if is_wrapped {
            out.push('(');
        }
        *out += open;
        if path.contains(&addr) || path.len() >= MAX_DEPTH {
            *out += MORE;
        } else {
            path.push(addr);
            self.items(out, addr, &of, path);
            path.pop();
        }
        *out += close;
        if is_wrapped {
            out.push(')');
        }
    }

    /// A value that is no container.
    fn value(&self, addr: RemoteAddr, of: &Type, name: &str) -> Option<String> {
        let missing = RefCell::new(Vec::new());
        let objects = Objects::new(self.space, self.layout, &missing);
        let cut = |mut shown: String, count: u64, unit: &str| {
            if count > MAX_TEXT {
                shown += &format!("{MORE} ({count} {unit})");
            }
            shown
        };
        match of.shape {
            Shape::Str => {
                let (points, count) = objects.str_start(addr, MAX_TEXT).ok()?;
                Some(cut(text::str(&points), count, "characters"))
            }
            Shape::Bytes => {
                let (bytes, count) = objects.bytes_start(addr, MAX_TEXT).ok()?;
                Some(cut(text::bytes(&bytes), count, "bytes"))
            }
            Shape::Int => {
                let int = objects.int(addr, number::MAX_DIGITS).ok()?;
                Some(match name {
                    "builtins.bool" if int.count == 0 => "False".to_owned(),
                    "builtins.bool" => "True".to_owned(),
                    _ => number::int(&int),
                })
            }
            Shape::Float => {
                // `PyFloatObject.ob_fval`.
                let bits = self.space.u64(addr.offset(16)?)?;
                Some(number::float(f64::from_bits(bits)))
            }
            Shape::None => Some("None".to_owned()),
            Shape::Type => {
                let of = self.census.types.resolve(self.space, addr)?;
                let name = self.name_of(&of);
                let name = name.strip_prefix("builtins.").unwrap_or(&name);
                Some(format!("<class '{}'>", text::name(name)))
            }
            _ => None,
        }
    }

    fn items(&self, out: &mut String, addr: RemoteAddr, of: &Type, path: &mut Path) {
        let references = &self.references;
        references.begin();
        let mut items: Vec<(Option<u64>, u64)> = Vec::new();
        let mut add = |key, value: u64| {
            if value != 0 && (items.len() as u64) < MAX_ITEMS {
                items.push((key, value));
            }
        };
        let count = match of.shape {
            Shape::List | Shape::Tuple => {
                let count = references.word(addr, fields::OB_SIZE);
                let first = if of.shape == Shape::List {
                    Some(RemoteAddr(references.word(addr, fields::LIST_ITEMS)))
                } else {
                    addr.offset(self.layout.objects.tuple_items)
                };
                if let Some(first) = first {
                    references.items(first, count.min(MAX_ITEMS), &mut |item, _| add(None, item));
                }
                count
            }
            Shape::Dict => {
                let keys = RemoteAddr(references.word(addr, fields::DICT_KEYS));
                let values = RemoteAddr(references.word(addr, fields::DICT_VALUES));
                if values.is_null() {
                    references.entries(keys, MAX_PLACES, |key, value| add(Some(key), value));
                } else {
                    references.values(keys, values, |key, value| add(Some(key.0), value));
                }
                // `PyDictObject.ma_used` is where other objects have `ob_size`.
                references.word(addr, fields::OB_SIZE)
            }
            Shape::Set => {
                references.set(addr, MAX_PLACES, &mut |item, _| {
                    if self.is_member(item) {
                        add(None, item);
                    }
                });
                references.word(addr, SET_USED)
            }
            _ => {
                references.deque(addr, MAX_ITEMS, &mut |item, _| add(None, item));
                references.word(addr, fields::OB_SIZE)
            }
        };
        let start = out.len();
        let mut shown = 0;
        for (key, value) in items {
            if shown > 0 {
                *out += ", ";
            }
            if out.len() > MAX_CHARS {
                break;
            }
            if let Some(key) = key {
                self.show(out, RemoteAddr(key), path);
                *out += ": ";
            }
            self.show(out, RemoteAddr(value), path);
            shown += 1;
        }
        if shown < count {
            if out.len() > start && !out.ends_with(", ") {
                *out += ", ";
            }
            *out += &format!("{MORE} ({count} items)");
        } else if count == 1 && of.shape == Shape::Tuple {
            out.push(',');
        }
    }

    /// Whether a place of a set holds an element: a removed one leaves a mark there, which is an
    /// `object` in the interpreter's own data (`_PySet_Dummy`, `Objects/setobject.c`).
    fn is_member(&self, item: u64) -> bool {
        let addr = RemoteAddr(item);
        let of = self.census.types.of_object(self.space, addr);
        of.is_some_and(|of| self.name_of(&of) != "builtins.object")
    }
}
