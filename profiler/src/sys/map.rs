//! A file in memory, as long as it is needed.

use std::fs::File;
use std::io;

use memmap2::{Advice, Mmap};

use super::fault;

/// A whole file, mapped for reading; its pages are shared with all who map it.
#[derive(Debug)]
pub struct Map(Mmap);

impl Map {
    /// Maps a regular file. One that is cut off later ends this process when what was cut off is
    /// read: with one line and the exit code of a damaged file.
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
        fault::end_with_a_line()?;
        // SAFETY: `Mmap::map` is unsafe because somebody else may change the file while it is
        // mapped. Images are never changed: they are written under another name, and a new one
        // takes the place of the old by `rename`, which leaves the old file to those who map it.
        // Against anyone else who writes into it: bytes are handed out as `u8`, for which every
        // value is valid; whoever reads them takes them for bytes of a foreign process, checks
        // each length and address against the limits that it has copied, and believes no two
        // reads to agree. Who cuts the file off ends us, with a line and nothing to lose (`fault`).
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

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;

    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;
    use crate::error::exit;

    #[test]
    fn a_file_that_is_cut_off_ends_with_a_line() {
        let path = std::env::temp_dir().join(format!("onlooker-map-{}", std::process::id()));
        std::fs::write(&path, vec![7; 1 << 16]).expect("written");
        let file = File::options().read(true).write(true).open(&path);
        let file = file.expect("open");
        std::fs::remove_file(&path).expect("removed");
        let map = Map::open(&file).expect("mapped");
        assert_eq!(map.as_ref()[1 << 15], 7);
        file.set_len(1 << 12).expect("cut off");
        let (mut read, write) = io::pipe().expect("a pipe");
        // SAFETY: the child calls nothing that is not safe in a signal handler.
        match unsafe { fork() }.expect("a child") {
            ForkResult::Child => {
                // SAFETY: both are open; the read ends in the handler.
                unsafe {
                    libc::dup2(write.as_raw_fd(), 2);
                    let byte = std::ptr::read_volatile(&raw const map.as_ref()[1 << 15]);
                    libc::_exit(byte.into());
                }
            }
            ForkResult::Parent { child } => {
                drop(write);
                let mut line = String::new();
                read.read_to_string(&mut line).expect("text");
                assert!(line.contains("cut off") && line.ends_with('\n'), "{line}");
                assert_eq!(line.lines().count(), 1);
                let end = waitpid(child, None).expect("its end");
                assert_eq!(end, WaitStatus::Exited(child, exit::DATA.into()));
            }
        }
    }
}
