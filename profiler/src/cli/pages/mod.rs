//! `onlooker pages`: what memory is for, and what forked workers share.

mod report;
mod table;

use std::io::{self, Write};

use clap::Args;

use crate::attach::{self, Attached};
use crate::error::Error;
use crate::pages::kinds::Interpreter;
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
    /// Machine-readable output
    #[arg(short, long)]
    pub json: bool,
}

pub(super) fn run(args: &PagesArgs) -> Result<u8, Error> {
    let mut processes = family(args.pid, args.children)?;
    // Before the interpreter is looked for: reading shared memory for that would unshare some.
    let workers: Vec<Option<Worker>> = processes
        .iter()
        .map(|(parent, process)| {
            let parent = &processes[(*parent)?].1;
            process
                .beside(parent)
                .map_err(|error| complain(&error))
                .ok()
        })
        .collect();
    let root = interpreter(&attach::attach(args.pid, attach::STARTING)?);
    let known: Vec<Option<Interpreter>> = processes
        .iter()
        .map(|(_, process)| {
            if process.maps_as(&processes[0].1, root.runtime) {
                return Some(root.clone());
            }
            // It runs another program, so that it shares nothing that reading could unshare.
            let attached = attach::attach_once(process.pid).ok()?;
            Some(interpreter(&attached))
        })
        .collect();
    let mut report = Report::default();
    for (((_, process), worker), known) in processes.iter_mut().zip(&workers).zip(known) {
        process.set_interpreter(known);
        report.add(process, worker.as_ref());
    }
    let text = if args.json {
        serde_json::to_string(&report).map_err(|e| Error::Report(e.to_string()))? + "\n"
    } else {
        table::render(&report)
    };
    match io::stdout().write_all(text.as_bytes()) {
        // `onlooker pages | head` is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Write {
            path: "-".into(),
            error,
            kept: String::new(),
        }),
        _ => Ok(0),
    }
}

/// The process and, where asked for, its descendants, each with the index of its parent.
fn family(root: i32, children: bool) -> Result<Vec<(Option<usize>, Process)>, Error> {
    let mut processes = vec![(None, Process::look(root)?)];
    let mut next = 0;
    while let Some((_, process)) = processes.get(next).filter(|_| children) {
        for pid in kin::children(process.pid) {
            match Process::look(pid) {
                Ok(child) => processes.push((Some(next), child)),
                Err(error) => complain(&error),
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

/// What is missing is told; the rest is shown.
fn complain(error: &Error) {
    eprintln!("onlooker: {error}");
}
