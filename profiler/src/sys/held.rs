//! A child that waits before it becomes another program.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{ForkResult, fork, pipe2, read, write};

use super::check;

/// Exit code of a child that was never let go, or could not become the program: that of a shell.
const NOT_STARTED: i32 = 127;

/// What the child waits for. Dropped, it ends without having run anything; so it does when we end,
/// however that is, for then nobody has the other end of its pipe any more.
#[derive(Debug)]
pub struct Gate {
    go: OwnedFd,
    /// Says why the program could not be started; closed by the kernel when it was.
    failed: OwnedFd,
}

impl Gate {
    /// Makes a child that becomes `command` when the gate is opened; its process id. Call it while
    /// this process has one thread.
    ///
    /// # Errors
    /// When there is no memory, process or descriptor left.
    pub fn close(mut command: Command) -> io::Result<(i32, Self)> {
        let (go_on, go) = pipe2(OFlag::O_CLOEXEC)?;
        let (failed, fail) = pipe2(OFlag::O_CLOEXEC)?;
        // SAFETY: the child has this one thread. Of the others, if there are any, it could miss a
        // lock that one held: it takes those of the C library's allocator, which fork hands over
        // whole, and that of the environment, to which nothing here writes.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok((child.as_raw(), Self { go, failed })),
            ForkResult::Child => {
                drop((go, failed));
                wait_in_child(&go_on);
                let error = command.exec();
                let code = error.raw_os_error().unwrap_or(libc::EINVAL);
                let _ = write(&fail, &code.to_ne_bytes());
                // SAFETY: ends the child at once; what is to happen at our exit is not its business.
                unsafe { libc::_exit(NOT_STARTED) }
            }
        }
    }

    /// Lets the child become its program, and waits until it has.
    ///
    /// # Errors
    /// Why it could not.
    pub fn open(self) -> io::Result<()> {
        // One that was killed meanwhile is found out by whoever waits for it.
        let _ = write(&self.go, &[1]);
        let mut code = [0; 4];
        loop {
            match read(&self.failed, &mut code) {
                Ok(4) => return Err(io::Error::from_raw_os_error(i32::from_ne_bytes(code))),
                Err(Errno::EINTR) => {}
                _ => return Ok(()),
            }
        }
    }
}

/// Waits for the word of the parent; ends when that is gone. As the program itself would be, the child is
/// ended by what asks for its end.
fn wait_in_child(go_on: &OwnedFd) {
    // SAFETY: SIG_DFL is no handler.
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_DFL);
        libc::signal(libc::SIGTERM, libc::SIG_DFL);
    }
    loop {
        match read(go_on, &mut [0]) {
            Ok(1) => return,
            Err(Errno::EINTR) => {}
            // SAFETY: as above.
            _ => unsafe { libc::_exit(NOT_STARTED) },
        }
    }
}

/// How a child of ours has ended; `None` while it runs.
///
/// # Errors
/// ECHILD when that was told already.
pub fn wait(pid: i32, block: bool) -> io::Result<Option<ExitStatus>> {
    let flags = if block { 0 } else { libc::WNOHANG };
    let mut status = 0;
    loop {
        // SAFETY: writes one integer, which lives through the call.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, flags) };
        match check(waited.into()) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(ExitStatus::from_raw(status))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(program: &str) -> (i32, Gate) {
        let mut command = Command::new(program);
        command.args(["-c", "exit 5"]);
        Gate::close(command).expect("a child")
    }

    fn code(pid: i32) -> Option<i32> {
        wait(pid, true).expect("a child").and_then(|s| s.code())
    }

    #[test]
    fn a_child_runs_when_its_gate_is_opened_and_ends_when_it_is_gone() {
        let (pid, gate) = child("/bin/sh");
        assert_eq!(wait(pid, false).expect("a child"), None);
        gate.open().expect("a program");
        assert_eq!(code(pid), Some(5));
        let (pid, gate) = child("/bin/sh");
        drop(gate);
        assert_eq!(code(pid), Some(NOT_STARTED));
        let (pid, gate) = child("/no/such/program");
        let error = gate.open().expect_err("no program");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(code(pid), Some(NOT_STARTED));
    }
}
