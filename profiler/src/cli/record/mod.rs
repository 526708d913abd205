//! `onlooker record`: sample a process and write what was seen.

mod finish;
mod plan;
mod spool;
mod stopping;

use std::io::{self, IsTerminal};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use onlooker_recording::tables::Totals;

use super::args::RecordArgs;
use super::output::Output;
use super::stop::{Reach, Stop};
use crate::attach::{self, Attached};
use crate::error::Error;
use crate::launch::{self, Launched, START_LIMIT};
use crate::record::family::Newcomer;
use crate::record::kin::Orphans;
use crate::record::run::{self, Ended, Surroundings};
use crate::record::standing::Subject;
use finish::finish;
use plan::Plan;
use spool::{Spool, Spooled};
use stopping::Starting;

/// Where it is not sure that a program was interrupted too, it has so long to end by itself.
const CLEAN_UP: Duration = Duration::from_secs(5);

pub(super) fn run(args: &RecordArgs) -> Result<u8, Error> {
    let plan = Plan::new(args)?;
    let stop = Stop::install()?;
    let mut launched = None;
    let mut orphans = None;
    let (root, first) = match args.pid {
        Some(pid) => (pid, attach_to(pid, &plan)?),
        None => {
            // stdout belongs to the report when that goes there.
            let ours = plan.output.as_ref().is_some_and(Output::is_stdout);
            let stdout = if ours {
                Stdio::from(io::stderr())
            } else {
                Stdio::inherit()
            };
            if plan.settings.subprocesses {
                let adopted = Orphans::adopt().map_err(|error| {
                    Error::Report(format!("cannot become the parent of orphans: {error}"))
                })?;
                orphans = Some(adopted);
            }
            let child = launched.insert(if plan.begins_with_program() {
                Launched::hold(&args.command, stdout)?
            } else {
                Launched::start(&args.command, stdout)?
            });
            if args.keep {
                child.keep_running();
            }
            // With subprocesses the program may be anything: whoever is Python is found.
            let first = if plan.settings.subprocesses || plan.begins_with_program() {
                None
            } else {
                let attached = child.attach(START_LIMIT, || stop.asked());
                if attached.is_err() && stop.asked() {
                    interrupted(child, &stop);
                }
                Some(attached?)
            };
            if !plan.begins_with_program() {
                // From here on an error, a full disk or a panic leaves the program running.
                child.keep_running();
            }
            (child.pid(), first)
        }
    };
    let first = first.map(Newcomer::new);
    if plan.stops.is_some() {
        crate::stop::prepare(root)?;
    }
    let spool = Spool::create(&plan, root, args)?;
    let (spool, ended) = if plan.stops.is_some() {
        let (starting, subject) = match (first, launched.as_mut()) {
            (Some(first), _) => (None, Subject::Running(Box::new(first))),
            (None, launched) => match launched.map(Starting::new) {
                Some((starting, subject)) => (Some(starting), subject),
                None => return Err(Error::NoPython { pid: root }),
            },
        };
        stopping::sample(&plan, subject, starting, spool, &stop)?
    } else {
        let watched = Root {
            pid: root,
            first,
            orphans,
        };
        let (spool, ended) = sample(&plan, watched, spool, launched.as_mut(), &stop)?;
        (spool, Ok(ended))
    };
    let mut status = None;
    // Where we fail, the program runs on.
    let mut child = launched.as_mut();
    if let (Some(child), Ok(ended)) = (&mut child, &ended) {
        match ended {
            Ended::Process => status = child.wait(),
            Ended::Duration if !args.keep => {
                status = child.ended().or_else(|| child.end().and(None));
            }
            Ended::Duration | Ended::Interrupt => {}
        }
    }
    let found = spool.processes > 0;
    if found {
        finish(plan, spool, root)?;
    } else {
        // Nothing was ever seen, so there is nothing to keep.
        let _ = std::fs::remove_file(&spool.path);
    }
    if let (Some(child), Ok(Ended::Interrupt), false) = (child, &ended, args.keep) {
        // It cleans up while we write: what we have is safe when somebody loses patience.
        status = interrupted(child, &stop);
    }
    if !found {
        return Err(Error::NoPython { pid: root });
    }
    // What there was until then is written; the reason comes last, with its exit code.
    ended?;
    Ok(status.map_or(0, launch::exit_code))
}

