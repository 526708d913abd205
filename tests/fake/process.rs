//! A whole process: runtime, interpreters, thread states, locks, and what a reader must find.

use onlooker_unwinder::datastack::Chunk;
use onlooker_unwinder::frames::RawFrame;
use onlooker_unwinder::layout::{FrameRoot, Frames, Layout, gil, owner};
use onlooker_unwinder::memory::{ReadMemory, RecordedMemory, RemoteAddr};
use onlooker_unwinder::sampler::{Outcome, Sampler};

use super::arena::{Arena, BASE};
use super::layouts::Build;
use super::objects::{self, Code};
use super::stack::{self, Kind, ThreadSpec};

/// Enough for `_PyRuntimeState`, `PyInterpreterState` as far as they are looked at.
const RUNTIME_BYTES: u64 = 2048;
const INTERPRETER_BYTES: u64 = 8192;
/// A thread state, and behind it what belongs to it: `base_frame` and, in place of a C stack,
/// the `_PyCFrame`.
const THREAD_BYTES: u64 = 2048;
const BASE_FRAME: u64 = 1024;
const CFRAME: u64 = 1536;

/// What is to be laid out.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// Interpreters, the main one first, each with its threads, the oldest first.
    pub(crate) interpreters: Vec<Vec<ThreadSpec>>,
    /// Which thread (by order of making, over all interpreters) holds its lock.
    pub(crate) holder: Option<usize>,
    /// Whether the recursion counters tell the depth.
    pub(crate) depth_hint: bool,
}

impl Spec {
    pub(crate) fn threads(threads: Vec<ThreadSpec>) -> Self {
        Self {
            interpreters: vec![threads],
            holder: None,
            depth_hint: true,
        }
    }
}

/// One thread as a reader must find it.
#[derive(Clone, Debug)]
pub(crate) struct FakeThread {
    pub(crate) interpreter: RemoteAddr,
    pub(crate) interpreter_id: i64,
    pub(crate) tstate: RemoteAddr,
    /// Newest first.
    pub(crate) frames: Vec<RawFrame>,
    /// Newest first.
    pub(crate) chunks: Vec<Chunk>,
    /// 3.15: the sentinel below the oldest frame.
    pub(crate) base_frame: Option<RemoteAddr>,
    /// 3.11, 3.12.
    pub(crate) cframe: Option<RemoteAddr>,
    pub(crate) holds_gil: bool,
}

/// An image and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Fake {
    pub(crate) build: Build,
    pub(crate) arena: Arena,
    pub(crate) runtime: RemoteAddr,
    /// In the order of a reader: the newest interpreter first, its newest thread first.
    pub(crate) threads: Vec<FakeThread>,
    /// The same order.
    pub(crate) interpreters: Vec<RemoteAddr>,
}

impl Fake {
    pub(crate) fn new(build: &Build, spec: &Spec) -> Self {
        Self::at(BASE, build, spec)
    }

    pub(crate) fn at(base: u64, build: &Build, spec: &Spec) -> Self {
        let mut arena = Arena::new(base);
        let layout = &build.layout;
        let runtime = arena.alloc(RUNTIME_BYTES, 4096);
        arena.put(runtime, &build.debug_offsets);
        arena.new_mapping();
        let types = objects::Types::new(&mut arena);
        let codes: Vec<Code> = ["main", "load", "parse", "send", "wait", "emit", "close"]
            .iter()
            .map(|name| objects::code_object(&mut arena, layout, types, name))
            .collect();
        let mut fake = Self {
            build: build.clone(),
            arena,
            runtime,
            threads: Vec::new(),
            interpreters: Vec::new(),
        };
        for (id, threads) in spec.interpreters.iter().enumerate() {
            fake.interpreter(id, threads, &codes, spec);
        }
        fake
    }

