//! Code objects and what their names are made of.

use onlooker_unwinder::layout::{FrameSize, Instructions, Layout, fields};
use onlooker_unwinder::memory::RemoteAddr;

use super::arena::Arena;

/// Code units of every code object.
const UNITS: u64 = 100;
/// The first unit that a complete frame can stand at.
const TRACEABLE: u32 = 3;

/// One code object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Code {
    pub(crate) addr: RemoteAddr,
    /// First instruction; NULL in 3.8 – 3.10, where frames hold offsets.
    start: RemoteAddr,
}

impl Code {
    /// The instruction word of the `n`-th frame, complete: an address, or an offset in units
    /// of `f_lasti`.
    pub(crate) fn instr(&self, n: usize) -> u64 {
        let unit = u64::from(TRACEABLE) + n as u64 % (UNITS - u64::from(TRACEABLE));
        self.start.0 + 2 * unit
    }

    /// Before the first traceable instruction: a shim, or a frame that is being built.
    pub(crate) fn incomplete_instr(&self) -> u64 {
        self.start.0
    }
}

pub(crate) fn str_object(
    arena: &mut Arena,
    layout: &Layout,
    types: Types,
    text: &str,
) -> RemoteAddr {
    assert!(text.is_ascii());
    let data = layout.objects.str_ascii_data;
    let addr = arena.alloc(data + text.len() as u64 + 1, 16);
    arena.put_u64(RemoteAddr(addr.0 + fields::OB_TYPE), types.text.0);
    arena.put_u64(RemoteAddr(addr.0 + fields::STR_LENGTH), text.len() as u64);
    // Kind 1, compact, ASCII.
    arena.put_u32(
        RemoteAddr(addr.0 + fields::STR_STATE),
        1 << 2 | 1 << 5 | 1 << 6,
    );
    arena.put(RemoteAddr(addr.0 + data), text.as_bytes());
    addr
}

pub(crate) fn bytes_object(arena: &mut Arena, bytes: &[u8]) -> RemoteAddr {
    let addr = arena.alloc(fields::BYTES_DATA + bytes.len() as u64 + 1, 16);
    arena.put_u64(RemoteAddr(addr.0 + fields::OB_SIZE), bytes.len() as u64);
    arena.put(RemoteAddr(addr.0 + fields::BYTES_DATA), bytes);
    addr
}

/// Types, as far as they are looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Types {
    pub(crate) code: RemoteAddr,
    pub(crate) text: RemoteAddr,
}

impl Types {
    pub(crate) fn new(arena: &mut Arena) -> Self {
        Self {
            code: type_object(arena, b"code\0", 0),
            text: type_object(arena, b"str\0", fields::FLAG_STR),
        }
    }
}

fn type_object(arena: &mut Arena, name: &[u8], flags: u64) -> RemoteAddr {
    let name_at = arena.alloc(8, 8);
    arena.put(name_at, name);
    let addr = arena.alloc(fields::TYPE_BYTES, 16);
    arena.put_u64(RemoteAddr(addr.0 + fields::TYPE_NAME), name_at.0);
    arena.put_u64(RemoteAddr(addr.0 + fields::TYPE_FLAGS), flags);
    addr
}

pub(crate) fn code_object(arena: &mut Arena, layout: &Layout, types: Types, name: &str) -> Code {
    let c = &layout.code;
    let name_object = str_object(arena, layout, types, name);
    let filename = str_object(arena, layout, types, &format!("/fake/{name}.py"));
    let table = bytes_object(arena, &[0x80, 0]);
    let addr = arena.alloc(c.header_bytes + 2 * UNITS, 16);
    let at = |offset: u64| RemoteAddr(addr.0 + offset);
    arena.put_u64(at(fields::OB_TYPE), types.code.0);
    arena.put_u64(at(c.filename), filename.0);
    arena.put_u64(at(c.name), name_object.0);
    if let Some(qualname) = c.qualname {
        arena.put_u64(at(qualname), name_object.0);
    }
    arena.put_u64(at(c.line_table), table.0);
    arena.put_u32(at(c.first_line), 1);
    let start = match c.instructions {
        Instructions::Bytes { code } => {
            let code_bytes = bytes_object(arena, &[9; 2 * UNITS as usize]);
            arena.put_u64(at(code), code_bytes.0);
            RemoteAddr::NULL
        }
        Instructions::Inline {
            start,
            first_traceable,
            units,
            frame_size,
        } => {
            arena.put_u64(at(units), UNITS);
            arena.put_u32(at(first_traceable), TRACEABLE);
            match frame_size {
                FrameSize::Field(offset) => arena.put_u32(at(offset), 12),
                FrameSize::Sum { locals, stack, .. } => {
                    arena.put_u32(at(locals), 1);
                    arena.put_u32(at(stack), 2);
                }
            }
            at(start)
        }
    };
    Code { addr, start }
}
