//! `onlooker`: see the library for everything.

use std::process::ExitCode;

fn main() -> ExitCode {
    onlooker::cli::main()
}
