//! `int`: what thread idents need of it, and its digits.

use super::{Objects, Read, Stop};
use crate::layout::fields;
use crate::memory::{Lookup, RemoteAddr, u32_at};

/// Bits per digit (`PyLong_SHIFT` of 64-bit builds, `Include/cpython/longintrepr.h`).
pub const DIGIT_BITS: u32 = 30;
/// `lv_tag`: the number of digits stands above three bits, two of them the sign.
const TAG_SHIFT: u32 = 3;
const TAG_SIGN_MASK: u64 = 0b11;

/// The digits of an `int`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Int {
    /// Whether it is below 0.
    pub negative: bool,
    /// Its low digits, the lowest first, of [`DIGIT_BITS`] bits each.
    pub digits: Vec<u32>,
    /// How many it has.
    pub count: u64,
}

impl<L: Lookup> Objects<'_, L> {
    /// The digits of an `int`, at most `max` of them.
    ///
    /// # Errors
    /// What is missing, or why it is no `int`.
    pub fn int(&self, addr: RemoteAddr, max: u64) -> Read<Int> {
        let size = self.word(addr, fields::OB_SIZE)?;
        let (negative, count) = if self.layout.objects.int_has_tag {
            match size & TAG_SIGN_MASK {
                0 => (false, size >> TAG_SHIFT),
                1 => (false, 0),
                2 => (true, size >> TAG_SHIFT),
                _ => return Err(Stop::Invalid("int")),
            }
        } else {
            let size = size.cast_signed();
            (size < 0, size.unsigned_abs())
        };
        let start = addr
            .offset(fields::INT_DIGITS)
            .ok_or(Stop::Invalid("int"))?;
        let read = count.min(max);
        let bytes = self.bytes_at(start, 4 * read)?;
        let digits = (0..read).filter_map(|i| u32_at(bytes, 4 * i)).collect();
        Ok(Int {
            negative,
            digits,
            count,
        })
    }

    /// The value of a non-negative `int` below 2^64.
    ///
    /// # Errors
    /// What is missing; [`Stop::Invalid`] for a negative or larger one.
    pub fn unsigned(&self, addr: RemoteAddr) -> Read<u64> {
        let int = self.int(addr, 3)?;
        if int.negative || int.count > 3 {
            return Err(Stop::Invalid("non-negative int"));
        }
        let mut value: u128 = 0;
        for digit in int.digits.iter().rev() {
            value = value << DIGIT_BITS | u128::from(*digit);
        }
        u64::try_from(value).map_err(|_| Stop::Invalid("int below 2^64"))
    }
}
