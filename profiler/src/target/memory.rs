//! The memory of a running process: vectored reads, or plain ones where these are refused.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

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
    /// The same, and what a fork shares stays shared.
    File(FileMemory),
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

    /// The memory of `pid` through its file ([`FileMemory`]).
    ///
    /// # Errors
    /// When there is none.
    pub fn open_file(pid: i32, probe: Segment) -> Result<Self, ReadError> {
        let mut memory = FileMemory::open(pid).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => ReadError::Denied,
            _ => ReadError::Gone,
        })?;
        memory.read(&[probe], &mut vec![0; probe.len as usize])?;
        Ok(Self::File(memory))
    }
}

impl ReadMemory for TargetMemory {
    fn read(&mut self, segments: &[Segment], buf: &mut [u8]) -> Result<usize, ReadError> {
        match self {
            Self::Vectored(memory) => memory.read(segments, buf),
            Self::Plain(memory) => memory.read(segments, buf),
            Self::File(memory) => memory.read(segments, buf),
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
                        io::ErrorKind::PermissionDenied => ReadError::Denied,
                        io::ErrorKind::NotFound => ReadError::Gone,
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

/// Reads through `/proc/PID/mem`, one call for each segment.
///
/// For memory that a fork shares: `process_vm_readv` pins the pages that it copies, and since
/// Linux 5.19 a page that is shared by a fork must be unshared before it may be pinned
/// (`gup_must_unshare`, `mm/internal.h`), so that each page read that way becomes a copy of the
/// target's own. Reads of this file do not pin.
#[derive(Debug)]
pub struct FileMemory(File);

impl FileMemory {
    /// Opens the memory of a process.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(pid: i32) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/mem")).map(Self)
    }
}

impl ReadMemory for FileMemory {
    fn read(&mut self, segments: &[Segment], buf: &mut [u8]) -> Result<usize, ReadError> {
        (&mut &*self).read(segments, buf)
    }
}

/// Several threads may read at the same time.
impl ReadMemory for &FileMemory {
    fn read(&mut self, segments: &[Segment], buf: &mut [u8]) -> Result<usize, ReadError> {
        let mut filled = 0;
        for segment in segments {
            let len = segment.len as usize;
            let Some(target) = buf.get_mut(filled..filled + len) else {
                break;
            };
            let mut got = 0;
            while got < len {
                let at = segment.addr.0.saturating_add(got as u64);
                match self.0.read_at(&mut target[got..], at) {
                    Ok(more @ 1..) => got += more,
                    // The process has ended.
                    Ok(0) if filled + got == 0 => return Err(ReadError::Gone),
                    Ok(_) | Err(_) => break,
                }
            }
            filled += got;
            if got < len {
                break;
            }
        }
        match segments.first() {
            Some(first) if filled == 0 && first.len > 0 => Err(ReadError::Unmapped(first.addr)),
            _ => Ok(filled),
        }
    }
}
