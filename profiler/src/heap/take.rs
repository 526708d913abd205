//! One census of a running process, from attaching to the answer.

use std::collections::BTreeMap;
use std::io;

use onlooker_heap::census::Walk;
use onlooker_heap::image::{Image, Meta};
use onlooker_heap::malloc::Region;
use onlooker_heap::pymalloc::Roots;
use onlooker_heap::rss::{Mapped, Stack};
use onlooker_unwinder::layout::Layout;
use onlooker_unwinder::memory::{ReadError, ReadMemory};

use super::copy::{Copied, CopyError, Limits, Prepared};
use super::mappings::{Kind, Mapping};
use super::report::Report;
use super::settle::settle;
use super::{image, roots};
use crate::attach::{self, Attached};
use crate::error::Error;
use crate::record::clock::unix_ns;
use crate::stop;
use crate::target::memory::FileMemory;
use crate::target::rest::Rest;
use crate::target::{self, threads};

/// A thread may be stopped in the middle of taking a block or of a collection. Then it is stopped
/// again, so often.
const PAUSES: usize = 4;
/// So often all is copied anew where a collection made the lists of the copy useless.
const COPIES: usize = 2;
/// So often what is to be kept is walked anew.
const WALKS: usize = 8;

/// How a census is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How much may be copied.
    pub limits: Limits,
    /// Whether all threads are stopped while the memory is copied.
    pub pause: bool,
    /// Whether the image is to be kept.
    pub keep: bool,
}

/// The memory of a process and what a census of it says.
#[derive(Debug)]
pub struct Taken {
    /// The memory, which can be kept.
    pub image: Image<Vec<u8>>,
    /// What a census of it says.
    pub report: Report,
}

/// Takes a census. `progress` is told how many bytes of how many were copied.
///
/// # Errors
/// Those of attaching, and of reading.
pub fn take(
    pid: i32,
    options: Options,
    mut progress: impl FnMut(u64, u64) + Send,
) -> Result<Taken, Error> {
    let attached = attach::attach_for_memory(pid, attach::STARTING)?;
    let layout = attached.sampler.layout().clone();
    let roots = roots::find(pid, layout.version, attached.sampler.runtime());
    let process = image::process(pid, attached.version.to_string());
    let thread_ids = thread_ids(&attached);
    let memory = &mut FileMemory::open(pid).map_err(|error| target::refused(pid, &error))?;
    let mut pause_ns = None;
    let mut tries = 0;
    let mut rest;
    let (mut copied, walk) = loop {
        rest = Rest::new(pid);
        // The clock first: what a thread ran before it slept may be added after this.
        rest.continues();
        rest.keep(threads::all_sleep(pid));
        let (copied, walk) = if options.pause {
            let prepared = prepare(pid, options.limits)?;
            let paused = stop::pause(pid, || prepared.copy(pid, memory, true, &mut progress));
            let (copied, ns) = paused.map_err(Error::meanwhile)?;
            *pause_ns.get_or_insert(0) += ns;
            let copied = copied.map_err(|error| copy_error(pid, error))?;
            let walk = Walk::new(&copied.space, &layout, &roots, &regions(&copied.mappings));
            (copied, walk)
        } else {
            copy_running(pid, memory, &layout, &roots, options.limits, &mut progress)?
        };
        tries += 1;
        let most = if options.pause { PAUSES } else { COPIES };
        if walk.is_whole(&copied.space) || tries == most {
            break (copied, walk);
        }
    };
    let mut walk = if options.keep && !options.pause {
        let walked = walk_again(pid, memory, &mut copied, walk, &layout, &roots);
        walked.map_err(|error| attach::read_error(pid, error))?
    } else {
        walk
    };
    walk.at_once = options.pause || threads::all_sleep(pid) && rest.continues();
    let residency_known = copied.residency_known();
    let mut left_out = BTreeMap::new();
    for run in &copied.left_out {
        *left_out.entry(run.what).or_default() += run.end - run.start;
    }
    let found = walk.pymalloc.found();
    let mut image = Image {
        meta: Meta {
            onlooker: env!("CARGO_PKG_VERSION").to_owned(),
            process,
            taken_unix_ns: unix_ns(),
            pause_ns,
            at_once: walk.at_once,
            left_out,
            residency_known,
            layout,
            roots,
            thread_ids,
            raw_blocks: found.raw_blocks,
            scanned: found.scanned,
        },
        mappings: copied.mappings,
        arenas: found.arenas,
        space: copied.space,
    };
    let report = Report::of(&mut image, memory, walk);
    Ok(Taken { image, report })
}

