//! A thread that is preempted while it enters Python code from C: its newest `_PyCFrame` is linked
//! and not filled yet (3.11, 3.12), so it says what was there before.

#[path = "../../tests/fake/mod.rs"]
mod fake;

use fake::{Fake, Spec, ThreadSpec, UNMAPPED, build, plain};
use onlooker_unwinder::layout::FrameRoot;
use onlooker_unwinder::memory::RemoteAddr;
use onlooker_unwinder::sampler::{Outcome, Thread};

const DEPTH: usize = 50;
/// Behind the `_PyCFrame` that the thread has.
const NEWER: u64 = 128;
/// Behind all live frames of the chunk.
const FREE: u64 = 256;

/// A thread with one more `_PyCFrame` than it has filled, which says `stale`.
fn entering(minor: u8, stale: impl Fn(&Fake) -> RemoteAddr) -> Fake {
    let build = build(minor);
    let FrameRoot::CFrame {
        cframe,
        current_frame,
    } = build.layout.thread.root
    else {
        panic!("3.{minor} has a _PyCFrame");
    };
    let threads = vec![ThreadSpec::new(plain(DEPTH))];
    let mut fake = Fake::new(&build, &Spec::threads(threads));
    let stale = stale(&fake);
    let older = fake.threads[0].cframe.expect("it has one");
    let newer = RemoteAddr(older.0 + NEWER);
    let at = |offset: u64| RemoteAddr(newer.0 + offset);
    fake.arena.put_u64(at(current_frame), stale.0);
    fake.arena.put_u64(at(current_frame + 8), older.0);
    fake.arena.put_u64(fake.thread_field(0, cframe), newer.0);
    fake
}

/// A stack that moves leads nowhere as well: what it says must stay. Then two samples: one that finds
/// the stack, one from the plan, in one call.
fn is_seen(fake: &Fake) {
    let mut sampler = fake.sampler();
    for _ in 0..3 {
        let is_believed = |thread: &Thread| thread.is_whole() && thread.copies_agree != Some(false);
        assert!(!sampler.threads().iter().any(is_believed));
        sampler.sample().unwrap();
    }
    fake.assert_whole(&sampler);
    sampler.sample().unwrap();
    fake.assert_whole(&sampler);
    assert!(sampler.is_one_window(0), "what stale words lead to is void");
}

#[test]
fn no_pointer_at_all() {
    for minor in [11, 12] {
        for stale in [0x41, 1 << 60, u64::MAX] {
            is_seen(&entering(minor, |_| RemoteAddr(stale)));
        }
    }
}

#[test]
fn a_pointer_to_what_is_not_there() {
    for minor in [11, 12] {
        is_seen(&entering(minor, |_| UNMAPPED));
    }
}

#[test]
fn a_frame_that_is_not_linked_yet() {
    for minor in [11, 12] {
        is_seen(&entering(minor, |fake| {
            // Its memory is that of frames which have returned, and zero.
            RemoteAddr(fake.threads[0].chunks[0].live_end.0 + FREE)
        }));
    }
}

#[test]
fn the_one_before_may_be_broken_as_well() {
    for minor in [11, 12] {
        let mut fake = entering(minor, |_| RemoteAddr(1 << 60));
        let older = fake.threads[0].cframe.expect("it has one");
        let FrameRoot::CFrame { current_frame, .. } = fake.build.layout.thread.root else {
            panic!("3.{minor} has a _PyCFrame");
        };
        fake.arena
            .put_u64(RemoteAddr(older.0 + current_frame), u64::MAX);
        let mut sampler = fake.sampler();
        for _ in 0..4 {
            sampler.sample().unwrap();
        }
        let outcome = sampler.threads()[0].outcome;
        assert!(matches!(outcome, Some(Outcome::Cut(_))), "{outcome:?}");
    }
}
