//! Checked little-endian reads; every offset that comes out of a file goes through here.

/// The `len` bytes at `offset`, or `None` where the slice does not hold them all.
pub(super) fn slice(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = usize::try_from(offset.checked_add(len)?).ok()?;
    bytes.get(start..end)
}

/// Everything from `offset` on, or `None` where that is behind the end.
pub(super) fn tail(bytes: &[u8], offset: u64) -> Option<&[u8]> {
    bytes.get(usize::try_from(offset).ok()?..)
}

pub(super) fn u32_at(bytes: &[u8], offset: u64) -> Option<u32> {
    let word = slice(bytes, offset, 4)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], offset: u64) -> Option<u64> {
    let word = slice(bytes, offset, 8)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}
