//! The stacks of a CPython process, read from outside.
//!
//! The central idea is *read plan, snapshot, miss*. A [`plan::ReadPlan`] is an ordered list of
//! slots: everything the last sample needed. One vectored call copies them into one reused
//! buffer, the [`snapshot::Snapshot`]. The walks ([`threads`], [`datastack`], [`frames`]) are
//! pure functions of a layout and a snapshot: they do no reads of their own, and what lies
//! outside the snapshot is returned as a *miss*. [`sampler::Sampler`] fetches all misses in
//! one more call, goes on, and learns the plan of the next sample.
//!
//! Bytes from the target are never trusted: every address, size, link and length is checked,
//! every walk has a bound, and a walk that cannot go on ends in a typed reason
//! ([`frames::Cut`]), never in a hang, a panic or an allocation of a size that was read.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod code;
pub mod datastack;
pub mod frames;
pub mod layout;
pub mod memory;
pub mod objects;
pub mod plan;
pub mod sampler;
pub mod snapshot;
pub mod threads;
