//! Looks for the interpreter of the program that a process has become by exec, in a thread of its
//! own: reading its files takes milliseconds, and stops must not wait for that.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use super::family::Newcomer;
use crate::attach;

/// The time between two tries, from the first to the later ones: most programs that are no Python
/// never become it.
const FIRST_RETRY: Duration = Duration::from_millis(3);
const LAST_RETRY: Duration = Duration::from_millis(500);

/// The search; it ends with the value.
#[derive(Debug)]
pub(super) struct Renewal {
    found: Receiver<Newcomer>,
    _until: Sender<()>,
}

impl Renewal {
    /// Looks for the interpreter of a process until there is one.
    pub(super) fn start(pid: i32) -> Self {
        let (sender, found) = channel();
        let (_until, dropped) = channel::<()>();
        thread::spawn(move || {
            let mut wait = FIRST_RETRY;
            loop {
                if let Ok(attached) = attach::attach_once(pid) {
                    // Nobody listens at the end of the recording.
                    let _ = sender.send(Newcomer::new(attached));
                    return;
                }
                if dropped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                wait = (wait * 3 / 2).min(LAST_RETRY);
            }
        });
        Self { found, _until }
    }

    /// The interpreter, once.
    pub(super) fn found(&self) -> Option<Newcomer> {
        self.found.try_recv().ok()
    }
}
