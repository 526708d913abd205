//! Names of threads as Python knows them: `threading._active`, a dict from ident to thread.

use std::collections::HashMap;

use onlooker_unwinder::layout::Layout;
use onlooker_unwinder::memory::{Lookup, ReadError, ReadMemory, RemoteAddr};
use onlooker_unwinder::objects::{self, Objects, Read, Stop};

/// Names by interpreter and ident.
pub(super) type Names = HashMap<(RemoteAddr, u64), Name>;

/// The name of one thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) name: String,
    /// The kernel's id as the process sees it: idents are used again, and by the time that
    /// names are read a thread's ident may be another's.
    pub(super) native_id: Option<u64>,
}

/// Reads the names of all threads of the given interpreters. A thread that was not started by
/// `threading` has none; neither has any before the module is imported.
pub(super) fn read<M: ReadMemory>(
    memory: &mut M,
    layout: &Layout,
    interpreters: &[RemoteAddr],
) -> Result<Names, ReadError> {
    let answers = objects::resolve(memory, layout, interpreters.len(), |i, objects| {
        names_of(objects, layout, interpreters[i])
    })?;
    let mut names = Names::new();
    for (interpreter, answer) in interpreters.iter().zip(answers) {
        let found = answer.unwrap_or_default();
        names.extend(
            found
                .into_iter()
                .map(|(ident, name)| ((*interpreter, ident), name)),
        );
    }
    Ok(names)
}

fn names_of<L: Lookup>(
    objects: &Objects<'_, L>,
    layout: &Layout,
    interpreter: RemoteAddr,
) -> Read<Vec<(u64, Name)>> {
    let modules = objects.pointer(interpreter, layout.interpreter.modules)?;
    if modules.is_null() {
        return Ok(Vec::new());
    }
    let Some(threading) = objects.dict_get(modules, "threading")? else {
        return Ok(Vec::new());
    };
    let Some(active) = objects.module_attribute(threading, "_active")? else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    let mut missing = false;
    for (ident, thread) in objects.dict_items(active)? {
        match name_of(objects, ident, thread) {
            Ok(Some(name)) => names.push(name),
            // A thread that starts or ends just now.
            Ok(None) | Err(Stop::Invalid(_)) => {}
            Err(Stop::Missing) => missing = true,
        }
    }
    if missing {
        Err(Stop::Missing)
    } else {
        Ok(names)
    }
}

fn name_of<L: Lookup>(
    objects: &Objects<'_, L>,
    ident: RemoteAddr,
    thread: RemoteAddr,
) -> Read<Option<(u64, Name)>> {
    // All are asked for before any is waited for.
    let ident = objects.unsigned(ident);
    let name = objects.attribute(thread, "_name");
    let native_id = match objects.attribute(thread, "_native_id") {
        Ok(Some(id)) => match objects.unsigned(id) {
            Ok(id) => Some(id),
            // None until the thread has begun.
            Err(Stop::Invalid(_)) => None,
            Err(stop) => return Err(stop),
        },
        Ok(None) | Err(Stop::Invalid(_)) => None,
        Err(stop) => return Err(stop),
    };
    let (ident, Some(name)) = (ident?, name?) else {
        return Ok(None);
    };
    let name = objects.str(name)?;
    Ok(Some((ident, Name { name, native_id })))
}
