//! Whether a stack that was read is a stack that was.
//!
//! A running thread pushes and pops frames while it is read. Each check finds stacks that
//! cannot have been; one line in [`CHECKS`] adds or removes it. README.md says what each is
//! worth.

use onlooker_symbols::names::CodeTable;
use onlooker_unwinder::frames::is_entry;
use onlooker_unwinder::layout::{FrameRoot, Frames, Layout, owner};
use onlooker_unwinder::sampler::Thread;

use super::resolve::Resolved;

/// What a stack is marked with whose names may be those of other code objects.
pub(crate) const CODE: &str = "code";

/// What a check looks at.
pub(super) struct Evidence<'a> {
    pub(super) thread: &'a Thread,
    pub(super) resolved: &'a Resolved,
    pub(super) layout: &'a Layout,
    pub(super) codes: &'a CodeTable,
    /// Whether the thread stood still from before the first read to behind the last. Then it does not
    /// matter how many there were, and what its frames hold on to is not replaced.
    pub(super) stands: bool,
    /// Whether one call read the thread's memory, or others read it again.
    pub(super) one_window: bool,
    /// Whether the names of this sample were read after its stack: then they may belong to a
    /// code object that came later.
    pub(super) new_codes: bool,
}

/// A check.
pub(super) struct Check {
    /// What a stack is marked with when it fails. README.md says what it means.
    pub(super) reason: &'static str,
    /// Whether what fails has parts of two stacks. Its like would be found again as long as what is
    /// left of the older one stands there.
    pub(super) of_two: bool,
    /// Whether the stack passes.
    passes: fn(&Evidence<'_>) -> bool,
}

const fn check(reason: &'static str, of_two: bool, passes: fn(&Evidence<'_>) -> bool) -> Check {
    Check {
        reason,
        of_two,
        passes,
    }
}

/// The checks in the order in which they are made.
pub(super) const CHECKS: &[Check] = &[
    check("moved", false, one_window),
    check(CODE, false, known_code),
    check("instruction", true, instructions_in_code),
    check("gap", true, frames_adjacent),
    check("root", true, ends_at_a_root),
    check("changed", false, still_the_same),
];

/// The first check that a stack fails.
pub(super) fn first_failure(evidence: &Evidence<'_>) -> Option<&'static Check> {
    CHECKS.iter().find(|check| !(check.passes)(evidence))
}

/// All of its memory came from one call, or was read again when it had come. What a second call
/// fetched belongs to a later instant.
fn one_window(evidence: &Evidence<'_>) -> bool {
    evidence.stands || evidence.one_window
}

/// Every code object was known before the stack was read and still is the same after it: only
/// then its names are surely those of the frame.
fn known_code(evidence: &Evidence<'_>) -> bool {
    (evidence.stands || !evidence.new_codes) && !evidence.resolved.faults().code
}

/// Every instruction lies in its code object.
fn instructions_in_code(evidence: &Evidence<'_>) -> bool {
    !evidence.resolved.faults().instruction
}

/// The frames of the chunks lie side by side, from the first slot on (`places.rs`).
fn frames_adjacent(evidence: &Evidence<'_>) -> bool {
    !evidence.resolved.faults().gap
}

/// Its outermost link can be one. A generator that is suspended (or a greenlet) has no caller, so a walk that
/// meets one in the moment of its suspension ends there as if the stack did.
fn ends_at_a_root(evidence: &Evidence<'_>) -> bool {
    let Some((outermost, slot)) = evidence.resolved.outermost() else {
        return true;
    };
    match (&evidence.layout.frames, evidence.layout.thread.root) {
        // The walk itself ends only at the base frame.
        (
            _,
            FrameRoot::Direct {
                base_frame: Some(_),
                ..
            },
        ) => true,
        // From 3.12 on, C code that runs Python code leaves an entry frame below.
        (Frames::Interpreter(frame), _) if frame.first_entry_owner.is_some() => {
            is_entry(frame, outermost.owner)
        }
        (Frames::Interpreter(_), _) => outermost.owner != owner::GENERATOR,
        (Frames::Objects(_), _) => {
            slot.is_none_or(|slot| !evidence.codes.at(slot).header.is_generator())
        }
    }
}

/// All copies of its moving part, read in one call, agree, and the part that was read once belongs
/// to them; or it is link by link the stack of the sample before.
fn still_the_same(evidence: &Evidence<'_>) -> bool {
    let agree = evidence.thread.copies_agree;
    evidence.stands || agree.unwrap_or(!evidence.resolved.changed)
}
