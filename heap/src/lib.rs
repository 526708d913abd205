//! The heap of a CPython process, read from outside.
//!
//! Pure decoding: addresses and the memory seam of `onlooker-unwinder` come in, plain values go
//! out. Processes, files and symbols are the caller's.
//!
//! * [`gather`] reads many small pieces of memory in few large calls.
//! * [`headers`] tells counts of references and headers of the collector from values.
//! * [`tracemalloc`] reads what the interpreter's own `tracemalloc` wrote down.
//! * [`pools`] tells memory of pymalloc by the shape of its pools.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod gather;
pub mod headers;
pub mod pools;
pub mod tracemalloc;
