//! The matrix: every CPython that this machine has, in every way of starting it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::{say, target_directory};

/// The minor versions that Onlooker supports.
const MINORS: std::ops::RangeInclusive<u8> = 8..=15;
/// Those that a pyenv of the project's machines has.
const FROM_PYENV: std::ops::RangeInclusive<u8> = 8..=13;
/// Those that `tests/interpreters/fetch-sid.sh` brings.
const FROM_SID: [u8; 2] = [14, 15];
/// Where programs are put inside a tree, as seen from inside.
const PROGRAMS_INSIDE: &str = "/onlooker-tests";

/// How an interpreter is started; `/proc/PID/exe`, the paths in `maps` and the thread ids
/// look different in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The executable itself.
    Plain,
    /// `chroot`: paths mean something else to the target. Needs root.
    Chroot,
    /// `chroot` in a user, mount and PID namespace, as in a container.
    Namespace,
    /// Started through the tree's dynamic loader: `/proc/PID/exe` is the loader.
    Loader,
}

/// One interpreter in one mode.
#[derive(Clone, Debug)]
pub(crate) struct Interpreter {
    /// For messages, and what `ONLOOKER_INTERPRETERS` is compared with.
    pub(crate) label: String,
    /// Major, minor and patch, as the interpreter says.
    pub(crate) version: (u8, u8, u8),
    pub(crate) mode: Mode,
    /// The executable, as seen from the test.
    pub(crate) executable: PathBuf,
    /// The tree that it lives in, where it is not installed.
    pub(crate) root: Option<PathBuf>,
}

impl Interpreter {
    /// `3.12`.
    pub(crate) fn minor_version(&self) -> String {
        format!("{}.{}", self.version.0, self.version.1)
    }

    /// `3.12.1`.
    pub(crate) fn full_version(&self) -> String {
        let (major, minor, patch) = self.version;
        format!("{major}.{minor}.{patch}")
    }

    pub(crate) fn at_least(&self, major: u8, minor: u8) -> bool {
        (self.version.0, self.version.1) >= (major, minor)
    }

    /// Whether it is one of a pyenv: with debug information, headers and a libpython.
    pub(crate) fn is_pyenv(&self) -> bool {
        self.label.starts_with("pyenv")
    }

    /// The directory above `bin` of an installed interpreter.
    pub(crate) fn prefix(&self) -> &Path {
        let bin = self
            .executable
            .parent()
            .expect("an executable in a directory");
        bin.parent().expect("bin in a prefix")
    }

    /// The executable as it is called inside its own root.
    pub(crate) fn executable_inside(&self) -> PathBuf {
        match (&self.root, self.mode) {
            (Some(root), Mode::Chroot | Mode::Namespace) => {
                let inside = self
                    .executable
                    .strip_prefix(root)
                    .expect("executable in its tree");
                Path::new("/").join(inside)
            }
            _ => self.executable.clone(),
        }
    }

    /// What the target calls `program`: its own path, or that of the copy in the tree that
    /// this makes (with `oracle.py` beside it) where the target cannot see the original.
    pub(crate) fn place(&self, program: &Path) -> PathBuf {
        match (&self.root, self.mode) {
            (Some(root), Mode::Chroot | Mode::Namespace) => {
                copy_into(&root.join(PROGRAMS_INSIDE.trim_start_matches('/')), program);
                Path::new(PROGRAMS_INSIDE).join(program.file_name().expect("a file"))
            }
            _ => program.to_owned(),
        }
    }

    /// The command that runs `program` with `args`.
    ///
    /// The process that is spawned is the interpreter itself, but for [`Mode::Namespace`],
    /// where it is its parent `unshare`.
    pub(crate) fn command<S: AsRef<std::ffi::OsStr>>(&self, program: &Path, args: &[S]) -> Command {
        let mut command = self.bare_command();
        command.arg(self.place(program)).args(args);
        command
    }

    /// The command that starts the interpreter; arguments are to be added.
    pub(crate) fn bare_command(&self) -> Command {
        let mut command = match (&self.root, self.mode) {
            (Some(root), Mode::Chroot) => {
                let mut command = Command::new("chroot");
                command.arg(root).arg(self.executable_inside());
                command
            }
            (Some(root), Mode::Namespace) => {
                let mut command = unshare(root);
                command
                    .arg("chroot")
                    .arg(root)
                    .arg(self.executable_inside());
                command
            }
            (Some(root), Mode::Loader) => {
                let mut command = Command::new(root.join("lib64/ld-linux-x86-64.so.2"));
                command
                    .arg("--library-path")
                    .arg(root.join("usr/lib/x86_64-linux-gnu"));
                command.arg(&self.executable);
                command
            }
            _ => Command::new(&self.executable),
        };
        clean_environment(&mut command);
        command
    }
}

