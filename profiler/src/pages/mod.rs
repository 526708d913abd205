//! The pages of a process and of its workers: how much there is, what for, and what a worker
//! shares with the process that it was forked from.
//!
//! [`smaps`] gives the sizes of mappings, [`kinds`] says what each is for, [`pagemap`] shows
//! single pages, [`sharing`] puts those of a worker beside its parent's. [`Sharing::copied`] has
//! the unshared pages one by one, for whoever knows which objects lie in them.
//!
//! [`Sharing::copied`]: sharing::Sharing::copied

pub mod kinds;
pub mod pagemap;
pub mod sharing;
pub mod smaps;

use std::collections::BTreeMap;

use crate::attach;
use crate::error::Error;
use crate::target;
use crate::target::memory::FileMemory;
use kinds::{Interpreter, Kind};
use pagemap::{FrameFlags, PageMap};
use sharing::{Contents, Sharing, Split};
use smaps::{Mapping, Sizes};

/// One process.
#[derive(Debug)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its command line.
    pub command: Vec<String>,
    /// Its interpreter; `None` for a child that is no Python, and before
    /// [`set_interpreter`](Self::set_interpreter).
    pub interpreter: Option<Interpreter>,
    mappings: Vec<Mapping>,
    /// What each mapping is for.
    kinds: Vec<Kind>,
    pagemap: Result<PageMap, String>,
}

/// A worker beside its parent.
#[derive(Debug)]
pub struct Worker {
    /// The process that it was forked from.
    pub parent: i32,
    /// What it shares.
    pub sharing: Sharing,
    /// What the copies of its unshared pages differ in.
    pub contents: Contents,
}

impl Process {
    /// Looks at the mappings of a process. Reads none of its memory.
    ///
    /// # Errors
    /// When it is gone or may not be looked at.
    pub fn look(pid: i32) -> Result<Self, Error> {
        target::check_alive(pid)?;
        let mappings = smaps::read(pid).map_err(|error| target::refused(pid, &error))?;
        Ok(Self {
            pid,
            command: target::command_line(pid),
            interpreter: None,
            kinds: vec![Kind::Other; mappings.len()],
            mappings,
            pagemap: PageMap::open(pid).map_err(|error| error.to_string()),
        })
    }

    /// Puts its pages beside those of the process that it was forked from.
    ///
    /// To be called before any memory of both is read by `process_vm_readv`, which unshares what
    /// it reads ([`FileMemory`]).
    ///
    /// # Errors
    /// [`Error::PageMap`] where the page maps may not be read; when one of both is gone.
    pub fn beside(&self, parent: &Self) -> Result<Worker, Error> {
        let memory = |pid| FileMemory::open(pid).map_err(|error| target::refused(pid, &error));
        let (ours, theirs) = (self.pagemap()?, parent.pagemap()?);
        let flags = FrameFlags::open();
        let sharing = sharing::sharing(&self.mappings, ours, theirs, flags.as_ref())
            .map_err(|error| self.no_pagemap(&error.to_string()))?;
        let contents =
            sharing::contents(&sharing.copied, memory(self.pid)?, &mut memory(parent.pid)?)
                .map_err(|error| attach::read_error(self.pid, error))?;
        Ok(Worker {
            parent: parent.pid,
            sharing,
            contents,
        })
    }

    fn pagemap(&self) -> Result<&PageMap, Error> {
        self.pagemap.as_ref().map_err(|why| self.no_pagemap(why))
    }

    fn no_pagemap(&self, why: &str) -> Error {
        Error::PageMap {
            pid: self.pid,
            why: why.to_owned(),
        }
    }

    /// Says which interpreter it runs, and so what its mappings are for.
    pub fn set_interpreter(&mut self, interpreter: Option<Interpreter>) {
        let pagemap = self.pagemap.as_ref().ok();
        self.kinds = kinds::kinds(self.pid, &self.mappings, interpreter.as_ref(), pagemap);
        self.interpreter = interpreter;
    }

    /// Whether the same file is mapped at the same address in both: then one is a fork of the
    /// other, or runs the same interpreter in the same place.
    #[must_use]
    pub fn maps_as(&self, other: &Self, addr: u64) -> bool {
        let at = |process: &Self| {
            let mapping = process
                .mappings
                .iter()
                .rfind(|m| m.start <= addr && m.is_file());
            mapping.map(|m| (m.start, m.inode))
        };
        at(self).is_some() && at(self) == at(other)
    }

    /// Sizes by kind.
    #[must_use]
    pub fn sizes(&self) -> BTreeMap<Kind, Sizes> {
        let mut sums: BTreeMap<Kind, Sizes> = BTreeMap::new();
        for (mapping, kind) in self.mappings.iter().zip(&self.kinds) {
            *sums.entry(*kind).or_default() += mapping.sizes;
        }
        sums
    }

    /// What it shares, by kind.
    #[must_use]
    pub fn splits(&self, sharing: &Sharing) -> BTreeMap<Kind, Split> {
        let mut sums: BTreeMap<Kind, Split> = BTreeMap::new();
        for (split, kind) in sharing.mappings.iter().zip(&self.kinds) {
            let sum = sums.entry(*kind).or_default();
            sum.shared += split.shared;
            sum.unshared += split.unshared;
        }
        sums
    }
}
