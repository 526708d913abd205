//! A fake interpreter: runtime, interpreters, thread states, chunks, frames and code objects
//! laid out in memory for any layout, with the answer that a reader must give beside them.
//!
//! It is laid out either into recorded memory, for tests without a process
//! (`unwinder/tests/`), or into the memory of a child process that the real reader reads from
//! outside (`tests/fake.rs`). The same base address gives the same image, so that parent and
//! child need to exchange nothing but that address.
//!
//! A test breaks a valid image with [`Arena::put_u64`] and says what must come of it.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

mod arena;
mod layouts;
mod objects;
mod process;
mod stack;

pub(crate) use arena::{Arena, BASE, PAGE, UNMAPPED};
pub(crate) use layouts::{Build, all_builds, build};
pub(crate) use process::{Fake, FakeThread, Spec};
pub(crate) use stack::{Kind, Link, Placement, ThreadSpec, mixed, plain};
