//! What a page of another process is, asked for one page.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::check;

/// What is known of one page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// It is in memory.
    pub present: bool,
    /// It belongs to a file or to shared memory.
    pub file: bool,
    /// It is the page of zeros that all processes share: memory that was only read.
    pub zero: bool,
    /// It is part of a huge page.
    pub huge: bool,
}

/// `struct pm_scan_arg` (`include/uapi/linux/fs.h`, Linux 6.7).
#[repr(C)]
#[derive(Default)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region`.
#[repr(C)]
#[derive(Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

impl Region {
    const EMPTY: Self = Self {
        start: 0,
        end: 0,
        categories: 0,
    };
}

/// User addresses end before this one: four levels of page tables, as `mmap` uses them unless it is
/// asked for more (`Documentation/arch/x86/x86_64/5level-paging.rst`).
const TASK_END: u64 = 0x7fff_ffff_f000;

/// `PAGE_IS_…`.
const FILE: u64 = 1 << 2;
const PRESENT: u64 = 1 << 3;
const ZERO: u64 = 1 << 5;
const HUGE: u64 = 1 << 6;

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;

/// Regions that one call tells of.
const REGIONS: usize = 64;

/// The runs of anonymous huge pages from `start` to `end` (multiples of the size of a page, or the
/// end of all addresses), by address.
///
/// # Errors
/// ENOTTY before Linux 6.7.
pub fn huge(pagemap: &File, start: u64, end: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let mut regions = [const { Region::EMPTY }; REGIONS];
    let end = end.min(TASK_END);
    let mut at = start;
    while at < end {
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            start: at,
            end,
            vec: regions.as_mut_ptr() as u64,
            vec_len: REGIONS as u64,
            category_inverted: FILE,
            category_mask: FILE | PRESENT | HUGE,
            return_mask: HUGE,
            ..ScanArg::default()
        };
        // SAFETY: reads and writes one `pm_scan_arg`, and writes at most REGIONS regions to `vec`,
        // which has room for them; both live through the call. Nothing changes in the target.
        let found = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut arg) };
        check(found.into())?;
        for region in &regions[..found as usize] {
            match runs.last_mut() {
                Some(last) if last.1 == region.start => last.1 = region.end,
                _ => runs.push((region.start, region.end)),
            }
        }
        if arg.walk_end <= at {
            break;
        }
        at = arg.walk_end;
    }
    Ok(runs)
}

/// Asks about the page at `addr`, a multiple of `page_bytes`, of the process whose `pagemap` this is.
///
/// # Errors
/// ENOTTY before Linux 6.7.
pub fn page(pagemap: &File, addr: u64, page_bytes: u64) -> io::Result<Page> {
    let mut region = Region::default();
    let mut arg = ScanArg {
        size: size_of::<ScanArg>() as u64,
        start: addr,
        end: addr.saturating_add(page_bytes),
        vec: (&raw mut region) as u64,
        vec_len: 1,
        category_anyof_mask: PRESENT,
        return_mask: FILE | PRESENT | ZERO | HUGE,
        ..ScanArg::default()
    };
    // SAFETY: reads and writes one `pm_scan_arg`, and writes at most one region to `vec`, which
    // has room for it; both live through the call. Without flags nothing changes in the target.
    let found = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut arg) };
    check(found.into())?;
    let is = |category| found == 1 && region.categories & category != 0;
    Ok(Page {
        present: is(PRESENT),
        file: is(FILE),
        zero: is(ZERO),
        huge: is(HUGE),
    })
}
