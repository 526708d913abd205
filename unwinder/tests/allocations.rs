//! Once warm, a sample allocates nothing.
//!
//! One test only: the allocator counts the whole process, and a second test beside it would
//! be counted too.
#![allow(
    unsafe_code,
    reason = "an allocator that counts cannot be written without"
)]

#[path = "../../tests/fake/mod.rs"]
mod fake;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use fake::{Fake, Kind, Link, PAGE, Placement, Spec, ThreadSpec, all_builds, mixed, plain};
use onlooker_unwinder::datastack::ChunkKind;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct CountingAllocator;

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the
// contract of `GlobalAlloc`; counting is one atomic addition and neither allocates nor unwinds.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above; `ptr` came from `System` with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// A stack at rest, one thread deep, generators on many pages, and many threads.
fn shapes(kind: ChunkKind) -> Vec<Vec<ThreadSpec>> {
    let generator = Link {
        kind: Kind::Generator,
        words: 20,
    };
    let thread = |links| ThreadSpec::new(links).chunks(kind, Placement::NewestLowest);
    vec![
        vec![thread(plain(3))],
        vec![thread(plain(2000))],
        vec![thread(mixed(800))],
        vec![thread(vec![generator; 700]).heap_stride(PAGE); 2],
        vec![thread(mixed(20)); 64],
    ]
}

#[test]
fn a_warm_sample_allocates_nothing() {
    for build in all_builds() {
        for shape in [ChunkKind::Linked, ChunkKind::Array]
            .into_iter()
            .flat_map(shapes)
        {
            let threads = shape.len();
            let fake = Fake::new(&build, &Spec::threads(shape));
            let mut sampler = fake.sampler();
            // Cold; the first from the plan, whose buffers still grow.
            for _ in 0..3 {
                sampler.sample().unwrap();
            }
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            for _ in 0..20 {
                sampler.sample().unwrap();
            }
            let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
            let version = build.layout.version;
            assert_eq!(allocations, 0, "{version}, {threads} threads");
            fake.assert_whole(&sampler);
        }
    }
    a_moving_stack();
}

/// A stack that grows and shrinks and goes through generators that come and go: the plan is
/// made again for nearly every sample, within memory that it has.
fn a_moving_stack() {
    for build in all_builds() {
        let images: Vec<_> = [40, 400, 90, 250, 399, 12]
            .iter()
            .map(|depth| Fake::new(&build, &Spec::threads(vec![ThreadSpec::new(mixed(*depth))])))
            .collect();
        let mut sampler = images[0].sampler();
        let mut memories: Vec<_> = images.iter().map(|i| i.arena.recorded()).collect();
        let mut round = |count_from: usize| {
            for (image, memory) in images.iter().zip(&mut memories) {
                std::mem::swap(sampler.memory_mut().inner_mut(), memory);
                sampler.sample().unwrap();
                std::mem::swap(sampler.memory_mut().inner_mut(), memory);
                image.assert_whole(&sampler);
            }
            ALLOCATIONS.load(Ordering::Relaxed) - count_from
        };
        for _ in 0..4 {
            round(0);
        }
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        assert_eq!(round(before), 0, "{}", build.layout.version);
    }
}
