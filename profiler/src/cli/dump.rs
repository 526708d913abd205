//! `onlooker dump`: every thread's stack, once.

use std::fmt::Write as _;

use serde::Serialize;

use super::args::DumpArgs;
use super::stdout;
use super::text::printable;
use crate::attach;
use crate::error::Error;
use crate::session::{Session, ThreadStack, Trust};
use crate::target::{self, threads};

/// A running thread's stack is read again so often until it passes every check.
const TRIES: usize = 100;

#[derive(Serialize)]
struct Dump {
    pid: i32,
    python: String,
    executable: String,
    threads: Vec<Thread>,
}

#[derive(Serialize)]
struct Thread {
    interpreter: i64,
    thread_id: u64,
    os_thread_id: Option<i32>,
    thread_name: Option<String>,
    owns_gil: bool,
    system_call: Option<String>,
    frames: Vec<Frame>,
    cut: Option<&'static str>,
}

#[derive(Serialize)]
struct Frame {
    name: String,
    filename: String,
    line: Option<u32>,
    column: Option<u32>,
    end_line: Option<u32>,
    end_column: Option<u32>,
}

pub(super) fn run(args: &DumpArgs) -> Result<u8, Error> {
    super::refuse(args.foreign.given())?;
    let attached = attach::attach(args.pid, attach::STARTING).map_err(Error::or_launch)?;
    let mut session = Session::new(attached, 1.0);
    session.sample(TRIES)?;
    let dump = collect(&mut session);
    stdout::print(&if args.json {
        stdout::json(&dump)?
    } else {
        render(&dump)
    })?;
    Ok(0)
}

fn collect(session: &mut Session) -> Dump {
    let stacks: Vec<ThreadStack> = session.stacks().cloned().collect();
    let mut threads: Vec<Thread> = stacks.iter().map(|stack| thread(session, stack)).collect();
    // Oldest interpreter first, and its main thread first, as they were started.
    threads.reverse();
    threads.sort_by_key(|thread| thread.interpreter);
    Dump {
        pid: session.pid,
        python: session.version.to_string(),
        executable: session.executable.clone(),
        threads,
    }
}

fn thread(session: &mut Session, stack: &ThreadStack) -> Thread {
    let label = session.label(stack.tstate);
    let waiting = label
        .os_thread_id
        .filter(|tid| threads::is_running(session.pid, *tid) == Some(false));
    let frames = stack.frames().iter().filter_map(|frame| {
        let code = session.code(*frame)?;
        let position = code.position(frame.lasti);
        Some(Frame {
            name: code.name.to_string(),
            filename: code.filename.to_string(),
            line: position.line,
            column: position.column,
            end_line: position.end_line,
            end_column: position.end_column,
        })
    });
    Thread {
        interpreter: stack.interpreter,
        thread_id: stack.thread_id,
        os_thread_id: label.os_thread_id,
        owns_gil: session.holds_gil(stack.tstate),
        system_call: waiting.and_then(|tid| threads::system_call(session.pid, tid)),
        frames: frames.collect(),
        cut: match stack.trust {
            Trust::Verified => None,
            // It is whole, but it changed while it was read.
            Trust::Unverified(_) => Some("torn"),
            Trust::Cut(cut) => Some(cut.name()),
        },
        thread_name: label.name,
    }
}

/// Text as a Python traceback has it: the newest frame last.
fn render(dump: &Dump) -> String {
    let mut text = String::new();
    let command = printable(&target::command_line(dump.pid).join(" "));
    let _ = writeln!(text, "Process {}: {command}", dump.pid);
    let executable = printable(&dump.executable);
    let _ = writeln!(text, "Python {} ({executable})", dump.python);
    let sub_interpreters = dump.threads.iter().any(|t| t.interpreter != 0);
    for thread in &dump.threads {
        let _ = write!(text, "\nThread ");
        match thread.os_thread_id {
            Some(tid) => drop(write!(text, "{tid}")),
            None => drop(write!(text, "{:#x}", thread.thread_id)),
        }
        if let Some(name) = &thread.thread_name {
            let _ = write!(text, " \"{}\"", printable(name));
        }
        if sub_interpreters {
            let _ = write!(text, " in interpreter {}", thread.interpreter);
        }
        let mut notes = Vec::new();
        if thread.owns_gil {
            notes.push("holds the interpreter lock".to_owned());
        }
        if let Some(call) = &thread.system_call {
            notes.push(format!("waits in {call}"));
        }
        if !notes.is_empty() {
            let _ = write!(text, " ({})", notes.join(", "));
        }
        let _ = writeln!(text, ":");
        match thread.cut {
            None if thread.frames.is_empty() => {
                let _ = writeln!(text, "  (runs no Python code)");
            }
            None => {}
            Some("torn") if !thread.frames.is_empty() => {
                let _ = writeln!(
                    text,
                    "  (this stack changed while it was read: do not trust it)"
                );
            }
            Some(cut) => {
                let _ = writeln!(text, "  (cut here: {cut})");
            }
        }
        for frame in thread.frames.iter().rev() {
            let _ = write!(text, "  File \"{}\", ", printable(&frame.filename));
            match frame.line {
                Some(line) => drop(write!(text, "line {line}, ")),
                None => drop(write!(text, "line ?, ")),
            }
            let _ = writeln!(text, "in {}", printable(&frame.name));
        }
    }
    text
}
