//! What each mapping of a process is for.
//!
//! A mapping counts whole: the kernel joins neighbours, so that one may hold arenas of pymalloc
//! and large blocks of malloc; then it is what most of it is.

use onlooker_heap::gather::{Piece, gather};
use onlooker_heap::pymalloc::{self, Geometry, POOL_HEADER_BYTES};
use onlooker_unwinder::layout::Minor;
use onlooker_unwinder::memory::{ReadMemory, u64_at};
use serde::Serialize;

use crate::target;
use crate::target::memory::FileMemory;
use crate::target::pagemap::{PageMap, Runs};
use crate::target::smaps::Mapping;

const PAGE_BYTES: u64 = onlooker_heap::headers::PAGE_BYTES;
/// Heaps of malloc's further arenas begin at multiples of this (glibc, `HEAP_MAX_SIZE`).
const MALLOC_HEAP_BYTES: u64 = 64 << 20;
/// A chunk that malloc mapped by itself (glibc, `IS_MMAPPED`).
const MMAPPED: u64 = 2;

/// What a mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Program and data of the interpreter: its executable and libpython.
    Interpreter,
    /// Extension modules.
    Extensions,
    /// Arenas of Python's own allocator.
    Pymalloc,
    /// The C library's heaps and its large blocks.
    Malloc,
    /// Stacks of threads.
    Stacks,
    /// Other files: libraries, mapped data, shared memory.
    Files,
    /// Everything else.
    Other,
}

impl Kind {
    /// Every kind, in the order in which they are shown.
    pub const ALL: [Self; 7] = [
        Self::Interpreter,
        Self::Extensions,
        Self::Pymalloc,
        Self::Malloc,
        Self::Stacks,
        Self::Files,
        Self::Other,
    ];

    /// As in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Interpreter => "interpreter",
            Self::Extensions => "extensions",
            Self::Pymalloc => "pymalloc",
            Self::Malloc => "malloc",
            Self::Stacks => "stacks",
            Self::Files => "files",
            Self::Other => "other",
        }
    }
}

/// What is known about the interpreter of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// `3.12.1`.
    pub python: String,
    /// Its minor version.
    pub version: Minor,
    /// Where `_PyRuntime` is.
    pub runtime: u64,
}

/// The kinds of `mappings`, one for each.
///
/// Without an interpreter its files are no different from others, and there is no pymalloc.
/// Without a page map, which keeps what is not resident from being read, anonymous memory is told
/// by the kernel's names alone.
pub fn kinds(
    pid: i32,
    mappings: &[Mapping],
    interpreter: Option<&Interpreter>,
    pagemap: Option<&PageMap>,
) -> Vec<Kind> {
    let files = interpreter_files(pid, mappings, interpreter.map(|i| i.runtime));
    let stacks = stack_addresses(pid);
    let mut memory = FileMemory::open(pid).ok();
    let mut kinds = Vec::with_capacity(mappings.len());
    for (i, mapping) in mappings.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| &mappings[i]);
        let before = before.filter(|before| before.end == mapping.start);
        let kind = match mapping.name.as_str() {
            _ if mapping.is_file() && files.contains(&mapping.inode) => Kind::Interpreter,
            name if mapping.is_file() && is_extension(name) => Kind::Extensions,
            _ if mapping.is_file() => Kind::Files,
            "[heap]" => Kind::Malloc,
            "[stack]" => Kind::Stacks,
            name if name.starts_with('[') && !name.starts_with("[anon") => Kind::Other,
            _ if stacks
                .iter()
                .any(|sp| (mapping.start..mapping.end).contains(sp)) =>
            {
                Kind::Stacks
            }
            _ => match (&mut memory, interpreter, pagemap) {
                (Some(memory), Some(interpreter), Some(pagemap)) => {
                    anonymous(memory, interpreter.version, mapping, pagemap)
                }
                _ => Kind::Other,
            },
        };
        let beside = before.filter(|_| kind == Kind::Other && !mapping.is_file());
        kinds.push(match beside {
            // What `.bss` does not find room for in its file's last page follows it directly.
            Some(before) if before.is_file() && before.is_writable() => kinds[i - 1],
            // The stack of a thread lies above a page that nobody may touch (glibc).
            Some(before) if before.permissions == "---p" && mapping.is_writable() => Kind::Stacks,
            _ => kind,
        });
    }
    kinds
}

