//! Broken chains of chunks: the typed reason, and a stack that is whole all the same where its
//! frames can be reached.

#[path = "../../tests/fake/mod.rs"]
mod fake;

use fake::{Build, Fake, Kind, Link, PAGE, Placement, Spec, ThreadSpec, UNMAPPED};
use fake::{all_builds, build, mixed, plain};
use onlooker_unwinder::datastack::{Chunk, ChunkError, ChunkKind};
use onlooker_unwinder::frames::Cut;
use onlooker_unwinder::memory::{ReadError, ReadMemory, RecordedMemory, RemoteAddr, Segment};
use onlooker_unwinder::sampler::{Outcome, Sampler};

const KINDS: [ChunkKind; 2] = [ChunkKind::Linked, ChunkKind::Array];
/// The chunk that is broken, counted from the newest.
const BROKEN: usize = 2;

fn builds() -> Vec<Build> {
    let mut builds = all_builds();
    builds.retain(Build::has_data_stack);
    builds
}

fn fake(build: &Build, kind: ChunkKind) -> Fake {
    let thread = ThreadSpec::new(mixed(500)).chunks(kind, Placement::Apart);
    let fake = Fake::new(build, &Spec::threads(vec![thread]));
    assert!(fake.threads[0].chunks.len() > BROKEN + 1);
    fake
}

fn link_of(chunk: &Chunk) -> RemoteAddr {
    RemoteAddr(
        chunk.addr.0
            + if chunk.kind == ChunkKind::Linked {
                0
            } else {
                8
            },
    )
}

fn size_of(chunk: &Chunk) -> RemoteAddr {
    RemoteAddr(
        chunk.addr.0
            + if chunk.kind == ChunkKind::Linked {
                8
            } else {
                0
            },
    )
}

fn sampled(fake: &Fake) -> Sampler<RecordedMemory> {
    let mut sampler = fake.sampler();
    sampler.sample().unwrap();
    sampler.sample().unwrap();
    sampler
}

/// Breaks a chain in every build and both layouts. The reason must be `expected`; the frames
/// themselves are all readable, so that the stack must be whole.
fn assert_broken(break_it: impl Fn(&mut Fake) -> (usize, ChunkError)) {
    for build in builds() {
        for kind in KINDS {
            let mut fake = fake(&build, kind);
            let (good, expected) = break_it(&mut fake);
            let sampler = sampled(&fake);
            let thread = &sampler.threads()[0];
            let version = build.layout.version;
            assert_eq!(thread.chunk_error, Some(expected), "{version} {kind:?}");
            assert_eq!(thread.chunks, fake.threads[0].chunks[..good], "{version}");
            assert_eq!(thread.outcome, Some(Outcome::Whole), "{version} {kind:?}");
            assert_eq!(thread.frames, fake.threads[0].frames, "{version}");
        }
    }
}

#[test]
fn a_chain_that_comes_back_is_a_cycle() {
    for back_to in 0..=BROKEN {
        for build in builds() {
            for kind in KINDS {
                let mut fake = fake(&build, kind);
                let chunks = fake.threads[0].chunks.clone();
                let target = chunks[back_to].addr;
                fake.arena.put_u64(link_of(&chunks[BROKEN]), target.0);
                let sampler = sampled(&fake);
                let thread = &sampler.threads()[0];
                // Found after a small multiple of its length, at whichever chunk of it.
                let Some(ChunkError::Cycle(at)) = thread.chunk_error else {
                    panic!("{:?}", thread.chunk_error);
                };
                assert!(chunks[..=BROKEN].iter().any(|c| c.addr == at));
                assert!(thread.chunks.len() <= 4 * (BROKEN + 1));
                assert_eq!(thread.frames, fake.threads[0].frames);
            }
        }
    }
}

