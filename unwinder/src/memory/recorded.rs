//! Memory that was recorded from a process, replayed offline.
//!
//! The format is plain: magic `OLKMEM01`, then per piece the address (u64), the length (u32)
//! and the bytes, all little-endian. A later piece wins over an earlier one at the same
//! address, so a recording can be written as the reads happen.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use super::{Lookup, ReadError, ReadMemory, RemoteAddr, Segment};

const MAGIC: &[u8; 8] = b"OLKMEM01";
/// No single read of the unwinder is longer; a longer piece is a damaged file.
const MAX_PIECE_BYTES: u32 = 64 << 20;

/// Why a recording of memory could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The file could not be read.
    #[error("cannot read the recording of memory: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("not a recording of memory: it starts with {0:02x?}")]
    Foreign([u8; 8]),
    /// A piece is longer than any read is.
    #[error("the piece at {addr} claims {len} bytes")]
    PieceTooLong {
        /// Its address.
        addr: RemoteAddr,
        /// Its length.
        len: u32,
    },
}

/// Pieces of a target's memory, as a [`ReadMemory`] and as a [`Lookup`].
#[derive(Clone, Debug, Default)]
pub struct RecordedMemory {
    pieces: BTreeMap<u64, Vec<u8>>,
}

impl RecordedMemory {
    /// No memory at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a piece. Where it overlaps older ones, it replaces their bytes.
    pub fn insert(&mut self, addr: RemoteAddr, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let (start, end) = (addr.0, addr.0.saturating_add(bytes.len() as u64));
        let mut merged_start = start;
        let mut merged = bytes.to_vec();
        let touching: Vec<u64> = self
            .pieces
            .range(..=end)
            .rev()
            .take_while(|(a, b)| a.saturating_add(b.len() as u64) >= start)
            .map(|(a, _)| *a)
            .collect();
        for old_start in touching {
            let old = self.pieces.remove(&old_start).unwrap_or_default();
            let old_end = old_start.saturating_add(old.len() as u64);
            if old_end > end {
                merged.extend_from_slice(&old[(end - old_start) as usize..]);
            }
            if old_start < merged_start {
                let mut head = old[..(start - old_start) as usize].to_vec();
                head.extend_from_slice(&merged);
                merged = head;
                merged_start = old_start;
            }
        }
        self.pieces.insert(merged_start, merged);
    }

    /// Loads a file that [`RecordingMemory`] wrote.
    ///
    /// # Errors
    /// When it is foreign, cut short inside a piece, or absurd.
    pub fn load(mut input: impl Read) -> Result<Self, RecordError> {
        let mut magic = [0; 8];
        input.read_exact(&mut magic)?;
        if &magic != MAGIC {
            return Err(RecordError::Foreign(magic));
        }
        let mut memory = Self::new();
        let cut = || RecordError::Io(io::ErrorKind::UnexpectedEof.into());
        loop {
            let mut head = Vec::new();
            input.by_ref().take(12).read_to_end(&mut head)?;
            if head.is_empty() {
                return Ok(memory);
            }
            let addr = super::u64_at(&head, 0).map(RemoteAddr).ok_or_else(cut)?;
            let len = super::u32_at(&head, 8).ok_or_else(cut)?;
            if len > MAX_PIECE_BYTES {
                return Err(RecordError::PieceTooLong { addr, len });
            }
            let mut bytes = Vec::new();
            input
                .by_ref()
                .take(u64::from(len))
                .read_to_end(&mut bytes)?;
            if bytes.len() < len as usize {
                return Err(cut());
            }
            memory.insert(addr, &bytes);
        }
    }
}

impl Lookup for RecordedMemory {
    fn bytes(&self, addr: RemoteAddr, len: usize) -> Option<&[u8]> {
        let (start, piece) = self.pieces.range(..=addr.0).next_back()?;
        let offset = usize::try_from(addr.0 - start).ok()?;
        piece.get(offset..offset.checked_add(len)?)
    }
}

impl ReadMemory for RecordedMemory {
    fn read(&mut self, segments: &[Segment], buf: &mut [u8]) -> Result<usize, ReadError> {
        let mut filled = 0;
        for segment in segments {
            // As the kernel does: as much of a segment as is there, then stop.
            let mut len = segment.len as usize;
            let found = loop {
                if len == 0 {
                    break &[][..];
                }
                if let Some(bytes) = self.bytes(segment.addr, len) {
                    break bytes;
                }
                let Some((start, piece)) = self.pieces.range(..=segment.addr.0).next_back() else {
                    break &[][..];
                };
                let end = start.saturating_add(piece.len() as u64);
                len = end.saturating_sub(segment.addr.0).min(segment.len.into()) as usize;
            };
            let Some(target) = buf.get_mut(filled..filled + found.len()) else {
                break;
            };
            target.copy_from_slice(found);
            filled += found.len();
            if found.len() < segment.len as usize {
                break;
            }
        }
        match segments.first() {
            Some(first) if filled == 0 => Err(ReadError::Unmapped(first.addr)),
            _ => Ok(filled),
        }
    }
}

