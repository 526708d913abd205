//! Processes that have no interpreter any more and still run: they end, or run on by exec or alone.

use std::collections::HashMap;
use std::mem;

use crate::target;

/// A process that ends is gone so soon after its interpreter; what is left then runs on without.
const ENDS_WITHIN_NS: u64 = 100_000_000;

/// Processes between interpreters. Each tick of one is a loss, but for those in which it ends:
/// there was nothing left to sample.
#[derive(Debug, Default)]
pub(super) struct Between(HashMap<i32, Wait>);

#[derive(Debug)]
struct Wait {
    since_ns: u64,
    /// Ticks that are losses unless the process ends.
    held: u64,
    /// Whether it is known to run no Python any more: from then on there is nothing to lose.
    other: bool,
}

/// What a tick has shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ticked {
    /// Ticks that were lost, this one and earlier ones.
    pub(super) lost: u64,
    /// Whether a process has ended.
    pub(super) ended: bool,
}

impl Between {
    /// Takes in a process that had no interpreter in so many ticks, up to this one.
    pub(super) fn add(&mut self, pid: i32, ticks: u64, now_ns: u64) {
        let wait = Wait {
            since_ns: now_ns,
            held: ticks,
            other: false,
        };
        self.0.insert(pid, wait);
    }

    /// Counts a tick, and asks who still runs.
    pub(super) fn tick(&mut self, now_ns: u64) -> Ticked {
        let mut ticked = Ticked::default();
        self.0.retain(|pid, wait| {
            if !target::is_alive(*pid) {
                ticked.ended = true;
                return false;
            }
            wait.held += u64::from(!wait.other);
            let stays = now_ns.saturating_sub(wait.since_ns) > ENDS_WITHIN_NS;
            if stays {
                ticked.lost += mem::take(&mut wait.held);
            }
            !(stays && wait.other)
        });
        ticked
    }

    /// A process runs no Python: it ends, or is another program.
    pub(super) fn is_other(&mut self, pid: i32) {
        if let Some(wait) = self.0.get_mut(&pid) {
            wait.other = true;
        }
    }

    /// A process has another interpreter; how many ticks it has lost.
    pub(super) fn renewed(&mut self, pid: i32) -> u64 {
        self.0.remove(&pid).map_or(0, |wait| wait.held)
    }

    /// A process is gone.
    pub(super) fn gone(&mut self, pid: i32) {
        self.0.remove(&pid);
    }

    /// How many ticks those have lost that still run at the end of the recording.
    pub(super) fn rest(&self) -> u64 {
        let runs = self.0.iter().filter(|(pid, _)| target::is_alive(**pid));
        runs.map(|(_, wait)| wait.held).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_ticks_of_an_end_are_no_losses() {
        let mut child = Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("cat");
        let (ends, stays) = (child.id().cast_signed(), std::process::id().cast_signed());
        let mut between = Between::default();
        between.add(ends, 3, 0);
        between.add(stays, 3, 0);
        assert_eq!(
            between.tick(1_000_000),
            Ticked::default(),
            "nothing is known"
        );
        assert_eq!(between.rest(), 8);
        drop(child.stdin.take());
        child.wait().expect("its end");
        assert_eq!(between.rest(), 4);
        let ended = Ticked {
            lost: 0,
            ended: true,
        };
        assert_eq!(between.tick(2_000_000), ended);
        let lost = |lost| Ticked { lost, ended: false };
        assert_eq!(between.tick(ENDS_WITHIN_NS + 1), lost(6), "it runs on");
        assert_eq!(between.tick(ENDS_WITHIN_NS + 2), lost(1));
        assert_eq!(between.renewed(stays), 0);
        between.add(stays, 2, 0);
        assert_eq!(between.renewed(stays), 2);
        between.add(stays, 2, 0);
        between.is_other(stays);
        assert_eq!(between.tick(1), lost(0));
        assert_eq!(between.tick(ENDS_WITHIN_NS + 1), lost(2), "not these two");
        assert_eq!(between.tick(ENDS_WITHIN_NS + 2), lost(0));
    }
}
