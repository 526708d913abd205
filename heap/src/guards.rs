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

/// The data of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    /// Where they begin in it.
    pub at: u64,
    /// Who asked for them; `None` where that was overwritten.
    pub domain: Option<Domain>,
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
    /// Who asked for the block; `None` where that was overwritten too.
    pub domain: Option<Domain>,
    /// Bytes that were asked for; `None` where that was overwritten and nothing else tells.
    pub len: Option<u64>,
    /// Where.
    pub side: Side,
    /// The bytes that were found in place of the guard, and of what of the header before it is gone.
    pub found: Vec<u8>,
}

/// The size as it is written, if the block has room for it.
fn size(block: &[u8]) -> Option<u64> {
    let size: [u8; 8] = block.get(..8)?.try_into().ok()?;
    let len = u64::from_be_bytes(size);
    let whole = len.checked_add(HEADER_BYTES + TRAILER_BYTES)?;
    (whole <= block.len() as u64).then_some(len)
}

fn domain(block: &[u8]) -> Option<Domain> {
    Domain::from_byte(u8_at(block, DOMAIN as u64)?)
}

/// Size and domain as they are written, whatever the guard is.
fn stated(block: &[u8]) -> Option<Header> {
    let (domain, len) = (domain(block)?, size(block)?);
    Some(Header { domain, len })
}

fn is_guard(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == GUARD)
}

/// The guard behind `len` bytes of data.
fn trailer(block: &[u8], len: u64) -> Option<&[u8]> {
    let end = HEADER_BYTES.checked_add(len)? as usize;
    block.get(end..end.checked_add(TRAILER_BYTES as usize)?)
}

/// The header of a block, if its front guard is whole.
#[must_use]
pub fn header(block: &[u8]) -> Option<Header> {
    let front = block.get(DOMAIN + 1..HEADER_BYTES as usize)?;
    is_guard(front).then(|| stated(block))?
}

/// Whether a chunk of malloc is a block of the debug allocator, perhaps with a damaged guard: what
/// the program took from malloc itself is none. The size and the guard that ends there prove it as
/// well as the guard in front.
#[must_use]
pub fn is_block(block: &[u8]) -> bool {
    let front = block.get(DOMAIN + 1..HEADER_BYTES as usize);
    let whole = front.map(|front| front.iter().filter(|byte| **byte == GUARD).count());
    let by_front = whole.is_some_and(|count| count >= 4) && stated(block).is_some();
    by_front || proven_size(block).is_some()
}

/// The size, if a whole guard stands where it ends.
fn proven_size(block: &[u8]) -> Option<u64> {
    let len = size(block)?;
    trailer(block, len).filter(|trailer| is_guard(trailer))?;
    Some(len)
}

/// The block of another domain within one of the raw domain, which is what a block that is too
/// large for pymalloc comes from: both have guards. Its size or the guard at its end is whole.
fn within(block: &[u8]) -> Option<(&[u8], u64)> {
    let outer = header(block).filter(|outer| outer.domain == Domain::Raw)?;
    let len = outer.len.checked_sub(HEADER_BYTES + TRAILER_BYTES)?;
    let end = HEADER_BYTES.checked_add(outer.len)? as usize;
    let inside = block.get(HEADER_BYTES as usize..end)?;
    let has_size = size(inside) == Some(len);
    (has_size || trailer(inside, len).is_some_and(is_guard)).then_some((inside, len))
}

/// Where the data of a block are; `None` where its front guard is not whole.
#[must_use]
pub fn data(block: &[u8]) -> Option<Data> {
    if let Some((inside, len)) = within(block) {
        return Some(Data {
            at: 2 * HEADER_BYTES,
            domain: domain(inside),
            len,
        });
    }
    let outer = header(block)?;
    Some(Data {
        at: HEADER_BYTES,
        domain: Some(outer.domain),
        len: outer.len,
    })
}

/// Looks at both guards of a block in use at `addr`; of a block within a block, at the inner ones.
#[must_use]
pub fn check(addr: RemoteAddr, block: &[u8]) -> Vec<Violation> {
    match within(block) {
        Some((inside, len)) => addr
            .offset(HEADER_BYTES)
            .map_or_else(Vec::new, |addr| check_one(addr, inside, Some(len))),
        None => check_one(addr, block, None),
    }
}

