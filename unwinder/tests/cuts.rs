//! Broken stacks: each breakage ends in its own typed reason, and what was walked before it is
//! kept. Every image here was valid before one word of it was changed.

#[path = "../../tests/fake/mod.rs"]
mod fake;

use fake::{Build, Fake, Kind, Link, PAGE, Spec, ThreadSpec, UNMAPPED, all_builds, build, plain};
use onlooker_unwinder::frames::Cut;
use onlooker_unwinder::layout::{FrameRoot, Frames};
use onlooker_unwinder::memory::{RecordedMemory, RemoteAddr};
use onlooker_unwinder::sampler::readahead::Mappings;
use onlooker_unwinder::sampler::{Outcome, Sampler, Thread};

/// The frame of which the link is broken, counted from the newest.
const BROKEN: usize = 10;

fn one_thread(build: &Build, depth: usize) -> Fake {
    Fake::new(build, &Spec::threads(vec![ThreadSpec::new(plain(depth))]))
}

/// Samples a broken image twice: a breakage does not heal, nor do its effects pile up.
fn sampled(fake: &Fake) -> Sampler<RecordedMemory> {
    let mut sampler = fake.sampler();
    sampler.sample().unwrap();
    let first = sampler.threads()[0].outcome;
    sampler.sample().unwrap();
    assert_eq!(sampler.threads()[0].outcome, first);
    sampler
}

/// A link of every build is changed to `value`; the stack must be cut there.
fn assert_cut_at_link(value: impl Fn(&Fake) -> u64, cut: Cut) {
    for build in all_builds() {
        let mut fake = one_thread(&build, 200);
        let link = fake.link(0, BROKEN);
        let value = value(&fake);
        fake.arena.put_u64(link, value);
        let sampler = sampled(&fake);
        let thread = &sampler.threads()[0];
        let version = build.layout.version;
        assert_eq!(thread.outcome, Some(Outcome::Cut(cut)), "{version}");
        let good = &fake.threads[0].frames[..=BROKEN];
        assert_eq!(thread.frames.get(..=BROKEN), Some(good), "{version}");
    }
}

#[test]
fn a_link_that_no_frame_can_have_is_torn() {
    for value in [1, 8, 0x7f00_0000_0004, 1 << 60, u64::MAX, u64::MAX - 7] {
        assert_cut_at_link(|_| value, Cut::Torn);
    }
}

#[test]
fn a_link_to_unmapped_memory_is_unreadable() {
    assert_cut_at_link(|_| UNMAPPED.0, Cut::Unreadable);
}

#[test]
fn a_circle_of_frames_is_torn() {
    for back_to in [0, 1, 3, BROKEN] {
        assert_cut_at_link(|fake| fake.threads[0].frames[back_to].addr.0, Cut::Torn);
    }
    // It is found after a small multiple of its length.
    let mut fake = one_thread(&build(13), 200);
    let link = fake.link(0, BROKEN);
    let newest = fake.threads[0].frames[0].addr.0;
    fake.arena.put_u64(link, newest);
    assert!(sampled(&fake).threads()[0].frames.len() <= 4 * (BROKEN + 1));
}

#[test]
fn an_owner_that_does_not_exist_is_torn() {
    for build in all_builds() {
        let Frames::Interpreter(layout) = build.layout.frames else {
            continue;
        };
        // 2 is a frame that left the chain when its frame object took it over.
        let mut owners = vec![2, 5, 0xff];
        if layout.first_entry_owner.is_none() {
            owners.extend([3, 4]);
        }
        for owner in owners {
            let mut fake = one_thread(&build, 200);
            let frame = fake.threads[0].frames[BROKEN].addr;
            fake.arena.put_u8(RemoteAddr(frame.0 + layout.owner), owner);
            let sampler = sampled(&fake);
            let thread = &sampler.threads()[0];
            assert_eq!(thread.outcome, Some(Outcome::Cut(Cut::Torn)));
            assert_eq!(thread.frames, fake.threads[0].frames[..BROKEN]);
        }
    }
}

#[test]
fn with_a_base_frame_only_the_base_ends_a_chain() {
    let mut fake = one_thread(&build(15), 50);
    let oldest = fake.link(0, 49);
    fake.arena.put_u64(oldest, 0);
    let sampler = sampled(&fake);
    assert_eq!(sampler.threads()[0].outcome, Some(Outcome::Cut(Cut::Torn)));
    // Without one, NULL is the end.
    let fake = one_thread(&build(14), 50);
    assert!(sampled(&fake).threads()[0].is_whole());
}

#[test]
fn a_c_frame_that_cannot_be_read() {
    for minor in [11, 12] {
        let build = build(minor);
        let FrameRoot::CFrame { cframe, .. } = build.layout.thread.root else {
            panic!("3.{minor} has a _PyCFrame");
        };
        for value in [UNMAPPED.0, 1 << 60, u64::MAX] {
            let mut fake = one_thread(&build, 50);
            let field = fake.thread_field(0, cframe);
            fake.arena.put_u64(field, value);
            let sampler = sampled(&fake);
            let thread = &sampler.threads()[0];
            assert_eq!(thread.outcome, Some(Outcome::Cut(Cut::Unreadable)));
            assert!(thread.frames.is_empty());
        }
    }
}

#[test]
fn a_stack_that_takes_too_many_calls_is_cut_and_then_learnt() {
    let link = Link {
        kind: Kind::Generator,
        words: 20,
    };
    let thread = ThreadSpec::new(vec![link; 5000]).heap_stride(PAGE);
    let fake = Fake::new(&build(14), &Spec::threads(vec![thread]));
    let mut sampler = fake.sampler();
    // Where mappings are not known, nothing is read ahead.
    sampler.set_mappings(Mappings::default());
    sampler.sample().unwrap();
    let thread = &sampler.threads()[0];
    assert_eq!(thread.outcome, Some(Outcome::Cut(Cut::Rounds)));
    assert!(thread.frames.len() > 4000);
    // What was found so far is good: the next sample starts from it.
    sampler.sample().unwrap();
    fake.assert_whole(&sampler);
}

#[test]
fn one_bad_thread_does_not_cost_the_others() {
    for build in all_builds() {
        let thread = || ThreadSpec::new(plain(50));
        let mut fake = Fake::new(&build, &Spec::threads(vec![thread(), thread(), thread()]));
        let link = fake.link(1, BROKEN);
        fake.arena.put_u64(link, 4);
        let sampler = sampled(&fake);
        assert_eq!(sampler.lists_cut(), None);
        let whole: Vec<bool> = sampler.threads().iter().map(Thread::is_whole).collect();
        assert_eq!(whole, [true, false, true]);
    }
}
