//! Where a caller keeps the generator that it resumes, by call site.
//!
//! C code resumes a generator up to 3.11 always (`SEND`, `FOR_ITER`, `next()`), later where C code
//! asks for it. The caller then runs, as far as its frame tells, and saves no stack pointer
//! (`frames::calls`). But how deep the value stack is at an instruction is fixed when it is
//! compiled, so that a call site has the generator in the same slot each time. Where that is was
//! seen in stacks that stood still. A caller that stands at the site, with the generator in the
//! slot, resumes it, even if both were read while others came and went.

use crate::frames::RawFrame;
use crate::frames::calls::runs_itself;
use crate::layout::{Frames, Layout, owner};
use crate::memory::{Lookup, u64_at};

/// Call sites that are remembered at a time; they compete for places.
const PLACES: usize = 1 << 10;
/// So many words of locals and value stack are looked through.
const SEARCHED_WORDS: usize = 64;
/// 2^64 divided by the golden ratio: neighbours come to lie far from each other.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Call sites and their slots.
#[derive(Debug)]
pub(super) struct Sites {
    /// The caller's instruction, and bytes from the start of its frame; 0 for none.
    places: Box<[(u64, u32)]>,
}

impl Default for Sites {
    fn default() -> Self {
        Self {
            places: vec![(0, 0); PLACES].into(),
        }
    }
}

impl Sites {
    /// Whether memory says that `caller` resumes `callee` from a call site that is known.
    pub(super) fn resumes<L: Lookup>(
        &self,
        view: &L,
        layout: &Layout,
        caller: &RawFrame,
        callee: &RawFrame,
    ) -> bool {
        let (site, slot) = self.places[place(caller.instr)];
        if site != caller.instr || slot == 0 {
            return false;
        }
        let Some(generator) = resumed(view, layout, caller, callee) else {
            return false;
        };
        // In one piece with the caller, so that both are of one instant.
        let bytes = view.bytes(caller.addr, slot as usize + 8);
        bytes.and_then(|bytes| u64_at(bytes, u64::from(slot))) == Some(generator)
    }

    /// Learns the slot of a call site, where `caller` resumes `callee`.
    pub(super) fn learn<L: Lookup>(
        &mut self,
        view: &L,
        layout: &Layout,
        caller: &RawFrame,
        callee: &RawFrame,
    ) {
        let (Some(generator), Frames::Interpreter(frame)) =
            (resumed(view, layout, caller, callee), &layout.frames)
        else {
            return;
        };
        let header = frame.header_bytes as usize;
        let lens = (0..=SEARCHED_WORDS).rev().map(|words| header + 8 * words);
        let Some(bytes) = lens.filter_map(|len| view.bytes(caller.addr, len)).next() else {
            return;
        };
        // The value stack lies behind the locals, which may have it as well.
        let mut words = bytes[header..].chunks_exact(8);
        let Some(word) = words.rposition(|word| u64_at(word, 0) == Some(generator)) else {
            return;
        };
        self.places[place(caller.instr)] = (caller.instr, (header + 8 * word) as u32);
    }
}

/// The generator that `callee` belongs to, where C code may have resumed it for `caller`.
fn resumed<L: Lookup>(
    view: &L,
    layout: &Layout,
    caller: &RawFrame,
    callee: &RawFrame,
) -> Option<u64> {
    let Frames::Interpreter(frame) = &layout.frames else {
        return None;
    };
    let calls = frame.calls.as_ref()?;
    let is_generator = callee.owner == owner::GENERATOR;
    if !is_generator || !runs_itself(view, layout, caller) {
        return None;
    }
    callee.addr.0.checked_sub(calls.generator_frame)
}

fn place(site: u64) -> usize {
    (site.wrapping_mul(SPREAD) >> 32) as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Minor, tables};
    use crate::memory::RemoteAddr;

    const CALLER: u64 = 0x1000;
    const GENERATOR: u64 = 0x7f00_0000_9000;

    struct Bytes(Vec<u8>);

    impl Lookup for Bytes {
        fn bytes(&self, addr: RemoteAddr, len: usize) -> Option<&[u8]> {
            let at = usize::try_from(addr.0.checked_sub(CALLER)?).ok()?;
            self.0.get(at..at + len)
        }
    }

    /// A frame that runs, its locals and its value stack.
    fn memory(layout: &Layout, words: &[u64]) -> Bytes {
        let Frames::Interpreter(frame) = &layout.frames else {
            unreachable!("3.11 has such frames")
        };
        let mut bytes = vec![0; frame.header_bytes as usize];
        bytes[64..68].copy_from_slice(&(-1_i32).to_le_bytes());
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        Bytes(bytes)
    }

    fn frames(layout: &Layout, site: u64) -> (RawFrame, RawFrame) {
        let Frames::Interpreter(frame) = &layout.frames else {
            unreachable!("3.11 has such frames")
        };
        let calls = frame.calls.as_ref().expect("3.11 has calls");
        let caller = RawFrame {
            addr: RemoteAddr(CALLER),
            code: RemoteAddr(0x5000),
            instr: site,
            owner: owner::THREAD,
        };
        let callee = RawFrame {
            addr: RemoteAddr(GENERATOR + calls.generator_frame),
            owner: owner::GENERATOR,
            ..caller
        };
        (caller, callee)
    }

    #[test]
    fn a_call_site_has_its_generator_in_one_slot() {
        let layout = tables::for_version(Minor::new(3, 11)).expect("a table");
        let (caller, callee) = frames(&layout, 0x5200);
        let mut sites = Sites::default();
        // A local has it too.
        let still = memory(&layout, &[1, GENERATOR, 2, GENERATOR]);
        assert!(!sites.resumes(&still, &layout, &caller, &callee), "unknown");
        sites.learn(&still, &layout, &caller, &callee);
        assert!(sites.resumes(&still, &layout, &caller, &callee));
        let local = memory(&layout, &[1, GENERATOR, 2, 3]);
        assert!(!sites.resumes(&local, &layout, &caller, &callee));
        let (elsewhere, _) = frames(&layout, 0x5204);
        assert!(!sites.resumes(&still, &layout, &elsewhere, &callee));
        // What is cut off is not looked at.
        let short = memory(&layout, &[1, GENERATOR, 2]);
        assert!(!sites.resumes(&short, &layout, &caller, &callee));
    }

    #[test]
    fn a_caller_that_has_saved_its_stack_pointer_resumes_nothing_through_c() {
        let layout = tables::for_version(Minor::new(3, 11)).expect("a table");
        let (caller, callee) = frames(&layout, 0x5200);
        let mut sites = Sites::default();
        let mut saved = memory(&layout, &[1, GENERATOR]);
        sites.learn(&saved, &layout, &caller, &callee);
        assert!(sites.resumes(&saved, &layout, &caller, &callee));
        saved.0[64..68].copy_from_slice(&2_i32.to_le_bytes());
        assert!(!sites.resumes(&saved, &layout, &caller, &callee));
    }

    #[test]
    fn without_the_generator_nothing_is_learnt() {
        let layout = tables::for_version(Minor::new(3, 11)).expect("a table");
        let (caller, callee) = frames(&layout, 0x5200);
        let mut sites = Sites::default();
        sites.learn(&memory(&layout, &[1, 2]), &layout, &caller, &callee);
        let later = memory(&layout, &[GENERATOR, GENERATOR]);
        assert!(!sites.resumes(&later, &layout, &caller, &callee));
    }
}
