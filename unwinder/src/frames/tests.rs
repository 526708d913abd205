use super::*;
use crate::layout::{Frames, InterpreterFrame, Layout, Minor, owner, tables};
use crate::memory::RecordedMemory;

const A: u64 = 0x7f00_0000_0000;

fn layout(minor: u8) -> Layout {
    tables::for_version(Minor::new(3, minor)).unwrap()
}

/// 3.12's frames, where entry frames exist, with the tag bits of 3.14 on top.
fn tagged() -> InterpreterFrame {
    let Frames::Interpreter(frame) = layout(12).frames else {
        panic!("3.12 has interpreter frames");
    };
    InterpreterFrame {
        code_tag_mask: 0b11,
        ..frame
    }
}

/// Writes a frame: its code word, link, instruction and owner.
fn put(memory: &mut RecordedMemory, addr: u64, code: u64, link: u64, owner: u8) {
    let mut bytes = vec![0; tagged().header_bytes as usize];
    bytes[..8].copy_from_slice(&code.to_le_bytes());
    bytes[8..16].copy_from_slice(&link.to_le_bytes());
    bytes[56..64].copy_from_slice(&(addr + 1).to_le_bytes());
    bytes[70] = owner;
    memory.insert(RemoteAddr(addr), &bytes);
}

fn frame(addr: u64, code: u64, owner: u8) -> RawFrame {
    RawFrame {
        addr: RemoteAddr(addr),
        code: RemoteAddr(code),
        instr: addr + 1,
        owner,
    }
}

fn walked(memory: &RecordedMemory, frames: Frames, base: Option<u64>) -> (Progress, Vec<RawFrame>) {
    let mut cursor = Cursor::new(RemoteAddr(A), base.map(RemoteAddr));
    let mut found = Vec::new();
    (
        walk(
            memory,
            &frames,
            &mut cursor,
            &mut found,
            &mut Known::default(),
        ),
        found,
    )
}

#[test]
fn tags_go_and_entry_frames_have_no_code() {
    let mut memory = RecordedMemory::new();
    put(&mut memory, A, 0x5001, A + 0x100, owner::THREAD);
    // What an entry frame names is not code, whatever it is.
    put(&mut memory, A + 0x100, 0x6000, A + 0x200, owner::ENTRY);
    // A NULL with a tag is no code: the frame is being torn down.
    put(&mut memory, A + 0x200, 1, A + 0x300, owner::THREAD);
    put(&mut memory, A + 0x300, 0x7000, 0, owner::GENERATOR);
    let (progress, frames) = walked(&memory, Frames::Interpreter(tagged()), None);
    assert_eq!(progress, Progress::Root);
    assert_eq!(
        frames,
        [
            frame(A, 0x5000, owner::THREAD),
            frame(A + 0x100, 0, owner::ENTRY),
            frame(A + 0x200, 0, owner::THREAD),
            frame(A + 0x300, 0x7000, owner::GENERATOR),
        ]
    );
}

#[test]
fn a_frame_that_is_not_whole_is_a_miss_and_the_walk_goes_on_there() {
    let mut memory = RecordedMemory::new();
    put(&mut memory, A, 0x5000, A + 0x100, owner::THREAD);
    memory.insert(RemoteAddr(A + 0x100), &[0; 71]);
    let layout = Frames::Interpreter(tagged());
    let mut cursor = Cursor::new(RemoteAddr(A), None);
    let (mut frames, mut known) = (Vec::new(), Known::default());
    let progress = walk(&memory, &layout, &mut cursor, &mut frames, &mut known);
    let miss = Progress::Miss {
        addr: RemoteAddr(A + 0x100),
        len: 72,
    };
    assert_eq!((progress, frames.len()), (miss, 1));
    assert_eq!(cursor.next(), RemoteAddr(A + 0x100));
    put(&mut memory, A + 0x100, 0x5000, 0, owner::THREAD);
    let progress = walk(&memory, &layout, &mut cursor, &mut frames, &mut known);
    assert_eq!((progress, frames.len()), (Progress::Root, 2));
}

#[test]
fn a_base_ends_the_chain_and_nothing_else_does() {
    let mut memory = RecordedMemory::new();
    put(&mut memory, A, 0x5000, A + 0x100, owner::THREAD);
    put(&mut memory, A + 0x100, 0x5000, 0, owner::THREAD);
    let layout = Frames::Interpreter(tagged());
    let (progress, frames) = walked(&memory, layout, Some(A + 0x100));
    assert_eq!((progress, frames.len()), (Progress::Root, 1));
    let (progress, frames) = walked(&memory, layout, Some(A + 0x200));
    assert_eq!((progress, frames.len()), (Progress::Cut(Cut::Torn), 2));
    // A thread that runs no Python code: the newest frame is the base.
    let (progress, frames) = walked(&RecordedMemory::new(), layout, Some(A));
    assert_eq!((progress, frames.len()), (Progress::Root, 0));
}