/// What surrounds the test must not reach the target, and the target must not write
/// `__pycache__` into the repository.
pub(crate) fn clean_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PYTHON") {
            command.env_remove(name);
        }
    }
    command.env("PYTHONDONTWRITEBYTECODE", "1");
}

fn unshare(root: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args([
        "--map-root-user",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
    ]);
    let mut mount = std::ffi::OsString::from("--mount-proc=");
    mount.push(root.join("proc"));
    command.arg(mount);
    command
}

/// Tests run side by side: a copy appears whole, by a rename, and only when it differs.
fn copy_into(directory: &Path, program: &Path) {
    let beside = program.with_file_name("oracle.py");
    for source in [program, &beside] {
        let Ok(text) = std::fs::read(source) else {
            assert!(source != program, "no program {}", program.display());
            continue;
        };
        let copy = directory.join(source.file_name().expect("a file"));
        if std::fs::read(&copy).is_ok_and(|there| there == text) {
            continue;
        }
        let thread = std::thread::current().id();
        let unique = format!(".{}-{thread:?}", std::process::id());
        let new = directory.join(unique);
        std::fs::write(&new, text).expect("write into the tree");
        std::fs::rename(&new, &copy).expect("rename in the tree");
    }
}

/// Every interpreter of the machine that Onlooker supports, in every mode.
///
/// One that is missing is named on standard error, once; with `ONLOOKER_REQUIRE_ALL=1` it
/// is a panic. `ONLOOKER_INTERPRETERS=3.12,sid` keeps those whose label holds one of the
/// words, for work by hand.
pub(crate) fn interpreters() -> Vec<Interpreter> {
    static FOUND: OnceLock<Vec<Interpreter>> = OnceLock::new();
    let all = FOUND.get_or_init(|| {
        let mut missing = Vec::new();
        let mut found = pyenv(&mut missing);
        found.extend(system(&mut missing));
        found.extend(sid(&mut missing));
        for reason in &missing {
            say(&format!("skipped: {reason}"));
        }
        let all_required = std::env::var_os("ONLOOKER_REQUIRE_ALL").is_some_and(|v| v == "1");
        assert!(
            missing.is_empty() || !all_required,
            "ONLOOKER_REQUIRE_ALL=1 and not everything is there: {missing:?}"
        );
        found
    });
    assert!(
        !all.is_empty(),
        "no CPython 3.8 to 3.15 on this machine: nothing would be tested"
    );
    let Ok(wanted) = std::env::var("ONLOOKER_INTERPRETERS") else {
        return all.clone();
    };
    let chosen = |each: &&Interpreter| wanted.split(',').any(|word| each.label.contains(word));
    let kept: Vec<_> = all.iter().filter(chosen).cloned().collect();
    assert!(
        !kept.is_empty(),
        "ONLOOKER_INTERPRETERS={wanted} leaves no interpreter"
    );
    kept
}

/// Runs a test with every interpreter, one after the other, and fails at the end with the
/// labels of those that failed, so that one run tells about all.
pub(crate) fn matrix(test: impl Fn(&Interpreter)) {
    run_with(interpreters(), test);
}

/// Runs a test with every interpreter as [`matrix`] does, but in one mode: for what has nothing to
/// do with paths, ids and how it was started, and takes long.
pub(crate) fn matrix_in_one_mode(test: impl Fn(&Interpreter)) {
    let mut chosen = interpreters();
    chosen.dedup_by(|a, b| a.executable == b.executable);
    run_with(chosen, test);
}

fn run_with(interpreters: Vec<Interpreter>, test: impl Fn(&Interpreter)) {
    let mut failed = Vec::new();
    let mut last = None;
    for interpreter in interpreters {
        eprintln!("---- {}", interpreter.label);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(&interpreter))) {
            eprintln!("---- {} FAILED", interpreter.label);
            failed.push(interpreter.label);
            last = Some(panic);
        }
    }
    match last {
        Some(panic) if failed.len() == 1 => {
            eprintln!("failed with: {}", failed[0]);
            resume_unwind(panic);
        }
        Some(_) => panic!("failed with: {}", failed.join(", ")),
        None => {}
    }
}

