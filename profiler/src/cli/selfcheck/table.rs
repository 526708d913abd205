//! The table of `onlooker selfcheck`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Place, Report, Worst};
use crate::cli::text::printable;

/// Frames of an example on either side of its impossible edge.
const AROUND: usize = 3;

pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    let oracle = &report.oracle;
    let plural = if oracle.runs == 1 { "run" } else { "runs" };
    let _ = writeln!(text, "Command  {}", printable(&report.command.join(" ")));
    let _ = writeln!(
        text,
        "Oracle   {} {plural} of {:.1} s together, sys.{}: {} different edges{}",
        oracle.runs,
        oracle.duration_s,
        oracle.way,
        oracle.edges,
        if oracle.ended_early {
            " (ended early)"
        } else {
            ""
        }
    );
    let _ = writeln!(
        text,
        "Samples  CPython {}, {} Hz for {:.1} s, {} retries, {:.1} calls and {:.0} bytes a tick\n",
        report.python,
        report.rate_hz,
        report.duration_s,
        report.retries,
        report.calls as f64 / report.ticks.max(1) as f64,
        report.bytes as f64 / report.ticks.max(1) as f64
    );
    let mut row = |what: &str, value: u64, more: &str| {
        let line = format!("{what:<22}{value:>12}  {more}");
        let _ = writeln!(text, "{}", line.trim_end());
    };
    row("ticks", report.ticks, "");
    row("  missed", report.missed_ticks, "");
    row("stacks verified", report.verified, "");
    let sum = |reasons: &BTreeMap<_, u64>| reasons.values().sum();
    row(
        "       unverified",
        sum(&report.unverified),
        &reasons(&report.unverified),
    );
    row("       lost", sum(&report.lost), &reasons(&report.lost));
    let edges = &report.edges;
    row(
        "       outside",
        edges.outside,
        "verified, but of the interpreter's start (importlib bootstrap, site): before the oracle",
    );
    let seen = format!("in verified stacks, {} different", edges.different);
    row("edges seen", edges.seen, &seen);
    row(
        "      anywhere",
        edges.anywhere,
        "new, but into a finalizer, weak reference, signal handler or GC callback",
    );
    let share = format!(
        "{:.4} % of edges; {} of {} stacks ({:.4} %)",
        100.0 * edges.impossible_share,
        edges.impossible_stacks,
        edges.stacks,
        percent(edges.impossible_stacks, edges.stacks)
    );
    row("      impossible", edges.impossible, &share);
    let others = &report.unverified_edges;
    if others.stacks > 0 {
        let more = format!(
            "in the {} stacks that were not verified, for comparison",
            others.stacks
        );
        row("      impossible", others.impossible, &more);
    }
    if !report.worst.is_empty() {
        worst(&mut text, &report.worst);
    }
    text
}

fn worst(text: &mut String, worst: &[Worst]) {
    let _ = writeln!(text, "\nImpossible edges, the most frequent first");
    for edge in worst {
        let _ = writeln!(
            text,
            "{:>8}  {} -> {}",
            edge.count,
            place(edge.caller.as_ref()),
            place(Some(&edge.callee))
        );
        let _ = writeln!(text, "{:>8}  in {}", "", example(edge));
    }
    let _ = writeln!(
        text,
        "\nAn edge is called impossible when the oracle did not see it. A program that does not \
         make the\nsame calls in each run (time, random numbers, order of sets and threads, \
         network) has such edges\nwithout any error: try --oracle-runs 5, or PYTHONHASHSEED=0, \
         and look whether they stay."
    );
}

/// The frames around the edge, outermost first.
fn example(edge: &Worst) -> String {
    let stack = &edge.example;
    let at = (0..stack.len()).find(|at| {
        let caller = at.checked_sub(1).map(|caller| &stack[caller]);
        stack[*at] == edge.callee && caller == edge.caller.as_ref()
    });
    let at = at.unwrap_or_default();
    let from = at.saturating_sub(AROUND);
    let to = (at + AROUND).min(stack.len());
    let names: Vec<String> = stack[from..to].iter().map(|f| printable(&f.name)).collect();
    let mut line = names.join(" > ");
    if from > 0 {
        line.insert_str(0, "... > ");
    }
    if to < stack.len() {
        line.push_str(" > ...");
    }
    line
}

fn place(place: Option<&Place>) -> String {
    match place {
        None => "(outermost)".to_owned(),
        Some(place) => {
            let file = place.filename.rsplit('/').next().unwrap_or_default();
            let line = place.first_line;
            format!("{} ({}:{line})", printable(&place.name), printable(file))
        }
    }
}

fn reasons(reasons: &BTreeMap<&'static str, u64>) -> String {
    let each: Vec<String> = reasons
        .iter()
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    each.join(", ")
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}