/// The inodes of the executable and of the file that has `_PyRuntime`.
fn interpreter_files(pid: i32, mappings: &[Mapping], runtime: Option<u64>) -> Vec<u64> {
    let Some(runtime) = runtime else {
        return Vec::new();
    };
    let executable = target::executable(pid);
    let mut inodes = Vec::new();
    let mut last_file = 0;
    for mapping in mappings {
        if mapping.is_file() {
            last_file = mapping.inode;
        }
        let holds = (mapping.start..mapping.end).contains(&runtime);
        let named = mapping.is_file() && mapping.name == executable;
        if holds || named {
            inodes.push(last_file);
        }
    }
    inodes
}

/// Named as CPython's import names them, or in a place that only they are in.
fn is_extension(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let name = name.strip_suffix(" (deleted)").unwrap_or(name);
    let module = name.contains(".cpython-") || name.ends_with(".abi3.so");
    let place = ["/lib-dynload/", "/site-packages/", "/dist-packages/"];
    module || (name.contains(".so") && place.iter().any(|place| path.contains(place)))
}

/// An address in the stack of each thread that sleeps: where it was when it entered the kernel.
fn stack_addresses(pid: i32) -> Vec<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let pointers = tasks.filter_map(|task| {
        // `1 0x… … 0xSP 0xPC`, or `running`.
        let text = std::fs::read_to_string(task.path().join("syscall")).ok()?;
        let word = text.split_whitespace().rev().nth(1)?;
        u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()
    });
    pointers.collect()
}

/// Pools, a heap or a large block of malloc, or neither.
fn anonymous<M: ReadMemory>(
    memory: &mut M,
    version: Minor,
    mapping: &Mapping,
    pagemap: &PageMap,
) -> Kind {
    if !mapping.is_writable() || !mapping.is_private() || mapping.sizes.rss_bytes == 0 {
        return Kind::Other;
    }
    let mut runs = Runs::default();
    let read = pagemap.runs(mapping.start, mapping.end, &mut runs);
    let resident = runs.resident;
    if read.is_err() {
        return Kind::Other;
    }
    let geometry = Geometry::of(version);
    let headers: Vec<Piece> = resident
        .iter()
        .flat_map(|(start, end)| {
            let first = start.next_multiple_of(geometry.pool_bytes);
            (first..*end).step_by(geometry.pool_bytes as usize)
        })
        .map(|addr| Piece::new(addr, POOL_HEADER_BYTES as u32))
        .collect();
    let mut found = 0;
    let read = gather(memory, &headers, |_, bytes| {
        found += usize::from(bytes.is_some_and(|bytes| pymalloc::is_pool(bytes, geometry)));
    });
    if read.is_ok() && found > 0 && found * 2 >= headers.len() {
        return Kind::Pymalloc;
    }
    if mapping.start.is_multiple_of(MALLOC_HEAP_BYTES) {
        return Kind::Malloc;
    }
    // `mchunk_size` of the chunk that the mapping begins with.
    let mut head = [0; 16];
    let start = onlooker_unwinder::memory::RemoteAddr(mapping.start);
    let begins = resident.first().is_some_and(|run| run.0 == mapping.start);
    let is_chunk = begins
        && memory.read_exact(start, &mut head).is_ok()
        && u64_at(&head, 8).is_some_and(|size| {
            size & 7 == MMAPPED
                && (size & !7).is_multiple_of(PAGE_BYTES)
                && (PAGE_BYTES..=mapping.end - mapping.start).contains(&(size & !7))
        });
    if is_chunk { Kind::Malloc } else { Kind::Other }
}
