//! In what the copies of unshared pages differ.

use onlooker_heap::gather::{Piece, gather};
use onlooker_heap::headers::{Difference, LOOKAHEAD_BYTES, PAGE_BYTES, Types};
use onlooker_heap::unshared::{Page, State};
use onlooker_unwinder::memory::{ReadError, ReadMemory};

use super::sharing::{Unshared, Why};

/// Pages whose copies are compared at once.
const BATCH_PAGES: usize = 1024;

/// Compares each unshared page with the parent's, where the parent has one.
///
/// # Errors
/// When a process is gone or may not be read.
pub fn compare<W: ReadMemory, P: ReadMemory>(
    pages: &[Unshared],
    worker: W,
    parent: &mut P,
) -> Result<Vec<Page>, ReadError> {
    let mut types = Types::new(worker);
    let mut compared = Vec::with_capacity(pages.len());
    for batch in pages.chunks(BATCH_PAGES) {
        let in_both: Vec<Piece> = batch
            .iter()
            .filter(|page| page.why != Why::New)
            .map(|page| {
                let ahead = if page.next { LOOKAHEAD_BYTES } else { 0 };
                Piece::new(page.addr, (PAGE_BYTES + ahead) as u32)
            })
            .collect();
        let ours = copies(types.memory_mut(), &in_both)?;
        let theirs = copies(parent, &in_both)?;
        let mut changes = ours.iter().zip(&theirs).map(|(ours, theirs)| {
            let (ours, theirs) = ours.as_ref().zip(theirs.as_ref())?;
            let changes = types.compare(ours, theirs);
            let any = changes.difference() != Difference::Nothing;
            Some(any.then(|| Box::new(changes)))
        });
        compared.extend(batch.iter().map(|page| {
            Page {
                addr: page.addr,
                state: match page.why {
                    Why::New => State::New,
                    _ => changes
                        .next()
                        .flatten()
                        .map_or(State::Unread, State::Compared),
                },
            }
        }));
    }
    Ok(compared)
}

fn copies<M: ReadMemory>(
    memory: &mut M,
    pieces: &[Piece],
) -> Result<Vec<Option<Vec<u8>>>, ReadError> {
    let mut copies = Vec::with_capacity(pieces.len());
    gather(memory, pieces, |_, bytes| {
        copies.push(bytes.map(<[u8]>::to_vec));
    })?;
    Ok(copies)
}
