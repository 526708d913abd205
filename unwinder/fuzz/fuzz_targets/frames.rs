//! Any bytes as a whole process: sampling and proof end, and copy no more than a bound.
//!
//! `cargo +nightly fuzz run frames` in `unwinder/`. The first byte chooses the layout; memory
//! begins at a fixed address with the runtime.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onlooker_unwinder::layout::{debug_offsets, proof, tables};
use onlooker_unwinder::memory::{ReadError, ReadMemory, RecordedMemory, RemoteAddr, Segment};
use onlooker_unwinder::sampler::Sampler;
use onlooker_unwinder::sampler::readahead::Mappings;

const BASE: u64 = 0x10_0000;
/// One call copies less, whatever sizes the memory claims.
const MAX_CALL_BYTES: usize = 300 << 20;

struct Bounded(RecordedMemory);

impl ReadMemory for Bounded {
    fn read(&mut self, segments: &[Segment], buf: &mut [u8]) -> Result<usize, ReadError> {
        assert!((1..=1024).contains(&segments.len()));
        assert!(buf.len() <= MAX_CALL_BYTES);
        self.0.read(segments, buf)
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, image)) = input.split_first() else {
        return;
    };
    let version = tables::SUPPORTED[usize::from(*choice) % tables::SUPPORTED.len()];
    let layout = match tables::for_version(version) {
        Some(layout) => layout,
        // The image states its own.
        None => match debug_offsets::parse(image) {
            Ok(layout) => layout,
            Err(_) => return,
        },
    };
    let mut memory = RecordedMemory::new();
    memory.insert(RemoteAddr(BASE), image);
    let mut sampler = Sampler::new(Bounded(memory), layout, RemoteAddr(BASE));
    let end = BASE + image.len() as u64;
    sampler.set_mappings(Mappings::new(vec![(BASE, end)]));
    for _ in 0..2 {
        sampler.sample().expect("a process that does not go away");
        assert!(sampler.threads().iter().all(|t| t.outcome.is_some()));
        let count = sampler.threads().len();
        (0..count).for_each(|index| sampler.read_copies(index, 3));
        let all: Vec<usize> = (0..count).collect();
        sampler.sample_some(&all, 1).expect("the same process");
    }
    let _ = proof::prove(&mut sampler);
});
