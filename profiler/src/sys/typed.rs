//! Ctrl-C that was typed, told from an interrupt that a process has sent.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Sets `flag` when SIGINT comes from the kernel: a terminal sends it to every process of its
/// foreground group (`__isig`, `drivers/tty/n_tty.c`), one that calls `kill` sends it in its own name.
///
/// # Errors
/// When the signal cannot be caught.
pub fn note(flag: Arc<AtomicBool>) -> io::Result<()> {
    let action = move |info: &libc::siginfo_t| {
        if info.si_code == libc::SI_KERNEL {
            flag.store(true, Ordering::Relaxed);
        }
    };
    // SAFETY: the action runs in a signal handler: it reads a field that every signal has and
    // stores to an atomic that it keeps alive, and neither allocates, locks nor panics.
    unsafe { signal_hook_registry::register_sigaction(libc::SIGINT, action) }.map(drop)
}
