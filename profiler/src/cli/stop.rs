//! Ctrl-C: what was begun comes to an end that leaves files whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, exit};
use crate::sys::typed;

/// Ctrl-C and SIGTERM: the first finishes the file, the second stops at once.
pub(super) struct Stop {
    asked: Arc<AtomicBool>,
    interrupted: Arc<AtomicBool>,
    typed: Arc<AtomicBool>,
}

/// Who else got the signal that asks for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Every process of our group: it was typed in our terminal.
    Group,
    /// An interrupt that a process has sent, to us or to our group: nothing tells which.
    Unknown,
    /// Nobody.
    Alone,
}

impl Stop {
    pub(super) fn install() -> Result<Self, Error> {
        let stop = Self {
            asked: Arc::default(),
            interrupted: Arc::default(),
            typed: Arc::default(),
        };
        let installed = stop.register();
        installed.map_err(|error| Error::Report(format!("cannot catch signals: {error}")))?;
        Ok(stop)
    }

    fn register(&self) -> std::io::Result<()> {
        // Who has sent it is known when it is heard.
        typed::note(Arc::clone(&self.typed))?;
        flag::register(SIGINT, Arc::clone(&self.interrupted))?;
        for signal in [SIGINT, SIGTERM] {
            // In this order: the second signal finds the flag set.
            let asked = || Arc::clone(&self.asked);
            flag::register_conditional_shutdown(signal, exit::INTERRUPTED.into(), asked())?;
            flag::register(signal, asked())?;
        }
        Ok(())
    }

    pub(super) fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Who else got it.
    pub(super) fn reach(&self) -> Reach {
        if self.typed.load(Ordering::Relaxed) {
            Reach::Group
        } else if self.interrupted.load(Ordering::Relaxed) {
            Reach::Unknown
        } else {
            Reach::Alone
        }
    }
}
