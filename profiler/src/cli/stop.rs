//! Ctrl-C: what was begun comes to an end that leaves files whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, exit};

/// Ctrl-C and SIGTERM: the first finishes the file, the second stops at once.
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(super) fn install() -> Result<Self, Error> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // In this order: the second signal finds the flag set.
            let shutdown = signal_hook::flag::register_conditional_shutdown(
                signal,
                exit::INTERRUPTED.into(),
                Arc::clone(&flag),
            );
            let set = shutdown.and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)));
            set.map_err(|error| Error::Report(format!("cannot catch signals: {error}")))?;
        }
        Ok(Self(flag))
    }

    pub(super) fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
