//! Usage errors of the argument parser in the form of all our errors.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::args::Cli;

/// What is wrong with the command line, why, and what to do, in one line as every error here.
pub(super) fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim);
    // A command without its subcommand says nothing but its help.
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand
    ) {
        return "no command was given; Usage: onlooker COMMAND; see 'onlooker --help'".to_owned();
    }
    let told: Vec<&str> = lines
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty())
        .collect();
    let told = told.join(" ").replace(" tip: ", "; ");
    let told = told.strip_prefix("error: ").unwrap_or(&told);
    let command = std::env::args().nth(1);
    let known = |name: &String| Cli::command().find_subcommand(name).is_some();
    match command.filter(known) {
        Some(command) => format!("{told}; see 'onlooker {command} --help'"),
        None => format!("{told}; see 'onlooker --help'"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn one_line_says_what_is_wrong_and_where_help_is() {
        for (args, words) in [
            (&["onlooker"][..], "no command was given"),
            (&["onlooker", "rekord"], "'rekord'"),
            (&["onlooker", "dump"], "--pid <PID>"),
            (&["onlooker", "dump", "-p", "x"], "'x' for '--pid <PID>'"),
            (&["onlooker", "record", "--bogus"], "'--bogus' found"),
            (
                &["onlooker", "record", "-p", "1", "--", "ls"],
                "cannot be used with",
            ),
        ] {
            let error = Cli::try_parse_from(args).unwrap_err();
            let line = one_line(&error);
            assert_eq!(line.lines().count(), 1, "{line}");
            assert!(line.contains(words), "{line}");
            assert!(
                line.contains("--help'") && !line.contains("error:"),
                "{line}"
            );
        }
    }
}
