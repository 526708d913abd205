//! From samples to a recording.
//!
//! Three threads: [`run`](mod@run) samples at the beat of the [`clock`], [`family`] finds
//! processes and attaches to them, and the writing thread behind [`Recorder`] packs and writes.
//! The first waits for none of the others. With `--exact` the stop thread takes the place of the
//! first ([`exact`], [`growth`]).

mod batch;
mod between;
pub mod clock;
mod crowd;
mod describe;
pub mod exact;
pub mod family;
pub mod growth;
mod huge;
mod kernel;
pub mod kin;
mod looks;
mod moves;
pub(crate) mod own_cpu;
mod pages;
mod queue;
#[cfg(test)]
mod queue_tests;
mod recorder;
mod rows;
pub mod run;
pub mod standing;
mod stop_costs;
mod watched;

pub use recorder::Recorder;
pub(crate) use watched::TRIES;
