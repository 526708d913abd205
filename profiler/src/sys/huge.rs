//! Large buffers in huge pages: fewer faults when they are touched, fewer misses when they are read
//! all over.

use onlooker_heap::space::PAGE_BYTES;

/// A buffer of so many bytes, all of them 0xff and touched (zeros would be pages that do not exist yet).
#[must_use]
pub fn touched(bytes: usize) -> Vec<u8> {
    let mut buffer: Vec<u8> = Vec::with_capacity(bytes);
    let room = buffer.spare_capacity_mut();
    let page = PAGE_BYTES as usize;
    let before = room.as_ptr().addr().next_multiple_of(page) - room.as_ptr().addr();
    if let Some(pages) = room.get_mut(before..) {
        let len = pages.len() / page * page;
        // Only a hint: whether the kernel follows changes nothing but the time that it takes.
        // SAFETY: The call is for whole pages inside of the allocation of `buffer`, which nobody
        // else knows. `MADV_HUGEPAGE` (madvise(2)) changes how the kernel backs them, and
        // neither what they hold nor what may be done with them.
        let _ = unsafe { libc::madvise(pages.as_mut_ptr().cast(), len, libc::MADV_HUGEPAGE) };
    }
    buffer.resize(bytes, 0xff);
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_there_whatever_the_size() {
        for bytes in [0, 1, 4095, 4096, 8191, 8192, (8 << 20) + 5] {
            let buffer = touched(bytes);
            assert_eq!(buffer.len(), bytes);
            assert!(buffer.iter().all(|byte| *byte == 0xff));
        }
    }
}
