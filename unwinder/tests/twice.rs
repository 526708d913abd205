//! Two copies in one call: where nothing moves they agree, where a frame moves between them
//! they do not. Some threads alone, without the lists.

#[path = "../../tests/fake/mod.rs"]
mod fake;

use std::cell::Cell;
use std::rc::Rc;

use fake::{Fake, PAGE, Placement, Spec, ThreadSpec, all_builds, mixed, plain};
use onlooker_unwinder::datastack::ChunkKind;
use onlooker_unwinder::frames::Cut;
use onlooker_unwinder::layout::Frames;
use onlooker_unwinder::memory::{
    Class, ReadError, ReadMemory, RecordedMemory, RemoteAddr, Segment,
};
use onlooker_unwinder::plan::Purpose;
use onlooker_unwinder::sampler::{Outcome, Sampler};

/// Memory in which a word changes as soon as it was read whole for the first time.
struct Moving {
    memory: RecordedMemory,
    change: Rc<Cell<Option<(RemoteAddr, u64)>>>,
}

impl ReadMemory for Moving {
    fn read(&mut self, segments: &[Segment], buf: &mut [u8]) -> Result<usize, ReadError> {
        let mut filled = 0;
        for segment in segments {
            let len = segment.len as usize;
            let part = &mut buf[filled..filled + len];
            let got = match self.memory.read(&[*segment], part) {
                Err(error) if filled == 0 => return Err(error),
                Err(_) => 0,
                Ok(got) => got,
            };
            filled += got;
            if got < len {
                break;
            }
            if let Some((addr, value)) = self.change.get()
                && segment.addr <= addr
                && addr.0 + 8 <= segment.addr.0 + u64::from(segment.len)
            {
                self.memory.insert(addr, &value.to_le_bytes());
                self.change.set(None);
            }
        }
        Ok(filled)
    }
}

type Change = Rc<Cell<Option<(RemoteAddr, u64)>>>;

fn moving(fake: &Fake) -> (Sampler<Moving>, Change) {
    let change = Change::default();
    let mut sampler = fake.sampler_of(Moving {
        memory: fake.arena.recorded(),
        change: change.clone(),
    });
    sampler.sample().unwrap();
    for index in 0..sampler.threads().len() {
        sampler.read_copies(index, 3);
    }
    sampler.sample().unwrap();
    (sampler, change)
}

fn kinds() -> [ChunkKind; 2] {
    [ChunkKind::Linked, ChunkKind::Array]
}

#[test]
fn copies_of_a_stack_at_rest_agree_and_cost_no_call() {
    for build in all_builds() {
        for kind in kinds() {
            let thread = |links| ThreadSpec::new(links).chunks(kind, Placement::NewestLowest);
            let spec = Spec::threads(vec![thread(mixed(300)), thread(plain(0))]);
            let fake = Fake::new(&build, &spec);
            let (mut sampler, _) = moving(&fake);
            let before = sampler.cost(Class::Stacks);
            sampler.sample().unwrap();
            fake.assert_whole(&sampler);
            let version = build.layout.version;
            for thread in sampler.threads() {
                assert_eq!(thread.copies_agree, Some(true), "{version} {kind:?}");
            }
            let cost = sampler.cost(Class::Stacks).since(before);
            assert_eq!(cost.calls, 1, "{version} {kind:?}");
        }
    }
}

#[test]
fn a_link_that_moves_between_the_copies_is_noticed() {
    for build in all_builds() {
        for kind in kinds() {
            // Within the top that is read twice.
            for n in [0, 1, 3] {
                let thread = ThreadSpec::new(plain(200)).chunks(kind, Placement::NewestLowest);
                let fake = Fake::new(&build, &Spec::threads(vec![thread]));
                let (mut sampler, change) = moving(&fake);
                let skipped = fake.threads[0].frames[n + 2].addr.0;
                change.set(Some((fake.link(0, n), skipped)));
                sampler.sample().unwrap();
                let version = build.layout.version;
                assert_eq!(change.get(), None, "it moved");
                let agree = sampler.threads()[0].copies_agree;
                assert_eq!(agree, Some(false), "{version} {kind:?} frame {n}");
                // At rest again, the copies agree on the new stack.
                sampler.sample().unwrap();
                assert_eq!(sampler.threads()[0].copies_agree, Some(true));
            }
        }
    }
}

