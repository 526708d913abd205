//! Whatever the memory holds: no panic, an end, bounded buffers, counts that are conserved.

#[path = "../../tests/fake/mod.rs"]
mod fake;

use fake::{BASE, Build, Fake, PAGE, Placement, Spec, ThreadSpec, all_builds, mixed};
use onlooker_unwinder::datastack::ChunkKind;
use onlooker_unwinder::layout::{FrameRoot, proof};
use onlooker_unwinder::memory::{
    Class, ReadError, ReadMemory, RecordedMemory, RemoteAddr, Segment,
};
use onlooker_unwinder::sampler::Sampler;
use onlooker_unwinder::sampler::readahead::Mappings;
use proptest::prelude::*;

/// What reads of broken memory may take in one call. No size in it is anywhere near as small
/// as what it would take to pass this honestly.
const MAX_CALL_BYTES: usize = 64 << 20;

/// Checks every read, and can cut one of them short.
struct Checked<M> {
    inner: M,
    calls: u64,
    segments: u64,
    bytes: u64,
    /// Call, and how many bytes it gives.
    cut_short: Option<(u64, usize)>,
}

impl<M> Checked<M> {
    fn new(inner: M) -> Self {
        Self {
            inner,
            calls: 0,
            segments: 0,
            bytes: 0,
            cut_short: None,
        }
    }
}

impl<M: ReadMemory> ReadMemory for Checked<M> {
    fn read(&mut self, segments: &[Segment], buf: &mut [u8]) -> Result<usize, ReadError> {
        assert!((1..=1024).contains(&segments.len()));
        assert!(segments.iter().all(|s| s.len > 0), "an empty segment");
        assert!(buf.len() <= MAX_CALL_BYTES, "{} bytes", buf.len());
        let asked: u64 = segments.iter().map(|s| u64::from(s.len)).sum();
        assert_eq!(buf.len() as u64, asked);
        let mut got = self.inner.read(segments, buf);
        if let Some((call, bytes)) = self.cut_short
            && call == self.calls
        {
            let bytes = bytes.min(*got.as_ref().unwrap_or(&0));
            got = match bytes {
                0 => Err(ReadError::Unmapped(segments[0].addr)),
                _ => Ok(bytes),
            };
        }
        self.calls += 1;
        self.segments += segments.len() as u64;
        self.bytes += *got.as_ref().unwrap_or(&0) as u64;
        got
    }
}

/// Samples a few times; every thread has an outcome, every count is what really passed.
fn assert_ends(sampler: &mut Sampler<Checked<RecordedMemory>>) {
    for _ in 0..3 {
        sampler.sample().unwrap();
        assert!(sampler.threads().iter().all(|t| t.outcome.is_some()));
        for thread in sampler.threads() {
            assert!(thread.chunks.iter().all(|c| c.live_end.0 >= c.addr.0));
            let _ = (thread.chunk_runs(), thread.live_bytes());
        }
    }
    let cost = sampler.cost(Class::Stacks);
    let seen = sampler.memory_mut().inner_mut();
    let passed = (seen.calls, seen.segments, seen.bytes);
    assert_eq!((cost.calls, cost.segments, cost.bytes), passed);
}

fn any_build() -> impl Strategy<Value = Build> {
    (8_u8..=15).prop_map(fake::build)
}

fn any_fake() -> impl Strategy<Value = Fake> {
    let kind = prop_oneof![Just(ChunkKind::Linked), Just(ChunkKind::Array)];
    let placement = prop_oneof![
        Just(Placement::NewestLowest),
        Just(Placement::NewestHighest),
        Just(Placement::Apart)
    ];
    let shape = (any_build(), kind, placement, 0_usize..300, 0_usize..40);
    shape.prop_map(|(build, kind, placement, deep, shallow)| {
        let threads = [deep, shallow]
            .map(|depth| ThreadSpec::new(mixed(depth)).chunks(kind, placement))
            .to_vec();
        Fake::new(&build, &Spec::threads(threads))
    })
}

/// Words that lead somewhere: every list, chain and root, and the links of some frames.
fn structure(fake: &Fake) -> Vec<RemoteAddr> {
    let layout = &fake.build.layout;
    let mut words = vec![RemoteAddr(
        fake.runtime.0 + layout.runtime.interpreters_head,
    )];
    for interpreter in &fake.interpreters {
        let i = &layout.interpreter;
        let offsets = [i.next, i.threads_head, i.gil.unwrap_or(i.next)];
        words.extend(offsets.map(|offset| RemoteAddr(interpreter.0 + offset)));
    }
    for (n, thread) in fake.threads.iter().enumerate() {
        let t = &layout.thread;
        let root = match t.root {
            FrameRoot::FrameObject { frame } => frame,
            FrameRoot::CFrame { cframe, .. } => cframe,
            FrameRoot::Direct { current_frame, .. } => current_frame,
        };
        let mut offsets = vec![t.next, t.interp, root];
        offsets.extend(
            t.data_stack
                .map(|d| [d.chunk, d.top, d.limit])
                .into_iter()
                .flatten(),
        );
        offsets.extend(t.recursion.map(|r| r.remaining & !7));
        words.extend(offsets.iter().map(|offset| fake.thread_field(n, *offset)));
        for chunk in &thread.chunks {
            words.extend([0, 8, 16].map(|offset| RemoteAddr(chunk.addr.0 + offset)));
        }
        let links = (0..thread.frames.len()).step_by(7);
        words.extend(links.map(|frame| fake.link(n, frame)));
    }
    words
}

