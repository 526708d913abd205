//! `int`, as far as thread idents need it.

use super::{Objects, Read, Stop};
use crate::layout::fields;
use crate::memory::{Lookup, RemoteAddr, u32_at};

/// Bits per digit (`PyLong_SHIFT` of 64-bit builds, `Include/cpython/longintrepr.h`).
const DIGIT_BITS: u32 = 30;
/// `lv_tag`: the number of digits stands above three bits, two of them the sign.
const TAG_SHIFT: u32 = 3;
const TAG_SIGN_MASK: u64 = 0b11;

impl<L: Lookup> Objects<'_, L> {
    /// The value of a non-negative `int` below 2^64.
    ///
    /// # Errors
    /// What is missing; [`Stop::Invalid`] for a negative or larger one.
    pub fn unsigned(&self, addr: RemoteAddr) -> Read<u64> {
        let size = self.word(addr, fields::OB_SIZE)?;
        let digits = if self.layout.objects.int_has_tag {
            match size & TAG_SIGN_MASK {
                0 => size >> TAG_SHIFT,
                1 => 0,
                _ => return Err(Stop::Invalid("non-negative int")),
            }
        } else {
            size
        };
        if digits > 3 {
            return Err(Stop::Invalid("non-negative int"));
        }
        let start = addr
            .offset(fields::INT_DIGITS)
            .ok_or(Stop::Invalid("int"))?;
        let bytes = self.bytes_at(start, 4 * digits)?;
        let mut value: u128 = 0;
        for i in 0..digits {
            let digit = u32_at(bytes, 4 * i).ok_or(Stop::Invalid("int"))?;
            value |= u128::from(digit) << (DIGIT_BITS * i as u32);
        }
        u64::try_from(value).map_err(|_| Stop::Invalid("int below 2^64"))
    }
}
