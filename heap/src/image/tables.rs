//! Rows of an image: mappings, arenas, ranges, pieces.

use onlooker_unwinder::memory::u64_at;

use super::ImageError;
use crate::mappings::{Kind, Mapping};
use crate::pymalloc::{Arena, Geometry};
use crate::space::{PAGE_BYTES, Range};

/// Kinds by their numbers in the file.
const KINDS: [Kind; 6] = [
    Kind::Heap,
    Kind::Anonymous,
    Kind::Stack,
    Kind::Data,
    Kind::File,
    Kind::Kernel,
];
const WRITABLE: u64 = 1 << 8;
/// Addresses of user memory end here, on any machine that CPython runs on.
const ADDRESS_END: u64 = 1 << 57;

/// More than any mapping has, and so little that many add up. (A mapping may have more than its
/// addresses tell: it grew while the kernel told of it.)
pub(super) const MOST_BYTES: u64 = 1 << 46;

fn words<const N: usize>(rows: &[u8], what: &'static str) -> Result<Vec<[u64; N]>, ImageError> {
    if !rows.len().is_multiple_of(8 * N) {
        return Err(ImageError::Damaged(what));
    }
    let row = |row: &[u8]| std::array::from_fn(|at| u64_at(row, 8 * at as u64).unwrap_or_default());
    Ok(rows.chunks_exact(8 * N).map(row).collect())
}

fn bytes<const N: usize>(rows: impl Iterator<Item = [u64; N]>) -> Vec<u8> {
    rows.flatten().flat_map(u64::to_le_bytes).collect()
}

pub(super) fn encode_mappings(mappings: &[Mapping]) -> Vec<u8> {
    bytes(mappings.iter().map(|mapping| {
        let kind = KINDS.iter().position(|kind| *kind == mapping.kind);
        let writable = if mapping.writable { WRITABLE } else { 0 };
        [
            mapping.start,
            mapping.end,
            mapping.resident_bytes,
            mapping.swapped_bytes,
            kind.unwrap_or_default() as u64 | writable,
        ]
    }))
}

pub(super) fn decode_mappings(rows: &[u8]) -> Result<Vec<Mapping>, ImageError> {
    let damaged = ImageError::Damaged("a mapping");
    let mut mappings: Vec<Mapping> = Vec::new();
    for [start, end, resident_bytes, swapped_bytes, flags] in words(rows, "mappings")? {
        let writable = flags & WRITABLE != 0;
        let kind = usize::try_from(flags & !WRITABLE).ok();
        let kind = kind.and_then(|kind| KINDS.get(kind).copied());
        let mapping = Mapping {
            start,
            end,
            kind: kind.ok_or_else(|| damaged.clone())?,
            writable,
            resident_bytes,
            swapped_bytes,
        };
        let ordered = mappings.last().is_none_or(|last| last.end <= start);
        // `[vsyscall]` lies above, and is not writable.
        let sane = start < end && (end <= ADDRESS_END || !writable);
        if !ordered || !sane || resident_bytes.max(swapped_bytes) > MOST_BYTES {
            return Err(damaged);
        }
        mappings.push(mapping);
    }
    Ok(mappings)
}

pub(super) fn encode_arenas(arenas: &[Arena]) -> Vec<u8> {
    bytes(arenas.iter().map(|arena| {
        let index = u64::from(arena.index);
        [arena.start, arena.len, arena.carved_end, index]
    }))
}

pub(super) fn decode_arenas(rows: &[u8], geometry: Geometry) -> Result<Vec<Arena>, ImageError> {
    let damaged = ImageError::Damaged("an arena");
    let mut arenas: Vec<Arena> = Vec::new();
    for [start, len, carved_end, index] in words(rows, "arenas")? {
        let known = len == geometry.arena_bytes || len == 2 * geometry.arena_bytes;
        let sane = known
            && start > 0
            && start.is_multiple_of(PAGE_BYTES)
            && start < ADDRESS_END
            && (start..=start + len).contains(&carved_end);
        let index = u32::try_from(index).map_err(|_| damaged.clone())?;
        if !sane || arenas.last().is_some_and(|last| last.end() > start) {
            return Err(damaged);
        }
        arenas.push(Arena {
            start,
            len,
            carved_end,
            index,
        });
    }
    Ok(arenas)
}

pub(super) fn encode_absent(absent: &[(u64, u64)]) -> Vec<u8> {
    bytes(absent.iter().map(|(start, end)| [*start, *end]))
}

pub(super) fn decode_absent(rows: &[u8]) -> Result<Vec<(u64, u64)>, ImageError> {
    let rows = words(rows, "absent")?;
    let absent: Vec<(u64, u64)> = rows.into_iter().map(|[start, end]| (start, end)).collect();
    let ordered = absent.is_sorted_by(|before, next| before.1 <= next.0);
    if !ordered || absent.iter().any(|(start, end)| start >= end) {
        return Err(ImageError::Damaged("absent"));
    }
    Ok(absent)
}

pub(super) fn encode_ranges(ranges: &[Range]) -> Vec<u8> {
    let rows = ranges.iter();
    bytes(rows.map(|range| [range.start, range.len, range.at]))
}

/// Ranges whose bytes lie in the file; `pages` is where its pages begin.
pub(super) fn decode_ranges(rows: &[u8], pages: u64) -> Result<Vec<Range>, ImageError> {
    let rows = words(rows, "ranges")?;
    let range = |[start, len, at]: [u64; 3]| {
        let at = pages.checked_add(at);
        let at = at.ok_or(ImageError::Damaged("a range"))?;
        Ok(Range { start, len, at })
    };
    rows.into_iter().map(range).collect()
}

pub(super) fn encode_pieces<'a>(pieces: impl Iterator<Item = (u64, &'a [u8])>) -> Vec<u8> {
    let mut out = Vec::new();
    for (addr, piece) in pieces {
        out.extend(addr.to_le_bytes());
        out.extend((piece.len() as u64).to_le_bytes());
        out.extend(piece);
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out
}

pub(super) fn decode_pieces(mut rows: &[u8]) -> Result<Vec<(u64, &[u8])>, ImageError> {
    let mut pieces = Vec::new();
    while !rows.is_empty() {
        let piece = (|| {
            let (addr, len) = (u64_at(rows, 0)?, u64_at(rows, 8)?);
            let len = usize::try_from(len).ok()?;
            let bytes = rows.get(16..16_usize.checked_add(len)?)?;
            let rest = rows.get(16 + len.checked_next_multiple_of(8)?..)?;
            Some((addr, bytes, rest))
        })();
        let Some((addr, bytes, rest)) = piece else {
            return Err(ImageError::Damaged("a piece"));
        };
        pieces.push((addr, bytes));
        rows = rest;
    }
    Ok(pieces)
}
