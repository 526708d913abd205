//! What a census of an image says.

use std::collections::BTreeMap;

use onlooker_heap::census::{Census, Walk};
use onlooker_heap::image::Image;
use onlooker_heap::mappings::What;
use onlooker_heap::rss::{self, Parts};
use onlooker_unwinder::memory::ReadMemory;

use super::take::mapped;

/// What an image says.
#[derive(Debug)]
pub struct Report {
    /// The process.
    pub pid: i32,
    /// Its Python, as `3.12.1`.
    pub python: String,
    /// Its command line.
    pub command: Vec<String>,
    /// How long it was stopped, in nanoseconds; `None` without a stop.
    pub pause_ns: Option<u64>,
    /// The census.
    pub census: Census,
    /// Resident bytes of each part; they add up to `resident_bytes`, and the excess.
    pub parts: Parts,
    /// Its RSS.
    pub resident_bytes: u64,
    /// What of it is swapped out, and was not looked at.
    pub swapped_bytes: u64,
    /// What was not copied because of the limit, in bytes.
    pub left_out: BTreeMap<What, u64>,
    /// Whether the kernel told which pages are resident.
    pub residency_known: bool,
}

impl Report {
    /// Takes the census. `memory` gives what of names was not copied; it is put into the image.
    pub fn of<B: AsRef<[u8]>, M: ReadMemory>(
        image: &mut Image<B>,
        memory: &mut M,
        walk: Walk,
    ) -> Self {
        let meta = &image.meta;
        let census = Census::take(&mut image.space, memory, &meta.layout, walk);
        let mapped = mapped(&image.mappings, &meta.thread_ids);
        let parts = rss::parts(&image.space, &census, &mapped);
        Self {
            pid: meta.process.pid,
            python: meta.process.python.clone(),
            command: meta.process.command.clone(),
            pause_ns: meta.pause_ns,
            census,
            parts,
            resident_bytes: mapped.total_bytes,
            swapped_bytes: image.mappings.iter().map(|m| m.swapped_bytes).sum(),
            left_out: meta.left_out.clone(),
            residency_known: meta.residency_known,
        }
    }
}
