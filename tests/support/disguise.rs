//! Interpreters that hide: copies with another name, without symbols, for another user.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Interpreter, Mode, run, workspace};

/// Somebody who is neither root nor the owner of anything.
pub(crate) const NOBODY: u32 = 65534;

/// Whether this is root, who can become somebody else. Says so when not.
pub(crate) fn can_change_user() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let required = std::env::var_os("ONLOOKER_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(root || !required, "ONLOOKER_REQUIRE_ALL=1 needs root");
    if !root {
        super::say("skipped: another user's process: needs root");
    }
    root
}

/// Whether page frames can be seen here: root in a container may lack CAP_SYS_ADMIN, and then the
/// kernel gives zero for each. Says so when not.
pub(crate) fn sees_page_frames() -> bool {
    use std::os::unix::fs::FileExt;
    const FRAME: u64 = (1 << 55) - 1;
    let here = Box::new(1_u64);
    let at = std::ptr::from_ref(&*here).addr() as u64 / 4096 * 8;
    let mut word = [0; 8];
    let pagemap = std::fs::File::open("/proc/self/pagemap");
    let read = pagemap.and_then(|file| file.read_exact_at(&mut word, at));
    let flags = std::fs::File::open("/proc/kpageflags");
    let seen = read.is_ok() && u64::from_le_bytes(word) & FRAME != 0 && flags.is_ok();
    if !seen {
        super::say("skipped: who wrote a page: needs root with CAP_SYS_ADMIN");
    }
    seen
}

/// Runs the command as [`NOBODY`].
pub(crate) fn as_nobody(command: &mut Command) -> &mut Command {
    command.uid(NOBODY).gid(NOBODY)
}

/// A directory that everybody may read, with `onlooker`, the test programs and whatever a test
/// puts there. The checkout may be out of reach for others.
pub(crate) struct Public(PathBuf);

impl Public {
    pub(crate) fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let public = Self(directory);
        public.directory("");
        public.copy(Path::new(env!("CARGO_BIN_EXE_onlooker")), "onlooker");
        for entry in std::fs::read_dir(workspace().join("tests/programs")).expect("programs") {
            let path = entry.expect("entry").path();
            if path.is_file() {
                let name = path.file_name().expect("a file").to_string_lossy();
                public.copy(&path, &name);
            }
        }
        public
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes a directory that everybody may enter.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let directory = if name.is_empty() {
            self.0.clone()
        } else {
            self.0.join(name)
        };
        std::fs::create_dir_all(&directory).expect("directory");
        open_to_all(&directory);
        directory
    }

    /// Copies a file so that everybody may read and run it.
    pub(crate) fn copy(&self, from: &Path, name: &str) -> PathBuf {
        let to = self.0.join(name);
        std::fs::copy(from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        open_to_all(&to);
        to
    }

    /// `onlooker` as [`NOBODY`].
    pub(crate) fn onlooker(&self) -> Command {
        let mut command = Command::new(self.join("onlooker"));
        command.current_dir("/").stdin(std::process::Stdio::null());
        as_nobody(&mut command);
        command
    }
}

impl Drop for Public {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open_to_all(path: &Path) {
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, mode).expect("permissions");
}

/// A copy of an interpreter in a directory of its own: the executable under any name, and its
/// libpython where it has one.
pub(crate) struct Copy {
    pub(crate) executable: PathBuf,
    pub(crate) library: Option<PathBuf>,
    home: PathBuf,
}

impl Copy {
    /// `None` for an interpreter that cannot be started by its path alone.
    pub(crate) fn new(interpreter: &Interpreter, directory: &Path, name: &str) -> Option<Self> {
        if interpreter.mode != Mode::Plain {
            return None;
        }
        let executable = directory.join(name);
        std::fs::copy(&interpreter.executable, &executable).expect("copy the interpreter");
        let file = format!("libpython{}.so.1.0", interpreter.minor_version());
        let library = interpreter.prefix().join("lib").join(&file);
        // Debian's is not linked to the library that may lie beside it.
        let library = (interpreter.is_pyenv() && library.exists()).then(|| {
            let copy = directory.join(&file);
            std::fs::copy(&library, &copy).expect("copy the library");
            copy
        });
        Some(Self {
            executable,
            library,
            home: interpreter.prefix().to_owned(),
        })
    }

    /// The file that the interpreter's symbols are in.
    pub(crate) fn image(&self) -> &Path {
        self.library.as_deref().unwrap_or(&self.executable)
    }

    /// Runs it with the original's standard library.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        super::interpreters::clean_environment(&mut command);
        command.env("PYTHONHOME", &self.home);
        if let Some(directory) = self.library.as_deref().and_then(Path::parent) {
            command.env("LD_LIBRARY_PATH", directory);
        }
        command
    }
}

/// Takes every symbol away that the dynamic linker does not need.
pub(crate) fn strip(file: &Path) {
    run(Command::new("objcopy").arg("--strip-all").arg(file)).success();
}

/// Takes the section headers away (`e_shoff`, `e_shnum`, `e_shstrndx` of an ELF64 header).
pub(crate) fn remove_section_headers(file: &Path) {
    let mut bytes = std::fs::read(file).expect("an image");
    assert_eq!(&bytes[..5], b"\x7fELF\x02", "a 64-bit ELF file");
    bytes[0x28..0x30].fill(0);
    bytes[0x3c..0x40].fill(0);
    std::fs::write(file, bytes).expect("write the image");
}

/// Gives a symbol another name of the same length wherever it is named.
pub(crate) fn rename_symbol(file: &Path, name: &str) {
    let mut bytes = std::fs::read(file).expect("an image");
    let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
    let mut renamed = 0;
    let mut from = 0;
    while let Some(at) = bytes[from..]
        .windows(wanted.len())
        .position(|window| window == wanted)
    {
        bytes[from + at + 1] = b'X';
        renamed += 1;
        from += at + wanted.len();
    }
    assert!(renamed > 0, "no {name} in {}", file.display());
    std::fs::write(file, bytes).expect("write the image");
}
