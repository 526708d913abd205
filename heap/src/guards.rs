//! The headers of the debug allocator (`PYTHONMALLOC=debug`, `-X dev`): which domain a block is of,
//! its exact size, and whether somebody wrote before or behind it.
//!
//! `size (8 bytes, big-endian), domain ('r', 'm', 'o'), 7 × 0xFD, data, 8 × 0xFD`
//! (`_PyMem_DebugRawAlloc`, `Objects/obmalloc.c`; 0xFD since 3.8).

use onlooker_unwinder::memory::{RemoteAddr, u8_at};

/// Bytes before the data.
pub const HEADER_BYTES: u64 = 16;
/// Bytes behind the data.
pub const TRAILER_BYTES: u64 = 8;
const DOMAIN: usize = 8;
const GUARD: u8 = 0xfd;

/// Who asked for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Domain {
    /// `PyMem_RawMalloc`.
    Raw,
    /// `PyMem_Malloc`.
    Mem,
    /// `PyObject_Malloc`: the only one with objects.
    Object,
}

impl Domain {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'r' => Some(Self::Raw),
            b'm' => Some(Self::Mem),
            b'o' => Some(Self::Object),
            _ => None,
        }
    }

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Mem => "mem",
            Self::Object => "object",
        }
    }
}

/// A header that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who asked for the block.
    pub domain: Domain,
    /// Bytes that were asked for.
    pub len: u64,
}

/// Where somebody wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Before the data.
    Before,
    /// Behind it.
    Behind,
}

/// A block with a guard that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The data.
    pub addr: RemoteAddr,
    /// What is left of the header; `None` where that was overwritten too.
    pub header: Option<Header>,
    /// Where.
    pub side: Side,
    /// The bytes that were found in place of the guard.
    pub found: Vec<u8>,
}

/// Size and domain as they are written, whatever the guard is.
fn stated(block: &[u8]) -> Option<Header> {
    let size: [u8; 8] = block.get(..8)?.try_into().ok()?;
    let len = u64::from_be_bytes(size);
    let domain = Domain::from_byte(u8_at(block, DOMAIN as u64)?)?;
    let whole = len.checked_add(HEADER_BYTES + TRAILER_BYTES)?;
    (whole <= block.len() as u64).then_some(Header { domain, len })
}

/// The header of a block, if its front guard is whole.
#[must_use]
pub fn header(block: &[u8]) -> Option<Header> {
    let front = block.get(DOMAIN + 1..HEADER_BYTES as usize)?;
    front
        .iter()
        .all(|byte| *byte == GUARD)
        .then(|| stated(block))?
}

/// Whether a chunk of malloc is a block of the debug allocator, perhaps with a damaged guard: what
/// the program took from malloc itself is none.
#[must_use]
pub fn is_block(block: &[u8]) -> bool {
    let front = block.get(DOMAIN + 1..HEADER_BYTES as usize);
    let whole = front.map(|front| front.iter().filter(|byte| **byte == GUARD).count());
    whole.is_some_and(|count| count >= 4) && stated(block).is_some()
}

/// Where the data of a block begin, and what its header says. What is too large for pymalloc comes
/// from the raw domain, which has guards of its own around those of the domain that asked.
#[must_use]
pub fn data(block: &[u8]) -> Option<(u64, Header)> {
    let outer = header(block)?;
    if outer.domain == Domain::Raw
        && let Some(inside) = block.get(HEADER_BYTES as usize..)
        && let Some(inner) = stated(inside)
        && inner.len + HEADER_BYTES + TRAILER_BYTES == outer.len
    {
        return Some((2 * HEADER_BYTES, inner));
    }
    Some((HEADER_BYTES, outer))
}

/// Looks at both guards of a block in use at `addr`; of a block within a block, at the inner ones.
#[must_use]
pub fn check(addr: RemoteAddr, block: &[u8]) -> Option<Violation> {
    if let Some((at, _)) = data(block)
        && let Some(inside) = at.checked_sub(HEADER_BYTES).filter(|skip| *skip > 0)
    {
        return check_one(addr.offset(inside)?, block.get(inside as usize..)?);
    }
    check_one(addr, block)
}

/// Looks at both guards of a block in use at `addr`.
fn check_one(addr: RemoteAddr, block: &[u8]) -> Option<Violation> {
    let data = addr.offset(HEADER_BYTES)?;
    let violation = |header, side, found: &[u8]| Violation {
        addr: data,
        header,
        side,
        found: found.to_vec(),
    };
    let Some(stated) = stated(block) else {
        let found = block.get(..HEADER_BYTES as usize)?;
        return Some(violation(None, Side::Before, found));
    };
    let front = block.get(DOMAIN + 1..HEADER_BYTES as usize)?;
    if front.iter().any(|byte| *byte != GUARD) {
        return Some(violation(Some(stated), Side::Before, front));
    }
    let end = (HEADER_BYTES + stated.len) as usize;
    let behind = block.get(end..end + TRAILER_BYTES as usize)?;
    if behind.iter().any(|byte| *byte != GUARD) {
        return Some(violation(Some(stated), Side::Behind, behind));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(len: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 0, 0, 0, 0, len, b'o'];
        bytes.extend([GUARD; 7]);
        bytes.extend(vec![0xcd; len.into()]);
        bytes.extend([GUARD; 8]);
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        bytes
    }

    #[test]
    fn a_whole_block_tells_domain_and_size() {
        let bytes = block(5);
        let expected = Header {
            domain: Domain::Object,
            len: 5,
        };
        assert_eq!(header(&bytes), Some(expected));
        assert_eq!(check(RemoteAddr(0x1000), &bytes), None);
    }

    #[test]
    fn a_large_block_has_guards_within_guards() {
        let inner = block(5);
        let mut bytes = vec![0, 0, 0, 0, 0, 0, 0, 5 + 24, b'r'];
        bytes.extend([GUARD; 7]);
        bytes.extend(&inner[..5 + 24]);
        bytes.extend([GUARD; 8]);
        let (at, found) = data(&bytes).unwrap();
        assert_eq!((at, found.domain, found.len), (32, Domain::Object, 5));
        assert_eq!(check(RemoteAddr(0x1000), &bytes), None);
        bytes[32 + 5] = 0;
        let seen = check(RemoteAddr(0x1000), &bytes).unwrap();
        assert_eq!((seen.addr, seen.side), (RemoteAddr(0x1020), Side::Behind));
    }

    #[test]
    fn one_byte_too_far_is_seen_on_either_side() {
        let mut bytes = block(5);
        bytes[16 + 5] = b'!';
        let seen = check(RemoteAddr(0x1000), &bytes).unwrap();
        assert_eq!((seen.side, seen.addr), (Side::Behind, RemoteAddr(0x1010)));
        assert_eq!(seen.found[0], b'!');
        let mut bytes = block(5);
        bytes[15] = 0;
        let seen = check(RemoteAddr(0x1000), &bytes).unwrap();
        assert_eq!(seen.side, Side::Before);
        assert_eq!(seen.header.unwrap().len, 5);
        let mut bytes = block(5);
        bytes[3] = 1;
        assert_eq!(check(RemoteAddr(0x1000), &bytes).unwrap().header, None);
    }
}
