//! A bar for what takes long.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A progress bar is shown for what takes longer.
const SHOW_AFTER: Duration = Duration::from_secs(1);

/// Shown once it takes long.
pub(super) struct Bar {
    bar: ProgressBar,
    what: &'static str,
    since: Instant,
}

impl Bar {
    /// Not shown yet; `what` is being done.
    pub(super) fn new(what: &'static str) -> Self {
        Self {
            bar: ProgressBar::hidden(),
            what,
            since: Instant::now(),
        }
    }

    /// So many bytes of so many are done.
    pub(super) fn show(&mut self, done: u64, all: u64) {
        if self.bar.is_hidden() && self.since.elapsed() > SHOW_AFTER && io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{msg} {bar:40} {bytes}/{total_bytes}");
            if let Ok(style) = style {
                self.bar.set_style(style);
            }
            self.bar.set_message(self.what);
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_length(all);
        self.bar.set_position(done);
    }

    /// All is done.
    pub(super) fn end(self) {
        self.bar.finish_and_clear();
    }
}
