//! Which huge pages came in with a fault that was seen.

use std::fs::{self, File};

use crate::sys::pagemap;

/// The huge pages of one process.
#[derive(Debug)]
pub(super) struct HugePages {
    /// Bytes of one; 0 where the kernel has none.
    pub(super) bytes: u64,
    /// Those that were there at the start: runs, by address. None before Linux 6.7.
    before: Vec<(u64, u64)>,
}

impl HugePages {
    /// Notes those that are there.
    pub(super) fn of(pagemap: &File) -> Self {
        let bytes = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size");
        let bytes = bytes.ok().and_then(|size| size.trim().parse().ok());
        Self {
            bytes: bytes.unwrap_or(0),
            before: pagemap::huge(pagemap, 0, u64::MAX).unwrap_or_default(),
        }
    }

    /// The process has become another program.
    pub(super) fn begin_again(&mut self) {
        self.before.clear();
    }

    /// Where the huge pages begin that came in with the last `faults` faults, of which the last one
    /// touched `addr`: its own, and those next to it that were there neither at the start nor are
    /// `known`. As many as there were faults at most.
    pub(super) fn came(
        &self,
        pagemap: &File,
        addr: u64,
        faults: u64,
        known: impl Fn(u64) -> bool,
    ) -> Vec<u64> {
        let own = addr - addr % self.bytes;
        let others = faults.saturating_sub(1);
        let reach = others.saturating_mul(self.bytes);
        let (first, end) = (
            own.saturating_sub(reach),
            own.saturating_add(reach).saturating_add(self.bytes),
        );
        let runs = pagemap::huge(pagemap, first, end).unwrap_or_default();
        let run = runs.into_iter().find(|run| run.0 <= own && own < run.1);
        let (first, end) = run.unwrap_or((own, own + self.bytes));
        let is_new = |page: &u64| !known(*page) && !within(&self.before, *page);
        let pages = |n: u64| n * self.bytes;
        // Memory is mostly touched upwards.
        let below = (1..).map(pages).map_while(|n| own.checked_sub(n));
        let below = below.take_while(|page| *page >= first).take_while(is_new);
        let above = (1..).map(pages).map_while(|n| own.checked_add(n));
        let above = above.take_while(|page| *page < end).take_while(is_new);
        let mut came = vec![own];
        came.extend(below.chain(above).take(others as usize));
        came
    }
}

fn within(runs: &[(u64, u64)], addr: u64) -> bool {
    let next = runs.partition_point(|run| run.1 <= addr);
    runs.get(next).is_some_and(|run| run.0 <= addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_within_a_run() {
        let runs = [(10, 20), (30, 40)];
        let inside: Vec<u64> = (0..50).filter(|at| within(&runs, *at)).collect();
        assert_eq!(inside, (10..20).chain(30..40).collect::<Vec<_>>());
    }
}