#[test]
fn a_size_that_no_chunk_has_is_no_header() {
    // 0; not a multiple of a page; smaller than the smallest; larger than any frame needs.
    for size in [0, 0x4010, 2048, 256 << 20, 1 << 60, u64::MAX] {
        assert_broken(|fake| {
            let chunk = fake.threads[0].chunks[BROKEN];
            fake.arena.put_u64(size_of(&chunk), size);
            let addr = chunk.addr;
            let first = fake.arena.get_u64(addr);
            let second = fake.arena.get_u64(RemoteAddr(addr.0 + 8));
            (
                BROKEN,
                ChunkError::Header {
                    addr,
                    first,
                    second,
                },
            )
        });
    }
}

#[test]
fn a_link_that_no_chunk_has_is_no_header() {
    // Unaligned; in the first page; not canonical.
    for link in [0x7f00_0000_0001, 0x10, 1 << 60] {
        assert_broken(|fake| {
            let chunk = fake.threads[0].chunks[BROKEN];
            fake.arena.put_u64(link_of(&chunk), link);
            let addr = chunk.addr;
            let first = fake.arena.get_u64(addr);
            let second = fake.arena.get_u64(RemoteAddr(addr.0 + 8));
            (
                BROKEN,
                ChunkError::Header {
                    addr,
                    first,
                    second,
                },
            )
        });
    }
}

#[test]
fn a_link_to_unmapped_memory_is_named() {
    assert_broken(|fake| {
        let chunk = fake.threads[0].chunks[BROKEN];
        fake.arena.put_u64(link_of(&chunk), UNMAPPED.0);
        (BROKEN + 1, ChunkError::Link(UNMAPPED))
    });
}

#[test]
fn a_link_into_the_middle_of_a_chunk_finds_no_header() {
    assert_broken(|fake| {
        let [chunk, older] = [BROKEN, BROKEN + 1].map(|n| fake.threads[0].chunks[n]);
        // What lies there are the words of some frame, or the zeros of a hole.
        let addr = RemoteAddr((older.addr.0 & !(PAGE - 1)) + older.size / 2);
        fake.arena.put_u64(link_of(&chunk), addr.0);
        let first = fake.arena.get_u64(addr);
        let second = fake.arena.get_u64(RemoteAddr(addr.0 + 8));
        (
            BROKEN + 1,
            ChunkError::Header {
                addr,
                first,
                second,
            },
        )
    });
}

#[test]
fn a_top_outside_of_its_chunk_is_named() {
    for build in builds() {
        for kind in KINDS {
            let whole = fake(&build, kind);
            let Chunk { addr, size, .. } = whole.threads[0].chunks[0];
            let field = build.layout.thread.data_stack.unwrap().top;
            for top in [0, addr.0, addr.0 + size + 8, addr.0 + 100, u64::MAX] {
                let mut fake = whole.clone();
                let at = fake.thread_field(0, field);
                fake.arena.put_u64(at, top);
                let sampler = sampled(&fake);
                let thread = &sampler.threads()[0];
                let top = RemoteAddr(top);
                let error = ChunkError::Top { addr, size, top };
                assert_eq!(thread.chunk_error, Some(error), "{kind:?} {top}");
                assert_eq!(thread.frames, fake.threads[0].frames);
            }
        }
    }
}

#[test]
fn an_older_chunk_with_more_slots_in_use_than_it_has() {
    let build = build(13);
    for used in [2046_u64, 1 << 40, 1 << 61, u64::MAX] {
        let mut fake = fake(&build, ChunkKind::Linked);
        let Chunk { addr, size, .. } = fake.threads[0].chunks[BROKEN];
        fake.arena.put_u64(RemoteAddr(addr.0 + 16), used);
        let sampler = sampled(&fake);
        let top = RemoteAddr(used);
        let error = ChunkError::Top { addr, size, top };
        assert_eq!(sampler.threads()[0].chunk_error, Some(error));
    }
}

