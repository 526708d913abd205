//! The mappings of a process, and the files behind them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use procfs::FromBufRead;
use procfs::process::{MMPermissions, MMapPath, MemoryMaps};

use super::{read_text, sparse};

/// One file that is mapped into a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedFile {
    /// The path as the kernel shows it, without ` (deleted)`.
    pub path: PathBuf,
    /// Whether the file is gone from its path.
    pub deleted: bool,
    /// Its inode.
    pub inode: u64,
    /// Start, end, offset in the file and whether it is writable, by address.
    pub pieces: Vec<Piece>,
    /// Whether some piece can be executed: only then it is code and not data.
    pub executable: bool,
}

/// One mapping of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First address.
    pub start: u64,
    /// Address after the last one.
    pub end: u64,
    /// Where it begins in the file.
    pub file_offset: u64,
    /// Whether the process can write to it.
    pub writable: bool,
}

/// All mappings of a process.
#[derive(Clone, Debug, Default)]
pub struct Maps {
    /// Files, in the order of their first address.
    pub files: Vec<MappedFile>,
    /// Private anonymous writable mappings, heap and stacks included.
    pub anonymous: Vec<(u64, u64)>,
}

impl Maps {
    /// Reads `/proc/PID/maps`.
    ///
    /// # Errors
    /// When the process is gone or the file may not be read.
    pub fn read(pid: i32) -> io::Result<Self> {
        // Not `Process::maps()`, which gives up at a path that is no UTF-8. Such a file is found
        // by its inode ([`MappedFile::symbols`]).
        let text = read_text(Path::new(&format!("/proc/{pid}/maps")))?;
        let mut maps = Self::default();
        for map in MemoryMaps::from_buf_read(text.as_bytes()).map_err(io_error)? {
            let (start, end) = map.address;
            let writable = map.perms.contains(MMPermissions::WRITE);
            match map.pathname {
                MMapPath::Path(path) => {
                    let piece = Piece {
                        start,
                        end,
                        file_offset: map.offset,
                        writable,
                    };
                    let executable = map.perms.contains(MMPermissions::EXECUTE);
                    maps.add_file(path, map.inode, piece, executable);
                }
                MMapPath::Anonymous | MMapPath::Heap | MMapPath::Stack | MMapPath::TStack(_)
                    if writable =>
                {
                    maps.anonymous.push((start, end));
                }
                // Named with PR_SET_VMA_ANON_NAME, as 3.15 can do with its arenas.
                MMapPath::Other(name) if writable && name.starts_with("anon:") => {
                    maps.anonymous.push((start, end));
                }
                _ => {}
            }
        }
        Ok(maps)
    }

    fn add_file(&mut self, path: PathBuf, inode: u64, piece: Piece, executable: bool) {
        let text = path.to_string_lossy();
        let (path, deleted) = match text.strip_suffix(" (deleted)") {
            Some(path) => (PathBuf::from(path), true),
            None => (path, false),
        };
        let known = self
            .files
            .iter_mut()
            .find(|f| f.path == path && f.inode == inode);
        match known {
            Some(file) => {
                file.pieces.push(piece);
                file.executable |= executable;
            }
            None => {
                self.files.push(MappedFile {
                    path,
                    deleted,
                    inode,
                    pieces: vec![piece],
                    executable,
                });
            }
        }
    }

    /// The anonymous memory directly behind a file's last piece: what `.bss` does not find
    /// room for in the file's last page.
    #[must_use]
    pub fn bss_of(&self, file: &MappedFile) -> Option<(u64, u64)> {
        let end = file.pieces.iter().map(|p| p.end).max()?;
        self.anonymous
            .iter()
            .copied()
            .find(|(start, _)| *start == end)
    }
}

impl MappedFile {
    /// The name without directories.
    #[must_use]
    pub fn file_name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// What symbols and sections are found by in the file that is mapped; the rest of it is
    /// zeros (`sparse.rs`). Not of another file that has its path by now.
    ///
    /// Paths in `maps` are relative to our root when the process shares our mount namespace
    /// and to its own root when not, so each way is tried and the inode compared. A file that
    /// was deleted or replaced is still reachable through `/proc/PID/exe` or `map_files`.
    ///
    /// # Errors
    /// When no way leads to it.
    pub fn symbols(&self, pid: i32) -> io::Result<Vec<u8>> {
        self.read(pid, sparse::read)
    }

    /// The whole file: with debug information that may be a hundred megabytes.
    ///
    /// # Errors
    /// As [`symbols`](Self::symbols).
    pub fn whole(&self, pid: i32) -> io::Result<Vec<u8>> {
        self.head(pid, u64::MAX)
    }

    /// The first bytes of the file, at most `len`.
    ///
    /// # Errors
    /// As [`symbols`](Self::symbols).
    pub fn head(&self, pid: i32, len: u64) -> io::Result<Vec<u8>> {
        self.read(pid, |file| {
            let mut bytes = Vec::new();
            file.take(len).read_to_end(&mut bytes)?;
            Ok(bytes)
        })
    }

    fn read(&self, pid: i32, read: impl Fn(&File) -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
        let relative = self.path.strip_prefix("/").unwrap_or(&self.path);
        let mut candidates = vec![PathBuf::from(format!("/proc/{pid}/exe"))];
        if let Some(piece) = self.pieces.first() {
            let range = format!("/proc/{pid}/map_files/{:x}-{:x}", piece.start, piece.end);
            candidates.push(PathBuf::from(range));
        }
        candidates.push(Path::new(&format!("/proc/{pid}/root")).join(relative));
        candidates.push(self.path.clone());
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for candidate in candidates {
            match fs::metadata(&candidate) {
                Ok(meta) if meta.ino() == self.inode && meta.is_file() => {
                    match File::open(&candidate).and_then(|file| read(&file)) {
                        Ok(bytes) => return Ok(bytes),
                        Err(error) => last = error,
                    }
                }
                Ok(_) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// The `io::Error` inside an error of `procfs`.
pub(crate) fn io_error(error: procfs::ProcError) -> io::Error {
    match error {
        procfs::ProcError::PermissionDenied(_) => io::ErrorKind::PermissionDenied.into(),
        procfs::ProcError::NotFound(_) => io::ErrorKind::NotFound.into(),
        procfs::ProcError::Io(error, _) => error,
        other => io::Error::other(other.to_string()),
    }
}
