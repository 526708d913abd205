//! The tails of all tables together.

use super::encode;
use super::tail::{Budget, Tail};
use crate::proto;
use crate::tables::{Header, Location, Mapping, Process, StackNode, Thread};
use std::sync::Arc;

/// The rows of each table that may still have to be written.
#[derive(Default)]
pub(super) struct Tails {
    pub(super) header: Tail<Header>,
    pub(super) strings: Tail<Arc<str>>,
    pub(super) locations: Tail<Location>,
    pub(super) stacks: Tail<StackNode>,
    pub(super) processes: Tail<Process>,
    pub(super) threads: Tail<Thread>,
    pub(super) mappings: Tail<Mapping>,
}

/// Does the same to each table.
macro_rules! each_tail {
    ($tails:expr, $method:ident) => {{
        $tails.header.$method();
        $tails.strings.$method();
        $tails.locations.$method();
        $tails.stacks.$method();
        $tails.processes.$method();
        $tails.threads.$method();
        $tails.mappings.$method();
    }};
}

/// Takes rows of each table for one message. Those that others refer to come first, so that a
/// full block never holds a row without what it needs in this block or an earlier one.
macro_rules! take_rows {
    ($tails:expr, $take:ident, $budget:expr) => {
        proto::Rows {
            header: encode::header($tails.header.$take($budget)),
            strings: encode::strings($tails.strings.$take($budget)),
            locations: encode::locations($tails.locations.$take($budget)),
            stacks: encode::stacks($tails.stacks.$take($budget)),
            processes: encode::processes($tails.processes.$take($budget)),
            threads: encode::threads($tails.threads.$take($budget)),
            mappings: encode::mappings($tails.mappings.$take($budget)),
        }
    };
}

impl Tails {
    /// New rows of each table, as many as go into a block.
    pub(super) fn take_new(&mut self, budget: &mut Budget) -> Option<proto::Rows> {
        let rows = take_rows!(self, take_new, budget);
        (rows != proto::Rows::default()).then_some(rows)
    }

    /// Rows of each table to be written once more, as many as go into a block.
    pub(super) fn take_again(&mut self, budget: &mut Budget) -> Option<proto::Rows> {
        let rows = take_rows!(self, take_again, budget);
        (rows != proto::Rows::default()).then_some(rows)
    }

    /// To be called after each block.
    pub(super) fn end_block(&mut self) {
        each_tail!(self, end_block);
    }

    /// Makes every row that was written once due to be written again.
    pub(super) fn end_recording(&mut self) {
        each_tail!(self, end_recording);
    }

    /// Whether rows have to go into a block now.
    pub(super) fn pending(&self) -> bool {
        self.header.pending()
            || self.strings.pending()
            || self.locations.pending()
            || self.stacks.pending()
            || self.processes.pending()
            || self.threads.pending()
            || self.mappings.pending()
    }
}
