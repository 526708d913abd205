//! A copy of a process's memory for a census: what is resident, in bulk, and where it lies.
//!
//! ```text
//! smaps ─▶ mappings ─▶ pagemap: runs of resident pages ─▶ vectored reads ─▶ Image ─▶ Report
//!                                                             a mapped file ───┘
//! ```
//! Only reads, unless a stop is asked for ([`crate::stop::pause`]). Pages that are not resident are not read: reading one would make it so, and a page
//! that was swapped out would come back.

pub mod choose;
pub mod copy;
pub mod image;
pub mod mappings;
mod parallel;
pub mod report;
pub mod roots;
mod settle;
pub mod take;

pub use copy::{Copied, Limits};
pub use report::Report;
pub use take::{Options, Taken, take};
