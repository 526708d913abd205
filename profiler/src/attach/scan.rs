//! The last way to find a runtime: a scan of the writable data of an image.
//!
//! Needed where every symbol and section header is stripped or the file cannot be opened (it
//! was deleted and we are not root). 3.13 and newer are found by the cookie of their debug
//! offsets. Older ones by what `_PyRuntime` must hold: a list of interpreters whose head has a
//! thread state that points back to it. What is found here is proven like everything else.

use onlooker_symbols::PyVersion;
use onlooker_unwinder::layout::{Layout, debug_offsets, tables};
use onlooker_unwinder::memory::{ReadMemory, RemoteAddr, u64_at};

use super::Found;
use super::find::Candidate;
use super::version::{self, read_range, writable_ranges};
use crate::target::maps::{MappedFile, Maps};

/// More candidates than this are noise.
const MAX_CANDIDATES: usize = 16;

/// Places in the writable memory of `image`. Costs one read of that memory and three more for
/// each word that looks right.
pub(super) fn scan<M: ReadMemory>(
    memory: &mut M,
    maps: &Maps,
    image: &MappedFile,
) -> Vec<Candidate> {
    let version = version::of_image(memory, maps, image, None);
    let layouts: Vec<Layout> = tables::SUPPORTED
        .into_iter()
        .filter(|minor| version.is_none_or(|v| (v.major, v.minor) == (minor.major, minor.minor)))
        .filter_map(tables::for_version)
        .collect();
    let mut candidates = Vec::new();
    for (start, end) in writable_ranges(maps, image) {
        let Some(bytes) = read_range(memory, start, end) else {
            continue;
        };
        for offset in (0..bytes.len() as u64).step_by(8) {
            if candidates.len() >= MAX_CANDIDATES {
                return candidates;
            }
            let found = Candidate {
                runtime: RemoteAddr(start + offset),
                size: None,
                found: Found::Scan,
                version: None,
            };
            if u64_at(&bytes, offset) == Some(u64::from_le_bytes(*debug_offsets::COOKIE)) {
                candidates.push(found);
                continue;
            }
            for layout in &layouts {
                if looks_like_runtime(memory, layout, &bytes, offset) {
                    let known = version.filter(|v| v.minor == layout.version.minor);
                    let minor = PyVersion::minor_only(layout.version.major, layout.version.minor);
                    candidates.push(Candidate {
                        version: Some(known.unwrap_or(minor)),
                        ..found.clone()
                    });
                }
            }
        }
    }
    candidates
}

/// `interpreters.head` is followed by `interpreters.main` (3.7 – 3.12); without
/// sub-interpreters they are equal, which leaves a handful of places in a megabyte.
fn looks_like_runtime<M: ReadMemory>(
    memory: &mut M,
    layout: &Layout,
    bytes: &[u8],
    offset: u64,
) -> bool {
    let head_at = offset + layout.runtime.interpreters_head;
    let (Some(head), Some(main)) = (u64_at(bytes, head_at), u64_at(bytes, head_at + 8)) else {
        return false;
    };
    let interpreter = RemoteAddr(head);
    if head != main || !interpreter.is_plausible_pointer() {
        return false;
    }
    let mut word = |addr: RemoteAddr, offset: u64| {
        addr.offset(offset)
            .and_then(|addr| memory.read_u64(addr).ok())
    };
    word(interpreter, layout.interpreter.next) == Some(0)
        && word(interpreter, layout.interpreter.id) == Some(0)
        && word(interpreter, layout.interpreter.threads_head)
            .map(RemoteAddr)
            .filter(|tstate| tstate.is_plausible_pointer())
            .and_then(|tstate| word(tstate, layout.thread.interp))
            == Some(head)
}
