//! Names of files: `str` objects up to 3.14, C strings from 3.15 on.

use onlooker_unwinder::layout::Layout;
use onlooker_unwinder::memory::{ReadError, ReadMemory};
use onlooker_unwinder::objects;

use crate::gather::{Piece, gather};
use crate::space::PAGE_BYTES;

/// A longer name is none.
const MAX_NAME_BYTES: u64 = 64 << 10;

/// The `str` objects at these addresses; `None` where none is.
pub(super) fn objects<M: ReadMemory>(
    memory: &mut M,
    layout: &Layout,
    addresses: &[u64],
) -> Result<Vec<Option<String>>, ReadError> {
    let texts = objects::resolve(memory, layout, addresses.len(), |i, objects| {
        objects.str(onlooker_unwinder::memory::RemoteAddr(addresses[i]))
    })?;
    Ok(texts.into_iter().map(Result::ok).collect())
}

/// The strings at these addresses, each up to its NUL; `None` where none is. Bytes that are no
/// UTF-8 are replaced.
pub(super) fn utf8<M: ReadMemory>(
    memory: &mut M,
    addresses: &[u64],
) -> Result<Vec<Option<String>>, ReadError> {
    let mut texts: Vec<Option<String>> = vec![None; addresses.len()];
    let mut wanted: Vec<usize> = (0..addresses.len()).collect();
    // First up to the end of the page, for the next one may not be there; then one page more
    // each time.
    let mut further = 0;
    while !wanted.is_empty() && further <= MAX_NAME_BYTES {
        let pieces: Vec<Piece> = wanted
            .iter()
            .map(|i| {
                let left = PAGE_BYTES - addresses[*i] % PAGE_BYTES;
                Piece::new(addresses[*i], (left + further) as u32)
            })
            .collect();
        let mut longer = Vec::new();
        gather(memory, &pieces, |i, bytes| {
            let Some(bytes) = bytes else {
                return;
            };
            match bytes.iter().position(|byte| *byte == 0) {
                Some(end) => {
                    texts[wanted[i]] = Some(String::from_utf8_lossy(&bytes[..end]).into_owned());
                }
                None => longer.push(wanted[i]),
            }
        })?;
        wanted = longer;
        further += PAGE_BYTES;
    }
    Ok(texts)
}
