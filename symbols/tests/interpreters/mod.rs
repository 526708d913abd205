//! The CPython builds that this crate is checked against: every pyenv version, the system's
//! `python3`, and those of the unpacked Debian sid when `tests/interpreters/fetch-sid.sh`
//! has been run.
#![allow(dead_code, reason = "each test crate uses its own part")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A missing one of these is a failure when `ONLOOKER_REQUIRE_ALL=1`, else a visible skip.
const REQUIRED: [(u8, u8); 6] = [(3, 8), (3, 9), (3, 10), (3, 11), (3, 12), (3, 13)];

/// One CPython build on this machine.
#[derive(Debug)]
pub(crate) struct Interpreter {
    /// The executable, links resolved.
    pub(crate) executable: PathBuf,
    pub(crate) version: (u8, u8),
    /// The file that holds the runtime: the executable or its `libpython`.
    pub(crate) image: PathBuf,
    /// The root of a tree with a C library of its own, which needs its own loader.
    tree: Option<PathBuf>,
}

impl Interpreter {
    fn at(executable: &Path, tree: Option<&Path>) -> Option<Self> {
        let executable = executable.canonicalize().ok()?;
        let mut this = Self {
            image: executable.clone(),
            executable,
            version: (0, 0),
            tree: tree.map(Path::to_path_buf),
        };
        let print_version = "import sys; print('%d %d' % sys.version_info[:2])";
        let output = this.command().args(["-c", print_version]).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let (major, minor) = text.trim().split_once(' ')?;
        this.version = (major.parse().ok()?, minor.parse().ok()?);
        if let Some(library) = libpython(&this.executable, this.version) {
            this.image = library;
        }
        Some(this)
    }

    /// Runs the interpreter; arguments are its own.
    pub(crate) fn command(&self) -> Command {
        let Some(tree) = &self.tree else {
            return Command::new(&self.executable);
        };
        let mut command = Command::new(tree.join("lib64/ld-linux-x86-64.so.2"));
        command
            .arg("--library-path")
            .arg(tree.join("usr/lib/x86_64-linux-gnu"))
            .arg(&self.executable);
        command
    }

    pub(crate) fn is_pyenv(&self) -> bool {
        self.executable.starts_with(pyenv_versions())
    }
}

fn pyenv_versions() -> PathBuf {
    let root = std::env::var_os("PYENV_ROOT").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".pyenv"),
        PathBuf::from,
    );
    let versions = root.join("versions");
    versions.canonicalize().unwrap_or(versions)
}

/// `lib/libpythonX.Y*.so.1.0` beside the `bin` of a build with a shared library.
fn libpython(executable: &Path, (major, minor): (u8, u8)) -> Option<PathBuf> {
    let lib = executable.parent()?.parent()?.join("lib");
    ["", "m", "t", "d"]
        .map(|flags| lib.join(format!("libpython{major}.{minor}{flags}.so.1.0")))
        .into_iter()
        .find(|path| path.is_file())
}

/// Every build found, sorted by version.
pub(crate) fn all() -> Vec<Interpreter> {
    let mut executables = Vec::new();
    for version in std::fs::read_dir(pyenv_versions())
        .into_iter()
        .flatten()
        .flatten()
    {
        for name in ["python3", "python2"] {
            let path = version.path().join("bin").join(name);
            if path.is_file() {
                executables.push(path);
                break;
            }
        }
    }
    executables.push(PathBuf::from("/usr/bin/python3"));
    let mut found: Vec<Interpreter> = executables
        .iter()
        .filter_map(|path| Interpreter::at(path, None))
        .collect();
    let tree = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("interpreters/sid");
    for name in ["python3.14", "python3.15"] {
        let path = tree.join("usr/bin").join(name);
        match Interpreter::at(&path, Some(&tree)) {
            Some(interpreter) => found.push(interpreter),
            None => eprintln!("SKIPPED: no {}", path.display()),
        }
    }
    found.sort_by_key(|interpreter| interpreter.version);
    let missing = REQUIRED.iter().filter(|&&version| {
        !found
            .iter()
            .any(|interpreter| interpreter.version == version && interpreter.is_pyenv())
    });
    let missing: Vec<_> = missing.collect();
    if !missing.is_empty() {
        let required = std::env::var_os("ONLOOKER_REQUIRE_ALL").is_some_and(|value| value == "1");
        assert!(!required, "missing interpreters: {missing:?}");
        eprintln!("SKIPPED: no pyenv interpreter of {missing:?}");
    }
    found
}
