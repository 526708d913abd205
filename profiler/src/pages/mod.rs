//! The pages of a process and of its workers: how much there is, what for, and what a worker
//! shares with the process that it was forked from.
//!
//! [`kinds`] says what each mapping is for, [`sharing`] puts single pages of a worker beside its
//! parent's, [`frames`] knows who wrote them, [`contents`] compares the two copies, [`types`] says
//! which objects lie in them.

pub mod contents;
pub mod frames;
pub mod kinds;
pub mod sharing;
pub mod types;

use std::collections::BTreeMap;

use crate::attach;
use crate::error::Error;
use crate::target;
use crate::target::memory::FileMemory;
use crate::target::pagemap::PageMap;
use crate::target::smaps::{self, Mapping, Sizes};
use frames::FrameFlags;
use kinds::{Interpreter, Kind};
use onlooker_heap::headers::{Contents, PAGE_BYTES};
use onlooker_heap::unshared::{Page, Row, State};
use sharing::{Sharing, Split, Why};

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
    /// Its unshared pages, compared with the parent's.
    pub pages: Vec<Page>,
    /// What lies in them; `None` where that is not known, or nobody asked.
    pub types: Option<Vec<Row>>,
}

impl Worker {
    /// What the copies of its unshared pages differ in, where the parent has one.
    #[must_use]
    pub fn contents(&self) -> Contents {
        let (mut contents, mut new) = (Contents::default(), 0);
        for page in &self.pages {
            page.state.add_to(&mut contents, &mut new, PAGE_BYTES);
        }
        contents
    }

    /// Bytes that differ in nothing because nobody wrote them: the kernel moved them into a huge
    /// page. They are among the [`contents`](Self::contents).
    #[must_use]
    pub fn moved_bytes(&self) -> u64 {
        let pages = self.sharing.pages.iter().zip(&self.pages);
        let moved = pages.filter(|(unshared, page)| {
            unshared.why == Why::Huge && matches!(page.state, State::Compared(None))
        });
        moved.count() as u64 * PAGE_BYTES
    }
}

impl Process {
    /// Looks at the mappings of a process. Reads none of its memory.
    ///
    /// # Errors
    /// When it is gone or may not be looked at.
    pub fn look(pid: i32) -> Result<Self, Error> {
        target::check_alive(pid)?;
        let mappings = smaps::read(pid).map_err(|error| target::refused(pid, &error))?;
        let pagemap = match PageMap::open(pid) {
            Err(error) if target::is_gone(&error) => return Err(Error::Exited { pid }),
            pagemap => pagemap.map_err(|error| error.to_string()),
        };
        Ok(Self {
            pid,
            command: target::command_line(pid),
            interpreter: None,
            kinds: vec![Kind::Other; mappings.len()],
            mappings,
            pagemap,
        })
    }

    /// Puts its pages beside those of the process that it was forked from. Nothing is unshared by
    /// being looked at ([`FileMemory`]).
    ///
    /// # Errors
    /// [`Error::PageMap`] where the page maps may not be read; when one of both is gone.
    pub fn beside(&self, parent: &Self) -> Result<Worker, Error> {
        let memory = |pid| FileMemory::open(pid).map_err(|error| target::refused(pid, &error));
        let (ours, theirs) = (self.pagemap()?, parent.pagemap()?);
        let flags = FrameFlags::open();
        let sharing = sharing::sharing(&self.mappings, ours, theirs, flags.as_ref()).map_err(
            |error| match [self.pid, parent.pid].map(target::is_alive) {
                [false, _] => Error::Exited { pid: self.pid },
                [_, false] => Error::Exited { pid: parent.pid },
                _ if target::is_gone(&error) => Error::Exited { pid: self.pid },
                _ => self.no_pagemap(&error.to_string()),
            },
        )?;
        let pages = contents::compare(&sharing.pages, memory(self.pid)?, &mut memory(parent.pid)?)
            .map_err(|error| attach::read_error(self.pid, error))?;
        Ok(Worker {
            parent: parent.pid,
            sharing,
            pages,
            types: None,
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
