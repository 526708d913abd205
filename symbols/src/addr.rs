//! Addresses inside an ELF image and offsets inside its file, as types of their own.
//!
//! The two are equal in the first segment of most files and differ by a page or more in
//! the others; as plain integers they would be mixed up without anything failing at once.
//! An address in another process is a third space and lives in `onlooker-unwinder`: the
//! caller adds the load bias (a plain `u64`, see [`ElfFile::bias`](crate::ElfFile::bias)).

use std::fmt;

/// An address as the file was linked: `st_value`, `sh_addr`, `p_vaddr`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageAddr(pub u64);

/// A position in the file, in bytes from its start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileOffset(pub u64);

impl ImageAddr {
    /// The address `bytes` further on; `None` where that leaves the address space.
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }

    /// How many bytes this address lies behind `earlier`; `None` when it lies before it.
    pub fn checked_sub(self, earlier: Self) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }

    /// Where this address is in a process that loaded the image at `bias`.
    ///
    /// `None` where the sum leaves the address space, as it may for hostile files.
    pub fn loaded_at(self, bias: u64) -> Option<u64> {
        self.0.checked_add(bias)
    }
}

impl FileOffset {
    /// The offset `bytes` further on; `None` where that overflows.
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }

    /// How many bytes this offset lies behind `earlier`; `None` when it lies before it.
    pub fn checked_sub(self, earlier: Self) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }
}

impl fmt::Debug for ImageAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageAddr({:#x})", self.0)
    }
}

impl fmt::Display for ImageAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for FileOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileOffset({:#x})", self.0)
    }
}

impl fmt::Display for FileOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
