use super::*;
use crate::memory::RecordedMemory;

const A: u64 = 0x7f00_0000_0000;
const B: u64 = 0x7f00_0010_0000;

fn memory(chunks: &[(u64, [u64; 3])]) -> RecordedMemory {
    let mut memory = RecordedMemory::new();
    for (addr, words) in chunks {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        memory.insert(RemoteAddr(*addr), &bytes);
    }
    memory
}

fn state(chunk: u64, top: u64, limit: u64) -> DataStackState {
    DataStackState {
        chunk: RemoteAddr(chunk),
        top: RemoteAddr(top),
        limit: RemoteAddr(limit),
    }
}

fn follow(memory: &RecordedMemory, state: DataStackState) -> (ChainEnd, Vec<Chunk>) {
    let mut chunks = Vec::new();
    (chain(memory, state, &mut chunks), chunks)
}

fn chunk(kind: ChunkKind, addr: u64, size: u64, live_end: u64) -> Chunk {
    Chunk {
        addr: RemoteAddr(addr),
        size,
        live_end: RemoteAddr(live_end),
        kind,
    }
}

#[test]
fn a_linked_chain_uses_the_top_of_each() {
    // The current chunk's own `top` (999) is stale, the older one's (10 slots) counts.
    let memory = memory(&[(A, [B, 0x4000, 999]), (B, [0, 0x8000, 10])]);
    let (end, chunks) = follow(&memory, state(A, A + 0x100, A + 0x4000));
    assert_eq!(end, ChainEnd::Complete);
    assert_eq!(
        chunks,
        [
            chunk(ChunkKind::Linked, A, 0x4000, A + 0x100),
            chunk(ChunkKind::Linked, B, 0x8000, B + 24 + 80),
        ]
    );
}

#[test]
fn an_array_chain_is_told_by_its_words() {
    // Size first. The older chunk does not say how much of it is in use: all of it counts.
    let memory = memory(&[(A, [0x2000, B, 7]), (B, [0x1000, 0, 7])]);
    let (end, chunks) = follow(&memory, state(A, A + 0x1800, A + 0x2000));
    assert_eq!(end, ChainEnd::Complete);
    assert_eq!(
        chunks,
        [
            chunk(ChunkKind::Array, A, 0x2000, A + 0x1800),
            chunk(ChunkKind::Array, B, 0x1000, B + 0x1000),
        ]
    );
}

#[test]
fn a_single_chunk_of_either_layout_is_told_apart() {
    // A link of NULL and a size: whichever stands first decides.
    for (kind, words, header) in [
        (ChunkKind::Linked, [0, 0x4000, 0], 24),
        (ChunkKind::Array, [0x4000, 0, 0], 16),
    ] {
        let memory = memory(&[(A, words)]);
        let (end, chunks) = follow(&memory, state(A, A + header, A + 0x4000));
        assert_eq!(end, ChainEnd::Complete, "an empty stack is one");
        assert_eq!(chunks, [chunk(kind, A, 0x4000, A + header)]);
    }
}

#[test]
fn headers_that_fit_both_layouts_are_told_by_the_limit() {
    // Both words are multiples of a page, plausible links and plausible sizes: a process
    // whose heap lies this low. Only as an array does the limit lie in the chunk.
    let memory = memory(&[(A, [0x40_0000, 0x20_0000, 0]), (0x20_0000, [0x1000, 0, 0])]);
    let (end, chunks) = follow(&memory, state(A, A + 0x30_0000, A + 0x40_0000));
    assert_eq!(end, ChainEnd::Complete);
    assert_eq!(chunks[0].kind, ChunkKind::Array);
    assert_eq!(chunks.len(), 2);
}

#[test]
fn a_reused_chunk_may_be_longer_than_its_limit() {
    // A cached chunk of a larger size is used again with the limit of the one asked for.
    let memory = memory(&[(A, [0, 0x8000, 0])]);
    let (end, _) = follow(&memory, state(A, A + 0x100, A + 0x4000));
    assert_eq!(end, ChainEnd::Complete);
}