/// Attaches to a process that runs already; `None` for one that is no Python while its children
/// are to be watched.
fn attach_to(pid: i32, plan: &Plan) -> Result<Option<Attached>, Error> {
    match attach::attach(pid, attach::STARTING) {
        Ok(attached) => Ok(Some(attached)),
        Err(Error::NotPython { .. }) if plan.settings.subprocesses => {
            say!("process {pid} is no Python; its children are watched");
            Ok(None)
        }
        Err(error) => Err(error.or_launch()),
    }
}

/// Waits for the end of a program that may have got the interrupt as well: it cleans up as it
/// would without us. One that has not got it is ended.
fn interrupted(child: &mut Launched, stop: &Stop) -> Option<ExitStatus> {
    let reach = if child.is_in_our_group() {
        stop.reach()
    } else {
        Reach::Alone
    };
    let ended = match reach {
        Reach::Alone => None,
        Reach::Group | Reach::Unknown => child.wait_for(CLEAN_UP),
    };
    if reach == Reach::Group && ended.is_none() {
        let pid = child.pid();
        say!("waiting for process {pid} to end; a second Ctrl-C leaves it");
        return child.wait();
    }
    child.end()
}

/// What the loop asks and tells while it runs.
struct Terminal<'a> {
    stop: &'a Stop,
    launched: Option<&'a mut Launched>,
    progress: Option<ProgressBar>,
}

impl Surroundings for Terminal<'_> {
    fn stop_asked(&mut self) -> bool {
        self.stop.asked()
    }

    fn launched_ended(&mut self) -> bool {
        self.launched
            .as_mut()
            .is_some_and(|child| child.ended().is_some())
    }

    fn progress(&mut self, totals: &Totals) {
        let Some(bar) = &self.progress else { return };
        let lost: u64 = totals.lost.iter().map(|(_, count)| count).sum();
        bar.set_message(format!(
            "{} samples, {:.2} reads a sample, {lost} lost (Ctrl-C to finish)",
            totals.ticks,
            totals.read_calls as f64 / totals.ticks.max(1) as f64,
        ));
    }

    fn warn(&mut self, error: &Error) {
        match &self.progress {
            Some(bar) => bar.suspend(|| say!("{error}")),
            None => say!("{error}"),
        }
    }
}

/// The root of what is sampled.
struct Root {
    pid: i32,
    /// When it is attached to already.
    first: Option<Newcomer>,
    /// When its orphans come to us.
    orphans: Option<Orphans>,
}

/// Samples until something ends it; what was seen is on disk then.
fn sample(
    plan: &Plan,
    root: Root,
    spool: Spool,
    launched: Option<&mut Launched>,
    stop: &Stop,
) -> Result<(Spooled, Ended), Error> {
    let mut recorder = spool.recorder()?;
    let mut terminal = Terminal {
        stop,
        launched,
        progress: progress_line(),
    };
    let Root {
        pid,
        first,
        orphans,
    } = root;
    let ran = run::run(
        &plan.settings,
        pid,
        first,
        orphans,
        &mut recorder,
        &mut terminal,
    );
    if let Some(bar) = terminal.progress {
        bar.finish_and_clear();
    }
    let recorded = ran.and_then(|ended| {
        let processes = recorder.processes();
        Ok((ended, processes, recorder.finish()?))
    });
    let (ended, processes, totals) = recorded.map_err(|error| spool.failed(&error))?;
    Ok((spool.done(totals, processes), ended))
}

fn progress_line() -> Option<ProgressBar> {
    if !io::stderr().is_terminal() {
        return None;
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    Some(bar)
}
