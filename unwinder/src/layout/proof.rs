//! Proof of a layout by invariants of the live process.
//!
//! A layout that is off by one field still reads numbers, only wrong ones. So before anything
//! is shown, the first sample must satisfy what every interpreter satisfies: lists close, a
//! thread state points back to its interpreter, the chain of chunks closes, the list of frames
//! ends where it must, code objects are code objects. A process that runs changes while it is
//! read, so a failure is final only when it repeats.

use crate::code::{CodeHeader, Position};
use crate::datastack::ChunkError;
use crate::frames::Cut;
use crate::layout::{Layout, owner};
use crate::memory::{ReadError, ReadMemory, RemoteAddr, Segment};
use crate::objects::{self, Objects, Reason, Stop};
use crate::sampler::{Outcome, Sampler};

/// Samples before a failure is final. A torn stack does not repeat so often.
const ATTEMPTS: usize = 20;
/// Code objects that are looked at in full.
const MAX_CODE_OBJECTS: usize = 64;

/// Which invariant failed, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The process is gone or may not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no interpreter (yet, or any more).
    #[error("the list of interpreters is empty")]
    NoInterpreter,
    /// There is no thread (yet).
    #[error("no interpreter has a thread")]
    NoThread,
    /// The lists of interpreters and threads do not close.
    #[error("the lists of interpreters and threads do not close ({})", .0.name())]
    Lists(Cut),
    /// The main interpreter does not have id 0.
    #[error("the oldest interpreter has id {0}, not 0")]
    MainInterpreter(i64),
    /// A thread state does not point back to its interpreter.
    #[error("the thread state at {tstate} belongs to interpreter {found}, not {expected}")]
    BackPointer {
        /// The thread state.
        tstate: RemoteAddr,
        /// The interpreter in whose list it stands.
        expected: RemoteAddr,
        /// The one that it names; NULL where it could not be read.
        found: RemoteAddr,
    },
    /// The chain of chunks does not close.
    #[error("the chunks of the thread state at {tstate} are no chain: {error}")]
    Chunks {
        /// The thread state.
        tstate: RemoteAddr,
        /// What was found.
        error: ChunkError,
    },
    /// The list of frames does not end where it must.
    #[error("the frames of the thread state at {tstate} do not end at their root ({})", .cut.name())]
    Frames {
        /// The thread state.
        tstate: RemoteAddr,
        /// Where the walk ended.
        cut: Cut,
    },
    /// What a frame names as its code is no code object.
    #[error("the frame at {frame} names {code} as its code, which is no code object: {reason}")]
    Code {
        /// The frame.
        frame: RemoteAddr,
        /// What it points to.
        code: RemoteAddr,
        /// What was found there.
        reason: String,
    },
    /// No frame of any thread has a name that can be read.
    #[error("the name of the code object at {code} cannot be read: {reason}")]
    Name {
        /// The code object.
        code: RemoteAddr,
        /// Why.
        reason: Reason,
    },
}

