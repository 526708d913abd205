//! The memory of a running process: vectored reads, or plain ones where these are refused.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use onlooker_unwinder::memory::{LiveMemory, ReadError, ReadMemory, RemoteAddr, Segment};
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

/// Reads what a fork shares through the file, and all else by `process_vm_readv`.
#[derive(Debug)]
pub struct PartlySharedMemory<'a> {
    live: LiveMemory,
    file: &'a FileMemory,
    shared: &'a [(u64, u64)],
}

impl<'a> PartlySharedMemory<'a> {
    /// The memory of a process that shares pages between these addresses, which are in order, and
    /// that forks no more.
    #[must_use]
    pub fn new(pid: i32, file: &'a FileMemory, shared: &'a [(u64, u64)]) -> Self {
        Self {
            live: LiveMemory::new(pid),
            file,
            shared,
        }
    }

    /// How much of a piece from `start` to `end` can be read in one way, and whether it is shared.
    fn part(&self, start: u64, end: u64) -> (u64, bool) {
        let next = self.shared.partition_point(|(_, to)| *to <= start);
        match self.shared.get(next) {
            Some((from, to)) if *from <= start => (end.min(*to) - start, true),
            Some((from, _)) => (end.min(*from) - start, false),
            None => (end - start, false),
        }
    }
}

impl ReadMemory for PartlySharedMemory<'_> {
    fn read(&mut self, segments: &[Segment], buf: &mut [u8]) -> Result<usize, ReadError> {
        let mut filled = 0;
        for segment in segments {
            let (mut start, end) = (segment.addr.0, segment.addr.0 + u64::from(segment.len));
            while start < end {
                let (len, shared) = self.part(start, end);
                let Some(target) = buf.get_mut(filled..filled + len as usize) else {
                    return Ok(filled);
                };
                let piece = [Segment {
                    addr: RemoteAddr(start),
                    len: len as u32,
                }];
                let got = match shared {
                    true => (&mut &*self.file).read(&piece, target),
                    false => self.live.read(&piece, target),
                };
                match got {
                    Ok(got) => filled += got,
                    Err(ReadError::Unmapped(_)) if filled > 0 => return Ok(filled),
                    // What is refused may be there.
                    Err(error) => return Err(error),
                }
                if got.is_ok_and(|got| (got as u64) < len) {
                    return Ok(filled);
                }
                start += len;
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_where_sharing_begins_and_ends() {
        let pid = std::process::id().cast_signed();
        let file = FileMemory::open(pid).expect("own memory");
        let bytes: Vec<u8> = (0..=255).cycle().take(20_000).collect();
        let start = bytes.as_ptr().addr() as u64;
        let shared = [(start + 100, start + 200), (start + 5000, start + 9000)];
        let mut memory = PartlySharedMemory::new(pid, &file, &shared);
        let part = |from, to| memory.part(start + from, start + to);
        assert_eq!(part(0, 50), (50, false));
        assert_eq!(part(0, 150), (100, false));
        assert_eq!(part(100, 150), (50, true));
        assert_eq!(part(150, 6000), (50, true));
        assert_eq!(part(200, 6000), (4800, false));
        assert_eq!(part(9000, 9001), (1, false));
        let segment = |at: u64, len| Segment {
            addr: RemoteAddr(start + at),
            len,
        };
        let mut copy = vec![0; 12_000];
        let got = memory.read(&[segment(0, 7000), segment(8000, 5000)], &mut copy);
        assert_eq!(got.expect("own memory"), 12_000);
        assert_eq!(copy[..7000], bytes[..7000]);
        assert_eq!(copy[7000..], bytes[8000..13_000]);
    }
}
