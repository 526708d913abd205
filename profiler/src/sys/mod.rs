//! What the kernel offers and no crate wraps safely: perf events that send signals, and the
//! parts of ptrace that a profiler needs and a debugger's crate leaves out. And files that are mapped,
//! which no crate can make safe, and buffers in huge pages.
//!
//! The only unsafe code of the project. Every function here is safe to call: what may go wrong
//! is an [`io::Error`], and no function hands out memory that it does not own.

#![allow(unsafe_code, reason = "the one module that may; see above")]

mod fault;
pub mod held;
pub mod huge;
pub mod map;
pub mod pagemap;
pub mod perf;
pub mod ptrace;
pub mod remap;
mod ring;
pub mod slice;
pub mod typed;
pub mod urgent;

use std::io;

/// The result of a call that returns -1 and sets `errno` when it fails.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