/// Takes samples until one satisfies every invariant.
///
/// # Errors
/// The invariant that failed in the last attempt.
pub fn prove<M: ReadMemory>(sampler: &mut Sampler<M>) -> Result<(), ProofError> {
    let mut last = ProofError::NoInterpreter;
    for _ in 0..ATTEMPTS {
        sampler.sample()?;
        match check(sampler) {
            Ok(()) => return Ok(()),
            Err(ProofError::Read(error)) => return Err(error.into()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn check<M: ReadMemory>(sampler: &mut Sampler<M>) -> Result<(), ProofError> {
    let Some(oldest) = sampler.interpreters().last() else {
        return Err(match sampler.lists_cut() {
            Some(cut) => ProofError::Lists(cut),
            None => ProofError::NoInterpreter,
        });
    };
    let main_id = oldest.id;
    let mut codes: Vec<CodeOfFrame> = Vec::new();
    for thread in sampler.threads() {
        let tstate = thread.tstate;
        let found = thread.state.map(|s| s.interp).unwrap_or_default();
        if found != thread.interpreter {
            let expected = thread.interpreter;
            return Err(ProofError::BackPointer {
                tstate,
                expected,
                found,
            });
        }
        if let Some(error) = thread.chunk_error {
            return Err(ProofError::Chunks { tstate, error });
        }
        if let Some(Outcome::Cut(cut)) = thread.outcome {
            return Err(ProofError::Frames { tstate, cut });
        }
        for frame in thread.frames.iter().filter(|f| !f.code.is_null()) {
            if codes.len() < MAX_CODE_OBJECTS
                && !codes.iter().any(|(_, code, ..)| *code == frame.code)
            {
                let generator = frame.owner == owner::GENERATOR;
                codes.push((frame.addr, frame.code, frame.instr, generator));
            }
        }
    }
    if let Some(cut) = sampler.lists_cut() {
        return Err(ProofError::Lists(cut));
    }
    if main_id != 0 {
        return Err(ProofError::MainInterpreter(main_id));
    }
    if sampler.threads().is_empty() {
        return Err(ProofError::NoThread);
    }
    check_code(sampler, &codes)
}

/// The frame, its code object, its instruction, whether a generator owns it.
type CodeOfFrame = (RemoteAddr, RemoteAddr, u64, bool);

fn check_code<M: ReadMemory>(
    sampler: &mut Sampler<M>,
    codes: &[CodeOfFrame],
) -> Result<(), ProofError> {
    let layout = sampler.layout().clone();
    let memory = sampler.memory_mut();
    for (frame, code, instr, generator) in codes {
        let fail = |reason: String| ProofError::Code {
            frame: *frame,
            code: *code,
            reason,
        };
        let header = read_header(memory, &layout, *code)?
            .ok_or_else(|| fail("its fields are not those of a code object".to_owned()))?;
        let type_name = read_type_name(memory, header.ob_type)?;
        if type_name != *b"code\0" {
            return Err(fail(format!("its type is {}", type_name.escape_ascii())));
        }
        if header.position(*instr, *generator) == Position::Outside {
            return Err(fail(format!(
                "the instruction {instr:#x} lies outside of it"
            )));
        }
        let names = objects::resolve(memory, &layout, 1, |_, objects| name(objects, &header))?;
        if let Some(Err(reason)) = names.first() {
            return Err(ProofError::Name {
                code: *code,
                reason: *reason,
            });
        }
    }
    Ok(())
}

/// Its names are `str` objects, of whatever length.
fn name<L: crate::memory::Lookup>(
    objects: &Objects<'_, L>,
    header: &CodeHeader,
) -> Result<(), Stop> {
    for text in [header.name, header.filename]
        .into_iter()
        .chain(header.qualname)
    {
        // Nothing else tells an empty one from memory that is no object.
        if !objects.is_str(text)? {
            return Err(Stop::Invalid("str"));
        }
        objects.str(text)?;
    }
    Ok(())
}

fn read_header<M: ReadMemory>(
    memory: &mut M,
    layout: &Layout,
    code: RemoteAddr,
) -> Result<Option<CodeHeader>, ReadError> {
    let mut bytes = vec![0; layout.code.header_bytes as usize];
    match memory.read_exact(code, &mut bytes) {
        Ok(()) => Ok(CodeHeader::parse(layout, code, &bytes)),
        Err(ReadError::Unmapped(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The first five bytes of `tp_name`.
fn read_type_name<M: ReadMemory>(
    memory: &mut M,
    ob_type: RemoteAddr,
) -> Result<[u8; 5], ReadError> {
    let name_at = RemoteAddr(ob_type.0.wrapping_add(super::fields::TYPE_NAME));
    let mut name = [0; 5];
    let pointer = match memory.read_u64(name_at) {
        Err(ReadError::Unmapped(_)) => return Ok(name),
        result => RemoteAddr(result?),
    };
    match memory.read(
        &[Segment {
            addr: pointer,
            len: 5,
        }],
        &mut name,
    ) {
        Ok(_) | Err(ReadError::Unmapped(_)) => Ok(name),
        Err(error) => Err(error),
    }
}
