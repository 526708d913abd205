//! The real reader over a fake interpreter in another process.
//!
//! The child is this very program, told by its environment to be the target: it lays out an
//! image in its own memory, writes one line with the address, and waits for the end of its
//! standard input. The parent lays out the same image at the same address to know the answer.

#[path = "fake/mod.rs"]
mod image;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use image::{Fake, Kind, Link, PAGE, Placement, Spec, ThreadSpec};
use image::{all_builds, build, mixed, plain};
use onlooker_unwinder::datastack::{ChunkError, ChunkKind};
use onlooker_unwinder::frames::Cut;
use onlooker_unwinder::layout::{debug_offsets, proof};
use onlooker_unwinder::memory::{Class, Cost, LiveMemory, ReadError, ReadMemory, RemoteAddr};
use onlooker_unwinder::sampler::{Outcome, Sampler};

/// Set in a child: the scenario, and the build's minor version.
const CHILD: &str = "ONLOOKER_TEST_FAKE";
/// What a child writes before its address; the test runner writes lines of its own.
const READY: &str = "fake interpreter at ";
/// More than the largest image has.
const ARENA_BYTES: usize = 64 << 20;

/// Every image that a child can lay out, at a base address.
fn lay_out(scenario: &str, minor: u8, base: u64) -> Fake {
    let generator = Link {
        kind: Kind::Generator,
        words: 20,
    };
    let thread = ThreadSpec::new;
    let threads = match scenario {
        "mixed" => vec![
            thread(mixed(600)),
            thread(mixed(300)).chunks(ChunkKind::Array, Placement::Apart),
            thread(mixed(300)).chunks(ChunkKind::Linked, Placement::NewestHighest),
            thread(plain(0)),
        ],
        "broken" => vec![thread(mixed(500)).chunks(ChunkKind::Linked, Placement::Apart); 5],
        "plain" => vec![thread(plain(1000))],
        "deep" => vec![thread(plain(5000))],
        "array" => vec![thread(plain(1000)).chunks(ChunkKind::Array, Placement::Apart)],
        "generators" => vec![thread(vec![generator; 1000]).heap_stride(PAGE)],
        "segments" => vec![thread(vec![generator; 600]).heap_stride(PAGE); 3],
        "threads" => vec![thread(mixed(20)); 64],
        other => panic!("no scenario {other}"),
    };
    let mut fake = Fake::at(base, &build(minor), &Spec::threads(threads));
    if scenario == "broken" {
        break_all_but_the_last(&mut fake);
    }
    fake
}

/// Thread 0: a link to an address that cannot be; 1: a circle; 2: a link to unmapped memory;
/// 3: an absurd chunk.
fn break_all_but_the_last(fake: &mut Fake) {
    let [first, second, third] = [0, 1, 2].map(|thread| fake.link(thread, 20));
    let newest = fake.threads[1].frames[0].addr.0;
    fake.arena.put_u64(first, 1 << 60);
    fake.arena.put_u64(second, newest);
    fake.arena.put_u64(third, image::UNMAPPED.0);
    if let Some(chunk) = fake.threads[3].chunks.get(2) {
        let size = RemoteAddr(chunk.addr.0 + 8);
        fake.arena.put_u64(size, 1 << 60);
    }
}

/// Not a test of its own: the target of the others.
#[test]
fn child() {
    let Ok(what) = std::env::var(CHILD) else {
        return;
    };
    let (scenario, minor) = what.split_once(' ').expect("scenario and version");
    let mut memory = vec![0_u8; ARENA_BYTES];
    let start = memory.as_ptr() as u64;
    let base = start.next_multiple_of(PAGE);
    let fake = lay_out(scenario, minor.parse().expect("a number"), base);
    let from = (base - start) as usize;
    memory[from..from + fake.arena.bytes().len()].copy_from_slice(fake.arena.bytes());
    // Or the compiler sees that nobody reads it.
    let memory = std::hint::black_box(memory);
    println!("{READY}{base:#x}");
    std::io::stdout().flush().expect("standard output");
    let _ = std::io::stdin().read(&mut [0]);
    drop(memory);
}

/// A running fake interpreter, ended with the value.
struct Target {
    child: Child,
    stdin: Option<ChildStdin>,
    /// Open, because the test runner in the child has something to say at its end.
    _stdout: BufReader<ChildStdout>,
    fake: Fake,
}

