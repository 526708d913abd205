//! Many threads that sleep: one question shows that none of them ran.
//!
//! To read `schedstat` of each of 129 threads takes 176 us, and they are read at every tick. The kernel
//! also tells how often and how long all threads of the process were on a CPU ([`TaskStats`],
//! 11 us). That is what the sleepers were when they went to sleep, which is known; what those are
//! that do not sleep, which is read; and the *others*: threads without Python, and those that have
//! ended. These are known as what is left over once every sleeper was seen to sleep on its own.
//! While the sum is what it must be, no sleeper came on a CPU, and no other:
//!
//! * Each part only grows. The question that gave the others came before the looks at single
//!   threads then, so they are at most reckoned too small; later it comes after them, and the sum is at
//!   most reckoned too small. What is equal all the same has not grown.
//! * A thread that ends is taken from the living and added to the ended, in between it counts
//!   twice. So parts may shrink; but then the others would have to grow by the same times and, to
//!   the nanosecond, by the same time.
//!
//! When it is something else every thread is looked at on its own, as without all this. So it is
//! where the kernel may not be asked. That a sleeper was woken and waits for a CPU only a look at
//! it tells: of so many sleepers each has its turn at every 32nd.

use super::kernel::{AT_MOST_EVERY_NS, KernelThread};
use super::rows::ProcessRows;
use crate::target::taskstats::{OnCpu, TaskStats};

/// So many sleepers are a crowd: below, one question costs as much as all of theirs.
const CROWD: usize = 8;
/// Of so many threads one is looked at on its own at every tick.
const TURNS: usize = 32;

/// The threads of a process that sleep.
#[derive(Debug)]
pub(super) struct Crowd {
    pid: i32,
    stats: Stats,
    /// How much threads were on a CPU that are none of ours.
    others: Option<OnCpu>,
    looked_ns: Option<u64>,
    turn: usize,
}

#[derive(Debug)]
enum Stats {
    /// There was no crowd yet.
    Unasked,
    Open(TaskStats),
    /// The kernel gives no answer.
    Refused,
}

impl Crowd {
    pub(super) fn new(pid: i32) -> Self {
        Self {
            pid,
            stats: Stats::Unasked,
            others: None,
            looked_ns: None,
            turn: 0,
        }
    }

    /// Looks at the threads that the tick `seen` has seen, where many of them sleep. Those that are
    /// shown to have slept since the last look need none of their own.
    pub(super) fn look(&mut self, rows: &mut ProcessRows, seen: u64, now_ns: u64) {
        let lately = |looked_ns| now_ns < looked_ns + AT_MOST_EVERY_NS;
        if self.looked_ns.is_some_and(lately) {
            return;
        }
        self.looked_ns = Some(now_ns);
        self.turn = (self.turn + 1) % TURNS;
        let rest = |kernel: &&mut KernelThread| kernel.rests_at().is_some();
        if rows.kernels(seen).filter(rest).count() < CROWD {
            self.others = None;
        } else if self.sleeps_on(rows, seen) {
            let sleepers = rows.kernels(seen).filter(rest).enumerate();
            for (index, sleeper) in sleepers {
                match index % TURNS == self.turn {
                    true => sleeper.look_if_woken(now_ns),
                    false => sleeper.keeps_sleeping(now_ns),
                }
            }
        } else {
            self.others = self.learn(rows, seen, now_ns);
        }
    }

    /// Whether no sleeper was on a CPU since the others were learnt.
    fn sleeps_on(&mut self, rows: &mut ProcessRows, seen: u64) -> bool {
        let Some(others) = self.others else {
            return false;
        };
        let sum = rows.kernels(seen).try_fold(others, |sum, kernel| {
            let one = kernel.rests_at().or_else(|| kernel.on_cpu())?;
            Some(sum.plus(one))
        });
        sum.is_some() && self.ask() == sum
    }

    /// Looks at every thread on its own; what the others are then.
    fn learn(&mut self, rows: &mut ProcessRows, seen: u64, now_ns: u64) -> Option<OnCpu> {
        let all = self.ask()?;
        let ours = rows
            .kernels(seen)
            .try_fold(OnCpu::default(), |sum, kernel| {
                kernel.runs(now_ns)?;
                let one = kernel.rests_at().or_else(|| kernel.on_cpu())?;
                Some(sum.plus(one))
            });
        all.minus(ours?)
    }

    /// How much all threads of the process were on a CPU.
    fn ask(&mut self) -> Option<OnCpu> {
        if matches!(self.stats, Stats::Unasked) {
            self.stats = TaskStats::open().map_or(Stats::Refused, Stats::Open);
        }
        let answer = match &self.stats {
            Stats::Open(stats) => stats.of(self.pid),
            Stats::Unasked | Stats::Refused => None,
        };
        if answer.is_none() {
            self.stats = Stats::Refused;
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
    use std::thread;

    use onlooker_unwinder::memory::RemoteAddr;
    use rustc_hash::FxHashMap;

    use super::*;
    use crate::record::kernel::FileBudget;
    use crate::record::rows::KnownThread;

    /// Sleeps until it is told to run, and runs until nobody is there to tell.
    fn sleeper(told: &Receiver<()>, tell: &Sender<i32>) {
        let _ = tell.send(nix::unistd::gettid().as_raw());
        let _ = told.recv();
        while told.try_recv() != Err(TryRecvError::Disconnected) {}
    }

    #[test]
    fn one_of_a_crowd_that_wakes_is_seen_to() {
        let pid = std::process::id().cast_signed();
        let (tell, started) = channel();
        let mut wakers = Vec::new();
        let mut threads = FxHashMap::default();
        for key in 0..2 * CROWD as u32 {
            let (wake, told) = channel();
            let tell = tell.clone();
            wakers.push(wake);
            thread::spawn(move || sleeper(&told, &tell));
            let tid = started.recv().expect("its id");
            let known = KnownThread {
                key,
                kernel: Some(KernelThread::new(pid, tid, &FileBudget::default())),
                last: Vec::new(),
                stacks_epoch: 0,
                seen: 0,
            };
            threads.insert((RemoteAddr(key.into()), 0, 0), known);
        }
        let mut rows = ProcessRows {
            key: 0,
            threads,
            locations: FxHashMap::default(),
            locations_epoch: 0,
        };
        let mut crowd = Crowd::new(pid);
        let mut now_ns = 0;
        let mut run = |crowd: &mut Crowd, rows: &mut ProcessRows| {
            now_ns += AT_MOST_EVERY_NS;
            crowd.look(rows, 0, now_ns);
            let runs = |kernel: &mut KernelThread| kernel.runs(now_ns) == Some(true);
            rows.kernels(0).map(runs).filter(|runs| *runs).count()
        };
        let mut awake = 0;
        while let Some(wake) = wakers.pop() {
            // Until one question is enough, where it may be asked.
            let mut looks = 0;
            while crowd.others.is_none() && looks < 100 || run(&mut crowd, &mut rows) > awake {
                run(&mut crowd, &mut rows);
                looks += 1;
            }
            wake.send(()).expect("it sleeps");
            awake += 1;
            while run(&mut crowd, &mut rows) < awake {
                thread::yield_now();
            }
            drop(wake);
            awake -= 1;
        }
    }
}
