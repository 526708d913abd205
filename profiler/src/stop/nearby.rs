//! Where the stop thread waits: on the CPU of the thread that it stops, while that stays there.
//!
//! A CPU whose thread stands still goes to sleep or is given to somebody else. The first makes it slow to wake; on
//! a busy machine the other may keep it for a whole slice of milliseconds, for each stop anew. A stop thread
//! that goes before all others and runs there itself keeps it free: when it sleeps again, the thread's turn
//! goes on. It is woken where it ran last (`select_task_rq_rt`, `kernel/sched/rt.c`), so to move once is enough.
//!
//! But where another CPU is idle, the kernel wakes the thread there (`select_idle_sibling`,
//! `kernel/sched/fair.c`), and whoever follows it chases it through the machine. So it is followed once it was
//! seen in one place several times in a row, and less readily when it has left at once.

/// Seen in one place so often in a row it stays: at first, and after having left again and again.
const FIRST: u32 = 2;
const LAST: u32 = 1 << 12;
/// Whoever was met so often since it was followed has stayed.
const STAYED: u32 = 64;

/// What is known of the thread.
#[derive(Debug)]
pub(super) struct Nearby {
    cpu: u32,
    /// In a row, there.
    times: u32,
    /// Times after which it is followed.
    patience: u32,
    /// Whether it was followed there.
    followed: bool,
}

impl Nearby {
    pub(super) fn new() -> Self {
        Self {
            cpu: u32::MAX,
            times: 0,
            patience: FIRST,
            followed: false,
        }
    }

    /// It was stopped on this CPU by a stop thread that runs on `own`; whether to go there.
    pub(super) fn met(&mut self, cpu: u32, own: u32) -> bool {
        if cpu != self.cpu {
            if self.followed {
                self.patience = match self.times < STAYED {
                    true => (self.patience * 2).min(LAST),
                    false => FIRST,
                };
            }
            self.cpu = cpu;
            self.times = 0;
            self.followed = false;
        }
        self.times = self.times.saturating_add(1);
        let follow = cpu != own && self.times >= self.patience;
        if follow {
            self.times = 0;
            self.followed = true;
        }
        follow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_stays_is_followed_once() {
        let mut nearby = Nearby::new();
        let followed: Vec<_> = [1, 0, 0, 0].map(|own| nearby.met(0, own)).into();
        assert_eq!(followed, [false, false, false, false]);
        let followed: Vec<_> = [0, 0, 1, 1].map(|own| nearby.met(1, own)).into();
        assert_eq!(followed, [false, true, false, false]);
    }

    #[test]
    fn one_that_leaves_whenever_it_is_followed_is_left_alone() {
        let mut nearby = Nearby::new();
        let (mut cpu, mut own, mut moves) = (0, 1, 0);
        for _ in 0..10_000 {
            if nearby.met(cpu, own) {
                own = cpu;
                moves += 1;
                cpu = 1 - cpu;
            }
        }
        assert!(moves < 14, "{moves}");
    }
}
