//! ptrace without EXITKILL: the tracee runs on when we are killed.
//!
//! A tracee belongs to the thread that seized it. Calls from another thread fail with ESRCH,
//! and when that thread ends the kernel lets all of its tracees go.

use std::io;
use std::mem::MaybeUninit;

use super::check;

/// Lets the kernel tell of stops: SIGCHLD is not sent to a tracer that ignores it, and whoever
/// started us may have left it so (`SIG_IGN` survives exec).
///
/// # Errors
/// None that the kernel documents for SIGCHLD.
pub fn hear_of_stops() -> io::Result<()> {
    // SAFETY: SIG_DFL is no handler, so no code of ours runs in one.
    let old = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    if old == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A request to ptrace whose data is a number.
fn request(request: libc::c_uint, tid: i32, data: usize) -> io::Result<()> {
    // SAFETY: for the requests that this module makes, `data` is a number (options or a signal)
    // and never a pointer, so the kernel writes to no memory of ours.
    let result = unsafe { libc::ptrace(request, tid, 0_usize, data) };
    check(result).map(drop)
}

/// Begins to trace a thread without stopping it. New threads of it are traced from their
/// beginning and `execve` is told.
///
/// # Errors
/// EPERM without permission or when somebody else traces it; ESRCH when it is gone.
pub fn seize(tid: i32) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_TRACEEXEC;
    request(libc::PTRACE_SEIZE, tid, options as usize)
}

/// Lets a stopped thread go on, with this signal (0 for none).
///
/// # Errors
/// ESRCH when it is not stopped or gone.
pub fn go_on(tid: i32, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_CONT, tid, signal as usize)
}

/// Leaves a thread in its group-stop, as it would be without a tracer.
///
/// # Errors
/// As [`go_on`].
pub fn listen(tid: i32) -> io::Result<()> {
    request(libc::PTRACE_LISTEN, tid, 0)
}

/// Ends tracing of a stopped thread, which goes on with this signal (0 for none).
///
/// # Errors
/// As [`go_on`].
pub fn detach(tid: i32, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_DETACH, tid, signal as usize)
}

/// Stops a thread that is traced, wherever it is. A system call that sleeps is woken.
///
/// # Errors
/// ESRCH when it is gone.
pub fn interrupt(tid: i32) -> io::Result<()> {
    request(libc::PTRACE_INTERRUPT, tid, 0)
}

/// What a signal says about its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalInfo {
    /// `si_code`.
    pub code: i32,
    /// `si_fd`; means something only where the code says that a descriptor sent it.
    pub fd: i32,
}

impl SignalInfo {
    /// Whether a descriptor with `O_ASYNC` sent it: POLL_IN … POLL_HUP, or SI_SIGIO for
    /// signals that have codes of their own (SIGCHLD).
    #[must_use]
    pub fn from_descriptor(self) -> bool {
        (1..=6).contains(&self.code) || self.code == libc::SI_SIGIO
    }
}

/// Offset of `si_fd` in `siginfo_t` where a pointer has eight bytes: behind three ints, padding
/// and the `long si_band` (`include/uapi/asm-generic/siginfo.h`).
const SI_FD: usize = 24;

/// The signal that a stopped thread is about to get.
///
/// # Errors
/// EINVAL when it is in a group-stop; ESRCH when it is not stopped.
pub fn signal_info(tid: i32) -> io::Result<SignalInfo> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: PTRACE_GETSIGINFO writes one `siginfo_t` to `data`, which points to one.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, tid, 0_usize, info.as_mut_ptr()) };
    check(result)?;
    // SAFETY: all zeros is a valid `siginfo_t`, and the kernel has filled it. `SI_FD` plus four
    // bytes lie inside of its 128 and at a multiple of four.
    let (info, fd) = unsafe {
        let fd = info.as_ptr().cast::<u8>().add(SI_FD).cast::<i32>().read();
        (info.assume_init(), fd)
    };
    Ok(SignalInfo {
        code: info.si_code,
        fd,
    })
}

