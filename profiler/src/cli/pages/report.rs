//! What `onlooker pages` prints, as values.

use onlooker_heap::headers::Contents;
use onlooker_heap::unshared::Row;
use serde::Serialize;

use crate::pages::kinds::Kind;
use crate::pages::sharing::{Reasons, Split};
use crate::pages::{Process, Worker};
use crate::target::smaps::Sizes;

/// All processes, the one that was asked for first.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) processes: Vec<ProcessReport>,
    /// Of all processes together; null with one process.
    pub(super) family: Option<Family>,
}

#[derive(Debug, Serialize)]
pub(super) struct ProcessReport {
    pub(super) pid: i32,
    pub(super) python: Option<String>,
    pub(super) command: Vec<String>,
    #[serde(flatten)]
    pub(super) total: Sizes,
    pub(super) kinds: Vec<KindReport>,
    /// Beside its parent; null for the first process, and where page maps may not be read.
    pub(super) worker: Option<WorkerReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct KindReport {
    pub(super) kind: Kind,
    #[serde(flatten)]
    pub(super) sizes: Sizes,
}

#[derive(Debug, Serialize)]
pub(super) struct WorkerReport {
    pub(super) parent: i32,
    /// Whether page frames could be seen; else sharing is told from who else maps a page.
    pub(super) proven: bool,
    pub(super) shared_bytes: u64,
    pub(super) unshared_bytes: u64,
    pub(super) file_bytes: u64,
    /// Why the unshared bytes are.
    pub(super) why: Reasons,
    /// What the copies of those differ in that the parent has too.
    pub(super) contents: ContentsReport,
    /// What `gc.freeze()` before the fork would have saved: at least, at most.
    pub(super) freeze_saves_bytes: [u64; 2],
    pub(super) kinds: Vec<SplitReport>,
    /// What lies in the unshared pages, most bytes first; null where no census could be taken.
    pub(super) types: Option<Vec<TypeReport>>,
}

/// Bytes of unshared pages that the parent has too, by what the two copies differ in.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct ContentsReport {
    pub(super) same: u64,
    pub(super) references: u64,
    pub(super) collector: u64,
    pub(super) headers: u64,
    pub(super) values: u64,
    pub(super) unread: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct TypeReport {
    #[serde(rename = "type")]
    pub(super) name: String,
    /// Of its blocks in unshared pages: `new` and all `contents` together.
    pub(super) bytes: u64,
    pub(super) pages: u64,
    pub(super) new: u64,
    pub(super) contents: ContentsReport,
    pub(super) written: WrittenReport,
}

/// Blocks that differ from the parent's themselves.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct WrittenReport {
    pub(super) references: u64,
    pub(super) collector: u64,
    pub(super) values: u64,
}

impl From<Contents> for ContentsReport {
    fn from(contents: Contents) -> Self {
        Self {
            same: contents.same,
            references: contents.references,
            collector: contents.collector,
            headers: contents.headers,
            values: contents.values,
            unread: contents.unread,
        }
    }
}

impl From<&Row> for TypeReport {
    fn from(row: &Row) -> Self {
        Self {
            name: row.what.name(),
            bytes: row.bytes,
            pages: row.pages,
            new: row.new,
            contents: row.contents.into(),
            written: WrittenReport {
                references: row.written.references,
                collector: row.written.collector,
                values: row.written.values,
            },
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct SplitReport {
    pub(super) kind: Kind,
    #[serde(flatten)]
    pub(super) split: Split,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Family {
    pub(super) processes: usize,
    pub(super) pss_bytes: u64,
    /// What the workers have for themselves, swap included: what one of them costs.
    pub(super) workers: usize,
    pub(super) worker_mean_bytes: u64,
    pub(super) worker_max_bytes: u64,
}

impl Report {
    pub(super) fn add(&mut self, process: &Process, worker: Option<&Worker>) {
        let report = ProcessReport::new(process, worker);
        self.processes.push(report);
        if self.processes.len() < 2 {
            return;
        }
        let costs = self.processes[1..].iter().map(ProcessReport::cost);
        let workers = self.processes.len() - 1;
        self.family = Some(Family {
            processes: self.processes.len(),
            pss_bytes: self.processes.iter().map(|each| each.total.pss_bytes).sum(),
            workers,
            worker_mean_bytes: costs.clone().sum::<u64>() / workers as u64,
            worker_max_bytes: costs.max().unwrap_or_default(),
        });
    }
}

impl ProcessReport {
    fn new(process: &Process, worker: Option<&Worker>) -> Self {
        let mut total = Sizes::default();
        let kinds = process.sizes().into_iter().map(|(kind, sizes)| {
            total += sizes;
            KindReport { kind, sizes }
        });
        let kinds = kinds.collect();
        let python = process.interpreter.as_ref();
        Self {
            pid: process.pid,
            python: python.map(|interpreter| interpreter.python.clone()),
            command: process.command.clone(),
            total,
            kinds,
            worker: worker.map(|worker| WorkerReport::new(process, worker)),
        }
    }

    /// What would be freed if it ended.
    pub(super) fn cost(&self) -> u64 {
        self.total.uss_bytes + self.total.swap_bytes
    }
}

impl WorkerReport {
    fn new(process: &Process, worker: &Worker) -> Self {
        let (sharing, contents) = (&worker.sharing, worker.contents());
        let kinds = process.splits(sharing).into_iter();
        let kinds = kinds.map(|(kind, split)| SplitReport { kind, split });
        Self {
            parent: worker.parent,
            proven: sharing.proven,
            shared_bytes: sharing.mappings.iter().map(|split| split.shared).sum(),
            unshared_bytes: sharing.why.total(),
            file_bytes: sharing.files,
            why: sharing.why,
            contents: contents.into(),
            // Pages that are the same again were written by the collector or by counts of
            // references that went up and down: nobody can tell afterwards.
            freeze_saves_bytes: [
                contents.collector,
                contents.collector + contents.same - worker.moved_bytes(),
            ],
            kinds: kinds.collect(),
            types: (worker.types.as_ref()).map(|rows| rows.iter().map(TypeReport::from).collect()),
        }
    }
}
