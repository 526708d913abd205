//! What CPython's `tracemalloc` wrote down, read from outside.
//!
//! The module keeps a hash table of live blocks for each domain, and for each block its size and
//! a traceback that equal ones share. [`Place`] finds and proves the variables that lead to the
//! tables, [`read`] walks them in bulk and adds up by traceback, [`sites`] and [`diff`] tell.
//!
//! Nothing is stopped and no lock is taken, so the tables may change while they are read. What
//! protects: a block's entry names its bucket ([`read`] believes no other), tracebacks and file
//! names are never freed while `tracemalloc` is on, a table that grew is read again. What is
//! missing after all is counted in [`Quality`].

mod layout;
mod names;
mod place;
mod sites;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;

pub use place::{Place, State};
pub use sites::{By, Change, Place as SitePlace, Site, diff, sites};
pub use snapshot::{Error, Frame, Quality, Snapshot, Traceback, Traces, read};
