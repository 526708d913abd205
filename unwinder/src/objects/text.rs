//! `str` and `bytes`.

use super::{Objects, Read, Stop};
use crate::layout::fields;
use crate::memory::{Lookup, RemoteAddr, u32_at, u64_at};

/// Characters of a `str` that are read; a longer one is shown cut. Whatever its kind, what is shown
/// then fits into the 64 KiB that a recording keeps of a name.
pub const MAX_STR_CHARS: u64 = (1 << 14) - 1;
/// What a `str` that was cut ends in.
const CUT: char = '…';
/// Line tables are shorter; more is a torn length.
const MAX_BYTES: u64 = 1 << 20;

const KIND_SHIFT: u32 = 2;
const COMPACT: u32 = 1 << 5;
const ASCII: u32 = 1 << 6;

impl<L: Lookup> Objects<'_, L> {
    /// The value of a `str`, whatever its kind (1, 2 or 4 bytes a character, compact or not).
    /// Lone surrogates become the replacement character. Of one with more than [`MAX_STR_CHARS`] so
    /// many, and `…`.
    ///
    /// # Errors
    /// What is missing, or why it is no `str`.
    pub fn str(&self, addr: RemoteAddr) -> Read<String> {
        let (data, chars, kind, ascii) = self.str_layout(addr)?;
        let is_cut = chars > MAX_STR_CHARS;
        let bytes = self.bytes_at(data, chars.min(MAX_STR_CHARS) * kind);
        if is_cut {
            self.ends_at(data, chars, kind)?;
        }
        let bytes = bytes?;
        let mut text: String = match kind {
            1 if ascii => std::str::from_utf8(bytes)
                .map_err(|_| Stop::Invalid("ASCII str"))?
                .to_owned(),
            1 => bytes.iter().map(|b| char::from(*b)).collect(),
            2 => {
                let units = bytes
                    .chunks_exact(2)
                    .map(|b| u16::from_le_bytes([b[0], b[1]]));
                char::decode_utf16(units)
                    .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                    .collect()
            }
            _ => bytes
                .chunks_exact(4)
                .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .map(|c| char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect(),
        };
        if is_cut {
            text.push(CUT);
        }
        Ok(text)
    }

    /// Checks that a length is no torn one: every `str` has a NUL behind its last character
    /// (`Objects/unicodeobject.c`).
    fn ends_at(&self, data: RemoteAddr, chars: u64, kind: u64) -> Read<()> {
        let len = chars.checked_mul(kind).ok_or(Stop::Invalid("str"))?;
        let end = data.offset(len).ok_or(Stop::Invalid("str"))?;
        match self.bytes_at(end, kind)?.iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err(Stop::Invalid("str")),
        }
    }

    /// Whether the object's type is `str` or a subclass of it.
    ///
    /// # Errors
    /// As [`bytes_at`](Self::bytes_at).
    pub fn is_str(&self, addr: RemoteAddr) -> Read<bool> {
        Ok(self.type_flags(addr)? & fields::FLAG_STR != 0)
    }

    /// The code points that a `str` begins with, at most `max`, lone surrogates too, and how many
    /// it has.
    ///
    /// # Errors
    /// What is missing, or why it is no `str`.
    pub fn str_start(&self, addr: RemoteAddr, max: u64) -> Read<(Vec<u32>, u64)> {
        let (data, chars, kind, _) = self.str_layout(addr)?;
        let bytes = self.bytes_at(data, chars.min(max) * kind)?;
        let points = match kind {
            1 => bytes.iter().map(|byte| u32::from(*byte)).collect(),
            2 => bytes
                .chunks_exact(2)
                .map(|b| u32::from(u16::from_le_bytes([b[0], b[1]])))
                .collect(),
            _ => bytes
                .chunks_exact(4)
                .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
        };
        Ok((points, chars))
    }

    /// Whether a `str` equals an ASCII text, reading no more than that takes.
    ///
    /// # Errors
    /// What is missing, or why it is no `str`.
    pub fn str_is(&self, addr: RemoteAddr, text: &str) -> Read<bool> {
        let (data, chars, _, ascii) = self.str_layout(addr)?;
        if !ascii || chars != text.len() as u64 {
            return Ok(false);
        }
        Ok(self.bytes_at(data, chars)? == text.as_bytes())
    }

    /// What changes when a `str` at the same address is another one: length, hash (that names
    /// always have, since they are interned) and kind.
    ///
    /// # Errors
    /// What is missing.
    pub fn str_fingerprint(&self, addr: RemoteAddr) -> Read<[u64; 2]> {
        let start = addr
            .offset(fields::STR_LENGTH)
            .ok_or(Stop::Invalid("str"))?;
        let head = self.bytes_at(start, fields::STR_STATE - fields::STR_LENGTH)?;
        let word = |offset| u64_at(head, offset).unwrap_or_default();
        Ok([word(0), word(fields::STR_HASH - fields::STR_LENGTH)])
    }

    fn str_layout(&self, addr: RemoteAddr) -> Read<(RemoteAddr, u64, u64, bool)> {
        let objects = &self.layout.objects;
        let head = self.bytes_at(addr, fields::STR_STATE + 4)?;
        let chars = u64_at(head, fields::STR_LENGTH).ok_or(Stop::Invalid("str"))?;
        let state = u32_at(head, fields::STR_STATE).ok_or(Stop::Invalid("str"))?;
        let kind = u64::from(state >> KIND_SHIFT & 0b111);
        if !matches!(kind, 1 | 2 | 4) {
            return Err(Stop::Invalid("str"));
        }
        let (compact, ascii) = (state & COMPACT != 0, state & ASCII != 0);
        let data = if compact && ascii {
            addr.offset(objects.str_ascii_data)
        } else if compact {
            addr.offset(objects.str_compact_data)
        } else {
            Some(self.pointer(addr, objects.str_compact_data)?)
        };
        Ok((data.ok_or(Stop::Invalid("str"))?, chars, kind, ascii))
    }

    /// The bytes that a `bytes` begins with, at most `max`, and how many it has.
    ///
    /// # Errors
    /// What is missing, or why it is no `bytes`.
    pub fn bytes_start(&self, addr: RemoteAddr, max: u64) -> Read<(Vec<u8>, u64)> {
        let len = self.word(addr, fields::OB_SIZE)?;
        let data = addr
            .offset(fields::BYTES_DATA)
            .ok_or(Stop::Invalid("bytes"))?;
        Ok((self.bytes_at(data, len.min(max))?.to_vec(), len))
    }

    /// The value of a `bytes`.
    ///
    /// # Errors
    /// What is missing, or why it is no `bytes`.
    pub fn bytes(&self, addr: RemoteAddr) -> Read<Vec<u8>> {
        let len = self.word(addr, fields::OB_SIZE)?;
        if len > MAX_BYTES {
            return Err(Stop::Invalid("bytes"));
        }
        let data = addr
            .offset(fields::BYTES_DATA)
            .ok_or(Stop::Invalid("bytes"))?;
        Ok(self.bytes_at(data, len)?.to_vec())
    }
}