/// Passes every read on and writes what was read to `out`.
#[derive(Debug)]
pub struct RecordingMemory<M, W> {
    inner: M,
    out: W,
}

impl<M: ReadMemory, W: Write> RecordingMemory<M, W> {
    /// Starts a recording.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn new(inner: M, mut out: W) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        Ok(Self { inner, out })
    }

    fn save(&mut self, segments: &[Segment], mut bytes: &[u8]) -> io::Result<()> {
        for segment in segments {
            let (piece, rest) = bytes.split_at(bytes.len().min(segment.len as usize));
            bytes = rest;
            self.out.write_all(&segment.addr.0.to_le_bytes())?;
            self.out.write_all(&(piece.len() as u32).to_le_bytes())?;
            self.out.write_all(piece)?;
        }
        self.out.flush()
    }
}

impl<M: ReadMemory, W: Write> ReadMemory for RecordingMemory<M, W> {
    fn read(&mut self, segments: &[Segment], buf: &mut [u8]) -> Result<usize, ReadError> {
        let got = self.inner.read(segments, buf)?;
        self.save(segments, &buf[..got])
            .map_err(|e| ReadError::Os(e.raw_os_error().unwrap_or_default()))?;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_merge_and_the_newer_wins() {
        let mut memory = RecordedMemory::new();
        memory.insert(RemoteAddr(100), &[1; 10]);
        memory.insert(RemoteAddr(110), &[2; 10]);
        memory.insert(RemoteAddr(105), &[3; 10]);
        let expected = [[1; 5], [3; 5], [3; 5], [2; 5]].concat();
        assert_eq!(memory.bytes(RemoteAddr(100), 20), Some(&expected[..]));
        assert_eq!(memory.bytes(RemoteAddr(100), 21), None);
    }

    #[test]
    fn a_file_that_is_cut_inside_a_piece_is_refused() {
        let mut file = Vec::new();
        let mut source = RecordedMemory::new();
        source.insert(RemoteAddr(0x1000), &[7; 64]);
        let mut recorder = RecordingMemory::new(&mut source, &mut file).unwrap();
        recorder.read_u64(RemoteAddr(0x1008)).unwrap();
        recorder.read_u64(RemoteAddr(0x1010)).unwrap();
        // Between pieces a recording may end: whoever wrote it was stopped.
        let piece = (file.len() - 8) / 2;
        for len in 8..=file.len() {
            let loaded = RecordedMemory::load(&file[..len]);
            assert_eq!(loaded.is_ok(), (len - 8) % piece == 0, "{len} bytes");
        }
    }

    #[test]
    fn a_piece_at_the_end_of_the_world_does_not_overflow() {
        let mut memory = RecordedMemory::new();
        for _ in 0..2 {
            memory.insert(RemoteAddr(u64::MAX - 3), &[1; 8]);
        }
        assert_eq!(memory.bytes(RemoteAddr(u64::MAX - 3), 3), Some(&[1; 3][..]));
        let mut word = [0; 8];
        assert!(memory.read_exact(RemoteAddr(u64::MAX), &mut word).is_err());
    }

    #[test]
    fn a_read_stops_where_memory_ends() {
        let mut memory = RecordedMemory::new();
        memory.insert(RemoteAddr(100), &[1; 10]);
        let mut buf = [0; 32];
        let segments = [
            Segment {
                addr: RemoteAddr(104),
                len: 16,
            },
            Segment {
                addr: RemoteAddr(100),
                len: 4,
            },
        ];
        assert_eq!(memory.read(&segments, &mut buf), Ok(6));
    }

    #[test]
    fn what_is_recorded_is_replayed() {
        let mut source = RecordedMemory::new();
        source.insert(RemoteAddr(0x1000), &[7; 64]);
        let mut file = Vec::new();
        let mut recorder = RecordingMemory::new(&mut source, &mut file).unwrap();
        assert_eq!(
            recorder.read_u64(RemoteAddr(0x1008)),
            Ok(0x0707_0707_0707_0707)
        );
        let replay = RecordedMemory::load(&file[..]).unwrap();
        assert_eq!(replay.bytes(RemoteAddr(0x1008), 8), Some(&[7; 8][..]));
        assert_eq!(replay.bytes(RemoteAddr(0x1000), 8), None);
    }
}
