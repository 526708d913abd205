//! The report for people.

use std::fmt::Write as _;

use super::report::{ProcessReport, Report, TypeReport, WorkerReport};
use crate::cli::text::{bytes, printable};
use crate::target::smaps::Sizes;

pub(super) fn render(report: &Report, limit: usize) -> String {
    let mut text = String::new();
    for process in &report.processes {
        if !text.is_empty() {
            text.push('\n');
        }
        sizes(&mut text, process);
        if let Some(worker) = &process.worker {
            sharing(&mut text, worker);
            types(&mut text, worker, limit);
        }
    }
    if let Some(family) = report.family {
        let _ = writeln!(
            text,
            "\nTogether {} (PSS) in {} processes. One more worker costs {}, the mean of what {} have \
             for themselves; at most {}.",
            bytes(family.pss_bytes),
            family.processes,
            bytes(family.worker_mean_bytes),
            match family.workers {
                1 => "the one".to_owned(),
                workers => format!("these {workers}"),
            },
            bytes(family.worker_max_bytes),
        );
    }
    text
}

fn sizes(text: &mut String, process: &ProcessReport) {
    let command = printable(&process.command.join(" "));
    let _ = writeln!(text, "Process {}: {command}", process.pid);
    match &process.python {
        Some(version) => drop(writeln!(text, "Python {version}")),
        None => drop(writeln!(text, "no Python that could be proven")),
    }
    let _ = writeln!(
        text,
        "{:<12} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "", "VIRT", "RSS", "PSS", "USS", "swap", "huge"
    );
    for kind in &process.kinds {
        row(text, kind.kind.name(), kind.sizes);
    }
    row(text, "all", process.total);
}

fn row(text: &mut String, name: &str, sizes: Sizes) {
    let _ = writeln!(
        text,
        "{name:<12} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
        bytes(sizes.virtual_bytes),
        bytes(sizes.rss_bytes),
        bytes(sizes.pss_bytes),
        bytes(sizes.uss_bytes),
        bytes(sizes.swap_bytes),
        bytes(sizes.huge_bytes)
    );
}

fn sharing(text: &mut String, worker: &WorkerReport) {
    let _ = writeln!(
        text,
        "Beside its parent {}: {} shared, {} not shared, {} of files",
        worker.parent,
        bytes(worker.shared_bytes),
        bytes(worker.unshared_bytes),
        bytes(worker.file_bytes)
    );
    if !worker.proven {
        let _ = writeln!(
            text,
            "  (page frames are hidden: who else maps a page decides, who wrote it is unknown; they \
             need root with CAP_SYS_ADMIN, Linux 5.19)"
        );
    }
    let why = worker.why;
    let contents = worker.contents;
    list(
        text,
        "not shared because",
        &[
            ("the parent has none there", why.new),
            ("the worker wrote", why.worker),
            ("the parent wrote", why.parent),
            ("both wrote", why.both),
            ("the kernel made huge pages", why.huge),
            ("unknown", why.unknown),
        ],
    );
    list(
        text,
        "the two copies differ in",
        &[
            ("nothing any more", contents.same),
            ("counts of references only", contents.references),
            ("headers of the collector only", contents.collector),
            ("counts and headers only", contents.headers),
            ("values", contents.values),
            ("not compared", contents.unread),
        ],
    );
    let kinds: Vec<(&str, u64)> = worker
        .kinds
        .iter()
        .map(|each| (each.kind.name(), each.split.unshared))
        .collect();
    list(text, "not shared by kind", &kinds);
    let [least, most] = worker.freeze_saves_bytes;
    let _ = writeln!(
        text,
        "  gc.freeze() before the fork would have saved {} to {}",
        bytes(least),
        bytes(most)
    );
}

/// Whose memory is not shared any more: the bytes of each type in such pages, and by what the pages
/// differ in from the parent's.
fn types(text: &mut String, worker: &WorkerReport, limit: usize) {
    let Some(types) = &worker.types else {
        return;
    };
    let _ = writeln!(
        text,
        "  {:<32} {:>10} {:>8} {:>10} {:>10} {:>10} {:>10}",
        "not shared by type", "bytes", "pages", "new", "undone", "headers", "values"
    );
    for row in types.iter().take(limit) {
        let TypeReport { contents, .. } = row;
        // Counts of references and headers of the collector, and nothing else.
        let headers = contents.references + contents.collector + contents.headers;
        let _ = writeln!(
            text,
            "  {:<32} {:>10} {:>8} {:>10} {:>10} {:>10} {:>10}",
            printable(&row.name),
            bytes(row.bytes),
            row.pages,
            bytes(row.new),
            bytes(contents.same),
            bytes(headers),
            bytes(contents.values)
        );
    }
    if let Some(more) = types.len().checked_sub(limit).filter(|more| *more > 0) {
        let _ = writeln!(text, "  … and {more} more (--limit)");
    }
}

/// What is not zero, in one line.
fn list(text: &mut String, title: &str, parts: &[(&str, u64)]) {
    let parts: Vec<String> = parts
        .iter()
        .filter(|(_, value)| *value > 0)
        .map(|(name, value)| format!("{name} {}", bytes(*value)))
        .collect();
    if !parts.is_empty() {
        let _ = writeln!(text, "  {title}: {}", parts.join(", "));
    }
}
