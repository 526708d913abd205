//! A progress bar for what takes longer than a second, on a terminal.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is done sooner shows none.
const SHOW_AFTER: Duration = Duration::from_secs(1);
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// One line on standard error: what is being done, and how far it is where that is known. Nothing
/// where standard error is no terminal. The line is gone when this is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    /// Ends the thread that draws.
    drawing: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Begins with work whose length is not known.
    pub(super) fn begin(what: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let mut progress = Self { bar, drawing: None };
        progress.working(what);
        if io::stderr().is_terminal() {
            let (end, ended) = mpsc::channel();
            let bar = progress.bar.clone();
            // Work that tells nothing is seen to go on all the same.
            let thread = thread::spawn(move || {
                let since = Instant::now();
                while ended.recv_timeout(DRAW_EVERY) == Err(RecvTimeoutError::Timeout) {
                    if bar.is_hidden() && since.elapsed() >= SHOW_AFTER {
                        bar.set_draw_target(ProgressDrawTarget::stderr());
                    }
                    bar.tick();
                }
            });
            progress.drawing = Some((end, thread));
        }
        progress
    }

    /// So many bytes of so many; when all are done, `then` is what follows.
    pub(super) fn bytes(&self, what: &str, done: u64, all: u64, then: &str) {
        if done >= all {
            self.working(then);
            return;
        }
        if self.bar.length() != Some(all) {
            self.style("{msg} {bar:40} {bytes}/{total_bytes}");
            self.bar.set_message(what.to_owned());
            self.bar.set_length(all);
        }
        self.bar.set_position(done);
    }

    /// Work whose length is not known.
    pub(super) fn working(&self, what: &str) {
        self.style("{spinner} {msg} {elapsed}");
        self.bar.unset_length();
        self.bar.set_message(what.to_owned());
    }

    /// Does what writes to standard error, beside the line.
    pub(super) fn aside(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }

    fn style(&self, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.drawing.take() {
            drop(end);
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}
