//! Where a caller keeps the generator that it resumes, by call site (3.11).
//!
//! C code resumes every generator there (`SEND`, `FOR_ITER`, `next()`: `gen_send_ex2`,
//! Objects/genobject.c). The caller then runs, as far as its frame tells, and saves no stack
//! pointer (`frames::calls`). But how deep the value stack is at an instruction is fixed when it is
//! compiled, so that a call site has the generator in the same slot each time. Where that is was
//! seen in stacks that stood still. A caller that stands at the site, with the generator in the
//! slot, resumes it, even if both were read while others came and went. From 3.12 on there is an
//! entry frame in between where C code resumes.

use super::links::{PLACES, place};
use crate::frames::RawFrame;
use crate::frames::calls::runs_itself;
use crate::layout::{Frames, Layout, owner};
use crate::memory::{Lookup, RemoteAddr, u64_at};

/// So many words of locals and value stack are looked through.
const SEARCHED_WORDS: usize = 32;
const WORD: usize = 8;

/// A call site and where it has its generator.
#[derive(Clone, Copy, Debug, Default)]
struct Site {
    /// The caller's instruction.
    instr: u64,
    /// Its code object: a new one may have the place of one that was freed.
    code: RemoteAddr,
    /// Bytes from the start of its frame; 0 for none.
    slot: u32,
}

/// Call sites and their slots.
#[derive(Debug)]
pub(super) struct Sites {
    places: Box<[Site]>,
}

impl Default for Sites {
    fn default() -> Self {
        Self {
            places: vec![Site::default(); PLACES].into(),
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
        let site = self.places[place(caller.instr)];
        if site.slot == 0 || (site.instr, site.code) != (caller.instr, caller.code) {
            return false;
        }
        let Some(generator) = generator_of(layout, callee) else {
            return false;
        };
        // In one piece with the caller's header, so that both are of one instant.
        view.bytes(caller.addr, site.slot as usize + WORD)
            .is_some_and(|bytes| {
                runs_itself(bytes, layout, caller)
                    && u64_at(bytes, u64::from(site.slot)) == Some(generator)
            })
    }

    /// Whether `callee` is resumed from a call site whose slot is not known, and can be.
    pub(super) fn is_new<L: Lookup>(
        &self,
        view: &L,
        layout: &Layout,
        caller: &RawFrame,
        callee: &RawFrame,
    ) -> bool {
        generator_of(layout, callee).is_some() && !self.resumes(view, layout, caller, callee)
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
            (generator_of(layout, callee), &layout.frames)
        else {
            return;
        };
        let header = frame.header_bytes as usize;
        let lens = (0..=SEARCHED_WORDS)
            .rev()
            .map(|words| header + WORD * words);
        let Some(bytes) = lens
            .filter_map(|len| view.bytes(caller.addr, len))
            .find(|bytes| runs_itself(bytes, layout, caller))
        else {
            return;
        };
        // The value stack lies behind the locals, which may have it as well.
        let mut words = bytes[header..].chunks_exact(WORD);
        let Some(word) = words.rposition(|word| u64_at(word, 0) == Some(generator)) else {
            return;
        };
        self.places[place(caller.instr)] = Site {
            instr: caller.instr,
            code: caller.code,
            slot: (header + WORD * word) as u32,
        };
    }
}

/// The generator that a frame belongs to, where no entry frame stands before it.
fn generator_of(layout: &Layout, frame: &RawFrame) -> Option<u64> {
    let Frames::Interpreter(frames) = &layout.frames else {
        return None;
    };
    let calls = frames.calls.as_ref()?;
    if frames.first_entry_owner.is_some() {
        return None;
    }
    let start = frame.addr.0.checked_sub(calls.generator_frame)?;
    (frame.owner == owner::GENERATOR).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Minor, tables};

    const CALLER: u64 = 0x1000;
    const CODE: u64 = 0x5000;
    const SITE: u64 = 0x5200;
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
        bytes[32..40].copy_from_slice(&CODE.to_le_bytes());
        bytes[56..64].copy_from_slice(&SITE.to_le_bytes());
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
            code: RemoteAddr(CODE),
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
        let (caller, callee) = frames(&layout, SITE);
        let mut sites = Sites::default();
        // A local has it too.
        let still = memory(&layout, &[1, GENERATOR, 2, GENERATOR]);
        assert!(!sites.resumes(&still, &layout, &caller, &callee), "unknown");
        sites.learn(&still, &layout, &caller, &callee);
        assert!(sites.resumes(&still, &layout, &caller, &callee));
        let local = memory(&layout, &[1, GENERATOR, 2, 3]);
        assert!(!sites.resumes(&local, &layout, &caller, &callee));
        let (elsewhere, _) = frames(&layout, SITE + 4);
        assert!(!sites.resumes(&still, &layout, &elsewhere, &callee));
        // What is cut off is not looked at.
        let short = memory(&layout, &[1, GENERATOR, 2]);
        assert!(!sites.resumes(&short, &layout, &caller, &callee));
    }

    #[test]
    fn a_caller_that_has_saved_its_stack_pointer_resumes_nothing_through_c() {
        let layout = tables::for_version(Minor::new(3, 11)).expect("a table");
        let (caller, callee) = frames(&layout, SITE);
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
        let (caller, callee) = frames(&layout, SITE);
        let mut sites = Sites::default();
        sites.learn(&memory(&layout, &[1, 2]), &layout, &caller, &callee);
        let later = memory(&layout, &[GENERATOR, GENERATOR]);
        assert!(!sites.resumes(&later, &layout, &caller, &callee));
    }
}