#[test]
fn some_threads_are_sampled_alone() {
    for build in all_builds() {
        let threads = [5, 200, 0, 90].map(|depth| ThreadSpec::new(mixed(depth)));
        let fake = Fake::new(&build, &Spec::threads(threads.to_vec()));
        let mut sampler = fake.sampler();
        sampler.sample().unwrap();
        for some in [&[1][..], &[0, 2], &[3], &[]] {
            for _ in 0..2 {
                let before = sampler.cost(Class::Stacks);
                sampler.sample_some(some, 1).unwrap();
                fake.assert_whole(&sampler);
                let calls = sampler.cost(Class::Stacks).since(before).calls;
                assert!(calls <= 1, "{some:?}: {calls} calls");
            }
        }
        sampler.sample().unwrap();
        fake.assert_whole(&sampler);
    }
}

/// One thread that is read again and again.
fn alone(fake: &Fake) -> (Sampler<Moving>, Change) {
    let (mut sampler, change) = moving(fake);
    sampler.read_ahead(true);
    sampler.leave_locks(true);
    sampler.sample_some(&[0], 1).unwrap();
    sampler.forget_attempts();
    (sampler, change)
}

/// Those whose frames lie in linked chunks.
fn with_chunks() -> impl Iterator<Item = fake::Build> {
    let all = all_builds().into_iter();
    all.filter(|build| matches!(build.layout.frames, Frames::Interpreter(_)))
}

#[test]
fn one_call_has_several_attempts_and_serves_several_samples() {
    for build in with_chunks() {
        let fake = Fake::new(&build, &Spec::threads(vec![ThreadSpec::new(plain(200))]));
        let (mut sampler, change) = alone(&fake);
        let skipped = fake.threads[0].frames[3].addr.0;
        change.set(Some((fake.link(0, 1), skipped)));
        let before = sampler.cost(Class::Stacks);
        let version = build.layout.version;
        let used = sampler.sample_some(&[0], 10).unwrap();
        assert_eq!(used, 1, "{version}: the attempts behind it show its stack");
        assert_eq!(sampler.threads()[0].copies_agree, Some(true), "{version}");
        assert_eq!(
            sampler.threads()[0].frames.len(),
            fake.threads[0].frames.len() - 1
        );
        for _ in 0..5 {
            assert_eq!(sampler.sample_some(&[0], 10), Ok(1), "{version}");
            assert!(sampler.threads()[0].is_whole(), "{version}");
        }
        let cost = sampler.cost(Class::Stacks).since(before);
        assert_eq!(cost.calls, 1, "{version}");
        // A new instant is a new call.
        sampler.forget_attempts();
        sampler.sample_some(&[0], 10).unwrap();
        assert_eq!(sampler.cost(Class::Stacks).since(before).calls, 2);
    }
}

#[test]
fn what_is_read_once_belongs_to_the_attempt_or_it_is_none() {
    for build in with_chunks() {
        let fake = Fake::new(&build, &Spec::threads(vec![ThreadSpec::new(plain(400))]));
        let (mut sampler, change) = alone(&fake);
        // A frame at the lower end of what is read again: below it things may have changed too.
        let plan: Vec<_> = sampler.plan_of_some().slots().to_vec();
        let top = plan
            .iter()
            .find(|slot| slot.purpose == Purpose::Chunk)
            .unwrap();
        let end = top.segment.addr.0 + u64::from(top.segment.len);
        let frames = &fake.threads[0].frames;
        let inside = |addr: RemoteAddr| addr >= top.segment.addr && addr.0 < end;
        let lowest = frames.iter().rposition(|f| inside(f.addr)).unwrap();
        change.set(Some((fake.link(0, lowest - 1), frames[lowest + 1].addr.0)));
        // The attempts behind the first have what it became, and so has what is read once.
        let version = build.layout.version;
        assert_eq!(sampler.sample_some(&[0], 1), Ok(1));
        assert_eq!(sampler.threads()[0].copies_agree, Some(true), "{version}");
        assert_eq!(
            sampler.threads()[0].frames.len(),
            frames.len() - 1,
            "{version}"
        );
    }
}

