//! Broken lists of interpreters and threads, and thread states that have no stack to show.

#[path = "../../tests/fake/mod.rs"]
mod fake;

use fake::{Fake, Kind, Link, PAGE, Spec, ThreadSpec, UNMAPPED, all_builds, build, plain};
use onlooker_unwinder::frames::Cut;
use onlooker_unwinder::memory::{Class, RecordedMemory, RemoteAddr};
use onlooker_unwinder::sampler::{Outcome, Sampler, Thread};

/// Two interpreters, the newer (first) with two threads, the main one with three.
fn two_interpreters(minor: u8) -> Fake {
    let thread = || ThreadSpec::new(plain(5));
    let spec = Spec {
        interpreters: vec![vec![thread(), thread(), thread()], vec![thread(), thread()]],
        holder: None,
        depth_hint: true,
    };
    Fake::new(&build(minor), &spec)
}

fn sampled(fake: &Fake) -> Sampler<RecordedMemory> {
    let mut sampler = fake.sampler();
    for _ in 0..2 {
        sampler.sample().unwrap();
    }
    sampler
}

#[test]
fn a_circle_of_threads_is_torn_and_each_is_shown_once() {
    for minor in 8..=15 {
        for back_to in 2..5 {
            let mut fake = two_interpreters(minor);
            let next = fake.build.layout.thread.next;
            let oldest = fake.thread_field(4, next);
            let value = fake.threads[back_to].tstate.0;
            fake.arena.put_u64(oldest, value);
            let sampler = sampled(&fake);
            assert_eq!(sampler.lists_cut(), Some(Cut::Torn), "3.{minor}");
            assert_eq!(sampler.threads().len(), 5, "3.{minor}");
            assert!(sampler.threads().iter().all(Thread::is_whole));
        }
    }
}

#[test]
fn a_thread_list_that_leads_nowhere_says_so() {
    for minor in 8..=15 {
        for (value, cut) in [
            (UNMAPPED.0, Cut::Unreadable),
            (4, Cut::Torn),
            (1 << 60, Cut::Torn),
        ] {
            let mut fake = two_interpreters(minor);
            let next = fake.build.layout.thread.next;
            // After the second thread of the newer interpreter: the main one is not reached.
            let field = fake.thread_field(1, next);
            fake.arena.put_u64(field, value);
            let sampler = sampled(&fake);
            assert_eq!(sampler.lists_cut(), Some(cut), "3.{minor} {value:#x}");
            let whole = sampler.threads().iter().filter(|t| t.is_whole()).count();
            assert_eq!(whole, 2, "3.{minor} {value:#x}");
        }
    }
}

#[test]
fn a_circle_of_interpreters_is_torn() {
    for minor in 8..=15 {
        let mut fake = two_interpreters(minor);
        let main = fake.interpreters[1];
        let next = RemoteAddr(main.0 + fake.build.layout.interpreter.next);
        for back_to in 0..2 {
            let value = fake.interpreters[back_to].0;
            fake.arena.put_u64(next, value);
            let sampler = sampled(&fake);
            assert_eq!(sampler.lists_cut(), Some(Cut::Torn), "3.{minor}");
            assert_eq!(sampler.interpreters().len(), 2);
            assert_eq!(sampler.threads().len(), 5);
        }
    }
}

#[test]
fn an_interpreter_list_that_leads_nowhere_says_so() {
    for minor in 8..=15 {
        for (value, cut) in [(UNMAPPED.0, Cut::Unreadable), (12, Cut::Torn)] {
            let mut fake = two_interpreters(minor);
            let next = fake.interpreters[0].0 + fake.build.layout.interpreter.next;
            fake.arena.put_u64(RemoteAddr(next), value);
            let sampler = sampled(&fake);
            assert_eq!(sampler.lists_cut(), Some(cut), "3.{minor} {value:#x}");
            assert_eq!(sampler.threads().len(), 2);
            assert!(sampler.threads().iter().all(Thread::is_whole));
        }
    }
}