#[test]
fn frames_behind_a_broken_chain_are_cut_for_that_reason() {
    // The chain and the frames both lead to memory that is gone: what the stack lost is due
    // to the chain.
    for build in builds() {
        for kind in KINDS {
            let mut fake = fake(&build, kind);
            let chunk = fake.threads[0].chunks[BROKEN];
            fake.arena.put_u64(link_of(&chunk), UNMAPPED.0);
            let link = fake.link(0, 300);
            fake.arena.put_u64(link, UNMAPPED.0);
            let sampler = sampled(&fake);
            let thread = &sampler.threads()[0];
            assert_eq!(thread.outcome, Some(Outcome::Cut(Cut::Chunks)));
            assert_eq!(thread.frames, fake.threads[0].frames[..=300]);
        }
    }
}

#[test]
fn a_spare_chunk_is_never_looked_at() {
    // `datastack_cached_chunk` of 3.13+ lies behind what is read of a thread state; here it
    // leads to memory that would be counted if it were read.
    for (minor, offset) in [(13, 304), (14, 824), (15, 280)] {
        let mut fake = fake(&build(minor), ChunkKind::Linked);
        let spare = fake.arena.alloc(16 << 10, PAGE);
        let field = fake.thread_field(0, offset);
        fake.arena.put_u64(field, spare.0);
        fake.assert_whole(&sampled(&fake));
    }
}

#[test]
fn a_frame_of_more_slots_than_a_chunk_has_one_of_its_own() {
    for build in builds() {
        for kind in KINDS {
            let mut links = plain(40);
            links.push(Link {
                kind: Kind::Plain,
                words: 5000,
            });
            links.extend(plain(40));
            let thread = ThreadSpec::new(links).chunks(kind, Placement::NewestLowest);
            let fake = Fake::new(&build, &Spec::threads(vec![thread]));
            assert!(fake.threads[0].chunks.iter().any(|c| c.size >= 64 << 10));
            fake.assert_whole(&sampled(&fake));
        }
    }
}

/// Remembers the longest buffer that a call was given.
struct Longest<'a, M> {
    inner: M,
    bytes: &'a mut usize,
}

impl<M: ReadMemory> ReadMemory for Longest<'_, M> {
    fn read(&mut self, segments: &[Segment], buf: &mut [u8]) -> Result<usize, ReadError> {
        *self.bytes = buf.len().max(*self.bytes);
        self.inner.read(segments, buf)
    }
}

#[test]
fn no_size_that_was_read_decides_how_much_is_read() {
    // Every chunk but the newest claims the greatest size there is, all of it in use.
    const CLAIM: u64 = 128 << 20;
    for (kind, links) in [
        (ChunkKind::Linked, plain(1000)),
        (ChunkKind::Linked, mixed(500)),
        (ChunkKind::Array, plain(1000)),
    ] {
        let thread = ThreadSpec::new(links).chunks(kind, Placement::Apart);
        let mut fake = Fake::new(&build(13), &Spec::threads(vec![thread]));
        for chunk in fake.threads[0].chunks.clone().iter().skip(1) {
            fake.arena.put_u64(size_of(chunk), CLAIM);
            if kind == ChunkKind::Linked {
                let used = RemoteAddr(chunk.addr.0 + 16);
                fake.arena.put_u64(used, (CLAIM - 24) / 8);
            }
        }
        let mut longest = 0;
        let mut sampler = fake.sampler_of(Longest {
            inner: fake.arena.recorded(),
            bytes: &mut longest,
        });
        for _ in 0..3 {
            sampler.sample().unwrap();
            // A chunk that claims the memory of others hides their frames, so the stack may
            // be cut; what is shown is right.
            let thread = &sampler.threads()[0];
            assert!(fake.threads[0].frames.starts_with(&thread.frames));
        }
        drop(sampler);
        assert!(longest < 32 << 20, "{kind:?}: {longest} bytes in one call");
    }
}
