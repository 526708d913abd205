//! What a sample costs in calls, segments and bytes: exact counts.

#[path = "../../tests/fake/mod.rs"]
mod fake;

use fake::{Fake, Kind, Link, PAGE, Placement, Spec, ThreadSpec, all_builds, build, mixed, plain};
use onlooker_unwinder::datastack::ChunkKind;
use onlooker_unwinder::memory::{Class, Cost, ReadMemory};
use onlooker_unwinder::sampler::Sampler;

fn sample<M: ReadMemory>(fake: &Fake, sampler: &mut Sampler<M>) -> Cost {
    let before = sampler.cost(Class::Stacks);
    sampler.sample().unwrap();
    fake.assert_whole(sampler);
    sampler.cost(Class::Stacks).since(before)
}

/// The cost of a sample from known thread states, then of one from its plan.
fn cold_and_warm(fake: &Fake) -> (Cost, Cost) {
    let mut sampler = fake.sampler();
    sample(fake, &mut sampler);
    sampler.forget_stacks();
    let cold = sample(fake, &mut sampler);
    (cold, sample(fake, &mut sampler))
}

fn live_bytes(fake: &Fake) -> u64 {
    let chunks = fake.threads.iter().flat_map(|t| &t.chunks);
    chunks.map(|c| c.live_end.0 - c.addr.0).sum()
}

fn of_kind(kind: Kind, count: usize) -> Vec<Link> {
    vec![Link { kind, words: 20 }; count]
}

#[test]
fn a_thousand_plain_frames_are_one_call_warm() {
    for build in all_builds().iter().filter(|b| b.has_data_stack()) {
        let threads = vec![ThreadSpec::new(plain(1000))];
        let fake = Fake::new(build, &Spec::threads(threads));
        let (cold, warm) = cold_and_warm(&fake);
        assert_eq!(warm.calls, 1, "{}", build.layout.version);
        assert!(warm.bytes <= live_bytes(&fake) + (24 << 10), "{warm:?}");
        // The thread states; then one run of chunks, whose first read goes past the newest.
        assert!(cold.calls <= 3, "{cold:?}");
        assert!(cold.bytes <= live_bytes(&fake) + (192 << 10), "{cold:?}");
    }
}

#[test]
fn cold_calls_grow_with_the_runs_of_chunks_only() {
    for placement in [
        Placement::NewestLowest,
        Placement::NewestHighest,
        Placement::Apart,
    ] {
        let thread = ThreadSpec::new(plain(1000)).chunks(ChunkKind::Linked, placement);
        let fake = Fake::new(&build(13), &Spec::threads(vec![thread]));
        let chunks = fake.threads[0].chunks.len();
        // Chunks one below the other are side by side, but each is found only when the one
        // above it is known: a run is one where the newest is the lowest.
        let runs = match placement {
            Placement::NewestLowest => 1,
            _ => chunks as u64,
        };
        let (cold, warm) = cold_and_warm(&fake);
        assert!(cold.calls <= 2 + runs, "{placement:?}: {cold:?}");
        assert_eq!(warm.calls, 1, "{placement:?}");
    }
}

/// The shapes that a thousand frames took on live interpreters, each newest chunk nearly empty.
#[test]
fn three_runs_of_chunks_stay_within_the_budget() {
    for runs in [[1, 8, 1], [3, 3, 4], [2, 7, 1], [3, 6, 1]] {
        for frames in [908, 960, 1000] {
            let thread =
                ThreadSpec::new(plain(frames)).chunks(ChunkKind::Linked, Placement::Runs(runs));
            let fake = Fake::new(&build(14), &Spec::threads(vec![thread]));
            let (cold, warm) = cold_and_warm(&fake);
            assert_eq!(warm.calls, 1, "{runs:?} {frames}");
            assert!(cold.calls <= 2 + 3, "{runs:?} {frames}: {cold:?}");
            let budget = live_bytes(&fake) + (192 << 10);
            assert!(cold.bytes <= budget, "{runs:?} {frames}: {cold:?} {budget}");
        }
    }
}

#[test]
fn chunks_of_the_array_cost_the_same() {
    for placement in [Placement::NewestLowest, Placement::Apart] {
        let thread = ThreadSpec::new(plain(1000)).chunks(ChunkKind::Array, placement);
        let fake = Fake::new(&build(15), &Spec::threads(vec![thread]));
        let (cold, warm) = cold_and_warm(&fake);
        assert_eq!(warm.calls, 1, "{placement:?}");
        // The newest chunk is as long as the stack and begins with a hole: the hole is not
        // read again once the frames are known.
        let frames = 1000 * 20 * 8;
        assert!(warm.bytes <= frames + (24 << 10), "{placement:?}: {warm:?}");
        let chunks = fake.threads[0].chunks.len() as u64;
        assert!(cold.calls <= 2 + 2 * chunks, "{placement:?}: {cold:?}");
    }
}

#[test]
fn five_thousand_frames() {
    for build in all_builds() {
        let threads = vec![ThreadSpec::new(plain(5000))];
        let fake = Fake::new(&build, &Spec::threads(threads));
        let (cold, warm) = cold_and_warm(&fake);
        let version = build.layout.version;
        if build.has_data_stack() {
            assert_eq!(warm.calls, 1, "{version}");
            assert!(cold.calls <= 6, "{version}: {cold:?}");
        } else {
            // Frame objects 512 bytes apart merge into one range.
            assert!(warm.calls <= 2, "{version}: {warm:?}");
        }
    }
}