#[test]
fn a_thread_state_that_is_given_up_behind_its_stack_has_no_stack() {
    for build in with_chunks() {
        let fake = Fake::new(&build, &Spec::threads(vec![ThreadSpec::new(plain(400))]));
        let (mut sampler, change) = alone(&fake);
        // The attempts behind the first have its frames, but it is no thread of the interpreter.
        let tstate = sampler.threads()[0].tstate;
        let interp = tstate.offset(build.layout.thread.interp).unwrap();
        change.set(Some((interp, 0x1000)));
        let version = build.layout.version;
        assert_eq!(sampler.sample_some(&[0], 10), Ok(1), "{version}");
        assert!(sampler.threads()[0].is_whole(), "{version}");
        assert_eq!(sampler.sample_some(&[0], 10), Ok(1), "{version}");
        let thread = &sampler.threads()[0];
        let cut = Some(Outcome::Cut(Cut::Thread));
        assert_eq!((thread.outcome, thread.frames.len()), (cut, 0), "{version}");
    }
}

/// A thread whose frame objects lie on pages of their own, so that a plan has each only once; and
/// one frame more, which calls nothing yet.
fn scattered(build: &fake::Build) -> Option<(Fake, RemoteAddr)> {
    let Frames::Objects(frame) = build.layout.frames else {
        return None;
    };
    let thread = ThreadSpec::new(plain(40)).heap_stride(PAGE);
    let mut fake = Fake::new(build, &Spec::threads(vec![thread]));
    fake.arena.new_mapping();
    let fresh = fake.arena.alloc(PAGE, PAGE);
    let caller = fake.threads[0].frames[1];
    fake.arena
        .put_u64(RemoteAddr(fresh.0 + frame.back), caller.addr.0);
    fake.arena
        .put_u64(RemoteAddr(fresh.0 + frame.code), caller.code.0);
    fake.arena
        .put_u8(RemoteAddr(fresh.0 + frame.state), frame.running[0]);
    Some((fake, fresh))
}

#[test]
fn a_frame_that_the_plan_lacks_is_of_the_instant_when_all_are_seen_again() {
    for (fake, fresh) in all_builds().iter().filter_map(scattered) {
        let (mut sampler, _) = moving(&fake);
        sampler.sample_some(&[0], 1).unwrap();
        let link = fake.link(0, 0);
        let memory = &mut sampler.memory_mut().inner_mut().memory;
        memory.insert(link, &fresh.0.to_le_bytes());
        let before = sampler.cost(Class::Stacks);
        assert_eq!(sampler.sample_some(&[0], 1), Ok(1));
        let thread = &sampler.threads()[0];
        assert!(thread.is_whole() && thread.frames[1].addr == fresh);
        assert_eq!(thread.copies_agree, Some(true));
        assert!(sampler.calls_of(0) == 2 && sampler.is_one_window(0));
        // The plan, what it lacked, and all again.
        assert_eq!(sampler.cost(Class::Stacks).since(before).calls, 3);
    }
}

#[test]
fn a_frame_object_that_was_popped_before_it_is_seen_again_is_noticed() {
    for build in all_builds() {
        let (Some((fake, _)), Frames::Objects(frame)) = (scattered(&build), build.layout.frames)
        else {
            continue;
        };
        for n in [0, 1, 3] {
            let (mut sampler, change) = moving(&fake);
            // It keeps its code and, for a while, its link.
            let last = fake.threads[0].frames[n].addr.0 + frame.state;
            let popped = u64::from(frame.running[1] + 1) << 56;
            change.set(Some((RemoteAddr(last - 7), popped)));
            sampler.sample_some(&[0], 1).unwrap();
            assert_eq!(change.get(), None, "it was popped");
            let thread = &sampler.threads()[0];
            assert!(thread.is_whole(), "as it was read first");
            let version = build.layout.version;
            assert_eq!(thread.copies_agree, Some(false), "{version} frame {n}");
        }
    }
}