/// Looks at both guards of a block in use at `addr`. `known` is its size, where something else than
/// its header tells.
fn check_one(addr: RemoteAddr, block: &[u8], known: Option<u64>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let (Some(data), Some(header)) = (
        addr.offset(HEADER_BYTES),
        block.get(..HEADER_BYTES as usize),
    ) else {
        return violations;
    };
    let domain = domain(block);
    // A size beside a domain that is gone may be gone, too.
    let stated = stated(block)
        .map(|stated| stated.len)
        .or_else(|| proven_size(block))
        .filter(|stated| known.is_none_or(|known| known == *stated));
    let len = known.or(stated);
    let mut add = |side, found: &[u8]| {
        violations.push(Violation {
            addr: data,
            domain,
            len,
            side,
            found: found.to_vec(),
        });
    };
    if stated.is_none() {
        add(Side::Before, header);
    } else if domain.is_none() {
        add(Side::Before, &header[DOMAIN..]);
    } else if !is_guard(&header[DOMAIN + 1..]) {
        add(Side::Before, &header[DOMAIN + 1..]);
    }
    let behind = len.and_then(|len| trailer(block, len));
    if let Some(behind) = behind.filter(|behind| !is_guard(behind)) {
        add(Side::Behind, behind);
    }
    violations
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
        assert_eq!(check(RemoteAddr(0x1000), &bytes), []);
    }

    #[test]
    fn a_large_block_has_guards_within_guards() {
        let inner = block(5);
        let mut bytes = vec![0, 0, 0, 0, 0, 0, 0, 5 + 24, b'r'];
        bytes.extend([GUARD; 7]);
        bytes.extend(&inner[..5 + 24]);
        bytes.extend([GUARD; 8]);
        let expected = Data {
            at: 32,
            domain: Some(Domain::Object),
            len: 5,
        };
        assert_eq!(data(&bytes), Some(expected));
        assert_eq!(check(RemoteAddr(0x1000), &bytes), []);
        bytes[32 + 5] = 0;
        let seen = one(&bytes);
        assert_eq!((seen.addr, seen.side), (RemoteAddr(0x1020), Side::Behind));
        // Without its domain it is still a block within a block.
        bytes[32 + 5] = GUARD;
        bytes[16 + 8..32].fill(b'!');
        let seen = one(&bytes);
        assert_eq!((seen.addr, seen.side), (RemoteAddr(0x1020), Side::Before));
        assert_eq!((seen.domain, seen.len), (None, Some(5)));
        assert_eq!(seen.found, [b'!'; 8]);
        assert_eq!(data(&bytes).unwrap().at, 32);
        // Without its size, too.
        bytes[16..24].fill(b'!');
        assert_eq!(one(&bytes).len, Some(5));
        assert_eq!(one(&bytes).found, [b'!'; 16]);
    }

    /// The only violation.
    fn one(bytes: &[u8]) -> Violation {
        let mut seen = check(RemoteAddr(0x1000), bytes);
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }

    #[test]
    fn both_sides_are_seen_and_a_whole_end_proves_the_size() {
        let mut bytes = block(5);
        bytes[8..16].fill(b'!');
        assert!(is_block(&bytes));
        assert_eq!((one(&bytes).domain, one(&bytes).len), (None, Some(5)));
        bytes[16 + 5] = b'!';
        assert!(!is_block(&bytes));
        assert_eq!(one(&bytes).len, None);
        bytes[8] = b'm';
        let sides: Vec<Side> = check(RemoteAddr(0x1000), &bytes)
            .iter()
            .map(|each| each.side)
            .collect();
        assert_eq!(sides, [Side::Before, Side::Behind]);
    }

    #[test]
    fn one_byte_too_far_is_seen_on_either_side() {
        let mut bytes = block(5);
        bytes[16 + 5] = b'!';
        let seen = one(&bytes);
        assert_eq!((seen.side, seen.addr), (Side::Behind, RemoteAddr(0x1010)));
        assert_eq!(seen.found[0], b'!');
        let mut bytes = block(5);
        bytes[15] = 0;
        let seen = one(&bytes);
        assert_eq!(seen.side, Side::Before);
        assert_eq!(seen.len, Some(5));
        let mut bytes = block(5);
        bytes[3] = 1;
        assert_eq!((one(&bytes).len, one(&bytes).found.len()), (None, 16));
    }
}
