//! Any bytes as a thread's data stack: no panic, an end, chunks that lie in what they claim.
//!
//! `cargo +nightly fuzz run chunks` in `unwinder/`. The input is three words for the thread
//! state, then memory from a fixed address on, so that the fuzzer can find pointers into it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onlooker_unwinder::datastack::{ChainEnd, DataStackState, chain};
use onlooker_unwinder::memory::{Lookup, RecordedMemory, RemoteAddr, u64_at};

const BASE: u64 = 0x10_0000;

fuzz_target!(|input: &[u8]| {
    let word = |at| u64_at(input, at).map(RemoteAddr);
    let (Some(chunk), Some(top), Some(limit)) = (word(0), word(8), word(16)) else {
        return;
    };
    let mut memory = RecordedMemory::new();
    memory.insert(RemoteAddr(BASE), &input[24..]);
    let mut chunks = Vec::new();
    let state = DataStackState { chunk, top, limit };
    let end = chain(&memory, state, &mut chunks);
    for chunk in &chunks {
        assert!(memory.bytes(chunk.addr, 24).is_some(), "{chunk:?}");
        assert!(chunk.live_end.0 >= chunk.addr.0 + chunk.kind.header_bytes());
        assert!(chunk.live_end.0 <= chunk.addr.0 + chunk.size, "{chunk:?}");
        assert!(!chunk.holds(RemoteAddr(u64::MAX), 8));
    }
    match end {
        ChainEnd::Miss(addr) => assert!(memory.bytes(addr, 24).is_none()),
        ChainEnd::Broken(error) => assert!(!error.to_string().is_empty()),
        ChainEnd::Complete => {}
    }
});
