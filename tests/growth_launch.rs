//! `onlooker record --growth -- COMMAND`: a program that is watched from its first statement on, held
//! until then, and never left behind. Apart from `growth.rs`, for it keeps every CPU busy.

#[path = "support/mod.rs"]
mod support;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use onlooker::error::exit;
use support::{
    Interpreter, Mode, Scratch, any, grown_and_kept, matrix, onlooker_command, program, run, say,
};

const MIB: f64 = (1 << 20) as f64;

/// A process that takes a CPU, until it is dropped.
struct Spinner(Child);

impl Spinner {
    fn start() -> Self {
        let mut command = Command::new(any().executable);
        Self(
            command
                .args(["-c", "while True: pass"])
                .spawn()
                .expect("a spinner"),
        )
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Launches a program that grows first of all; grown and kept bytes of the function, and what was said.
fn launch_first(interpreter: &Interpreter, more: &[&str]) -> ((f64, f64), String) {
    let scratch = Scratch::new("growth-first");
    let output = scratch.join("x.olk");
    let target = interpreter.command::<&str>(&program("first.py"), &[]);
    let ran = run(onlooker_command()
        .args(["record", "--growth", "-o"])
        .arg(&output)
        .args(more)
        .arg("--")
        .arg(target.get_program())
        .args(target.get_args()))
    .success();
    assert_eq!(ran.text(), "67108864\n");
    let of = grown_and_kept(&output).get("first").copied();
    (of.unwrap_or_default(), ran.stderr)
}

#[test]
fn a_program_that_is_launched_is_watched_from_its_first_statement_on() {
    for spinners in [0, 2] {
        let _busy: Vec<_> = (0..spinners).map(|_| Spinner::start()).collect();
        matrix(|interpreter| {
            // There the interpreter is the child of what is launched.
            if interpreter.mode == Mode::Namespace {
                return;
            }
            for _ in 0..2 {
                let ((grown, kept), said) = launch_first(interpreter, &[]);
                for bytes in [grown, kept] {
                    let apart = (bytes / MIB - 64.0).abs();
                    assert!(apart < 0.05 * 64.0, "{grown}, {kept}: {said}");
                }
                assert!(said.contains("before its interpreter was there"), "{said}");
            }
        });
    }
    // Its loader touches pages that the kernel would put off for ever while signals wait.
    let ((grown, _), said) = launch_first(&any(), &["--growth-every", "4K"]);
    assert!((grown / MIB - 64.0).abs() < 3.2, "{grown}: {said}");
}

#[test]
fn a_program_whose_launcher_is_killed_runs_or_ends() {
    let interpreter = any();
    let scratch = Scratch::new("growth-launch-kill");
    let target = interpreter.command::<&str>(&program("first.py"), &[]);
    // What was written before it ran, and by those that ran to their end.
    let (mut nothing, mut whole) = (0, 0);
    for round in 0..60_u64 {
        let mut onlooker = onlooker_command()
            .args(["record", "--growth", "-o"])
            .arg(scratch.join("x.olk"))
            .arg("--")
            .arg(target.get_program())
            .args(target.get_args())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("onlooker");
        // The moment of the kill is what is varied: most are before the program runs, some later.
        std::thread::sleep(Duration::from_micros(round * round * 100));
        onlooker.kill().expect("kill");
        onlooker.wait().expect("wait");
        // The program has the other end until it ends.
        let (sender, answer) = std::sync::mpsc::channel();
        let stdout = onlooker.stdout.take().expect("piped");
        std::thread::spawn(move || sender.send(std::io::read_to_string(stdout)));
        let text = answer.recv_timeout(Duration::from_secs(60));
        let text = text.expect("it hangs").expect("text");
        match text.as_str() {
            "" => nothing += 1,
            "67108864\n" => whole += 1,
            _ => panic!("{text}"),
        }
    }
    say(&format!("{nothing} never ran, {whole} ran to their end"));
    assert!(nothing > 0 && whole > 0, "{nothing}, {whole}");
}

#[test]
fn a_launched_program_that_is_no_python_or_cannot_be_started_is_told() {
    let go = |command: &[&str]| {
        let scratch = Scratch::new("growth-other");
        let ended = run(onlooker_command()
            .args(["record", "--growth", "-o"])
            .arg(scratch.join("x.olk"))
            .arg("--")
            .args(command));
        assert!(!scratch.join("x.olk").exists());
        (ended.code(), ended.stderr)
    };
    let (code, said) = go(&["sh", "-c", "exit 3"]);
    assert_eq!(code, Some(exit::NOT_PYTHON.into()), "{said}");
    assert!(said.contains("it has ended"), "{said}");
    let (code, said) = go(&["./no-such-program"]);
    assert_eq!(code, Some(exit::CANNOT_START.into()), "{said}");
    assert!(said.contains("No such file"), "{said}");
}