#[test]
fn frame_objects_of_a_thousand_frames() {
    for build in all_builds().iter().filter(|b| !b.has_data_stack()) {
        let threads = vec![ThreadSpec::new(plain(1000)).heap_stride(456)];
        let fake = Fake::new(build, &Spec::threads(threads));
        let (cold, warm) = cold_and_warm(&fake);
        let version = build.layout.version;
        assert!(warm.calls <= 2, "{version}: {warm:?}");
        assert!(cold.calls <= 120, "{version}: {cold:?}");
        assert!(cold.bytes <= 1 << 20, "{version}: {cold:?}");
    }
}

#[test]
fn a_thousand_generators_each_on_its_own_page() {
    for build in all_builds().iter().filter(|b| b.has_data_stack()) {
        let links = of_kind(Kind::Generator, 1000);
        let thread = ThreadSpec::new(links).heap_stride(PAGE);
        let fake = Fake::new(build, &Spec::threads(vec![thread]));
        let (cold, warm) = cold_and_warm(&fake);
        // Each names the next: no reader knows the second before it has the first.
        assert!(cold.calls <= 1002, "{cold:?}");
        assert_eq!(warm.calls, 1, "a thousand segments fit into one call");
        assert!((1000..1024).contains(&warm.segments), "{warm:?}");
    }
}

#[test]
fn entry_frames_are_read_as_a_range() {
    for minor in [12, 13, 14, 15] {
        let mut links = Vec::new();
        for _ in 0..1000 {
            links.extend(of_kind(Kind::Entry, 1));
            links.extend(plain(2));
        }
        let fake = Fake::new(&build(minor), &Spec::threads(vec![ThreadSpec::new(links)]));
        let (cold, warm) = cold_and_warm(&fake);
        assert!(warm.calls <= 2, "3.{minor}: {warm:?}");
        // Read-ahead doubles: 4 KiB, 8 KiB, … up to 256 KiB over 800 KiB of C stack.
        assert!(cold.calls <= 20, "3.{minor}: {cold:?}");
    }
}

#[test]
fn more_than_1024_segments_are_split_between_threads() {
    let thread = || ThreadSpec::new(of_kind(Kind::Generator, 600)).heap_stride(PAGE);
    let spec = Spec::threads(vec![thread(), thread(), thread()]);
    let fake = Fake::new(&build(14), &spec);
    let mut sampler = fake.sampler();
    sample(&fake, &mut sampler);
    let warm = sample(&fake, &mut sampler);
    // 1 800 segments, and two groups of 600 do not fit into one call: three calls, so that
    // every stack comes from one call.
    assert_eq!(warm.calls, 3);
    for index in 0..3 {
        assert_eq!(sampler.calls_of(index), 1, "never split inside a thread");
    }
}

#[test]
fn a_thread_of_more_than_1024_segments_is_split() {
    let thread = ThreadSpec::new(of_kind(Kind::Generator, 1500)).heap_stride(PAGE);
    let fake = Fake::new(&build(14), &Spec::threads(vec![thread]));
    let mut sampler = fake.sampler();
    sample(&fake, &mut sampler);
    let warm = sample(&fake, &mut sampler);
    assert!(warm.calls <= 3, "{warm:?}");
    // One thread's stack from two calls: who checks it must know.
    assert_eq!(sampler.calls_of(0), 2);
}

#[test]
fn sixty_four_threads_are_two_calls() {
    for build in all_builds() {
        let threads = vec![ThreadSpec::new(mixed(20)); 64];
        let fake = Fake::new(&build, &Spec::threads(threads));
        let (_, warm) = cold_and_warm(&fake);
        assert!(warm.calls <= 2, "{}: {warm:?}", build.layout.version);
    }
}

#[test]
fn a_reader_of_the_newest_chunk_only_explodes() {
    let thread = ThreadSpec::new(plain(1000));
    let fake = Fake::new(&build(13), &Spec::threads(vec![thread]));
    let mut sampler = fake.sampler();
    sampler.limit_to_newest_chunk();
    sample(&fake, &mut sampler);
    let warm = sample(&fake, &mut sampler);
    // About a hundred frames stand in the newest chunk; each of the others is a call.
    assert!(warm.calls > 800, "{warm:?}");
}

#[test]
fn counts_are_conserved() {
    for build in all_builds() {
        let spec = Spec::threads(vec![ThreadSpec::new(mixed(300)), ThreadSpec::new(plain(9))]);
        let fake = Fake::new(&build, &spec);
        let mut seen = Seen::default();
        let mut sampler = fake.sampler_of(Watching {
            inner: fake.arena.recorded(),
            seen: &mut seen,
        });
        for _ in 0..3 {
            sample(&fake, &mut sampler);
        }
        let cost = sampler.cost(Class::Stacks);
        drop(sampler);
        assert_eq!((cost.calls, cost.segments), (seen.calls, seen.segments));
        assert_eq!(cost.bytes, seen.bytes);
    }
}

#[derive(Debug, Default)]
struct Seen {
    calls: u64,
    segments: u64,
    bytes: u64,
}

/// Counts what really passes, below the type that counts.
struct Watching<'a, M> {
    inner: M,
    seen: &'a mut Seen,
}

impl<M: ReadMemory> ReadMemory for Watching<'_, M> {
    fn read(
        &mut self,
        segments: &[onlooker_unwinder::memory::Segment],
        buf: &mut [u8],
    ) -> Result<usize, onlooker_unwinder::memory::ReadError> {
        let result = self.inner.read(segments, buf);
        self.seen.calls += 1;
        self.seen.segments += segments.len() as u64;
        self.seen.bytes += *result.as_ref().unwrap_or(&0) as u64;
        result
    }
}
