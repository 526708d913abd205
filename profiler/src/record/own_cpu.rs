//! The CPU time that Onlooker takes, all its threads together.
//!
//! The kernel counts by process, and an exec goes on with the count of the program before it:
//! `cargo run` compiles, then becomes Onlooker.

use std::sync::OnceLock;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// What the process had used when Onlooker began, in nanoseconds.
static BEFORE: OnceLock<u64> = OnceLock::new();

/// Counts from here on. Later calls change nothing.
pub(crate) fn begin() {
    BEFORE.get_or_init(of_process);
}

/// Nanoseconds since [`begin`]; since the start of the process where nobody called that.
pub(super) fn used_ns() -> u64 {
    let before = BEFORE.get().copied().unwrap_or_default();
    of_process().saturating_sub(before)
}

fn of_process() -> u64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return 0;
    };
    let micros = |t: TimeVal| t.tv_sec() * 1_000_000 + t.tv_usec();
    u64::try_from(micros(usage.user_time()) + micros(usage.system_time())).unwrap_or(0) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_before_does_not_count() {
        while of_process() < 30_000_000 {
            std::hint::black_box(std::collections::HashMap::from([(1, 2)]));
        }
        let before = of_process();
        begin();
        begin();
        assert!(used_ns() <= of_process() - before);
        while used_ns() == 0 {
            std::hint::black_box(std::collections::HashMap::from([(1, 2)]));
        }
    }
}
