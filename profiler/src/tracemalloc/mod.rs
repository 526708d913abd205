//! The tables of a target's `tracemalloc`: finding them, and the document that keeps them.
//!
//! What the tables mean is `onlooker_heap::tracemalloc`; here are the process, its files and
//! what is written down ([`document`]) or drawn ([`chart`]).

pub mod chart;
pub mod document;
mod find;

use onlooker_heap::tracemalloc::{self as heap, Quality, Snapshot};

use crate::attach::{self, Attached};
use crate::error::Error;
use crate::target;

/// Reads the tables of an interpreter. Does not stop it and takes no lock of it.
///
/// # Errors
/// [`Error::TracemallocOff`], [`Error::TracemallocHidden`], or what reading a process can meet.
pub fn read(attached: &mut Attached) -> Result<(Snapshot, Quality), Error> {
    let pid = attached.pid;
    tables(attached).map_err(|error| match error {
        // What lets go of its memory has no tables any more; its program goes with the memory.
        Error::TracemallocOff { .. } | Error::TracemallocHidden { .. }
            if !target::is_alive(pid) || target::executable(pid).is_empty() =>
        {
            Error::Exited { pid }
        }
        error => error,
    })
}

fn tables(attached: &mut Attached) -> Result<(Snapshot, Quality), Error> {
    let pid = attached.pid;
    let place = find::place(attached)?;
    let layout = attached.sampler.layout().clone();
    let read = heap::read(attached.sampler.memory_mut(), &layout, &place);
    read.map_err(|error| match error {
        heap::Error::Off => Error::TracemallocOff { pid },
        heap::Error::Read(error) => attach::read_error(pid, error),
        other => Error::TracemallocHidden {
            pid,
            version: attached.version.to_string(),
            why: other.to_string(),
        },
    })
}