    /// A new interpreter at the head of the list.
    fn interpreter(&mut self, id: usize, threads: &[ThreadSpec], codes: &[Code], spec: &Spec) {
        let layout = self.build.layout.clone();
        let arena = &mut self.arena;
        let addr = arena.alloc(INTERPRETER_BYTES, 16);
        let at = |offset: u64| RemoteAddr(addr.0 + offset);
        let older = self.interpreters.first().copied().unwrap_or_default();
        arena.put_u64(at(layout.interpreter.next), older.0);
        arena.put_u64(at(layout.interpreter.id), id as u64);
        let head = RemoteAddr(self.runtime.0 + layout.runtime.interpreters_head);
        arena.put_u64(head, addr.0);
        let lock = layout.interpreter.gil.map(|offset| {
            let lock = arena.alloc(64, 16);
            arena.put_u64(at(offset), lock.0);
            lock
        });
        self.interpreters.insert(0, addr);
        for thread in threads {
            let holds_gil = spec.holder == Some(self.threads.len());
            let mut made = self.thread(thread, codes, spec.depth_hint);
            made.interpreter = addr;
            made.interpreter_id = id as i64;
            made.holds_gil = holds_gil;
            self.link_thread(&layout, &made, lock);
            // Older threads and older interpreters come later in a reader's order.
            self.threads.insert(0, made);
        }
    }

    fn link_thread(&mut self, layout: &Layout, made: &FakeThread, lock: Option<RemoteAddr>) {
        let arena = &mut self.arena;
        let head = RemoteAddr(made.interpreter.0 + layout.interpreter.threads_head);
        let older = arena.get_u64(head);
        arena.put_u64(head, made.tstate.0);
        arena.put_u64(RemoteAddr(made.tstate.0 + layout.thread.next), older);
        let interp = RemoteAddr(made.tstate.0 + layout.thread.interp);
        arena.put_u64(interp, made.interpreter.0);
        match (lock, layout.runtime.tstate_current) {
            (Some(lock), _) => {
                // `last_holder` stays when the lock is released.
                let locked = RemoteAddr(lock.0 + gil::LOCKED);
                if arena.get_u64(locked) == 0 {
                    arena.put_u64(RemoteAddr(lock.0 + gil::LAST_HOLDER), made.tstate.0);
                    arena.put_u32(locked, u32::from(made.holds_gil));
                }
            }
            (None, Some(offset)) if made.holds_gil => {
                arena.put_u64(RemoteAddr(self.runtime.0 + offset), made.tstate.0);
            }
            _ => {}
        }
    }

    fn thread(&mut self, spec: &ThreadSpec, codes: &[Code], depth_hint: bool) -> FakeThread {
        let build = &self.build;
        let t = &build.layout.thread;
        let mut spec = spec.clone();
        spec.links.retain(|link| stack::exists(build, link.kind));
        let arena = &mut self.arena;
        let tstate = arena.alloc(THREAD_BYTES, 16);
        let at = |offset: u64| RemoteAddr(tstate.0 + offset);
        let number = tstate.0 >> 4;
        arena.put_u64(at(t.thread_id), 0x7000_0000_0000 | number << 8);
        if let Some(offset) = t.native_thread_id {
            arena.put_u64(at(offset), number & 0xffff);
        }
        if let Some(status) = t.status {
            arena.put_u32(at(status.word), status.alive);
        }
        if let (Some(recursion), true) = (t.recursion, depth_hint) {
            arena.put_u32(at(recursion.limit), 1 << 20);
            let remaining = (1 << 20) - spec.links.len() as u32;
            arena.put_u32(at(recursion.remaining), remaining);
        }
        let placed = stack::place(arena, build, &spec);
        if let (Some(fields), Some(newest)) = (t.data_stack, placed.chunks.first()) {
            arena.put_u64(at(fields.chunk), newest.addr.0);
            arena.put_u64(at(fields.top), newest.live_end.0);
            arena.put_u64(at(fields.limit), newest.addr.0 + newest.size);
        }
        let mut made = FakeThread {
            interpreter: RemoteAddr::NULL,
            interpreter_id: 0,
            tstate,
            frames: Vec::new(),
            chunks: placed.chunks,
            base_frame: None,
            cframe: None,
            holds_gil: false,
        };
        let mut older = RemoteAddr::NULL;
        if let FrameRoot::Direct {
            base_frame: Some(offset),
            ..
        } = t.root
        {
            older = at(BASE_FRAME);
            arena.put_u64(at(offset), older.0);
            made.base_frame = Some(older);
        }
        for (n, (link, addr)) in spec.links.iter().zip(&placed.frames).enumerate() {
            let code = &codes[n % codes.len()];
            let frame = write_frame(arena, &build.layout, *addr, older, link.kind, (code, n));
            made.frames.push(frame);
            older = *addr;
        }
        made.frames.reverse();
        match t.root {
            FrameRoot::FrameObject { frame } => arena.put_u64(at(frame), older.0),
            FrameRoot::CFrame {
                cframe,
                current_frame,
            } => {
                arena.put_u64(at(cframe), at(CFRAME).0);
                arena.put_u64(at(CFRAME + current_frame), older.0);
                made.cframe = Some(at(CFRAME));
            }
            FrameRoot::Direct { current_frame, .. } => arena.put_u64(at(current_frame), older.0),
        }
        arena.new_mapping();
        made
    }

