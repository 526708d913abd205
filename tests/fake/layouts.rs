//! The builds that an image can be laid out for.
//!
//! 3.8 – 3.12 come from the tables. 3.13 – 3.15 describe themselves: the fake writes their
//! debug offsets at the start of its runtime and the layout is what parsing them gives.

use onlooker_unwinder::layout::debug_offsets::{COOKIE, TABLE_BYTES, parse};
use onlooker_unwinder::layout::{Layout, Minor, tables};

/// One build: its layout, and what its runtime begins with.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    pub(crate) layout: Layout,
    pub(crate) debug_offsets: Vec<u8>,
}

impl Build {
    /// Whether its frames lie in a data stack (3.11+).
    pub(crate) fn has_data_stack(&self) -> bool {
        self.layout.thread.data_stack.is_some()
    }
}

pub(crate) fn all_builds() -> Vec<Build> {
    tables::SUPPORTED
        .iter()
        .map(|version| build(version.minor))
        .collect()
}

pub(crate) fn build(minor: u8) -> Build {
    if let Some(layout) = tables::for_version(Minor::new(3, minor)) {
        return Build {
            layout,
            debug_offsets: Vec::new(),
        };
    }
    let debug_offsets = table(minor);
    Build {
        layout: parse(&debug_offsets).expect("a table that parses"),
        debug_offsets,
    }
}

/// A `_Py_DebugOffsets` with the offsets of 3.13.18, 3.14.10 or 3.15.2
/// (`Include/internal/pycore_debug_offsets.h`). Fields that stacks do not need stay 0.
fn table(minor: u8) -> Vec<u8> {
    // Where the groups of thread states, frames, code objects, tuples and str begin; the
    // runtime's and the interpreter's are at 24 and 48 in each.
    let [thread, frame, code, tuple, unicode] = match minor {
        13 => [152, 224, 272, 400, 536],
        14 => [176, 248, 312, 448, 616],
        15 => [176, 312, 376, 544, 712],
        _ => panic!("3.{minor} has no debug offsets"),
    };
    let mut bytes = vec![0; TABLE_BYTES];
    bytes[..8].copy_from_slice(COOKIE);
    let mut put = |at: usize, fields: &[u64]| {
        for (i, field) in fields.iter().enumerate() {
            bytes[at + 8 * i..at + 8 * i + 8].copy_from_slice(&field.to_le_bytes());
        }
    };
    put(8, &[0x0300_00f0 | u64::from(minor) << 16, 0]);
    // size, finalizing, interpreters.head.
    let head = [632, 808, 936][usize::from(minor) - 13];
    put(24, &[283_408, 0, head]);
    // size, id, next, threads.head, (threads.main from 3.14), gc, modules, …, ceval.gil.
    match minor {
        13 => put(48, &[194_984, 7272, 7264, 7344, 0, 7656, 0, 0, 16]),
        14 => put(48, &[225_864, 7280, 7272, 7344, 0, 0, 7688, 0, 0, 16]),
        _ => put(48, &[226_232, 7272, 7264, 7336, 0, 0, 7592, 0, 0, 16]),
    }
    // size, prev, next, interp, current_frame, (base_frame and two more in 3.15), thread_id,
    // native_thread_id, datastack_chunk, status.
    match minor {
        15 => put(thread, &[888, 0, 8, 16, 72, 80, 88, 96, 176, 184, 256, 32]),
        _ => put(thread, &[312, 0, 8, 16, 72, 152, 160, 232, 32]),
    }
    // size, previous, executable, instr_ptr, localsplus, owner.
    match minor {
        13 => put(frame, &[80, 8, 0, 56, 72, 70]),
        _ => put(frame, &[88, 8, 0, 56, 80, 74]),
    }
    // size, filename, name, qualname, linetable, firstlineno, …, co_code_adaptive.
    let instructions = if minor == 13 { 200 } else { 208 };
    put(code, &[216, 112, 120, 128, 136, 68, 0, 0, 0, instructions]);
    put(tuple, &[40, if minor == 13 { 24 } else { 32 }]);
    put(unicode, &[64, 32, 16, 40]);
    bytes
}
