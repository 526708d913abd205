//! Names of files: `str` objects up to 3.14, C strings from 3.15 on.

use onlooker_unwinder::layout::Layout;
use onlooker_unwinder::memory::{ReadError, ReadMemory, RemoteAddr};
use onlooker_unwinder::objects;

use crate::gather::{Piece, gather};
use crate::space::PAGE_BYTES;

/// A longer name is none.
const MAX_NAME_BYTES: u64 = 64 << 10;
/// All names together: a program has some thousand files.
const MAX_ALL_BYTES: usize = 256 << 20;
/// Names that are read at once.
const BATCH: usize = 256;

/// The `str` objects at these addresses; `None` where none is.
pub(super) fn objects<M: ReadMemory>(
    memory: &mut M,
    layout: &Layout,
    addresses: &[u64],
) -> Result<Vec<Option<String>>, ReadError> {
    let mut texts = Vec::with_capacity(addresses.len());
    let mut bytes = 0;
    for batch in addresses.chunks(BATCH) {
        if bytes > MAX_ALL_BYTES {
            break;
        }
        let found = objects::resolve(memory, layout, batch.len(), |i, objects| {
            objects.str(RemoteAddr(batch[i]))
        })?;
        texts.extend(found.into_iter().map(Result::ok));
        bytes += texts[texts.len() - batch.len()..]
            .iter()
            .flatten()
            .map(String::len)
            .sum::<usize>();
    }
    texts.resize(addresses.len(), None);
    Ok(texts)
}

/// The strings at these addresses, which must be sorted and distinct, each up to its NUL; `None`
/// where none is, or where one would reach into the next. Bytes that are no UTF-8 are replaced.
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
                Some(end) if is_apart(addresses, wanted[i], end) => {
                    texts[wanted[i]] = Some(String::from_utf8_lossy(&bytes[..end]).into_owned());
                }
                None if is_apart(addresses, wanted[i], bytes.len()) => longer.push(wanted[i]),
                _ => {}
            }
        })?;
        wanted = longer;
        further += PAGE_BYTES;
    }
    Ok(texts)
}

/// Whether so many bytes of the name with this number end before the next one.
fn is_apart(addresses: &[u64], number: usize, len: usize) -> bool {
    let end = addresses[number].saturating_add(len as u64);
    addresses.get(number + 1).is_none_or(|next| end < *next)
}