impl Target {
    fn start(scenario: &str, minor: u8) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(CHILD, format!("{scenario} {minor}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let mut stdout = BufReader::new(child.stdout.take().expect("its standard output"));
        let base = stdout
            .by_ref()
            .lines()
            .map(|line| line.expect("a line"))
            .find_map(|line| {
                let (_, base) = line.split_once(READY)?;
                Some(base.trim_start_matches("0x").to_owned())
            })
            .expect("a child that gets ready");
        let base = u64::from_str_radix(&base, 16).expect("an address");
        Self {
            stdin: child.stdin.take(),
            _stdout: stdout,
            child,
            fake: lay_out(scenario, minor, base),
        }
    }

    fn memory(&self) -> LiveMemory {
        LiveMemory::new(self.child.id().cast_signed())
    }

    fn sampler(&self) -> Sampler<LiveMemory> {
        self.fake.sampler_of(self.memory())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// Costs of a cold sample from known thread states and of a warm one, both right.
fn cold_and_warm(scenario: &str, minor: u8) -> (Target, Cost, Cost) {
    let target = Target::start(scenario, minor);
    let mut sampler = target.sampler();
    sampler.sample().unwrap();
    target.fake.assert_whole(&sampler);
    sampler.forget_stacks();
    let costs = [0, 1].map(|_| {
        let before = sampler.cost(Class::Stacks);
        sampler.sample().unwrap();
        target.fake.assert_whole(&sampler);
        sampler.cost(Class::Stacks).since(before)
    });
    (target, costs[0], costs[1])
}

#[test]
fn every_build_is_proven_and_read_from_outside() {
    for build in all_builds() {
        let minor = build.layout.version.minor;
        let (target, _, _) = cold_and_warm("mixed", minor);
        let mut memory = target.memory();
        if !build.debug_offsets.is_empty() {
            // The layout that the target itself states.
            let mut table = [0; debug_offsets::TABLE_BYTES];
            memory.read_exact(target.fake.runtime, &mut table).unwrap();
            assert_eq!(debug_offsets::parse(&table).as_ref(), Ok(&build.layout));
        }
        assert_eq!(proof::prove(&mut target.sampler()), Ok(()), "3.{minor}");
    }
}

#[test]
fn broken_threads_end_in_their_reasons_from_outside() {
    for build in all_builds() {
        let target = Target::start("broken", build.layout.version.minor);
        let mut sampler = target.sampler();
        for _ in 0..2 {
            sampler.sample().unwrap();
            let threads = sampler.threads();
            let cut = |cut| Some(Outcome::Cut(cut));
            assert_eq!(threads[0].outcome, cut(Cut::Torn), "a link of 2^60");
            assert_eq!(threads[1].outcome, cut(Cut::Torn), "a circle");
            assert_eq!(threads[2].outcome, cut(Cut::Unreadable), "unmapped");
            for (found, laid_out) in threads.iter().zip(&target.fake.threads) {
                let shared = found.frames.len().min(21);
                assert!(shared == 21 && found.frames[..21] == laid_out.frames[..21]);
            }
            if build.has_data_stack() {
                let error = threads[3].chunk_error;
                assert!(
                    matches!(error, Some(ChunkError::Header { .. })),
                    "{error:?}"
                );
            }
            for whole in [3, 4] {
                assert!(threads[whole].is_whole());
                assert_eq!(threads[whole].frames, target.fake.threads[whole].frames);
            }
            assert_eq!(sampler.lists_cut(), None);
        }
    }
}

#[test]
fn a_thousand_plain_frames_cost_one_call_from_outside() {
    for minor in 11..=15 {
        let (target, cold, warm) = cold_and_warm("plain", minor);
        let chunks = &target.fake.threads[0].chunks;
        let live: u64 = chunks.iter().map(|c| c.live_end.0 - c.addr.0).sum();
        assert_eq!(warm.calls, 1, "3.{minor}");
        assert!(warm.bytes <= live + (24 << 10), "3.{minor}: {warm:?}");
        // From known thread states: two calls, and one for the only run of chunks.
        assert!(cold.calls <= 3, "3.{minor}: {cold:?}");
        assert!(cold.bytes <= live + (192 << 10), "3.{minor}: {cold:?}");
    }
}

#[test]
fn deep_stacks_and_arrays_cost_one_call_from_outside() {
    for (scenario, most_cold) in [("deep", 6), ("array", 20)] {
        let (_, cold, warm) = cold_and_warm(scenario, 15);
        assert_eq!(warm.calls, 1, "{scenario}");
        assert!(cold.calls <= most_cold, "{scenario}: {cold:?}");
    }
}

#[test]
fn generators_and_threads_cost_what_fits_into_a_call() {
    // A thousand segments fit into one call. Three times 600 are split between threads, of
    // which no two fit into one. Sixty-four threads have few segments each.
    for (scenario, calls) in [("generators", 1), ("segments", 3), ("threads", 2)] {
        let (_, _, warm) = cold_and_warm(scenario, 14);
        assert!(warm.calls <= calls, "{scenario}: {warm:?}");
    }
}

#[test]
fn a_reader_of_the_newest_chunk_explodes_from_outside() {
    let target = Target::start("plain", 13);
    let mut sampler = target.sampler();
    sampler.limit_to_newest_chunk();
    for _ in 0..2 {
        let before = sampler.cost(Class::Stacks);
        sampler.sample().unwrap();
        target.fake.assert_whole(&sampler);
        let cost = sampler.cost(Class::Stacks).since(before);
        // About ninety of a thousand frames stand in the newest chunk.
        assert!(cost.calls > 800, "{cost:?}");
    }
}

#[test]
fn a_target_that_ends_is_gone() {
    let mut target = Target::start("plain", 13);
    let mut sampler = target.sampler();
    sampler.sample().unwrap();
    drop(target.stdin.take());
    target.child.wait().unwrap();
    assert_eq!(sampler.sample(), Err(ReadError::Gone));
}
