//! Whether verified samples can be trusted, on the user's own program.
//!
//! The program runs twice: under an oracle that writes down who really calls whom
//! ([`oracle`]), and as it is, sampled; every step of every stack is then compared
//! ([`edges`]). What the command line prints of it is not known here.

pub mod edges;
pub mod oracle;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use onlooker_symbols::names::CodeId;
use onlooker_unwinder::memory::{Class, Cost};

use crate::error::Error;
use crate::launch::{Launched, START_LIMIT};
use crate::record::clock::{Beat, Clock};
use crate::session::{CODE, Earlier, Session, StackFrame, ThreadStack, Trust};
use crate::target;
use edges::{Function, FunctionId, Oracle, Tally};

/// Between looks at the flags, at low rates.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// Beyond so many code objects the cache of their functions is emptied.
const MAX_CACHED_CODES: usize = 1 << 20;

/// What was sampled in the second run.
#[derive(Clone, Debug, Default)]
pub struct Sampled {
    /// The version of the interpreter.
    pub python: String,
    /// From the first tick to the last.
    pub duration: Duration,
    /// Beats of the clock at which a sample was tried.
    pub ticks: u64,
    /// Beats that came while an earlier one was worked on.
    pub missed: u64,
    /// Stacks that passed every check.
    pub verified: u64,
    /// Stacks that did not, by reason.
    pub unverified: BTreeMap<&'static str, u64>,
    /// Ticks of a thread that gave no frame at all, by reason.
    pub lost: BTreeMap<&'static str, u64>,
    /// Reads that were repeated.
    pub retries: u64,
    /// What reading stacks cost.
    pub cost: Cost,
    /// Steps of verified stacks.
    pub steps: Tally,
    /// Steps of the others, to see what the checks are worth.
    pub unverified_steps: Tally,
}

/// Runs `command` as it is and samples it, for at most `limit` or until `stopped`.
///
/// # Errors
/// When the command cannot be started or is no CPython that can be read.
pub fn sample(
    command: &[OsString],
    rate_hz: f64,
    tries: usize,
    limit: Option<Duration>,
    oracle: &mut Oracle,
    stopped: &dyn Fn() -> bool,
) -> Result<Sampled, Error> {
    // stdout is for what was found.
    let mut child = Launched::start(command, Stdio::from(io::stderr()))?;
    let attached = child.attach(START_LIMIT, stopped)?;
    let mut session = Session::new(attached, rate_hz);
    let mut sampled = Sampled {
        python: session.version.to_string(),
        ..Sampled::default()
    };
    let mut functions = HashMap::new();
    // Verified stacks whose code objects were not looked at since.
    let mut waiting = Vec::new();
    let mut clock = Clock::new(rate_hz, u64::from(std::process::id()));
    loop {
        // A wait that was cut short is a signal: the flags below tell.
        let beat = clock.wait(LONGEST_WAIT);
        sampled.duration = Duration::from_nanos(clock.elapsed_ns());
        if stopped() || limit.is_some_and(|limit| sampled.duration >= limit) {
            break;
        }
        if beat == Beat::Pause {
            continue;
        }
        sampled.ticks += 1;
        match session.sample(tries) {
            Ok(()) if session.has_interpreter() => {}
            Err(_) if !target::is_alive(session.pid) => break,
            Ok(()) | Err(Error::Exited { .. }) => {
                if child.ended().is_some() {
                    break;
                }
                *sampled.lost.entry("no interpreter").or_default() += 1;
                continue;
            }
            Err(error) => return Err(error),
        }
        if functions.len() > MAX_CACHED_CODES {
            functions.clear();
        }
        match session.earlier() {
            Earlier::Unchecked => {}
            Earlier::Same => sampled.settle(&mut waiting, oracle, true),
            Earlier::Replaced => sampled.settle(&mut waiting, oracle, false),
        }
        for stack in session.stacks() {
            let frames = functions_of(&session, stack, &mut functions, oracle);
            if stack.trust == Trust::Verified && session.earlier() == Earlier::Unchecked {
                waiting.push(frames);
                continue;
            }
            sampled.count(stack);
            let tally = match stack.trust {
                Trust::Verified => &mut sampled.steps,
                _ => &mut sampled.unverified_steps,
            };
            tally.add(oracle, &frames);
        }
    }
    sampled.settle(&mut waiting, oracle, true);
    sampled.missed = clock.missed();
    sampled.retries = session.retries();
    sampled.cost = session.cost(Class::Stacks);
    child.end();
    Ok(sampled)
}

impl Sampled {
    /// Counts stacks that waited until their code objects were looked at.
    fn settle(&mut self, waiting: &mut Vec<Vec<FunctionId>>, oracle: &Oracle, are_same: bool) {
        for frames in waiting.drain(..) {
            if are_same {
                self.verified += 1;
                self.steps.add(oracle, &frames);
            } else {
                *self.unverified.entry(CODE).or_default() += 1;
                self.unverified_steps.add(oracle, &frames);
            }
        }
    }

    fn count(&mut self, stack: &ThreadStack) {
        match stack.trust.reason() {
            None => self.verified += 1,
            Some(reason) if stack.frames().is_empty() => *self.lost.entry(reason).or_default() += 1,
            Some(reason) => *self.unverified.entry(reason).or_default() += 1,
        }
    }
}

/// The functions of a stack, outermost first.
fn functions_of(
    session: &Session,
    stack: &ThreadStack,
    known: &mut HashMap<CodeId, FunctionId>,
    oracle: &mut Oracle,
) -> Vec<FunctionId> {
    let mut of = |frame: &StackFrame| {
        if let Some(id) = known.get(&frame.code) {
            return *id;
        }
        let function = match session.code(*frame) {
            Some(code) => Function {
                name: code.name.to_string(),
                filename: code.filename.to_string(),
                line: code.header.first_line,
            },
            None => Function {
                name: "<unknown>".to_owned(),
                filename: String::new(),
                line: 0,
            },
        };
        let id = oracle.id(function);
        known.insert(frame.code, id);
        id
    };
    stack.frames().iter().rev().map(&mut of).collect()
}