#[test]
fn a_process_without_interpreters_has_no_threads() {
    for minor in 8..=15 {
        let mut fake = two_interpreters(minor);
        let head = fake.runtime.0 + fake.build.layout.runtime.interpreters_head;
        fake.arena.put_u64(RemoteAddr(head), 0);
        let sampler = sampled(&fake);
        assert_eq!(sampler.lists_cut(), None);
        assert!(sampler.threads().is_empty() && sampler.interpreters().is_empty());
    }
}

#[test]
fn a_thread_state_of_another_interpreter_is_no_thread() {
    for minor in 8..=15 {
        let mut fake = two_interpreters(minor);
        let field = fake.thread_field(1, fake.build.layout.thread.interp);
        let value = fake.interpreters[1].0;
        fake.arena.put_u64(field, value);
        let sampler = sampled(&fake);
        let outcomes: Vec<_> = sampler.threads().iter().map(|t| t.outcome).collect();
        assert_eq!(outcomes[1], Some(Outcome::Cut(Cut::Thread)), "3.{minor}");
        assert_eq!(outcomes[0], Some(Outcome::Whole));
        assert_eq!(sampler.lists_cut(), None, "its link is still good");
    }
}

#[test]
fn a_thread_that_has_left_the_lists_is_told_from_one_that_is_broken() {
    for minor in 8..=15 {
        let fake = two_interpreters(minor);
        let layout = &fake.build.layout;
        let change = |field: RemoteAddr, value: u64| {
            let mut sampler = sampled(&fake);
            let memory = sampler.memory_mut().inner_mut();
            memory.insert(field, &value.to_le_bytes());
            let listed = |index| sampler.is_listed(index).unwrap();
            (0..5).map(listed).collect::<Vec<_>>()
        };
        let interp = fake.thread_field(1, layout.thread.interp);
        let all = vec![true; 5];
        assert_eq!(change(interp, 0x1000), all, "3.{minor}: it is still listed");
        // The newer interpreter's second thread ends: the first one leads to nobody.
        let next = fake.thread_field(0, layout.thread.next);
        let without = [true, false, true, true, true];
        assert_eq!(change(next, 0), without, "3.{minor}");
        assert_eq!(change(next, UNMAPPED.0), all, "3.{minor}: nothing is known");
        // The newer interpreter ends.
        let head = RemoteAddr(fake.runtime.0 + layout.runtime.interpreters_head);
        let without = [false, false, true, true, true];
        assert_eq!(change(head, fake.interpreters[1].0), without, "3.{minor}");
    }
}

#[test]
fn a_thread_state_that_is_made_or_torn_down_has_no_stack() {
    for build in all_builds() {
        let Some(status) = build.layout.thread.status else {
            continue;
        };
        let made = status.alive & (status.alive - 1);
        let torn_down = status.dead & status.dead.wrapping_neg();
        for bits in [0, made, status.alive | torn_down, status.dead] {
            if bits == status.alive {
                continue;
            }
            let mut fake = Fake::new(&build, &Spec::threads(vec![ThreadSpec::new(plain(5))]));
            let word = fake.thread_field(0, status.word);
            fake.arena.put_u32(word, bits);
            let sampler = sampled(&fake);
            assert_eq!(sampler.threads()[0].outcome, Some(Outcome::NotAlive));
        }
    }
}

#[test]
fn a_thread_that_ends_is_dropped_and_one_that_starts_is_found() {
    for minor in 8..=15 {
        let mut fake = two_interpreters(minor);
        let whole = fake.clone();
        let next = fake.thread_field(2, fake.build.layout.thread.next);
        let (middle, oldest) = (fake.threads[3].tstate, fake.threads[4].tstate.0);
        fake.arena.put_u64(next, oldest);
        fake.threads.remove(3);
        let mut sampler = fake.sampler();
        sampler.sample().unwrap();
        fake.assert_whole(&sampler);
        *sampler.memory_mut().inner_mut() = whole.arena.recorded();
        sampler.sample().unwrap();
        whole.assert_whole(&sampler);
        *sampler.memory_mut().inner_mut() = fake.arena.recorded();
        sampler.sample().unwrap();
        fake.assert_whole(&sampler);
        assert!(sampler.threads().iter().all(|t| t.tstate != middle));
    }
}

