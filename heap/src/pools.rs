//! The header of a pool of pymalloc (`Objects/obmalloc.c` up to 3.11, then
//! `Include/internal/pycore_obmalloc.h`): enough to tell whose memory a mapping is.

use onlooker_unwinder::layout::Minor;
use onlooker_unwinder::memory::{u32_at, u64_at};

/// `POOL_OVERHEAD`.
pub const HEADER_BYTES: u32 = 48;
const ALIGNMENT: u64 = 16;
const SIZE_CLASSES: u32 = 32;

/// `POOL_SIZE`: pools begin at multiples of it.
#[must_use]
pub fn pool_bytes(version: Minor) -> u64 {
    if version >= Minor::new(3, 10) {
        16 << 10
    } else {
        4 << 10
    }
}

/// Whether `header` is that of a pool of `pool_bytes` that has blocks: a size class, offsets that
/// go with it, and no more live blocks than were carved.
#[must_use]
pub fn is_pool(header: &[u8], pool_bytes: u64) -> bool {
    let fields = || {
        Some((
            u32_at(header, 0)?,
            u64_at(header, 8)?,
            u32_at(header, 36)?,
            u32_at(header, 40)?,
            u32_at(header, 44)?,
        ))
    };
    let Some((count, free, class, next, last)) = fields() else {
        return false;
    };
    if class >= SIZE_CLASSES {
        return false;
    }
    let size = (u64::from(class) + 1) * ALIGNMENT;
    let next = u64::from(next);
    let carved = next.saturating_sub(HEADER_BYTES.into()) / size;
    u64::from(last) == pool_bytes - size
        && next >= u64::from(HEADER_BYTES) + size
        && (next - u64::from(HEADER_BYTES)).is_multiple_of(size)
        && next <= pool_bytes
        && u64::from(count) <= carved
        && free.is_multiple_of(ALIGNMENT)
}