#[test]
fn a_limit_may_be_that_of_a_chunk_that_is_given_back() {
    for freed in [A - 0x10_0000, A + 0x4000, A + 0x20_0000] {
        let memory = memory(&[(A, [0, 0x4000, 0x3000 / 8])]);
        let state = state(A, A + 0x3ff0, freed + 0x4000);
        let (end, chunks) = follow(&memory, state);
        assert_eq!(end, ChainEnd::Complete, "{freed:#x}");
        let expected = chunk(ChunkKind::Linked, A, 0x4000, A + 0x3ff0);
        assert_eq!(chunks, [expected], "{freed:#x}");
        assert!(state.spans(RemoteAddr(A + 0x3f00)), "{freed:#x}");
        assert!(!state.spans(RemoteAddr(A - 8)), "{freed:#x}");
    }
    // No chunk ends there.
    let memory = memory(&[(A, [0, 0x4000, 0])]);
    let (end, _) = follow(&memory, state(A, A + 0x3ff0, B + 8));
    assert!(matches!(end, ChainEnd::Broken(ChunkError::Top { .. })));
}

#[test]
fn a_thread_without_a_chunk_has_an_empty_chain() {
    let (end, chunks) = follow(&RecordedMemory::new(), state(0, 0, 0));
    assert_eq!((end, chunks.len()), (ChainEnd::Complete, 0));
}

#[test]
fn a_top_above_the_limit_is_no_top() {
    let memory = memory(&[(A, [0, 0x8000, 0])]);
    let (end, chunks) = follow(&memory, state(A, A + 0x4008, A + 0x4000));
    let error = ChunkError::Top {
        addr: RemoteAddr(A),
        size: 0x8000,
        top: RemoteAddr(A + 0x4008),
    };
    assert_eq!(end, ChainEnd::Broken(error));
    assert!(chunks.is_empty());
}

#[test]
fn an_older_chunk_of_the_other_layout_is_no_chunk() {
    let memory = memory(&[(A, [B, 0x4000, 0]), (B, [0x4000, 0, 0])]);
    let (end, chunks) = follow(&memory, state(A, A + 0x100, A + 0x4000));
    assert!(matches!(
        end,
        ChainEnd::Broken(ChunkError::Header { first: 0x4000, .. })
    ));
    assert_eq!(chunks.len(), 1, "what comes before the break is good");
}

#[test]
fn a_header_that_is_not_whole_is_a_miss() {
    let mut memory = memory(&[(A, [B, 0x4000, 0])]);
    memory.insert(RemoteAddr(B), &[0; HEADER_BYTES - 1]);
    let (end, chunks) = follow(&memory, state(A, A + 0x100, A + 0x4000));
    assert_eq!(end, ChainEnd::Miss(RemoteAddr(B)));
    assert_eq!(chunks.len(), 1);
}

#[test]
fn a_chain_to_itself_is_a_cycle() {
    let memory = memory(&[(A, [A, 0x4000, 0])]);
    let (end, chunks) = follow(&memory, state(A, A + 0x100, A + 0x4000));
    assert_eq!(end, ChainEnd::Broken(ChunkError::Cycle(RemoteAddr(A))));
    assert!(chunks.len() <= 2);
}

#[test]
fn a_chain_without_end_is_limited() {
    let addr = |n: usize| A + 0x4000 * n as u64;
    let all: Vec<_> = (0..=MAX_CHUNKS)
        .map(|n| (addr(n), [addr(n + 1), 0x4000, 5]))
        .collect();
    let (end, chunks) = follow(&memory(&all), state(A, A + 0x100, A + 0x4000));
    assert_eq!(end, ChainEnd::Broken(ChunkError::TooMany));
    assert_eq!(chunks.len(), MAX_CHUNKS);
}

#[test]
fn a_frame_is_held_only_whole_and_only_in_live_slots() {
    let chunk = chunk(ChunkKind::Linked, A, 0x4000, A + 24 + 88);
    assert!(chunk.holds(RemoteAddr(A + 24), 88));
    assert!(!chunk.holds(RemoteAddr(A + 16), 88), "in the header");
    assert!(!chunk.holds(RemoteAddr(A + 32), 88), "above the top");
    assert!(!chunk.holds(RemoteAddr(u64::MAX - 7), 88));
}
