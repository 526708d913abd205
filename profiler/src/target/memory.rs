//! The memory of a running process: vectored reads, or plain ones where these are refused.

use onlooker_unwinder::memory::{LiveMemory, ReadError, ReadMemory, Segment};
use read_process_memory::{CopyAddress, ProcessHandle};

/// Reads a running process.
///
/// Some sandboxes refuse `process_vm_readv` and allow `/proc/PID/mem`. There every segment is
/// a call of its own (and the counts say so).
#[derive(Debug)]
pub enum TargetMemory {
    /// One `process_vm_readv` for all segments.
    Vectored(LiveMemory),
    /// One plain read for each segment.
    Plain(PlainMemory),
}

/// Plain reads, through a crate that falls back to `/proc/PID/mem`.
pub struct PlainMemory(ProcessHandle);

impl std::fmt::Debug for PlainMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PlainMemory")
    }
}

impl TargetMemory {
    /// The memory of `pid`, by the best way that works.
    ///
    /// # Errors
    /// When there is none: the error of the vectored read.
    pub fn open(pid: i32, probe: Segment) -> Result<Self, ReadError> {
        let mut live = LiveMemory::new(pid);
        let mut buf = vec![0; probe.len as usize];
        match live.read(&[probe], &mut buf) {
            Ok(_) => return Ok(Self::Vectored(live)),
            Err(ReadError::Denied | ReadError::Os(_)) => {}
            Err(error) => return Err(error),
        }
        let handle = ProcessHandle::try_from(pid).map_err(|_| ReadError::Denied)?;
        let mut plain = PlainMemory(handle);
        match plain.read(&[probe], &mut buf) {
            Ok(_) => Ok(Self::Plain(plain)),
            Err(_) => Err(ReadError::Denied),
        }
    }
}

impl ReadMemory for TargetMemory {
    fn read(&mut self, segments: &[Segment], buf: &mut [u8]) -> Result<usize, ReadError> {
        match self {
            Self::Vectored(memory) => memory.read(segments, buf),
            Self::Plain(memory) => memory.read(segments, buf),
        }
    }
}

impl ReadMemory for PlainMemory {
    fn read(&mut self, segments: &[Segment], buf: &mut [u8]) -> Result<usize, ReadError> {
        let mut filled = 0;
        for segment in segments {
            let len = segment.len as usize;
            let Some(target) = buf.get_mut(filled..filled + len) else {
                break;
            };
            match self.0.copy_address(segment.addr.0 as usize, target) {
                Ok(()) => filled += len,
                Err(_) if filled > 0 => break,
                Err(error) => {
                    return Err(match error.kind() {
                        std::io::ErrorKind::PermissionDenied => ReadError::Denied,
                        std::io::ErrorKind::NotFound => ReadError::Gone,
                        _ if error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32) => {
                            ReadError::Gone
                        }
                        _ => ReadError::Unmapped(segment.addr),
                    });
                }
            }
        }
        Ok(filled)
    }
}