    /// A sampler of the recorded image.
    pub(crate) fn sampler(&self) -> Sampler<RecordedMemory> {
        self.sampler_of(self.arena.recorded())
    }

    pub(crate) fn sampler_of<M: ReadMemory>(&self, memory: M) -> Sampler<M> {
        let mut sampler = Sampler::new(memory, self.build.layout.clone(), self.runtime);
        sampler.set_mappings(self.arena.mappings());
        sampler
    }

    /// Every thread is whole and equals what was laid out.
    pub(crate) fn assert_whole<M: ReadMemory>(&self, sampler: &Sampler<M>) {
        let version = self.build.layout.version;
        assert_eq!(sampler.lists_cut(), None, "{version}");
        assert_eq!(sampler.threads().len(), self.threads.len(), "{version}");
        for found in sampler.threads() {
            let expected = self.thread_at(found.tstate);
            assert_eq!(found.outcome, Some(Outcome::Whole), "{version}");
            assert_eq!(found.chunk_error, None, "{version}");
            assert_eq!(found.chunks, expected.chunks, "{version}");
            assert_eq!(found.frames, expected.frames, "{version}");
            assert_eq!(found.interpreter, expected.interpreter, "{version}");
            assert_eq!(found.interpreter_id, expected.interpreter_id, "{version}");
            let holds = sampler.holds_gil(found.tstate);
            assert_eq!(holds, expected.holds_gil, "{version}");
        }
    }

    pub(crate) fn thread_at(&self, tstate: RemoteAddr) -> &FakeThread {
        let thread = self.threads.iter().find(|t| t.tstate == tstate);
        thread.expect("a thread that was laid out")
    }

    /// Where a field of a thread state is.
    pub(crate) fn thread_field(&self, thread: usize, offset: u64) -> RemoteAddr {
        RemoteAddr(self.threads[thread].tstate.0 + offset)
    }

    /// Where the `n`-th newest frame of a thread keeps its link to the older one.
    pub(crate) fn link(&self, thread: usize, n: usize) -> RemoteAddr {
        let offset = match self.build.layout.frames {
            Frames::Objects(frame) => frame.back,
            Frames::Interpreter(frame) => frame.previous,
        };
        RemoteAddr(self.threads[thread].frames[n].addr.0 + offset)
    }
}

fn write_frame(
    arena: &mut Arena,
    layout: &Layout,
    addr: RemoteAddr,
    older: RemoteAddr,
    kind: Kind,
    (code, n): (&Code, usize),
) -> RawFrame {
    let at = |offset: u64| RemoteAddr(addr.0 + offset);
    match layout.frames {
        Frames::Objects(frame) => {
            arena.put_u64(at(frame.back), older.0);
            arena.put_u64(at(frame.code), code.addr.0);
            // Stored in units; a reader says bytes.
            let bytes = code.instr(n);
            let unit = u64::from(frame.lasti_unit.unsigned_abs());
            arena.put_u32(at(frame.lasti), (bytes / unit) as u32);
            arena.put_u8(at(frame.state), frame.running[0]);
            RawFrame {
                addr,
                code: code.addr,
                instr: bytes,
                owner: owner::THREAD,
            }
        }
        Frames::Interpreter(frame) => {
            let (pointer, instr, owner) = match kind {
                Kind::Plain => (code.addr, code.instr(n), owner::THREAD),
                Kind::Generator => (code.addr, code.instr(n), owner::GENERATOR),
                Kind::Shim => (code.addr, code.incomplete_instr(), owner::THREAD),
                // What an entry frame names as its code is None, or nothing.
                Kind::Entry => (RemoteAddr::NULL, 0, owner::ENTRY),
                Kind::NoCode => (RemoteAddr::NULL, 0, owner::THREAD),
            };
            let tag = u64::from(frame.code_tag_mask != 0);
            arena.put_u64(at(frame.code), pointer.0 | tag);
            arena.put_u64(at(frame.previous), older.0);
            arena.put_u64(at(frame.instr), instr);
            arena.put_u8(at(frame.owner), owner);
            RawFrame {
                addr,
                code: pointer,
                instr,
                owner,
            }
        }
    }
}
