//! How threads come to be traced.

use std::io;

use super::refuse;
use super::worker::Worker;
use crate::error::Error;
use crate::sys::ptrace;
use crate::target::{self, threads};

impl Worker {
    /// Seizes every thread of the process.
    ///
    /// A thread that is started by one that is not seized yet is found in the next round; one
    /// that is started by a seized one is seized by the kernel.
    pub(super) fn seize_all(&mut self) -> Result<(), Error> {
        loop {
            let mut found = false;
            for tid in threads::tids(self.plan.pid) {
                if self.tracees.by_tid.contains_key(&tid) {
                    continue;
                }
                match ptrace::seize(tid) {
                    Ok(()) => self.adopt(tid)?,
                    // The kernel has seized it for us: it comes with a stop of its own.
                    Err(_) if refuse::traced_by_us(self.plan.pid, tid) => continue,
                    Err(error) if gone(&error) => continue,
                    Err(error) => return Err(self.refused(error)),
                }
                found = true;
            }
            if !found {
                break;
            }
        }
        if self.tracees.by_tid.is_empty() {
            target::check_alive(self.plan.pid)?;
        }
        Ok(())
    }

    pub(super) fn refused(&self, error: io::Error) -> Error {
        let pid = self.plan.pid;
        match refuse::check(pid) {
            Err(error) => error,
            Ok(()) if error.kind() == io::ErrorKind::PermissionDenied => target::denied(pid),
            Ok(()) => Error::stop(pid, error),
        }
    }

    pub(super) fn adopt(&mut self, tid: i32) -> Result<(), Error> {
        let adopted = self
            .tracees
            .adopt(&self.plan, tid, self.signal, &self.epoll);
        match adopted {
            Ok(short) => {
                self.short |= short;
                Ok(())
            }
            Err(error) if gone(&error) => Ok(()),
            Err(error) => Err(Error::perf(self.plan.pid, error)),
        }
    }
}

fn gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT))
}
