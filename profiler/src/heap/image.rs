//! Images as files: how they are opened and what they say; which process one is of.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use onlooker_heap::census::Walk;
use onlooker_heap::image::{self, Identity, Image, Process};
use onlooker_heap::pymalloc::Found;
use onlooker_unwinder::memory::{ReadError, ReadMemory, Segment};

use super::report::Report;
use super::take::regions;
use crate::error::Error;
use crate::sys::map::Map;
use crate::target;

/// Opens an image: its file is mapped where it lies, and checked.
///
/// # Errors
/// [`Error::NoInput`], and [`Error::Data`] for what is no image or a damaged one.
pub fn open(path: &Path) -> Result<Image<Map>, Error> {
    let no_input = |error| Error::NoInput {
        path: path.to_owned(),
        error,
    };
    // A pipe without a writer would be waited for.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(no_input)?;
    let map = Map::open(&file).map_err(no_input)?;
    image::open(map).map_err(|error| Error::Data {
        path: path.to_owned(),
        error: error.to_string(),
    })
}

/// What an image says, the same as the run that took it said.
pub fn report<B: AsRef<[u8]>>(image: &mut Image<B>) -> Report {
    let found = Found {
        arenas: image.arenas.clone(),
        raw_blocks: image.meta.raw_blocks,
        scanned: image.meta.scanned,
    };
    let (space, meta) = (&image.space, &image.meta);
    let regions = regions(&image.mappings);
    let mut walk = Walk::of(space, &meta.layout, &meta.roots, found, &regions);
    walk.at_once = meta.at_once;
    Report::of(image, &mut Nothing, walk)
}

/// The process is not there: what an image has not, nobody has.
struct Nothing;

impl ReadMemory for Nothing {
    fn read(&mut self, segments: &[Segment], _: &mut [u8]) -> Result<usize, ReadError> {
        match segments.first() {
            Some(first) => Err(ReadError::Unmapped(first.addr)),
            None => Ok(0),
        }
    }
}

/// What is kept of a live process, so that it is known again.
pub(super) fn process(pid: i32, python: String) -> Process {
    Process {
        pid,
        python,
        command: target::command_line(pid),
        identity: identity(pid),
    }
}

fn identity(pid: i32) -> Option<Identity> {
    let boot_id = target::read_text(Path::new("/proc/sys/kernel/random/boot_id")).ok()?;
    let stat = target::read_text(Path::new(&format!("/proc/{pid}/stat"))).ok()?;
    Some(Identity {
        boot_id: boot_id.trim().to_owned(),
        start_ticks: start_ticks(&stat)?,
    })
}

/// `starttime`, the 22nd field. The second one is a name that may hold anything.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(") ")?;
    behind.split(' ').nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_found_behind_any_name() {
        let fields: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        let stat = format!("12 (a) b) R) S {}", fields.join(" "));
        assert_eq!(start_ticks(&stat), Some(22));
        assert_eq!(start_ticks("12 (cut"), None);
    }
}
