use super::*;
use crate::layout::{Minor, tables};
use crate::memory::RecordedMemory;

const A: RemoteAddr = RemoteAddr(0x7f00_0000_0000);

fn layouts() -> impl Iterator<Item = Layout> {
    tables::SUPPORTED
        .iter()
        .filter_map(|version| tables::for_version(*version))
}

#[test]
fn every_byte_that_is_read_of_a_thread_state_is_needed() {
    for layout in layouts() {
        let bytes = vec![0; thread_state_bytes(&layout) as usize];
        assert!(thread_state(&layout, A, &bytes).is_some());
        let all_but_a_word = bytes.len() - 8;
        for len in 0..=all_but_a_word {
            assert_eq!(thread_state(&layout, A, &bytes[..len]), None);
        }
    }
}

#[test]
fn the_depth_is_told_only_by_plausible_counters() {
    let layout = tables::for_version(Minor::new(3, 12)).unwrap();
    let recursion = layout.thread.recursion.unwrap();
    for (limit, remaining, depth) in [
        (1000, 990, Some(10)),
        (1000, 1000, Some(0)),
        (1000, 1001, None),
        (i32::MIN, 1, None),
        (i32::MAX, -1, None),
    ] {
        let mut bytes = vec![0; thread_state_bytes(&layout) as usize];
        bytes[recursion.limit as usize..][..4].copy_from_slice(&i32::to_le_bytes(limit));
        bytes[recursion.remaining as usize..][..4].copy_from_slice(&i32::to_le_bytes(remaining));
        let state = thread_state(&layout, A, &bytes).unwrap();
        assert_eq!(state.depth_hint, depth, "{limit} {remaining}");
    }
}

#[test]
fn a_lock_has_a_holder_only_while_it_is_locked() {
    // `last_holder` stays after a release; a lock that is not made yet has -1.
    for (locked, holder) in [(1, A), (0, RemoteAddr::NULL), (-1, RemoteAddr::NULL)] {
        let mut bytes = [0; 24];
        bytes[8..16].copy_from_slice(&A.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&i32::to_le_bytes(locked));
        let mut memory = RecordedMemory::new();
        memory.insert(A, &bytes);
        assert_eq!(gil_holder(&memory, A), Ok(holder));
    }
    let miss = (RemoteAddr(A.0 + GIL_PIECE.0), GIL_PIECE.1);
    assert_eq!(gil_holder(&RecordedMemory::new(), A), Err(miss));
}

#[test]
fn an_interpreter_asks_for_one_piece_after_the_other() {
    for layout in layouts() {
        let mut memory = RecordedMemory::new();
        let pieces = interpreter_pieces(&layout);
        for (offset, len) in pieces.into_iter().filter(|(_, len)| *len > 0) {
            let start = RemoteAddr(A.0 + offset);
            assert_eq!(interpreter(&memory, &layout, A), Err((start, len)));
            memory.insert(start, &vec![0; len as usize]);
        }
        let state = interpreter(&memory, &layout, A).unwrap();
        assert_eq!((state.id, state.next), (0, RemoteAddr::NULL));
        assert_eq!(state.gil.is_some(), layout.interpreter.gil.is_some());
    }
}

#[test]
fn an_address_at_the_end_of_the_world_does_not_overflow() {
    for layout in layouts() {
        let last = RemoteAddr(u64::MAX - 7);
        assert!(interpreter(&RecordedMemory::new(), &layout, last).is_err());
        assert!(gil_holder(&RecordedMemory::new(), last).is_err());
    }
}
