//! Addresses of another process and the seam through which its memory is read.

mod bytes;
mod counting;
mod live;
mod recorded;

pub use bytes::{i32_at, u8_at, u16_at, u32_at, u64_at};
pub use counting::{Class, Cost, Counting};
pub use live::LiveMemory;
pub use recorded::{RecordError, RecordedMemory, RecordingMemory};

use std::fmt;

use serde::{Deserialize, Serialize};

/// Most segments that one vectored call takes (`IOV_MAX` of Linux, `include/uapi/linux/uio.h`).
pub const MAX_SEGMENTS: usize = 1024;

/// An address in the target's address space. Never one of ours.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct RemoteAddr(pub u64);

impl RemoteAddr {
    /// The null pointer, which ends most of the interpreter's lists.
    pub const NULL: Self = Self(0);

    /// The address `offset` bytes higher; `None` when it would wrap.
    #[must_use]
    pub fn offset(self, offset: u64) -> Option<Self> {
        self.0.checked_add(offset).map(Self)
    }

    /// Distance from `lower` up to here; `None` when `lower` is above.
    #[must_use]
    pub fn offset_from(self, lower: Self) -> Option<u64> {
        self.0.checked_sub(lower.0)
    }

    /// Whether it is the null pointer.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.0 == 0
    }

    /// Whether a pointer to an object or a frame can have this value: in the lower half of the
    /// address space (user memory of x86-64 and aarch64), above the first page, 8-aligned.
    #[must_use]
    pub fn is_plausible_pointer(self) -> bool {
        self.0 >= 0x1000 && self.0 < 1 << 56 && self.0.is_multiple_of(8)
    }
}

impl fmt::Display for RemoteAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// One contiguous piece of the target's memory that a call is to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    /// First byte.
    pub addr: RemoteAddr,
    /// Length in bytes.
    pub len: u32,
}

/// Why nothing at all could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The process is gone, or a zombie without memory.
    #[error("the process has exited")]
    Gone,
    /// The kernel does not let us read it.
    #[error("reading the process's memory is not permitted")]
    Denied,
    /// The first segment is not mapped or not readable.
    #[error("nothing readable at {0}")]
    Unmapped(RemoteAddr),
    /// Any other answer of the kernel.
    #[error("reading the process's memory failed with errno {0}")]
    Os(i32),
}

/// The read seam: everything that can copy bytes of a target.
///
/// One call of [`read`](Self::read) is one system call where the target is live. Bulk reads
/// are the same call with large segments.
pub trait ReadMemory {
    /// Copies `segments`, in order, one after the other into `buf`, whose length is at least
    /// the sum of theirs. At most [`MAX_SEGMENTS`] segments.
    ///
    /// Returns how many bytes were copied: all, or as many as come before the first byte that
    /// is not readable (the kernel stops there and does not skip).
    ///
    /// # Errors
    /// When not even the first byte could be read.
    fn read(&mut self, segments: &[Segment], buf: &mut [u8]) -> Result<usize, ReadError>;

    /// Copies one piece whole.
    ///
    /// # Errors
    /// [`ReadError::Unmapped`] also when only a part of it is readable.
    fn read_exact(&mut self, addr: RemoteAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        let len = u32::try_from(buf.len()).map_err(|_| ReadError::Unmapped(addr))?;
        let got = self.read(&[Segment { addr, len }], buf)?;
        if got == buf.len() {
            Ok(())
        } else {
            Err(ReadError::Unmapped(RemoteAddr(
                addr.0.wrapping_add(got as u64),
            )))
        }
    }

    /// Copies one 8-byte word.
    ///
    /// # Errors
    /// As [`read_exact`](Self::read_exact).
    fn read_u64(&mut self, addr: RemoteAddr) -> Result<u64, ReadError> {
        let mut word = [0; 8];
        self.read_exact(addr, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }
}

impl<M: ReadMemory + ?Sized> ReadMemory for &mut M {
    fn read(&mut self, segments: &[Segment], buf: &mut [u8]) -> Result<usize, ReadError> {
        (**self).read(segments, buf)
    }
}

/// The borrowed mode of the seam: bytes that are already here (a snapshot, a mapped image).
pub trait Lookup {
    /// The `len` bytes at `addr` if all of them are here.
    fn bytes(&self, addr: RemoteAddr, len: usize) -> Option<&[u8]>;

    /// The 8-byte little-endian word at `addr`.
    fn u64(&self, addr: RemoteAddr) -> Option<u64> {
        self.bytes(addr, 8).and_then(|b| u64_at(b, 0))
    }

    /// The 4-byte little-endian signed integer at `addr`.
    fn i32(&self, addr: RemoteAddr) -> Option<i32> {
        self.bytes(addr, 4).and_then(|b| i32_at(b, 0))
    }
}
