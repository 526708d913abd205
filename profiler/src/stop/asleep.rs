//! Threads that sleep in the kernel: they are read as they are, without a stop.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::sys::perf::Touch;

/// A thread that sleeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sleeper {
    /// The thread.
    pub tid: i32,
    /// What happened to it in the kernel, in the system call that it sleeps in now, and was not
    /// told yet, as for [`Watch::stopped`](super::Watch::stopped).
    pub worked: Vec<Touch>,
    /// How much it has run and how often: as long as this stays, it has not run.
    ran: String,
}

/// What the kernel tells of one thread, kept open: one `pread` each.
#[derive(Debug)]
pub(super) struct Sleep {
    system_call: File,
    schedstat: File,
    stat: File,
}

impl Sleep {
    pub(super) fn open(pid: i32, tid: i32) -> io::Result<Self> {
        let open = |name| File::open(format!("/proc/{pid}/task/{tid}/{name}"));
        Ok(Self {
            system_call: open("syscall")?,
            schedstat: open("schedstat")?,
            stat: open("stat")?,
        })
    }

    /// The thread, if it sleeps, and its stack and instruction pointer in user mode.
    pub(super) fn look(&self, tid: i32) -> Option<(Sleeper, u64, u64)> {
        let ran = read(&self.schedstat)?;
        // `running`, or the call's number (-1 for a page fault), arguments, sp and pc
        // (`collect_syscall`, `lib/syscall.c`).
        let call = read(&self.system_call)?;
        if call.starts_with("-1") && self.is_stopped() {
            return None;
        }
        let mut words = call.split_ascii_whitespace().rev();
        let mut word = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
        let (ip, sp) = (word()?, word()?);
        let sleeper = Sleeper {
            tid,
            worked: Vec::new(),
            ran,
        };
        Some((sleeper, ip, sp))
    }

    /// Whether it is stopped by us or by a signal: it is in no system call then, and sleeps not.
    fn is_stopped(&self) -> bool {
        let state = |stat: String| stat.rsplit_once(") ")?.1.chars().next();
        read(&self.stat)
            .and_then(state)
            .is_none_or(|c| "tT".contains(c))
    }

    /// Whether it was on no CPU since it was looked at.
    pub(super) fn still(&self, sleeper: &Sleeper) -> bool {
        read(&self.schedstat).is_some_and(|ran| ran == sleeper.ran)
    }
}

fn read(file: &File) -> Option<String> {
    let mut bytes = [0; 256];
    let len = file.read_at(&mut bytes, 0).ok().filter(|len| *len > 0)?;
    std::str::from_utf8(&bytes[..len]).ok().map(str::to_owned)
}
