//! Ways in which an interpreter can hide, all of them ordinary: embedded, copied, renamed,
//! stripped, replaced on disk after its start.

#[path = "support/mod.rs"]
mod support;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use support::{
    Copy, Interpreter, Mode, Public, Scratch, Target, as_nobody, assert_stacks, build_embed,
    can_change_user, dump, embed_command, matrix, program, remove_section_headers, rename_symbol,
    run, strip,
};

/// Starts a program in a copied interpreter.
fn start(copy: &Copy, args: &[&str]) -> Target {
    let mut command = copy.command();
    command.arg(program("threads.py")).args(args);
    Target::spawn_command(&mut command)
}

#[track_caller]
fn check(target: &Target) {
    let seen = dump(target.pid());
    assert_stacks(target, &seen);
    assert_eq!(seen["python"], target.ready().python.as_str());
}

/// Whether some mapping of the process is of this file, or was.
#[track_caller]
fn assert_mapped(target: &Target, file: &Path, deleted: bool) {
    let maps = std::fs::read(format!("/proc/{}/maps", target.pid())).expect("maps");
    let maps = String::from_utf8_lossy(&maps);
    let mut name = file.to_string_lossy().into_owned();
    if deleted {
        name += " (deleted)";
    }
    assert!(
        maps.lines().any(|line| line.ends_with(&name)),
        "no {name} in\n{maps}"
    );
}

#[test]
fn embedded_in_a_program() {
    matrix(|interpreter| {
        let Some(embed) = interpreter
            .is_pyenv()
            .then(|| build_embed(interpreter))
            .flatten()
        else {
            return;
        };
        for options in [&[][..], &["--thread"][..]] {
            let script = program("threads.py");
            let mut command = embed_command(&embed, interpreter, options, &script, &["3", "5"]);
            check(&Target::spawn_command(&mut command));
        }
    });
}

#[test]
fn virtual_environments() {
    matrix(|interpreter| {
        if interpreter.mode != Mode::Plain {
            return;
        }
        for kind in ["--symlinks", "--copies"] {
            let scratch = Scratch::new("venv");
            let venv = scratch.join("env");
            let mut make = interpreter.bare_command();
            make.args(["-m", "venv", "--without-pip", kind]).arg(&venv);
            let made = run(&mut make);
            if !made.status.success() {
                assert!(!interpreter.is_pyenv(), "{}", made.stderr);
                support::say(&format!("skipped: {} has no venv", interpreter.label));
                return;
            }
            let mut command = Command::new(venv.join("bin/python"));
            command.env("PYTHONDONTWRITEBYTECODE", "1");
            command.arg(program("threads.py")).args(["3", "5"]);
            check(&Target::spawn_command(&mut command));
        }
    });
}

#[test]
fn renamed_copies() {
    matrix(|interpreter| {
        let scratch = Scratch::new("renamed");
        let Some(copy) = Copy::new(interpreter, scratch.path(), "worker") else {
            return;
        };
        check(&start(&copy, &["2"]));
        // A directory whose name is no UTF-8, with a blank and a line feed in it.
        let odd = scratch
            .path()
            .join(std::ffi::OsStr::from_bytes(b"a \n\xff (deleted)"));
        std::fs::create_dir(&odd).expect("directory");
        let copy = Copy::new(interpreter, &odd, "python").expect("plain");
        let target = start(&copy, &["2"]);
        check(&target);
    });
}

