//! A thread that gets a CPU soon when it wakes, and no more of it than others.

use std::io;
use std::time::Duration;

use super::check;

/// Asks for short turns on a CPU, for the calling thread and those that it starts: whoever has less
/// to do in a turn has it sooner (EEVDF, Linux 6.12 and newer; 0.1 to 100 ms, `__setparam_fair` in `kernel/sched/fair.c`). Older
/// kernels do nothing with it. Neither its policy nor its nice value changes.
///
/// # Errors
/// What the kernel or a sandbox refuses; it is as it was then.
pub fn shorten(slice: Duration) -> io::Result<()> {
    const SIZE: u32 = size_of::<libc::sched_attr>() as u32;
    let mut attr = libc::sched_attr {
        size: SIZE,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: 0 is the calling thread; the kernel writes at most `SIZE` bytes to `attr`, which is
    // as large and lives through the call.
    check(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, SIZE, 0) })?;
    if attr.sched_policy != libc::SCHED_OTHER as u32 {
        return Ok(());
    }
    attr.sched_runtime = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
    // SAFETY: 0 is the calling thread; the kernel reads `attr.size` bytes of `attr`, which is as
    // large and lives through the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_shortened_without_another_policy() {
        std::thread::spawn(|| {
            shorten(Duration::from_micros(100)).expect("no right is needed");
            // SAFETY: 0 is the calling thread; no memory is touched.
            let policy = unsafe { libc::sched_getscheduler(0) };
            assert_eq!(policy, libc::SCHED_OTHER);
        })
        .join()
        .expect("a thread");
    }
}
