//! A thread that must not wait for a CPU behind others.

use std::io;

use super::check;

/// Lets the calling thread run before all ordinary ones, as SCHED_RR of the lowest priority: while
/// it waits for a CPU, a thread of the target stands still. Threads that it starts are ordinary.
///
/// # Errors
/// EPERM without CAP_SYS_NICE; it is as it was then.
pub fn be_urgent() -> io::Result<()> {
    let param = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: 0 is the calling thread; reads one `sched_param`, which lives through the call.
    check(unsafe { libc::sched_setscheduler(0, policy, &raw const param) }.into()).map(drop)
}