/// The registers that a system call leaves as they are, and the place in the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// rbx, rbp, r12 – r15, and the first three arguments of a system call: rdi, rsi, rdx.
    pub others: [u64; 9],
}

/// The registers of a stopped thread.
///
/// # Errors
/// ESRCH when the thread is not stopped.
pub fn registers(tid: i32) -> io::Result<Registers> {
    let mut regs = MaybeUninit::<libc::user_regs_struct>::zeroed();
    // SAFETY: PTRACE_GETREGS writes one `user_regs_struct` to `data`, which points to one.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETREGS, tid, 0_usize, regs.as_mut_ptr()) };
    check(result)?;
    // SAFETY: it consists of integers, for which all zeros is valid, and the kernel filled it.
    let r = unsafe { regs.assume_init() };
    Ok(Registers {
        ip: r.rip,
        sp: r.rsp,
        others: [
            r.rbx, r.rbp, r.r12, r.r13, r.r14, r.r15, r.rdi, r.rsi, r.rdx,
        ],
    })
}

/// A stop of one of our tracees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The thread.
    pub tid: i32,
    /// The signal.
    pub signal: i32,
    /// PTRACE_EVENT_…, 0 for the delivery of a signal.
    pub event: i32,
}

/// The next stop of a tracee of this thread; `None` when there is none now.
///
/// Ends of threads are not taken: the end of a child of ours belongs to whoever started it.
///
/// # Errors
/// ECHILD when nothing is traced.
pub fn next_stop() -> io::Result<Option<Stop>> {
    stop(libc::P_ALL, 0, 0)
}

/// The stop of one thread, which stays as it is: whoever lets the thread go without a word about
/// the signal, the kernel at our end above all, passes it on. `None` when it has not stopped.
///
/// # Errors
/// ECHILD when it is not traced by this thread.
pub fn peek(tid: i32) -> io::Result<Option<Stop>> {
    stop(libc::P_PID, tid.cast_unsigned(), libc::WNOWAIT)
}

fn stop(kind: libc::idtype_t, id: libc::id_t, more: i32) -> io::Result<Option<Stop>> {
    let flags = libc::WSTOPPED | libc::WNOHANG | libc::__WALL | libc::__WNOTHREAD | more;
    let Some(Change { tid, status, .. }) = wait(kind, id, flags)? else {
        return Ok(None);
    };
    Ok(Some(Stop {
        tid,
        signal: status & 0xff,
        event: status >> 8,
    }))
}

/// Whether the thread has ended; it is taken off the kernel's list when `reap`.
#[must_use]
pub fn has_ended(tid: i32, reap: bool) -> bool {
    let flags = libc::WEXITED | libc::WNOHANG | libc::__WALL | libc::__WNOTHREAD;
    let id = tid.cast_unsigned();
    // Stops of a tracee are told too, whatever is asked for: taken here, they would be lost.
    let ended = match wait(libc::P_PID, id, flags | libc::WNOWAIT) {
        Ok(None) => false,
        Ok(Some(change)) => matches!(
            change.code,
            libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED
        ),
        Err(_) => true,
    };
    if ended && reap {
        let _ = wait(libc::P_PID, id, flags);
    }
    ended
}

/// What happened to a thread.
struct Change {
    tid: i32,
    code: i32,
    status: i32,
}

fn wait(kind: libc::idtype_t, id: libc::id_t, flags: i32) -> io::Result<Option<Change>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is one `siginfo_t`, which is what waitid writes.
    let result = unsafe { libc::waitid(kind, id, info.as_mut_ptr(), flags) };
    check(result.into())?;
    // SAFETY: zeroed before and filled by waitid, which leaves `si_pid` 0 when nothing came.
    // For a child's change these are the fields in use, and both are integers.
    let change = unsafe {
        let info = info.assume_init();
        Change {
            tid: info.si_pid(),
            code: info.si_code,
            status: info.si_status(),
        }
    };
    Ok((change.tid != 0).then_some(change))
}