#[test]
fn more_threads_than_calls_are_not_passed_off_as_all() {
    // Each thread state names the next: a new one costs a call, and a sample has a limit.
    const COUNT: usize = 5000;
    let build = build(10);
    let mut fake = Fake::new(&build, &Spec::threads(vec![ThreadSpec::new(plain(1))]));
    let first = fake.threads[0].clone();
    fake.arena.new_mapping();
    let mut next = fake.thread_field(0, build.layout.thread.next);
    for _ in 1..COUNT {
        let tstate = fake.arena.alloc(512, 16);
        fake.arena.put_u64(next, tstate.0);
        let interp = RemoteAddr(tstate.0 + build.layout.thread.interp);
        fake.arena.put_u64(interp, first.interpreter.0);
        next = RemoteAddr(tstate.0 + build.layout.thread.next);
    }
    let mut sampler = fake.sampler();
    sampler.sample().unwrap();
    assert!(sampler.threads().len() < COUNT);
    assert_eq!(sampler.lists_cut(), Some(Cut::Rounds));
    sampler.sample().unwrap();
    assert_eq!(sampler.threads().len(), COUNT);
    assert_eq!(sampler.lists_cut(), None);
}

#[test]
fn threads_behind_a_cut_keep_what_was_learnt_of_them() {
    for minor in 8..=15 {
        let whole = two_interpreters(minor);
        let mut broken = whole.clone();
        let field = broken.thread_field(2, broken.build.layout.thread.next);
        broken.arena.put_u64(field, 4);
        let mut sampler = whole.sampler();
        sampler.sample().unwrap();
        *sampler.memory_mut().inner_mut() = broken.arena.recorded();
        sampler.sample().unwrap();
        assert_eq!(sampler.lists_cut(), Some(Cut::Torn));
        for thread in &sampler.threads()[3..] {
            assert_eq!(thread.outcome, Some(Outcome::Cut(Cut::Thread)));
        }
        *sampler.memory_mut().inner_mut() = whole.arena.recorded();
        let before = sampler.cost(Class::Stacks);
        sampler.sample().unwrap();
        whole.assert_whole(&sampler);
        assert_eq!(sampler.cost(Class::Stacks).since(before).calls, 1);
    }
}

#[test]
fn calls_are_those_of_the_same_thread_when_another_ends() {
    let generator = Link {
        kind: Kind::Generator,
        words: 20,
    };
    // The oldest thread, last in the list, has more segments than one call takes.
    let large = ThreadSpec::new(vec![generator; 1500]).heap_stride(PAGE);
    let small = || ThreadSpec::new(plain(5));
    let whole = Fake::new(&build(14), &Spec::threads(vec![large, small(), small()]));
    let mut ended = whole.clone();
    let next = ended.thread_field(0, ended.build.layout.thread.next);
    let oldest = ended.threads[2].tstate.0;
    ended.arena.put_u64(next, oldest);
    ended.threads.remove(1);
    let mut sampler = whole.sampler();
    sampler.sample().unwrap();
    sampler.sample().unwrap();
    assert_eq!([0, 1, 2].map(|index| sampler.calls_of(index)), [1, 1, 2]);
    *sampler.memory_mut().inner_mut() = ended.arena.recorded();
    sampler.sample().unwrap();
    ended.assert_whole(&sampler);
    assert_eq!([0, 1, 2].map(|index| sampler.calls_of(index)), [1, 2, 0]);
}