fn pyenv(missing: &mut Vec<String>) -> Vec<Interpreter> {
    let mut found: Vec<Interpreter> = Vec::new();
    for version in pyenv_versions() {
        for minor in MINORS {
            let executable = version.join(format!("bin/python3.{minor}"));
            if !executable.exists() {
                continue;
            }
            match ask_version(&mut Command::new(&executable)) {
                Ok(version) => found.push(Interpreter {
                    label: format!("pyenv {}.{}.{}", version.0, version.1, version.2),
                    version,
                    mode: Mode::Plain,
                    executable,
                    root: None,
                }),
                Err(reason) => missing.push(format!("{}: {reason}", executable.display())),
            }
        }
    }
    found.sort_by_key(|each| each.version);
    for minor in FROM_PYENV {
        if !found.iter().any(|each| each.version.1 == minor) {
            missing.push(format!("no Python 3.{minor} in a pyenv"));
        }
    }
    found
}

fn pyenv_versions() -> Vec<PathBuf> {
    let root = std::env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| {
            let home = std::env::var_os("HOME")?;
            Some(Path::new(&home).join(".pyenv"))
        });
    let Some(entries) = root.and_then(|root| std::fs::read_dir(root.join("versions")).ok()) else {
        return Vec::new();
    };
    entries.flatten().map(|entry| entry.path()).collect()
}

fn system(missing: &mut Vec<String>) -> Option<Interpreter> {
    let executable = PathBuf::from("/usr/bin/python3");
    match ask_version(&mut Command::new(&executable)) {
        Ok(version) if version.0 == 3 && MINORS.contains(&version.1) => Some(Interpreter {
            label: format!("system {}.{}.{}", version.0, version.1, version.2),
            version,
            mode: Mode::Plain,
            executable,
            root: None,
        }),
        Ok(version) => {
            missing.push(format!(
                "/usr/bin/python3 is {version:?}, not a version we support"
            ));
            None
        }
        Err(reason) => {
            missing.push(format!("/usr/bin/python3: {reason}"));
            None
        }
    }
}

fn sid(missing: &mut Vec<String>) -> Vec<Interpreter> {
    let root = target_directory().join("interpreters/sid");
    if !root.join(".complete").exists() {
        missing.push("3.14 and 3.15 of Debian sid: run tests/interpreters/fetch-sid.sh".into());
        return Vec::new();
    }
    let mut found = Vec::new();
    for minor in FROM_SID {
        for mode in [Mode::Chroot, Mode::Namespace, Mode::Loader] {
            let word = format!("{mode:?}").to_lowercase();
            let mut interpreter = Interpreter {
                label: format!("sid 3.{minor} {word}"),
                version: (3, minor, 0),
                mode,
                executable: root.join(format!("usr/bin/python3.{minor}")),
                root: Some(root.clone()),
            };
            match ask_version(&mut interpreter.bare_command()) {
                Ok(version) => {
                    interpreter.version = version;
                    interpreter.label =
                        format!("sid {}.{}.{} {word}", version.0, version.1, version.2);
                    found.push(interpreter);
                }
                Err(reason) => missing.push(format!(
                    "{}: {reason}{}",
                    interpreter.label,
                    if mode == Mode::Loader {
                        ""
                    } else {
                        " (it may need root)"
                    }
                )),
            }
        }
    }
    found
}

/// Major, minor and patch; fails for what does not start and for another implementation.
fn ask_version(command: &mut Command) -> Result<(u8, u8, u8), String> {
    const QUESTION: &str = "import sys; print(sys.implementation.name, *sys.version_info[:3])";
    let output = command
        .args(["-I", "-S", "-c", QUESTION])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("does not start: {error}"))?;
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    let words: Vec<&str> = answer.split_whitespace().collect();
    let [implementation, numbers @ ..] = words.as_slice() else {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("does not start: {}", errors.trim()));
    };
    let numbers: Vec<u8> = numbers
        .iter()
        .filter_map(|word| word.parse().ok())
        .collect();
    match (*implementation, numbers.as_slice()) {
        ("cpython", &[major, minor, patch]) => Ok((major, minor, patch)),
        _ => Err(format!("is no CPython: {}", answer.trim())),
    }
}
