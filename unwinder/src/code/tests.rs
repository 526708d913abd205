use super::*;
use crate::layout::tables;

const A: RemoteAddr = RemoteAddr(0x7f00_0000_0000);
const UNITS: u64 = 50;
const TRACEABLE: u32 = 4;

fn layouts() -> impl Iterator<Item = Layout> {
    tables::SUPPORTED
        .iter()
        .filter_map(|version| tables::for_version(*version))
}

fn put(bytes: &mut [u8], offset: u64, value: u64) {
    bytes[offset as usize..][..8].copy_from_slice(&value.to_le_bytes());
}

fn put_u32(bytes: &mut [u8], offset: u64, value: u32) {
    bytes[offset as usize..][..4].copy_from_slice(&value.to_le_bytes());
}

/// A header as an interpreter writes it, and the fields that are pointers.
fn header(layout: &Layout) -> (Vec<u8>, Vec<u64>) {
    let c = &layout.code;
    let mut bytes = vec![0; c.header_bytes as usize];
    let mut pointers = vec![fields::OB_TYPE, c.filename, c.name, c.line_table];
    pointers.extend(c.qualname);
    match c.instructions {
        Instructions::Bytes { code } => pointers.push(code),
        Instructions::Inline {
            first_traceable,
            units,
            ..
        } => {
            put(&mut bytes, units, UNITS);
            put_u32(&mut bytes, first_traceable, TRACEABLE);
        }
    }
    for (n, offset) in pointers.iter().enumerate() {
        put(&mut bytes, *offset, 0x5000 + 16 * n as u64);
    }
    put_u32(&mut bytes, c.first_line, 7);
    (bytes, pointers)
}

#[test]
fn a_header_is_read_whole_or_not_at_all() {
    for layout in layouts() {
        let (bytes, pointers) = header(&layout);
        let parsed = CodeHeader::parse(&layout, A, &bytes).unwrap();
        assert_eq!(parsed.first_line, 7);
        let least = pointers.iter().max().unwrap() + 8;
        for len in 0..least as usize {
            assert_eq!(CodeHeader::parse(&layout, A, &bytes[..len]), None);
        }
    }
}

#[test]
fn pointers_that_cannot_be_are_no_header() {
    for layout in layouts() {
        let (bytes, pointers) = header(&layout);
        for offset in pointers {
            for value in [0, 1, 0x800, 1 << 60, u64::MAX] {
                let mut bytes = bytes.clone();
                put(&mut bytes, offset, value);
                assert_eq!(CodeHeader::parse(&layout, A, &bytes), None);
            }
        }
    }
}

#[test]
fn sizes_that_cannot_be_are_no_header() {
    for layout in layouts() {
        let Instructions::Inline {
            first_traceable,
            units,
            frame_size,
            ..
        } = layout.code.instructions
        else {
            continue;
        };
        let (bytes, _) = header(&layout);
        for value in [0, MAX_CODE_UNITS + 1, u64::MAX] {
            let mut bytes = bytes.clone();
            put(&mut bytes, units, value);
            assert_eq!(CodeHeader::parse(&layout, A, &bytes), None);
        }
        let size = match frame_size {
            FrameSize::Field(offset) => offset,
            FrameSize::Sum { locals, .. } => locals,
        };
        for (offset, value) in [(first_traceable, -1), (size, -1), (size, 1 << 25)] {
            let mut bytes = bytes.clone();
            put_u32(&mut bytes, offset, i32::cast_unsigned(value));
            assert_eq!(CodeHeader::parse(&layout, A, &bytes), None);
        }
    }
}

#[test]
fn whatever_differs_makes_another_identity() {
    for layout in layouts() {
        let c = &layout.code;
        let (bytes, mut offsets) = header(&layout);
        offsets.extend([c.consts, c.names]);
        let identity = CodeHeader::parse(&layout, A, &bytes).unwrap().identity;
        let mut seen = vec![identity];
        for offset in offsets {
            let mut bytes = bytes.clone();
            put(&mut bytes, offset, 0x9000);
            seen.push(CodeHeader::parse(&layout, A, &bytes).unwrap().identity);
        }
        for offset in [Some(c.first_line), Some(c.flags), c.version]
            .into_iter()
            .flatten()
        {
            let mut bytes = bytes.clone();
            put_u32(&mut bytes, offset, 77);
            seen.push(CodeHeader::parse(&layout, A, &bytes).unwrap().identity);
        }
        for (n, one) in seen.iter().enumerate() {
            assert!(!seen[..n].contains(one), "{} change {n}", layout.version);
        }
        assert_ne!(identity.with(1).with(2), identity.with(2).with(1));
    }
}

#[test]
fn where_an_instruction_stands() {
    for layout in layouts() {
        let (bytes, _) = header(&layout);
        let header = CodeHeader::parse(&layout, A, &bytes).unwrap();
        let CodeRange::Inline { start, .. } = header.range else {
            for (instr, position) in [
                (0, Position::At(0)),
                (-2, Position::At(-2)),
                (-3, Position::Outside),
                (1 << 40, Position::Outside),
            ] {
                assert_eq!(header.position(i64::cast_unsigned(instr), false), position);
            }
            continue;
        };
        let first = u64::from(2 * TRACEABLE);
        let end = start.0 + 2 * UNITS;
        for (instr, plain, generator) in [
            (start.0 + first, Position::At(8), Position::At(8)),
            (end - 2, Position::At(98), Position::At(98)),
            // A shim stands before; a generator is complete from the start.
            (start.0, Position::Incomplete, Position::At(0)),
            (start.0 - 2, Position::Incomplete, Position::At(-2)),
            (start.0 - 4, Position::Outside, Position::Outside),
            (end, Position::Outside, Position::Outside),
            // Between two code units.
            (start.0 + first + 1, Position::Outside, Position::Outside),
            (0, Position::Outside, Position::Outside),
            (u64::MAX, Position::Outside, Position::Outside),
        ] {
            assert_eq!(header.position(instr, false), plain, "{instr:#x}");
            assert_eq!(header.position(instr, true), generator, "{instr:#x}");
        }
    }
}
