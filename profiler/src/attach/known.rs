//! Attaching again to an interpreter that was proven before, in another process.
//!
//! The children of a program nearly always run its own Python: the same file, perhaps loaded
//! elsewhere. Where `_PyRuntime` lies in it and how it is laid out is known then; what is left
//! is the proof.

use onlooker_symbols::PyVersion;
use onlooker_unwinder::layout::Layout;
use onlooker_unwinder::layout::proof::{self, ProofError};
use onlooker_unwinder::memory::RemoteAddr;
use onlooker_unwinder::sampler::Sampler;
use onlooker_unwinder::sampler::readahead::Mappings;

use super::{Attached, Found, attach_once, probe, read_error};
use crate::error::Error;
use crate::target::maps::{MappedFile, Maps};
use crate::target::memory::TargetMemory;
use crate::target::{self};

/// Interpreters that were proven, by the file that they are in.
#[derive(Debug, Default)]
pub struct Known(Vec<Interpreter>);

#[derive(Debug)]
struct Interpreter {
    file: (std::path::PathBuf, u64),
    /// From the first mapping of the file to `_PyRuntime`.
    offset: u64,
    version: PyVersion,
    layout: Layout,
    found: Found,
}

impl Known {
    /// As [`attach_once`], but quick where the interpreter's file is known.
    ///
    /// # Errors
    /// As [`attach_once`].
    pub fn attach(&mut self, pid: i32) -> Result<Attached, Error> {
        if let Some(result) = self.try_known(pid)? {
            return result;
        }
        let attached = attach_once(pid)?;
        self.learn(&attached);
        Ok(attached)
    }

    /// Remembers where an interpreter is and how it is laid out.
    pub fn learn(&mut self, attached: &Attached) {
        let Ok(maps) = Maps::read(attached.pid) else {
            return;
        };
        let runtime = attached.sampler.runtime();
        let files = maps.files.iter().filter(|file| file.executable);
        let below = files.filter_map(|file| Some((runtime.0.checked_sub(start(file)?)?, file)));
        let Some((offset, file)) = below.min_by_key(|(offset, _)| *offset) else {
            return;
        };
        let file = (file.path.clone(), file.inode);
        self.0.retain(|known| known.file != file);
        self.0.push(Interpreter {
            file,
            offset,
            version: attached.version,
            layout: attached.sampler.layout().clone(),
            found: attached.found,
        });
    }

    /// `None` where no known file is mapped, or what is in it is not what is known.
    fn try_known(&self, pid: i32) -> Result<Option<Result<Attached, Error>>, Error> {
        target::check_alive(pid)?;
        let maps = Maps::read(pid).map_err(|error| target::refused(pid, &error))?;
        let known = self.0.iter().find_map(|known| {
            let same = |file: &&MappedFile| file.path == known.file.0 && file.inode == known.file.1;
            let start = maps.files.iter().find(same).and_then(start)?;
            Some((known, start.checked_add(known.offset)?))
        });
        let (Some((known, runtime)), Some(probe)) = (known, probe(&maps)) else {
            return Ok(None);
        };
        let memory = TargetMemory::open(pid, probe).map_err(|error| read_error(pid, error))?;
        let mut sampler = Sampler::new(memory, known.layout.clone(), RemoteAddr(runtime));
        sampler.set_mappings(Mappings::new(maps.anonymous));
        match proof::prove(&mut sampler) {
            Ok(()) => Ok(Some(Ok(Attached {
                pid,
                version: known.version,
                executable: target::executable(pid),
                sampler,
                found: known.found,
            }))),
            Err(ProofError::Read(error)) => Err(read_error(pid, error)),
            Err(error @ (ProofError::NoInterpreter | ProofError::NoThread)) => {
                let why = error.to_string();
                Ok(Some(Err(Error::NotReady { pid, why })))
            }
            Err(_) => Ok(None),
        }
    }
}

/// Where the first piece of a file is mapped.
fn start(file: &MappedFile) -> Option<u64> {
    file.pieces.iter().map(|piece| piece.start).min()
}
