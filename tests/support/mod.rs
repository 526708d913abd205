//! What the end-to-end tests share: the interpreters of the machine, targets that say what
//! they do, and the `onlooker` program.
//!
//! A test file says `#[path = "support/mod.rs"] mod support;` and walks the matrix:
//!
//! ```ignore
//! support::matrix(|interpreter| {
//!     let target = Target::spawn(interpreter, "deep.py", &["5000"]);
//!     let dump = support::dump(target.pid());
//!     support::assert_stacks(&target, &dump);
//! });
//! ```
//!
//! The protocol between a target and its test is told in `tests/README.md`.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

mod disguise;
mod embed;
mod interpreters;
mod recording;
mod run;
mod target;

pub(crate) use disguise::{
    Copy, NOBODY, Public, as_nobody, can_change_user, remove_section_headers, rename_symbol,
    sees_page_frames, strip,
};
pub(crate) use embed::{build_embed, embed_command};
pub(crate) use interpreters::{Interpreter, Mode, interpreters, matrix, matrix_in_one_mode};
pub(crate) use recording::{
    Recording, SPIN, any, collapsed, expected_stack, grown_and_kept, launch, launch_command, load,
    names, names_of_made, report, seen, sites, thread_name, wait_until,
};
pub(crate) use run::{Run, dump, onlooker, onlooker_command, run};
pub(crate) use target::{Frame, Ready, Target, Thread, assert_stacks, frames_of};

use std::path::{Path, PathBuf};

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    let crate_directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_directory
        .parent()
        .expect("a crate below the workspace")
        .to_owned()
}

/// Cargo's target directory.
pub(crate) fn target_directory() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent()
        .expect("tmp is below the target directory")
        .to_owned()
}

/// The test program of that name.
pub(crate) fn program(name: &str) -> PathBuf {
    workspace().join("tests/programs").join(name)
}

/// A new empty directory for what one test writes, removed with the value.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{name}-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("scratch directory");
        Self(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A failing test leaves what it wrote for whoever looks into it.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// Says something on the real standard error, which the test runner does not swallow.
pub(crate) fn say(message: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{message}");
}
