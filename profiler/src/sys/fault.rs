//! A mapped file that is cut off while it is read.

use std::io;

use libc::{c_int, c_void, siginfo_t};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::error::exit;

/// What is said; a signal handler can put nothing together.
const LINE: &[u8] = b"onlooker: the image was cut off while it was read, or its disk failed; \
nothing can be told of it\n";

/// From now on a page of a mapped file that is not there any more ends this process with one line
/// and [`exit::DATA`], as a file does that was cut off before; without this the kernel ends it by
/// SIGBUS.
///
/// # Errors
/// What the kernel says.
pub(super) fn end_with_a_line() -> io::Result<()> {
    // The flags of the handler that Rust's runtime has for it: on the stack for signals.
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK;
    let action = SigAction::new(SigHandler::SigAction(handle), flags, SigSet::empty());
    // SAFETY: the handler calls nothing but `write`, `_exit`, `signal` and `raise`, which are safe in signal
    // handlers, and reads nothing but its arguments and a constant.
    unsafe { sigaction(Signal::SIGBUS, &action) }?;
    Ok(())
}

extern "C" fn handle(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes a whole `siginfo_t` to a handler with SA_SIGINFO; the line lives
    // as long as the program; the other calls touch no memory of ours.
    unsafe {
        // The only files that are mapped here are images.
        if (*info).si_code == libc::BUS_ADRERR {
            libc::write(2, LINE.as_ptr().cast(), LINE.len());
            libc::_exit(exit::DATA.into());
        }
        // A broken memory bank, or somebody sent it: as if there were no handler.
        libc::signal(libc::SIGBUS, libc::SIG_DFL);
        libc::raise(libc::SIGBUS);
    }
}
