//! What the kernel says a thread is doing: `/proc/PID/task/TID/syscall`.
//!
//! It is kept open and read with one `pread`, at most once a millisecond per thread however high
//! the rate. It says `running` of a thread that is on a CPU or could be (`task_current_syscall`,
//! `lib/syscall.c`), and what any other sleeps in. `stat`, whose line is longer and takes more than
//! twice the time, says the former where this file cannot be read. No function's name is ever
//! looked at.
//!
//! Of a thread that slept, `schedstat` is read first, a third of the price: it says how long and
//! how often the thread was on a CPU, and while that is as it was before it was found asleep, the
//! thread has not run since and sleeps in what it slept in. That it was woken and waits for a CPU
//! only the others tell, which are read at every tenth look all the same. Where many threads sleep
//! one question tells of all of them ([`Crowd`](super::crowd::Crowd)).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::resource::{Resource, getrlimit};

use crate::target::taskstats::OnCpu;

/// The shortest time between two readings of one file.
pub(super) const AT_MOST_EVERY_NS: u64 = 1_000_000;
/// Files kept open where the process may open more.
const MAX_FILES: u64 = 1 << 14;
/// Bytes of `stat` up to the state, whatever the thread is called.
const STAT_BYTES: usize = 128;
/// Bytes of `schedstat`: three numbers.
const SCHEDSTAT_BYTES: usize = 64;
/// So many looks at a sleeping thread are answered by `schedstat`, then it is asked anew.
const SHORT_LOOKS: u8 = 9;
/// So many looks in a row find a thread as it was that sleeps for long: one that takes turns for
/// the lock does not.
const CALM_AFTER: u8 = 3;
/// Bytes of `syscall`: a number and eight words.
const SYSCALL_BYTES: usize = 192;

/// How many files may still be kept open: half of what the process may open, so that every
/// other need is met. Beyond it files are opened for each reading.
#[derive(Clone, Debug)]
pub struct FileBudget(Arc<AtomicU64>);

impl Default for FileBudget {
    fn default() -> Self {
        let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        Self::of((soft / 2).min(MAX_FILES))
    }
}

impl FileBudget {
    fn of(files: u64) -> Self {
        Self(Arc::new(AtomicU64::new(files)))
    }

    /// Whether one more may be kept open, which it is then.
    fn take(&self) -> bool {
        let less = |left: u64| left.checked_sub(1);
        let order = Ordering::Relaxed;
        self.0.fetch_update(order, order, less).is_ok()
    }
}

/// A file of `/proc` that is read again and again.
#[derive(Debug)]
struct Repeated {
    path: String,
    open: Option<File>,
    /// Whether it could not be opened: some kernels have it not.
    missing: bool,
    budget: FileBudget,
}

impl Repeated {
    fn new(path: String, budget: &FileBudget) -> Self {
        Self {
            path,
            open: None,
            missing: false,
            budget: budget.clone(),
        }
    }

    /// Whether it is worth to read it.
    fn may_exist(&self) -> bool {
        !self.missing
    }

    fn read<'a>(&mut self, buf: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let length = match &self.open {
            Some(file) => file.read_at(buf, 0)?,
            None => {
                let file = File::open(&self.path).inspect_err(|_| self.missing = true)?;
                let length = file.read_at(buf, 0)?;
                if self.budget.take() {
                    self.open = Some(file);
                }
                length
            }
        };
        Ok(&buf[..length])
    }
}

