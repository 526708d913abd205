//! A thread that need not wait for a CPU behind others.

use std::io;
use std::mem::MaybeUninit;

use super::check;

/// Lets the calling thread run before all ordinary ones, as SCHED_RR of the lowest priority, or
/// again as one of them. Threads that it starts are ordinary.
///
/// # Errors
/// EPERM without CAP_SYS_NICE; it is as it was then.
pub fn set(urgent: bool) -> io::Result<()> {
    let (policy, sched_priority) = match urgent {
        true => (libc::SCHED_RR, 1),
        false => (libc::SCHED_OTHER, 0),
    };
    let param = libc::sched_param { sched_priority };
    let policy = policy | libc::SCHED_RESET_ON_FORK;
    // SAFETY: 0 is the calling thread; reads one `sched_param`, which lives through the call.
    check(unsafe { libc::sched_setscheduler(0, policy, &raw const param) }.into()).map(drop)
}

/// The CPU that the calling thread runs on.
#[must_use]
pub fn cpu() -> Option<u32> {
    // SAFETY: takes nothing and answers a number.
    u32::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// Moves the calling thread to a CPU. It may still run on those that it may run on now.
///
/// # Errors
/// EINVAL when it may not run there; it is where it was then.
pub fn move_to(cpu: u32) -> io::Result<()> {
    let set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: it consists of integers, for which all zeros is valid.
    let (mut may, mut there) = unsafe { (set.assume_init(), set.assume_init()) };
    let bytes = size_of::<libc::cpu_set_t>();
    let cpu = cpu as usize;
    if cpu >= 8 * bytes {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: 0 is the calling thread; writes and reads sets of the size that is told, which live
    // through the calls. `cpu` is a bit of them.
    unsafe {
        check(libc::sched_getaffinity(0, bytes, &raw mut may).into())?;
        if !libc::CPU_ISSET(cpu, &may) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        libc::CPU_SET(cpu, &mut there);
        check(libc::sched_setaffinity(0, bytes, &raw const there).into())?;
        check(libc::sched_setaffinity(0, bytes, &raw const may).into())?;
    }
    Ok(())
}