/// Walks what is there now as whoever opens the image will, so that both say the same: the walk
/// that went on from copy to copy saw some of it before it was copied again. What does not close
/// that way is copied again too.
fn walk_again<M: ReadMemory>(
    pid: i32,
    memory: &mut M,
    copied: &mut Copied,
    mut walk: Walk,
    layout: &Layout,
    roots: &Roots,
) -> Result<Walk, ReadError> {
    let mut tries = 0;
    loop {
        extend_brk(&mut copied.mappings, walk.malloc.brk_end());
        let (found, regions) = (walk.pymalloc.found(), regions(&copied.mappings));
        walk = Walk::of(&copied.space, layout, roots, found, &regions);
        tries += 1;
        if walk.is_whole(&copied.space) || tries == WALKS {
            return Ok(walk);
        }
        settle(pid, memory, copied, &mut walk)?;
    }
}

/// The `brk` heap is as large as it was seen to become.
fn extend_brk(mappings: &mut [Mapping], end: Option<u64>) {
    let last = mappings.iter().rposition(|m| m.kind == Kind::Heap);
    let Some((last, end)) = last.zip(end) else {
        return;
    };
    let limit = mappings.get(last + 1).map_or(u64::MAX, |next| next.start);
    mappings[last].end = mappings[last].end.max(end.min(limit));
}

fn prepare(pid: i32, limits: Limits) -> Result<Prepared, Error> {
    Prepared::new(pid, limits).map_err(|error| copy_error(pid, error))
}

/// Copies a process while it runs, and again what changed meanwhile; walks both allocators.
pub(crate) fn copy_running(
    pid: i32,
    memory: &mut FileMemory,
    layout: &Layout,
    roots: &Roots,
    limits: Limits,
    progress: impl FnMut(u64, u64),
) -> Result<(Copied, Walk), Error> {
    let mut copied = prepare(pid, limits)?
        .copy(pid, memory, false, progress)
        .map_err(|error| copy_error(pid, error))?;
    let mut walk = Walk::new(&copied.space, layout, roots, &regions(&copied.mappings));
    settle(pid, memory, &mut copied, &mut walk).map_err(|error| attach::read_error(pid, error))?;
    Ok((copied, walk))
}

fn copy_error(pid: i32, error: CopyError) -> Error {
    match error {
        CopyError::Maps(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            target::denied(pid)
        }
        CopyError::Maps(error) => target::refused(pid, &error),
        CopyError::Read(error) => attach::read_error(pid, error),
        CopyError::Ranges(error) => Error::Report(error.to_string()),
    }
}

/// What `pthread_self()` is of each thread: its stack ends just above it.
fn thread_ids(attached: &Attached) -> Vec<u64> {
    let threads = attached.sampler.threads().iter();
    threads
        .filter_map(|thread| thread.state.as_ref().map(|state| state.thread_id))
        .collect()
}

/// Where malloc may be. Neighbours are one: the kernel keeps apart what was faulted in apart.
#[must_use]
pub fn regions(mappings: &[Mapping]) -> Vec<Region> {
    let mut regions: Vec<Region> = Vec::new();
    for mapping in mappings.iter().filter(|mapping| mapping.writable) {
        let is_brk = mapping.kind == Kind::Heap;
        if !is_brk && mapping.kind != Kind::Anonymous {
            continue;
        }
        match regions.last_mut() {
            Some(last) if last.end == mapping.start && last.is_brk == is_brk => {
                last.end = mapping.end;
            }
            _ => regions.push(Region {
                start: mapping.start,
                end: mapping.end,
                is_brk,
            }),
        }
    }
    regions
}

/// The kernel's figures by kind. A thread's stack is an anonymous mapping that ends just above what
/// its `pthread_self()` points to: glibc puts `struct pthread` at the very top of the stack.
pub(super) fn mapped(mappings: &[Mapping], thread_ids: &[u64]) -> Mapped {
    const ABOVE: u64 = 16 << 10;
    let mut mapped = Mapped::default();
    for mapping in mappings {
        mapped.total_bytes += mapping.resident_bytes;
        match mapping.kind {
            Kind::File | Kind::Data | Kind::Kernel => {
                mapped.files_bytes += mapping.resident_bytes;
            }
            Kind::Stack => mapped.stack_bytes += mapping.resident_bytes,
            Kind::Anonymous => {
                let top = mapping.start.max(mapping.end.saturating_sub(ABOVE));
                let inside = |id: &&u64| (top..mapping.end).contains(*id);
                let stack = thread_ids.iter().find(inside).map(|thread_id| Stack {
                    start: mapping.start,
                    end: mapping.end,
                    thread_id: *thread_id,
                    resident_bytes: mapping.resident_bytes,
                });
                mapped.stacks.extend(stack);
            }
            Kind::Heap => {}
        }
    }
    mapped
}
