//! What a plan keeps: pieces that come and go cost bytes, not calls, and do not pile up.

#[path = "../../tests/fake/mod.rs"]
mod fake;

use fake::{Fake, PAGE, Spec, ThreadSpec, all_builds, plain};
use onlooker_unwinder::layout::Frames;
use onlooker_unwinder::memory::{Class, Cost, RecordedMemory, RemoteAddr};
use onlooker_unwinder::sampler::Sampler;

/// A thread whose second newest frame is one of many generators, each on a page of its own.
struct Changing {
    fake: Fake,
    generators: Vec<RemoteAddr>,
    memory: RecordedMemory,
    sampler: Sampler<RecordedMemory>,
}

impl Changing {
    fn new(build: &fake::Build, count: usize) -> Self {
        let spec = Spec::threads(vec![ThreadSpec::new(plain(30)).heap_stride(PAGE)]);
        let mut fake = Fake::new(build, &spec);
        let (back, state) = match build.layout.frames {
            Frames::Objects(frame) => (frame.back, Some((frame.state, frame.running[0]))),
            Frames::Interpreter(frame) => (frame.previous, None),
        };
        fake.arena.new_mapping();
        let caller = fake.threads[0].frames[1].addr.0;
        let generators: Vec<_> = (0..count)
            .map(|_| {
                let addr = fake.arena.alloc(PAGE, PAGE);
                fake.arena.put_u64(RemoteAddr(addr.0 + back), caller);
                if let Some((offset, runs)) = state {
                    fake.arena.put_u8(RemoteAddr(addr.0 + offset), runs);
                }
                addr
            })
            .collect();
        Self {
            memory: fake.arena.recorded(),
            sampler: fake.sampler_of(RecordedMemory::new()),
            fake,
            generators,
        }
    }

    /// One sample while generator `n` runs; its cost.
    fn sample(&mut self, n: usize) -> Cost {
        let link = self.fake.link(0, 0);
        let generator = self.generators[n];
        self.memory.insert(link, &generator.0.to_le_bytes());
        std::mem::swap(self.sampler.memory_mut().inner_mut(), &mut self.memory);
        let before = self.sampler.cost(Class::Stacks);
        self.sampler.sample().unwrap();
        std::mem::swap(self.sampler.memory_mut().inner_mut(), &mut self.memory);
        let thread = &self.sampler.threads()[0];
        assert!(thread.is_whole() && thread.frames.len() == 31);
        assert_eq!(thread.frames[1].addr, generator);
        self.sampler.cost(Class::Stacks).since(before)
    }
}

#[test]
fn a_few_generators_in_turn_cost_one_call() {
    for build in all_builds() {
        let mut target = Changing::new(&build, 40);
        for n in 0..40 {
            target.sample(n);
        }
        for n in (0..200).map(|i| i * 7 % 40) {
            let cost = target.sample(n);
            assert_eq!(cost.calls, 1, "{}", build.layout.version);
        }
    }
}

#[test]
fn generators_that_never_come_back_do_not_pile_up() {
    for build in all_builds() {
        let mut target = Changing::new(&build, 600);
        let rest = target.sample(0).segments.max(target.sample(0).segments);
        for n in 1..600 {
            let cost = target.sample(n);
            assert!(cost.calls <= 2, "{}: {cost:?}", build.layout.version);
            // The stack's own pieces, one new, and at most 64 that are kept for their return.
            assert!(cost.segments <= rest + 70, "sample {n}: {cost:?}");
        }
    }
}

#[test]
fn a_piece_is_dropped_when_it_was_not_needed_for_long() {
    let build = fake::build(13);
    let mut target = Changing::new(&build, 3);
    target.sample(0);
    target.sample(0);
    let alone = target.sample(0);
    target.sample(1);
    let both = target.sample(0);
    assert_eq!(both.segments, alone.segments + 1, "kept");
    for _ in 0..1100 {
        target.sample(0);
    }
    assert_eq!(target.sample(0), alone, "dropped");
}
