//! Flame graphs and every other report, made from sample tables.
//!
//! This crate owns the way from [`Tables`] to text, pictures and figures. It knows no process and
//! no remote address: whatever it prints can be printed again on another machine, later, from a
//! recording alone.
//!
//! ```text
//! Tables → select → fold (weight per distinct stack) → tree of labels → collapsed, svg
//!                 ↘ hottest (tree of functions)       ↘ speedscope (keeps the order in time)
//! ```
//!
//! Three rules hold for every report:
//!
//! * The cost is per distinct stack, not per sample: samples are added up by stack id before any
//!   name is looked at.
//! * The same tables and options give the same bytes.
//! * Nothing is passed off: a stack that was cut is drawn under a frame `[cut: REASON]`, and what
//!   was lost, left out or not verified stands in the report as a count.
//!
//! [`Tables`]: onlooker_recording::tables::Tables
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod collapsed;
mod error;
mod fold;
mod format;
mod hottest;
mod labels;
mod names;
mod prune;
mod render;
mod select;
mod sites;
mod speedscope;
mod summary;
mod svg;
mod text;
pub mod units;

pub use error::Error;
pub use format::{Format, Target};
pub use hottest::{Hot, hottest, write_hottest};
pub use render::{Options, Summary, render};
pub use select::{CUT_REASONS, Mode, Selection};
pub use sites::{By, Site, has_growth, sites, write_sites, write_sites_json};
pub use summary::{asleep_line, summary_line};