/// In steps, each of which takes one more way to find the runtime.
#[test]
fn stripped_copies() {
    let missing = Command::new("objcopy")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if missing.is_err() {
        assert!(
            std::env::var_os("ONLOOKER_REQUIRE_ALL").is_none(),
            "no objcopy"
        );
        support::say("skipped: objcopy is not installed");
        return;
    }
    matrix(|interpreter| {
        let scratch = Scratch::new("stripped");
        let Some(copy) = Copy::new(interpreter, scratch.path(), "worker") else {
            return;
        };
        type Step = (&'static str, fn(&Path));
        let steps: [Step; 3] = [
            ("stripped", strip),
            ("without section headers", remove_section_headers),
            ("without the symbol", |file| {
                rename_symbol(file, "_PyRuntime");
            }),
        ];
        // A library looks its own symbols up by name; the test without root takes these away.
        let possible = if copy.library.is_some() { 2 } else { 3 };
        for (what, step) in &steps[..possible] {
            eprintln!("{what}");
            step(copy.image());
            let target = start(&copy, &["2"]);
            assert_mapped(&target, copy.image(), false);
            check(&target);
        }
        // And nothing is left on disk to look into.
        eprintln!("deleted as well");
        let target = start(&copy, &["2"]);
        std::fs::remove_file(copy.image()).expect("remove the image");
        assert_mapped(&target, copy.image(), true);
        check(&target);
    });
}

#[test]
fn replaced_or_deleted_after_the_start() {
    matrix(|interpreter| {
        let scratch = Scratch::new("replaced");
        let Some(copy) = Copy::new(interpreter, scratch.path(), "python3") else {
            return;
        };
        let target = start(&copy, &["2"]);
        // As an upgrade does: another file, of another content, under the same name.
        let other = scratch.join("new");
        for file in [Some(copy.executable.as_path()), copy.library.as_deref()]
            .into_iter()
            .flatten()
        {
            std::fs::write(&other, b"\x7fELF\x02\x01\x01 another one").expect("write");
            std::fs::rename(&other, file).expect("replace");
            assert_mapped(&target, file, true);
        }
        check(&target);
        std::fs::remove_dir_all(scratch.path()).expect("remove");
        check(&target);
    });
}

/// What only root can open is out of reach here: `/proc/PID/map_files`, the deleted library.
#[test]
fn deleted_and_without_root() {
    if !can_change_user() {
        return;
    }
    matrix(|interpreter| {
        if interpreter.mode != Mode::Plain {
            return;
        }
        let public = Public::new("onlooker-nobody");
        let Some(home) = standard_library(interpreter, &public) else {
            return;
        };
        let directory = public.directory("copy");
        let copy = Copy::new(interpreter, &directory, "python3").expect("plain");
        let mut command = copy.command();
        command.env("PYTHONHOME", &home).current_dir("/");
        command.arg(public.join("threads.py")).args(["3", "5"]);
        let target = Target::spawn_command(as_nobody(&mut command));
        let dump = || {
            let mut onlooker = public.onlooker();
            onlooker.args(["dump", "--json", "-p", &target.pid().to_string()]);
            run(&mut onlooker).success().json()
        };
        assert_stacks(&target, &dump());
        std::fs::remove_dir_all(&directory).expect("remove");
        assert_mapped(&target, copy.image(), true);
        assert_stacks(&target, &dump());
    });
}

/// A place that everybody can read, with the standard library of an interpreter.
fn standard_library(interpreter: &Interpreter, public: &Public) -> Option<std::path::PathBuf> {
    if !interpreter.is_pyenv() {
        return Some("/usr".into());
    }
    let name = format!("lib/python{}", interpreter.minor_version());
    public.directory("home");
    public.directory("home/lib");
    copy_library(
        &interpreter.prefix().join(&name),
        &Path::new("home").join(&name),
        public,
    );
    Some(public.join("home"))
}

fn copy_library(from: &Path, to: &Path, public: &Public) {
    public.directory(&to.to_string_lossy());
    for entry in std::fs::read_dir(from).expect("standard library").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let to = to.join(&name);
        let path = entry.path();
        if path.is_dir() {
            let needed = [
                "encodings",
                "json",
                "collections",
                "re",
                "importlib",
                "lib-dynload",
            ];
            if needed.contains(&name.as_str()) {
                copy_library(&path, &to, public);
            }
        } else {
            public.copy(&path, &to.to_string_lossy());
        }
    }
}

#[test]
fn a_launcher_that_becomes_python() {
    matrix(|interpreter| {
        // Through the loader an interpreter starts another one by its own name only.
        if interpreter.mode == Mode::Loader {
            return;
        }
        let mut command = interpreter.command::<&str>(&program("exec_launcher.py"), &[]);
        command.arg(interpreter.executable_inside());
        command
            .arg(interpreter.place(&program("threads.py")))
            .arg("3");
        let mut target = Target::spawn_command(&mut command);
        check(&target);
        target.write(b"x");
        assert_eq!(target.next_ready().program, "threads.py");
        check(&target);
    });
}
