//! Whole stacks of every build, from a fake interpreter in recorded memory.

#[path = "../../tests/fake/mod.rs"]
mod fake;

use fake::{Fake, Placement, Spec, ThreadSpec, all_builds, mixed, plain};
use onlooker_unwinder::datastack::ChunkKind;
use onlooker_unwinder::layout::fields;
use onlooker_unwinder::layout::proof::{self, ProofError};
use onlooker_unwinder::memory::{ReadMemory, RemoteAddr};

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

#[test]
fn names_may_be_empty_but_are_of_type_str() {
    for build in all_builds() {
        let version = build.layout.version;
        let fake = Fake::new(&build, &Spec::threads(vec![ThreadSpec::new(plain(1))]));
        let code = fake.threads[0].frames[0].code;
        let code_fields = &build.layout.code;
        let texts = [
            Some(code_fields.name),
            Some(code_fields.filename),
            code_fields.qualname,
        ];
        for field in texts.into_iter().flatten() {
            let mut sampler = fake.sampler();
            let memory = sampler.memory_mut();
            let text = memory.read_u64(RemoteAddr(code.0 + field)).expect("a str");
            let length = RemoteAddr(text + fields::STR_LENGTH);
            memory.inner_mut().insert(length, &[0; 8]);
            assert_eq!(proof::prove(&mut sampler), Ok(()), "{version}");
            let mut sampler = fake.sampler();
            let memory = sampler.memory_mut();
            let of_code = memory.read_u64(RemoteAddr(code.0 + fields::OB_TYPE));
            let of_code = of_code.expect("a type");
            let at = RemoteAddr(text + fields::OB_TYPE);
            memory.inner_mut().insert(at, &of_code.to_le_bytes());
            assert!(
                matches!(proof::prove(&mut sampler), Err(ProofError::Name { .. })),
                "{version}"
            );
        }
    }
}
