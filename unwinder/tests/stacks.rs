//! Whole stacks of every build, from a fake interpreter in recorded memory.

#[path = "../../tests/fake/mod.rs"]
mod fake;

use fake::{Fake, Placement, Spec, ThreadSpec, all_builds, mixed, plain};
use onlooker_unwinder::datastack::ChunkKind;
use onlooker_unwinder::layout::proof;

const PLACEMENTS: [Placement; 3] = [
    Placement::NewestLowest,
    Placement::NewestHighest,
    Placement::Apart,
];

#[test]
fn every_build_chunk_kind_and_placement() {
    for build in all_builds() {
        for kind in [ChunkKind::Linked, ChunkKind::Array] {
            for placement in PLACEMENTS {
                let thread = ThreadSpec::new(mixed(600)).chunks(kind, placement);
                let fake = Fake::new(&build, &Spec::threads(vec![thread]));
                if build.has_data_stack() {
                    assert!(fake.threads[0].chunks.len() > 3, "frames span chunks");
                }
                let mut sampler = fake.sampler();
                // Cold, then from the plan that it learnt.
                for _ in 0..3 {
                    sampler.sample().unwrap();
                    fake.assert_whole(&sampler);
                }
            }
        }
    }
}

#[test]
fn interpreters_threads_and_the_holder_of_the_lock() {
    for build in all_builds() {
        let thread = |depth| ThreadSpec::new(plain(depth));
        for holder in [None, Some(0), Some(2)] {
            let spec = Spec {
                interpreters: vec![
                    vec![thread(3), thread(200)],
                    vec![thread(0), thread(1), thread(7)],
                ],
                holder,
                depth_hint: true,
            };
            let fake = Fake::new(&build, &spec);
            let mut sampler = fake.sampler();
            for _ in 0..2 {
                sampler.sample().unwrap();
                let order: Vec<_> = sampler.threads().iter().map(|t| t.tstate).collect();
                let expected: Vec<_> = fake.threads.iter().map(|t| t.tstate).collect();
                assert_eq!(order, expected, "newest first");
                assert_eq!(sampler.interpreters().len(), 2);
                assert_eq!(
                    sampler.interpreters()[1].id,
                    0,
                    "the main one is the oldest"
                );
                fake.assert_whole(&sampler);
            }
        }
    }
}

#[test]
fn every_build_is_proven() {
    for build in all_builds() {
        let spec = Spec::threads(vec![ThreadSpec::new(mixed(60)), ThreadSpec::new(plain(3))]);
        let mut sampler = Fake::new(&build, &spec).sampler();
        assert_eq!(
            proof::prove(&mut sampler),
            Ok(()),
            "{}",
            build.layout.version
        );
    }
}
