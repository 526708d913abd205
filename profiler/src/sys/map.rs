//! A file in memory, as long as it is needed.

use std::fs::File;
use std::io;

use memmap2::{Advice, Mmap};

/// A whole file, mapped for reading; its pages are shared with all who map it.
#[derive(Debug)]
pub struct Map(Mmap);

impl Map {
    /// Maps a regular file.
    ///
    /// # Errors
    /// When it is no regular file, or the kernel refuses.
    pub fn open(file: &File) -> io::Result<Self> {
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        // SAFETY: `Mmap::map` is unsafe because somebody else may change the file while it is
        // mapped. Images are never changed: they are written under another name, and a new one
        // takes the place of the old by `rename`, which leaves the old file to those who map it.
        // Against anyone else who writes into it: bytes are handed out as `u8`, for which every
        // value is valid; whoever reads them takes them for bytes of a foreign process, checks
        // each length and address against the limits that it has copied, and believes no two
        // reads to agree. Who cuts the file off ends us by SIGBUS, with nothing of ours to lose.
        let map = unsafe { Mmap::map(file)? };
        // Only a hint: nearly all of it is about to be read, from front to back.
        let _ = map.advise(Advice::WillNeed);
        Ok(Self(map))
    }
}

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
