//! Typed little-endian reads from a slice: plain integers only, never a struct made from raw
//! bytes, `None` where the slice is too short.

use zerocopy::byteorder::little_endian::{I32, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

fn at<T: FromBytes + KnownLayout + Immutable + Unaligned + Copy>(
    bytes: &[u8],
    offset: u64,
) -> Option<T> {
    let tail = bytes.get(usize::try_from(offset).ok()?..)?;
    T::ref_from_prefix(tail).ok().map(|(value, _)| *value)
}

/// The 8-byte integer at `offset`.
#[inline]
#[must_use]
pub fn u64_at(bytes: &[u8], offset: u64) -> Option<u64> {
    at::<U64>(bytes, offset).map(U64::get)
}

/// The 4-byte integer at `offset`.
#[inline]
#[must_use]
pub fn u32_at(bytes: &[u8], offset: u64) -> Option<u32> {
    at::<U32>(bytes, offset).map(U32::get)
}

/// The signed 4-byte integer at `offset`.
#[inline]
#[must_use]
pub fn i32_at(bytes: &[u8], offset: u64) -> Option<i32> {
    at::<I32>(bytes, offset).map(I32::get)
}

/// The 2-byte integer at `offset`.
#[inline]
#[must_use]
pub fn u16_at(bytes: &[u8], offset: u64) -> Option<u16> {
    at::<U16>(bytes, offset).map(U16::get)
}

/// The byte at `offset`.
#[inline]
#[must_use]
pub fn u8_at(bytes: &[u8], offset: u64) -> Option<u8> {
    bytes.get(usize::try_from(offset).ok()?).copied()
}
