//! A C program that embeds an interpreter.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::interpreters::clean_environment;
use super::{Interpreter, run, target_directory, workspace};

/// Builds `tests/embed/embed.c` against the libpython of a pyenv interpreter.
///
/// `None` for one that has no libpython or no headers. Panics when it has them and the
/// program does not compile.
pub(crate) fn build_embed(interpreter: &Interpreter) -> Option<PathBuf> {
    let minor = interpreter.minor_version();
    let prefix = interpreter.prefix();
    let headers = prefix.join(format!("include/python{minor}"));
    let libraries = prefix.join("lib");
    let library = libraries.join(format!("libpython{minor}.so"));
    if !headers.join("Python.h").exists() || !library.exists() {
        return None;
    }
    let directory = target_directory().join("tests");
    std::fs::create_dir_all(&directory).expect("directory for the program");
    let program = directory.join(format!("embed-{}", interpreter.full_version()));
    // Tests run side by side: the program appears whole, by a rename.
    let thread = std::thread::current().id();
    let new = directory.join(format!("embed-{}-{thread:?}", std::process::id()));
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-g", "-o"]).arg(&new);
    cc.arg(workspace().join("tests/embed/embed.c"));
    cc.arg("-I")
        .arg(headers)
        .arg("-L")
        .arg(&libraries)
        .arg(format!("-lpython{minor}"));
    cc.arg(format!("-Wl,-rpath,{}", libraries.display()))
        .arg("-lpthread");
    run(&mut cc).success();
    std::fs::rename(&new, &program).expect("rename the program");
    Some(program)
}

/// The command that runs `script` in a program of [`build_embed`].
pub(crate) fn embed_command(
    embed: &Path,
    interpreter: &Interpreter,
    options: &[&str],
    script: &Path,
    args: &[&str],
) -> Command {
    let mut command = Command::new(embed);
    clean_environment(&mut command);
    command.env("PYTHONHOME", interpreter.prefix());
    command.args(options).arg(script).args(args);
    command
}