#[test]
fn frame_objects_keep_their_instruction_in_units() {
    for (minor, stored, instr) in [(8, 6, 6), (9, 6, 6), (10, 6, 12)] {
        let layout = layout(minor);
        let Frames::Objects(object) = layout.frames else {
            panic!("3.{minor} has frame objects");
        };
        for (stored, instr) in [(stored, instr), (-1, -i64::from(object.lasti_unit))] {
            let mut memory = RecordedMemory::new();
            let mut bytes = vec![0; 128];
            bytes[object.code as usize..][..8].copy_from_slice(&0x5000_u64.to_le_bytes());
            bytes[object.lasti as usize..][..4].copy_from_slice(&i32::to_le_bytes(stored));
            bytes[object.state as usize] = object.running[1];
            memory.insert(RemoteAddr(A), &bytes);
            let (progress, frames) = walked(&memory, layout.frames, None);
            assert_eq!(progress, Progress::Root);
            assert_eq!(frames[0].instr, instr.cast_unsigned(), "3.{minor}");
            // One that was popped has no caller either, but it is no root.
            bytes[object.state as usize] = object.running[1] + 1;
            memory.insert(RemoteAddr(A), &bytes);
            let (progress, frames) = walked(&memory, layout.frames, None);
            let begun = stored >= 0;
            let expected = (Progress::Cut(Cut::Torn), usize::from(!begun));
            assert_eq!((progress, frames.len()), expected, "3.{minor}");
        }
    }
}

/// `tstate->frame` is a frame that has returned for a moment, and a generator's before it runs.
#[test]
fn only_the_newest_frame_object_may_have_ended() {
    const B: u64 = A + 0x200;
    const C: u64 = A + 0x400;
    for minor in [8, 9, 10] {
        let layout = layout(minor);
        let Frames::Objects(object) = layout.frames else {
            panic!("3.{minor} has frame objects");
        };
        let frame = |memory: &mut RecordedMemory, addr: u64, back: u64, state: u8| {
            let mut bytes = vec![0; 128];
            bytes[object.code as usize..][..8].copy_from_slice(&0x5000_u64.to_le_bytes());
            bytes[object.back as usize..][..8].copy_from_slice(&back.to_le_bytes());
            bytes[object.lasti as usize..][..4].copy_from_slice(&i32::to_le_bytes(6));
            bytes[object.state as usize] = state;
            memory.insert(RemoteAddr(addr), &bytes);
        };
        let (runs, ended) = (object.running[1], object.running[1] + 1);
        let mut memory = RecordedMemory::new();
        frame(&mut memory, A, B, ended);
        frame(&mut memory, B, C, runs);
        frame(&mut memory, C, 0, runs);
        let (progress, frames) = walked(&memory, layout.frames, None);
        let seen: Vec<u64> = frames.iter().map(|frame| frame.addr.0).collect();
        assert_eq!((progress, seen), (Progress::Root, vec![B, C]), "3.{minor}");
        frame(&mut memory, B, C, ended);
        let (progress, _) = walked(&memory, layout.frames, None);
        assert_eq!(progress, Progress::Cut(Cut::Torn), "3.{minor}");
    }
}

#[test]
fn a_circle_is_found_wherever_it_begins() {
    for length in [1_u64, 2, 3, 7, 64, 100] {
        for tail in [0, 1, 5, 90] {
            let mut memory = RecordedMemory::new();
            for n in 0..tail + length {
                let next = if n + 1 == tail + length { tail } else { n + 1 };
                put(&mut memory, A + 0x80 * n, 0x5000, A + 0x80 * next, 0);
            }
            let (progress, frames) = walked(&memory, Frames::Interpreter(tagged()), None);
            assert_eq!(progress, Progress::Cut(Cut::Torn));
            assert!(frames.len() as u64 <= 3 * (tail + length) + 2);
        }
    }
}

#[test]
fn a_chain_without_end_is_limited() {
    // Every word names itself, so that the link of a frame is the frame one word further. Its
    // owner is the byte of an address that is 0: the data stack.
    let bytes: Vec<u8> = (0..MAX_FRAMES as u64 + 64)
        .flat_map(|n| (A + 8 * n).to_le_bytes())
        .collect();
    let mut memory = RecordedMemory::new();
    memory.insert(RemoteAddr(A), &bytes);
    let (progress, frames) = walked(&memory, Frames::Interpreter(tagged()), None);
    assert_eq!(progress, Progress::Cut(Cut::Limit));
    assert_eq!(frames.len(), MAX_FRAMES);
}

#[test]
fn every_reason_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = Cut::ALL.iter().map(|cut| cut.name()).collect();
    assert_eq!(names.len(), Cut::ALL.len());
}
