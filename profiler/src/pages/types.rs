//! Which types lie in the unshared pages of a worker: a census of it, joined with its pages.

use onlooker_heap::census::Census;
use onlooker_heap::pymalloc::Roots;
use onlooker_heap::unshared::{self, Page, Row};
use onlooker_unwinder::layout::Layout;

use crate::attach::Attached;
use crate::error::Error;
use crate::heap::{Limits, roots, take};
use crate::target;
use crate::target::memory::FileMemory;

/// What a census of a worker needs to know of the interpreter that it shares with its parent.
#[derive(Debug)]
pub struct Known {
    layout: Layout,
    roots: Roots,
}

impl Known {
    /// What is known of an interpreter that was attached to.
    #[must_use]
    pub fn of(attached: &Attached) -> Self {
        let layout = attached.sampler.layout().clone();
        let roots = roots::find(attached.pid, layout.version, attached.sampler.runtime());
        Self { layout, roots }
    }

    /// The types of unshared pages of a process that has this interpreter at the same place, and
    /// how many bytes of it did not fit into the copy. The process is neither stopped nor are its
    /// pages unshared by it.
    ///
    /// # Errors
    /// When it is gone or may not be read.
    pub fn types(
        &self,
        pid: i32,
        limits: Limits,
        pages: &[Page],
        progress: impl FnMut(u64, u64),
    ) -> Result<(Vec<Row>, u64), Error> {
        let memory = &mut FileMemory::open(pid).map_err(|error| target::refused(pid, &error))?;
        let (layout, roots) = (&self.layout, &self.roots);
        let (copied, walk) = take::copy_running(pid, memory, layout, roots, limits, progress)?;
        let left_out = copied.left_out.iter().map(|run| run.end - run.start);
        let left_out_bytes = left_out.sum();
        let mut space = copied.space;
        let census = Census::take(&mut space, memory, layout, walk);
        let rows = unshared::by_type(&space, layout, &census, pages);
        Ok((rows, left_out_bytes))
    }
}
