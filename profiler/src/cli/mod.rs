//! The command line: data on stdout, talk on stderr, one line per error.

/// A line of talk. That nobody listens any more is no reason to end, least of all by a panic.
macro_rules! say {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "onlooker: {}", format_args!($($line)*));
    }};
}

pub mod args;
mod dump;
mod heap;
mod output;
mod pages;
mod progress;
mod reads;
mod record;
mod report;
mod selfcheck;
mod stdout;
mod stop;
mod text;
mod tracemalloc;
mod usage;

use std::process::ExitCode;

use clap::Parser;

use crate::error::{Error, exit};
use crate::record::own_cpu;
use args::{Cli, Command};

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    own_cpu::begin();
    std::panic::set_hook(Box::new(|panic| {
        let at = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let what = text
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("unknown");
        say!(
            "defect in Onlooker at {at}: {what}; the target is unharmed; please report \
             this line"
        );
    }));
    match std::panic::catch_unwind(run) {
        Ok(code) => ExitCode::from(code),
        Err(_) => ExitCode::from(exit::INTERNAL),
    }
}

fn run() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors and go to stdout.
            if !error.use_stderr() {
                let _ = error.print();
                return 0;
            }
            say!("{}", usage::one_line(&error));
            return exit::USAGE;
        }
    };
    let result = match cli.command {
        Command::Dump(args) => dump::run(&args),
        Command::Record(args) => record::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Reads(args) => reads::run(&args),
        Command::Selfcheck(args) => selfcheck::run(&args),
        Command::Pages(args) => pages::run(&args),
        Command::Tracemalloc(args) => tracemalloc::run(&args),
        Command::Heap(args) => heap::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            say!("{error}");
            error.exit_code()
        }
    }
}

/// Refuses a flag of py-spy that does not exist here.
fn refuse(flag: Option<&'static str>) -> Result<(), Error> {
    match flag {
        Some(flag) => Err(Error::Usage(format!(
            "{flag} is a flag of py-spy that Onlooker does not have yet"
        ))),
        None => Ok(()),
    }
}