impl Drop for Repeated {
    fn drop(&mut self) {
        if self.open.is_some() {
            self.budget.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One thread as the kernel sees it.
#[derive(Debug)]
pub struct KernelThread {
    stat: Repeated,
    schedstat: Repeated,
    syscall: Repeated,
    /// Whether it ran, and when that was read.
    runs: Option<(u64, Option<bool>)>,
    /// Where it slept: how long and how often it had been on a CPU before that was read.
    slept_at: Option<OnCpu>,
    /// Looks that `schedstat` may still answer.
    short_looks: u8,
    /// Looks in a row that found that it had not run since the one before.
    calm: u8,
    /// The address of the futex that it waited on, 0 for none, and when that was true last.
    futex: Option<(u64, u64)>,
}

impl KernelThread {
    /// The thread `tid` of process `pid`. Opens nothing yet.
    #[must_use]
    pub fn new(pid: i32, tid: i32, budget: &FileBudget) -> Self {
        let path = |name| format!("/proc/{pid}/task/{tid}/{name}");
        Self {
            stat: Repeated::new(path("stat"), budget),
            schedstat: Repeated::new(path("schedstat"), budget),
            syscall: Repeated::new(path("syscall"), budget),
            runs: None,
            slept_at: None,
            short_looks: 0,
            calm: 0,
            futex: None,
        }
    }

    /// Whether it sleeps at this very moment; false where it was asked too lately to ask again.
    pub fn sleeps_now(&mut self, now_ns: u64) -> bool {
        self.runs(now_ns) == Some(false) && self.runs.is_some_and(|(read_ns, _)| read_ns == now_ns)
    }

    /// Whether it is on a CPU or could be; `None` when the thread is gone.
    pub fn runs(&mut self, now_ns: u64) -> Option<bool> {
        if let Some((read_ns, runs)) = self.runs
            && now_ns < read_ns + AT_MOST_EVERY_NS
        {
            return runs;
        }
        let runs = self.look(now_ns);
        self.runs = Some((now_ns, runs));
        runs
    }

    fn look(&mut self, now_ns: u64) -> Option<bool> {
        // One that ran will have been on a CPU again.
        let slept = matches!(self.runs, Some((_, Some(false))));
        let on_cpu = if slept { self.on_cpu() } else { None };
        if on_cpu.is_some() && on_cpu == self.slept_at {
            self.calm = self.calm.saturating_add(1);
            if self.short_looks > 0 {
                self.short_looks -= 1;
                self.keeps_sleeping(now_ns);
                return Some(false);
            }
        } else {
            self.calm = 0;
        }
        self.slept_at = on_cpu;
        self.short_looks = SHORT_LOOKS;
        self.state(now_ns)
    }

    fn state(&mut self, now_ns: u64) -> Option<bool> {
        if let Some(runs) = self.ask(now_ns) {
            return Some(runs);
        }
        let mut buf = [0; STAT_BYTES];
        let state = self.stat.read(&mut buf).ok().and_then(state_of)?;
        Some(state == b'R')
    }

    /// How much it was on a CPU; `None` where the kernel does not tell.
    pub(super) fn on_cpu(&mut self) -> Option<OnCpu> {
        let mut buf = [0; SCHEDSTAT_BYTES];
        match self.schedstat.may_exist() {
            true => self.schedstat.read(&mut buf).ok().and_then(on_cpu_of),
            false => None,
        }
    }

    /// How much it was on a CPU before it went to sleep, of one that sleeps for long.
    pub(super) fn rests_at(&self) -> Option<OnCpu> {
        self.slept_at.filter(|_| self.calm >= CALM_AFTER)
    }

    /// Takes in that it was not on a CPU since the last look, at which it slept.
    pub(super) fn keeps_sleeping(&mut self, now_ns: u64) {
        self.runs = Some((now_ns, Some(false)));
        if let Some((known_ns, _)) = &mut self.futex {
            *known_ns = now_ns;
        }
    }

    /// Looks whether one that was not on a CPU since the last look was woken and waits for one.
    pub(super) fn look_if_woken(&mut self, now_ns: u64) {
        let runs = self.state(now_ns);
        self.runs = Some((now_ns, runs));
        if runs != Some(false) {
            self.calm = 0;
        }
    }

    /// Whether it runs, and what it waits on; `None` where `syscall` cannot be read.
    fn ask(&mut self, now_ns: u64) -> Option<bool> {
        let mut buf = [0; SYSCALL_BYTES];
        let line = match self.syscall.may_exist() {
            true => self.syscall.read(&mut buf).ok(),
            false => None,
        };
        let futex = line.and_then(futex_of).unwrap_or_default();
        self.futex = Some((now_ns, futex));
        Some(line?.starts_with(b"running"))
    }

    /// Whether it waits on a futex in `range`; false where the kernel does not tell. Of one that
    /// was not seen to sleep since it is asked again only after `every_ns`.
    pub fn waits_in(&mut self, now_ns: u64, range: &Range<u64>, every_ns: u64) -> bool {
        let every_ns = every_ns.max(AT_MOST_EVERY_NS);
        let lately = |(known_ns, _)| now_ns < known_ns + every_ns;
        if !self.futex.is_some_and(lately) {
            self.ask(now_ns);
        }
        let futex = self.futex.map_or(0, |(_, futex)| futex);
        range.contains(&futex)
    }
}

/// The state in the text of `stat`. The name before it stands in parentheses and may hold
/// anything, parentheses too.
fn state_of(stat: &[u8]) -> Option<u8> {
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(close + 2).copied()
}

/// The first and the third number of `schedstat`; `None` where the kernel does not count them
/// (`CONFIG_SCHED_INFO`).
fn on_cpu_of(schedstat: &[u8]) -> Option<OnCpu> {
    let text = std::str::from_utf8(schedstat).ok()?;
    let mut numbers = text.split_ascii_whitespace();
    let ran_ns = numbers.next()?.parse().ok()?;
    let times = numbers.nth(1)?.parse().ok()?;
    (times > 0).then_some(OnCpu { ran_ns, times })
}

/// The first argument of a futex call in the text of `syscall`: the address that is waited on.
fn futex_of(line: &[u8]) -> Option<u64> {
    const FUTEX: u64 = syscalls::Sysno::futex as u64;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let number: u64 = words.next()?.parse().ok()?;
    let argument = words.next()?.strip_prefix("0x")?;
    if number != FUTEX {
        return None;
    }
    u64::from_str_radix(argument, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_stands_behind_the_last_parenthesis() {
        assert_eq!(state_of(b"12 (a) R) S 1 2 3"), Some(b'S'));
        assert_eq!(state_of(b"12 (python3) R 1"), Some(b'R'));
        assert_eq!(state_of(b"12 (cut"), None);
        assert_eq!(state_of(b""), None);
    }

    #[test]
    fn how_long_and_how_often_it_ran_are_the_first_and_the_third_number() {
        let on_cpu = OnCpu {
            ran_ns: 1_253_766,
            times: 7,
        };
        assert_eq!(on_cpu_of(b"1253766 10 7\n"), Some(on_cpu));
        assert_eq!(on_cpu_of(b"0 0 0\n"), None);
        assert_eq!(on_cpu_of(b""), None);
    }

    #[test]
    fn a_thread_that_wakes_is_seen_to() {
        let (wake, woken) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let sleeper = std::thread::spawn(move || {
            let _ = tell.send(nix::unistd::gettid().as_raw());
            let _ = woken.recv();
            while woken.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {}
        });
        let tid = told.recv().expect("its id");
        let pid = std::process::id().cast_signed();
        let mut thread = KernelThread::new(pid, tid, &FileBudget::of(4));
        let mut now = 0;
        let mut look = || {
            now += AT_MOST_EVERY_NS;
            thread.runs(now)
        };
        // It goes to sleep, and is seen to again and again.
        while [look(), look(), look()] != [Some(false); 3] {}
        wake.send(()).expect("it waits");
        while look() != Some(true) {}
        drop(wake);
        sleeper.join().expect("its end");
    }

    #[test]
    fn where_calls_are_not_told_the_state_is() {
        let pid = std::process::id().cast_signed();
        let mut thread = KernelThread::new(pid, pid, &FileBudget::of(4));
        thread.syscall.path.push_str(" that is missing");
        assert!(thread.runs(0).is_some());
        assert!(thread.stat.open.is_some() && !thread.syscall.may_exist());
        assert!(!thread.waits_in(AT_MOST_EVERY_NS, &(1..u64::MAX), 0));
    }

    #[test]
    fn only_a_futex_has_an_address() {
        assert_eq!(futex_of(b"202 0x7f00 0x189 0x0"), Some(0x7f00));
        assert_eq!(futex_of(b"0 0x7f00 0x189 0x0"), None);
        assert_eq!(futex_of(b"running\n"), None);
    }

    #[test]
    fn files_beyond_the_budget_are_not_kept_and_the_budget_comes_back() {
        let budget = FileBudget::of(1);
        let pid = std::process::id().cast_signed();
        let mut first = KernelThread::new(pid, pid, &budget);
        let mut second = KernelThread::new(pid, pid, &budget);
        assert!(first.runs(0).is_some() && second.runs(0).is_some());
        assert!(first.syscall.open.is_some() && second.syscall.open.is_none());
        drop(first);
        assert!(second.runs(AT_MOST_EVERY_NS).is_some());
        assert!(second.syscall.open.is_some() || second.schedstat.open.is_some());
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }
}
