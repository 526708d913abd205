//! A thread that need not wait for a CPU behind others.

use std::io;

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
