//! Types whose objects lie in no block: `None`, `True`.

use std::cell::RefCell;

use onlooker_unwinder::layout::{Layout, fields};
use onlooker_unwinder::memory::{Lookup, RemoteAddr};
use onlooker_unwinder::objects::Objects;

use crate::gc::Collector;
use crate::space::Space;
use crate::types::Types;

/// Meets the types of all that the module `builtins` holds: its names are those of every static
/// object that a program can name, and later nothing but the types tells what these are.
pub(super) fn meet<B: AsRef<[u8]>>(
    space: &Space<B>,
    layout: &Layout,
    collectors: &[Collector],
    types: &mut Types,
) {
    let missing = RefCell::new(Vec::new());
    let objects = Objects::new(space, layout, &missing);
    for Collector { interpreter, .. } in collectors {
        let items = objects
            .pointer(*interpreter, layout.interpreter.modules)
            .and_then(|modules| objects.dict_get(modules, "builtins"))
            .and_then(|module| match module {
                Some(module) => objects.pointer(module, fields::MODULE_DICT),
                None => Ok(RemoteAddr::NULL),
            })
            .and_then(|dict| objects.dict_items(dict));
        for (_, value) in items.unwrap_or_default() {
            let of = value.offset(fields::OB_TYPE).and_then(|at| space.u64(at));
            if let Some(of) = of {
                types.at(space, of);
            }
        }
    }
}
