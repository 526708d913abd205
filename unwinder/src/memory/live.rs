//! A running process, read with `process_vm_readv`.

use std::io::IoSliceMut;

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use super::{MAX_SEGMENTS, ReadError, ReadMemory, RemoteAddr, Segment};

/// Reads a running process. Never stops it and never writes to it.
///
/// Needs what `ptrace(PTRACE_MODE_ATTACH_REALCREDS)` needs, see `process_vm_readv(2)`.
#[derive(Debug)]
pub struct LiveMemory {
    pid: Pid,
    remote: Vec<RemoteIoVec>,
}

impl LiveMemory {
    /// The memory of process `pid` as seen from our PID namespace. Does not touch it yet.
    #[must_use]
    pub fn new(pid: i32) -> Self {
        Self {
            pid: Pid::from_raw(pid),
            remote: Vec::with_capacity(MAX_SEGMENTS),
        }
    }
}

impl ReadMemory for LiveMemory {
    fn read(&mut self, segments: &[Segment], buf: &mut [u8]) -> Result<usize, ReadError> {
        self.remote.clear();
        self.remote.extend(segments.iter().map(|s| RemoteIoVec {
            // The target's addresses have our own width: attach refuses 32-bit targets.
            base: s.addr.0 as usize,
            len: s.len as usize,
        }));
        let total: usize = segments.iter().map(|s| s.len as usize).sum();
        let first = segments.first().map_or(RemoteAddr::NULL, |s| s.addr);
        let Some(buf) = buf.get_mut(..total) else {
            return Err(ReadError::Unmapped(first));
        };
        match process_vm_readv(self.pid, &mut [IoSliceMut::new(buf)], &self.remote) {
            // The address space of an exiting process reads as nothing at all.
            Ok(0) if total > 0 => Err(ReadError::Gone),
            Ok(n) => Ok(n),
            Err(Errno::ESRCH) => Err(ReadError::Gone),
            Err(Errno::EPERM) => Err(ReadError::Denied),
            Err(Errno::EFAULT) => Err(ReadError::Unmapped(first)),
            Err(errno) => Err(ReadError::Os(errno as i32)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_several_segments_of_this_process_in_one_call() {
        let a = [1_u8, 2, 3, 4];
        let b = [5_u8, 6];
        let mut memory = LiveMemory::new(std::process::id().cast_signed());
        let mut buf = [0; 6];
        let segments = [
            Segment {
                addr: RemoteAddr(b.as_ptr() as u64),
                len: 2,
            },
            Segment {
                addr: RemoteAddr(a.as_ptr() as u64),
                len: 4,
            },
        ];
        assert_eq!(memory.read(&segments, &mut buf), Ok(6));
        assert_eq!(buf, [5, 6, 1, 2, 3, 4]);
    }

    #[test]
    fn stops_at_the_first_segment_that_faults() {
        let a = [1_u8; 8];
        let mut memory = LiveMemory::new(std::process::id().cast_signed());
        let mut buf = [0; 24];
        let good = Segment {
            addr: RemoteAddr(a.as_ptr() as u64),
            len: 8,
        };
        let bad = Segment {
            addr: RemoteAddr(8),
            len: 8,
        };
        assert_eq!(memory.read(&[good, bad, good], &mut buf), Ok(8));
        assert_eq!(
            memory.read(&[bad, good], &mut buf),
            Err(ReadError::Unmapped(bad.addr))
        );
    }
}