/// One change: where (in the structure, or anywhere), and to what.
#[derive(Clone, Debug)]
struct Change {
    structural: bool,
    at: prop::sample::Index,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Any(u64),
    /// Another word of the structure: chains that meet, cross and come back.
    Structure(prop::sample::Index),
    /// Somewhere in memory.
    Inside(prop::sample::Index),
    Pages(u64),
}

fn any_change() -> impl Strategy<Value = Change> {
    let value = prop_oneof![
        any::<u64>().prop_map(Value::Any),
        (0..64_u32).prop_map(|bit| Value::Any(1 << bit)),
        any::<prop::sample::Index>().prop_map(Value::Structure),
        any::<prop::sample::Index>().prop_map(Value::Inside),
        (0_u64..40_000).prop_map(Value::Pages),
    ];
    (
        prop::bool::weighted(0.8),
        any::<prop::sample::Index>(),
        value,
    )
        .prop_map(|(structural, at, value)| Change {
            structural,
            at,
            value,
        })
}

fn apply(fake: &mut Fake, structure: &[RemoteAddr], change: &Change) {
    let words = fake.arena.bytes().len() / 8;
    let word = |index: &prop::sample::Index| RemoteAddr(BASE + 8 * index.index(words) as u64);
    let at = match change.structural {
        true => *change.at.get(structure),
        false => word(&change.at),
    };
    let value = match &change.value {
        Value::Any(value) => *value,
        Value::Structure(index) => index.get(structure).0,
        Value::Inside(index) => word(index).0,
        Value::Pages(count) => count * PAGE,
    };
    fake.arena.put_u64(at, value);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_valid_image_is_read_whole(fake in any_fake()) {
        let mut sampler = fake.sampler_of(Checked::new(fake.arena.recorded()));
        assert_ends(&mut sampler);
        fake.assert_whole(&sampler);
    }

    #[test]
    fn a_changed_image_ends(
        mut fake in any_fake(),
        changes in prop::collection::vec(any_change(), 1..12),
    ) {
        let structure = structure(&fake);
        for change in &changes {
            apply(&mut fake, &structure, change);
        }
        let mut sampler = fake.sampler_of(Checked::new(fake.arena.recorded()));
        assert_ends(&mut sampler);
        let _ = proof::prove(&mut sampler);
    }

    /// The plan's call stops anywhere, once: what did not come is asked for again.
    #[test]
    fn one_short_read_of_a_plan_costs_calls_and_nothing_else(
        fake in any_fake(),
        bytes in any::<prop::sample::Index>(),
    ) {
        let mut sampler = fake.sampler_of(Checked::new(fake.arena.recorded()));
        assert_ends(&mut sampler);
        let warm = sampler.cost(Class::Stacks);
        sampler.sample().unwrap();
        let all = sampler.cost(Class::Stacks).since(warm).bytes as usize;
        let calls = sampler.cost(Class::Stacks).calls;
        sampler.memory_mut().inner_mut().cut_short = Some((calls, bytes.index(all)));
        sampler.sample().unwrap();
        fake.assert_whole(&sampler);
    }

    #[test]
    fn any_memory_ends(
        build in any_build(),
        words in prop::collection::vec(
            prop_oneof![
                Just(0),
                // Anywhere inside, mostly.
                (0_u64..1 << 13).prop_map(|word| BASE + 8 * word),
                (0_u64..1 << 13).prop_map(|word| BASE + 8 * word),
                (0_u64..1 << 4).prop_map(|page| BASE + PAGE * page),
                (1_u64..64).prop_map(|pages| PAGE * pages),
                0_u64..5,
                any::<u64>(),
            ],
            1 << 13,
        ),
    ) {
        let mut memory = RecordedMemory::new();
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        memory.insert(RemoteAddr(BASE), &bytes);
        let layout = build.layout;
        let mut sampler = Sampler::new(Checked::new(memory), layout, RemoteAddr(BASE));
        sampler.set_mappings(Mappings::new(vec![(BASE, BASE + bytes.len() as u64)]));
        assert_ends(&mut sampler);
        let _ = proof::prove(&mut sampler);
    }
}

#[test]
fn every_build_has_a_structure_to_break() {
    for build in all_builds() {
        let fake = Fake::new(&build, &Spec::threads(vec![ThreadSpec::new(mixed(50))]));
        assert!(structure(&fake).len() > 10);
    }
}
