//! The heap of a CPython process, read from outside.
//!
//! Pure decoding: addresses and the memory seam of `onlooker-unwinder` come in, plain values go
//! out. Processes, files and symbols are the caller's.
//!
//! * [`gather`] reads many small pieces of memory in few large calls.
//! * [`tracemalloc`] reads what the interpreter's own `tracemalloc` wrote down.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod gather;
pub mod tracemalloc;
