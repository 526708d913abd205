//! The heap of a CPython process, counted from a copy of its memory.
//!
//! ```text
//! Space (copied memory) ── roots ──▶ arenas ──▶ pools ──▶ blocks ─┐
//!                       └─ mappings ─▶ malloc's chunks ───────────┴─▶ typed ──▶ owned ──▶ Census
//! ```
//! A [`space::Space`] holds pieces of the target's memory, copied or mapped. Everything else is a
//! pure function of it: no process, no file. The walks ([`pymalloc`], [`malloc`], [`gc`]) give
//! blocks; [`types`] says which of them are objects; [`owned`] which belong to an object;
//! [`census`] adds up.
//!
//! [`image`] keeps what a census is a function of, [`diff`] compares two, [`show`] looks at single
//! objects.
//! [`unshared`] tells the types of pages that a forked worker does not share.
//!
//! Beside it, over the read seam and without a copy:
//!
//! * [`gather`] reads many small pieces of memory in few large calls.
//! * [`headers`] tells counts of references and headers of the collector from values.
//! * [`tracemalloc`] reads what the interpreter's own `tracemalloc` wrote down.
//!
//! Bytes from the target are never trusted: every walk is bounded, every link is checked, and what
//! does not close is counted as such.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod bits;
pub mod blocks;
pub mod census;
pub mod diff;
mod figures;
mod garbage;
pub mod gather;
pub mod gc;
pub mod guards;
pub mod headers;
pub mod image;
pub mod malloc;
pub mod mappings;
pub mod names;
pub mod objects;
mod outside;
pub mod owned;
pub mod pymalloc;
mod references;
pub mod rss;
pub mod show;
pub mod space;
pub mod tracemalloc;
pub mod types;
pub mod unshared;
