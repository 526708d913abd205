//! `onlooker pages`: what memory is for, and what forked workers share.

mod report;
mod table;

use std::time::Duration;

use clap::Args;
use onlooker_heap::unshared::Row;

use super::heap::{bytes, half_of_available};
use super::progress::Progress;
use super::stdout;
use crate::attach::{self, Attached};
use crate::error::Error;
use crate::heap::Limits;
use crate::pages::kinds::Interpreter;
use crate::pages::types::Known;
use crate::pages::{Process, Worker};
use crate::record::kin;
use report::Report;

/// `onlooker pages`.
#[derive(Debug, Args)]
pub struct PagesArgs {
    /// Process id
    #[arg(short, long, value_name = "PID")]
    pub pid: i32,
    /// Look at its children too, and theirs: what each shares with its parent, and what one more
    /// would cost
    #[arg(long)]
    pub children: bool,
    /// How many types of a worker's unshared pages the table shows
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub limit: usize,
    /// Most memory that the copy of a worker may take, as 512M or 4G; objects in what does not fit
    /// have no type [default: half of what is available]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub max_memory: Option<u64>,
    /// Machine-readable output, with all types
    #[arg(short, long)]
    pub json: bool,
}

pub(super) fn run(args: &PagesArgs) -> Result<u8, Error> {
    let progress = Progress::begin("looking at pages");
    let mut processes = family(args.pid, args.children, &progress)?;
    let beside = |(parent, process): &(Option<usize>, Process)| {
        let parent = &processes[(*parent)?].1;
        Some(process.beside(parent))
    };
    let mut exited = Vec::new();
    let mut workers: Vec<Option<Worker>> = Vec::with_capacity(processes.len());
    for process in &processes {
        workers.push(match beside(process).transpose() {
            Ok(worker) => worker,
            Err(Error::Exited { pid }) if pid != args.pid => {
                exited.push(pid);
                None
            }
            // Without the process that was asked for there is nothing to show.
            Err(error @ Error::Exited { .. }) => return Err(error),
            Err(error) => {
                complain(&error, &progress);
                None
            }
        });
    }
    for pid in &exited {
        left_out(*pid, &progress);
    }
    let hidden = workers
        .iter()
        .flatten()
        .any(|worker| !worker.sharing.proven);
    // The table has it beside the figures.
    if hidden && args.json {
        progress.aside(|| {
            say!(
                "page frames are hidden (they need root with CAP_SYS_ADMIN, Linux 5.19): whether \
                 another process maps a page decides whether it is shared, and who wrote it is \
                 unknown; what the copies differ in is compared all the same"
            );
        });
    }
    let attached = attach::attach_for_memory(args.pid, attach::STARTING);
    let attached = attached.map_err(Error::meanwhile)?;
    let root = interpreter(&attached);
    let known: Vec<Option<Interpreter>> = processes
        .iter()
        .map(|(_, process)| {
            if process.maps_as(&processes[0].1, root.runtime) {
                return Some(root.clone());
            }
            // It runs another program.
            let attached = attach::attach_for_memory(process.pid, Duration::ZERO).ok()?;
            Some(interpreter(&attached))
        })
        .collect();
    for (((_, process), worker), known) in processes.iter().zip(&mut workers).zip(&known) {
        if let Some(worker) = worker.as_mut().filter(|_| known.as_ref() == Some(&root)) {
            worker.types = types(&attached, process.pid, worker, args, &progress);
        }
    }
    drop(progress);
    let mut report = Report::default();
    for (((_, process), worker), known) in processes.iter_mut().zip(&workers).zip(known) {
        if exited.contains(&process.pid) {
            continue;
        }
        process.set_interpreter(known);
        report.add(process, worker.as_ref());
    }
    stdout::print(&if args.json {
        stdout::json(&report)?
    } else {
        table::render(&report, args.limit)
    })?;
    Ok(0)
}

/// The types in a worker's unshared pages; `None` where no census can be taken of it, which is told.
fn types(
    attached: &Attached,
    pid: i32,
    worker: &Worker,
    args: &PagesArgs,
    progress: &Progress,
) -> Option<Vec<Row>> {
    let limits = Limits {
        max_bytes: args.max_memory.unwrap_or_else(half_of_available),
    };
    let what = format!("copying worker {pid}");
    let taken = Known::of(attached).types(pid, limits, &worker.pages, |done, all| {
        progress.bytes(&what, done, all, "counting objects");
    });
    match taken {
        Ok((rows, left_out_bytes)) => {
            if left_out_bytes > 0 {
                progress.aside(|| {
                    say!(
                        "{left_out_bytes} bytes of worker {pid} are more than \
                         --max-memory: what lies in them has no type"
                    );
                });
            }
            Some(rows)
        }
        Err(error) => {
            complain(&error, progress);
            None
        }
    }
}

/// The process and, where asked for, its descendants, each with the index of its parent.
fn family(
    root: i32,
    children: bool,
    progress: &Progress,
) -> Result<Vec<(Option<usize>, Process)>, Error> {
    let mut processes = vec![(None, Process::look(root)?)];
    let mut next = 0;
    while let Some((_, process)) = processes.get(next).filter(|_| children) {
        for pid in kin::children(process.pid) {
            match Process::look(pid) {
                Ok(child) => processes.push((Some(next), child)),
                Err(
                    Error::NoProcess { pid } | Error::Zombie { pid, .. } | Error::Exited { pid },
                ) => {
                    left_out(pid, progress);
                }
                Err(error) => complain(&error, progress),
            }
        }
        next += 1;
    }
    Ok(processes)
}

fn interpreter(attached: &Attached) -> Interpreter {
    Interpreter {
        python: attached.version.to_string(),
        version: attached.sampler.layout().version,
        runtime: attached.sampler.runtime().0,
    }
}

/// A worker that is no more is no failure: others are shown.
fn left_out(pid: i32, progress: &Progress) {
    progress.aside(|| say!("worker {pid} exited meanwhile and is left out"));
}

/// What is missing is told; the rest is shown.
fn complain(error: &Error, progress: &Progress) {
    progress.aside(|| say!("{error}"));
}
