//! Which pages are resident, from `/proc/PID/pagemap`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use onlooker_heap::space::PAGE_BYTES;

/// Bit 63: the page is in memory (`Documentation/admin-guide/mm/pagemap.rst`); bit 62: it is in
/// swap. Unlike the frame number both are shown without CAP_SYS_ADMIN.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// Read at once: a mapping may have gigabytes that were never touched.
const ENTRIES: usize = 64 << 10;

/// Runs of pages: start and end, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// In memory.
    pub resident: Vec<(u64, u64)>,
    /// In swap.
    pub swapped: Vec<(u64, u64)>,
}

/// The page map of a process.
#[derive(Debug)]
pub struct PageMap {
    file: File,
    buffer: Vec<u8>,
}

impl PageMap {
    /// Opens it.
    ///
    /// # Errors
    /// Where the kernel has none, or does not show it.
    pub fn open(pid: i32) -> io::Result<Self> {
        Ok(Self {
            file: File::open(format!("/proc/{pid}/pagemap"))?,
            buffer: vec![0; 8 * ENTRIES],
        })
    }

    /// Adds the runs of pages between two addresses to `pages`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn add(&mut self, start: u64, end: u64, pages: &mut Pages) -> io::Result<()> {
        let mut page = start;
        while page < end {
            let wanted = ((end - page) / PAGE_BYTES).min(ENTRIES as u64) as usize;
            let Some(buffer) = self.buffer.get_mut(..8 * wanted).filter(|b| !b.is_empty()) else {
                break;
            };
            let got = self.file.read_at(buffer, page / PAGE_BYTES * 8)?;
            for entry in buffer[..got - got % 8].as_chunks::<8>().0 {
                let next = page + PAGE_BYTES;
                let entry = u64::from_le_bytes(*entry);
                if entry & PRESENT != 0 {
                    add(&mut pages.resident, page, next);
                } else if entry & SWAPPED != 0 {
                    add(&mut pages.swapped, page, next);
                }
                page = next;
            }
            if got < 8 {
                break;
            }
        }
        Ok(())
    }
}

fn add(runs: &mut Vec<(u64, u64)>, start: u64, end: u64) {
    match runs.last_mut() {
        Some(last) if last.1 == start => last.1 = end,
        _ => runs.push((start, end)),
    }
}
