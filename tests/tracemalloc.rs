//! `onlooker tracemalloc` beside what `tracemalloc` says about itself, over the matrix.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use onlooker::attach;
use onlooker::error::{Error, exit};
use serde::Deserialize;
use serde_json::Value;
use support::{Run, Scratch, Target, interpreters, matrix, onlooker};

/// A line and its blocks, as the target tells them.
#[derive(Debug, Deserialize)]
struct Site {
    function: String,
    line: u64,
    count: u64,
    bytes: u64,
}

/// What the target tells.
#[derive(Debug, Deserialize)]
struct Told {
    file: String,
    sites: Vec<Site>,
    traced: [u64; 2],
    foreign: u64,
}

fn told(target: &Target) -> Told {
    let more = serde_json::to_value(&target.ready().more).expect("a map");
    serde_json::from_value(more).expect("what traced.py tells")
}

fn tracemalloc(target: &Target, args: &[&str]) -> Run {
    let pid = target.pid().to_string();
    onlooker(&[&["tracemalloc", "-p", &pid], args].concat())
}

fn snapshot(target: &Target, args: &[&str]) -> Value {
    tracemalloc(target, &[&["--json"], args].concat())
        .success()
        .json()
}

/// Blocks and bytes of one line.
fn line_of(document: &Value, file: &str, line: u64) -> (u64, u64) {
    let sites = document["sites"].as_array().expect("sites");
    let site = sites
        .iter()
        .find(|site| site["file"] == file && site["line"] == line);
    site.map_or((0, 0), |site| {
        let number = |name: &str| site[name].as_u64().expect("a number");
        (number("count"), number("bytes"))
    })
}

fn number(document: &Value, path: &str) -> u64 {
    let value = document.pointer(path).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("no number at {path} in {document}"))
}

#[test]
fn every_figure_is_that_of_the_target() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "traced.py", &["3"]);
        let told = told(&target);
        let document = snapshot(&target, &[]);
        let bytes = number(&document, "/bytes");
        // Only a build without symbols may have no sum of its own to compare with.
        if !(document["traced_bytes"].is_null() && interpreter.label.starts_with("system")) {
            assert_eq!(number(&document, "/traced_bytes/0"), bytes);
            assert_eq!(number(&document, "/traced_bytes/1"), bytes);
            assert!(number(&document, "/peak_bytes") >= told.traced[1]);
        }
        // What the target allocated to tell it.
        assert!(
            bytes.abs_diff(told.traced[0]) < 64 << 10,
            "{bytes} {told:?}"
        );
        let count = number(&document, "/count");
        assert_eq!(number(&document, "/entries/0"), count);
        assert_eq!(number(&document, "/entries/1"), count);
        assert_eq!(number(&document, "/unread/torn_buckets"), 0);
        assert_eq!(number(&document, "/unread/stale"), 0);
        assert_eq!(told.sites.len(), 3, "{told:?}");
        for site in &told.sites {
            let seen = line_of(&document, &told.file, site.line);
            assert_eq!(seen, (site.count, site.bytes), "{site:?}");
        }
        let domains = document["domains"].as_array().expect("domains");
        let foreign = domains.iter().find(|domain| domain["domain"] == 7);
        let foreign = foreign.map(|domain| (number(domain, "/count"), number(domain, "/bytes")));
        let expected = (told.foreign > 0).then_some((told.foreign, told.foreign * 100));
        assert_eq!(foreign, expected);
    });
}

#[test]
fn tracebacks_have_their_callers() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "traced.py", &["3"]);
        let told = told(&target);
        let inner = told.sites.iter().find(|site| site.function == "inner");
        let inner = inner.expect("a site in inner");
        let document = snapshot(&target, &["--by", "traceback"]);
        assert_eq!(document["max_frames"], 3);
        let sites = document["sites"].as_array().expect("sites");
        let of_inner = sites.iter().filter(|site| {
            site["traceback"][0]["line"] == inner.line
                && site["traceback"][0]["file"] == told.file.as_str()
        });
        // Up to 3.11 a comprehension is a frame of its own, on the same line.
        let mut blocks = 0;
        for site in of_inner {
            let traceback = site["traceback"].as_array().expect("frames");
            assert!(traceback.len() <= 3);
            let lines: Vec<u64> = traceback.iter().map(|f| number(f, "/line")).collect();
            let mut callers = lines.iter().skip_while(|line| **line == inner.line);
            assert_eq!(callers.next(), Some(&(inner.line - 4)), "{lines:?}");
            blocks += number(site, "/count");
        }
        assert_eq!(blocks, inner.count);

        let files = snapshot(&target, &["--by", "file"]);
        let sites = files["sites"].as_array().expect("sites");
        let own = sites.iter().find(|site| site["file"] == told.file.as_str());
        let own = own.expect("the program's file");
        assert!(own.get("line").is_none());
        let of_lines: u64 = told.sites.iter().map(|site| site.bytes).sum();
        assert!(number(own, "/bytes") >= of_lines);
    });
}

/// A target that allocates all the time: what does not change in it is seen whole, or what is
/// missing is counted.
#[test]
fn a_target_that_allocates_all_the_time_is_read() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "traced.py", &["1", "busy"]);
        let told = told(&target);
        let document = snapshot(&target, &[]);
        // No chain of these tables has more than a few dozen entries.
        let missing =
            number(&document, "/unread/torn_buckets") * 64 + number(&document, "/unread/stale");
        for site in &told.sites {
            let (count, bytes) = line_of(&document, &told.file, site.line);
            // Of what came and went during the read a thousandth may pass for more.
            assert!(
                count <= site.count + site.count / 1000 && bytes <= site.bytes + site.bytes / 1000,
                "{count} blocks, {bytes} bytes of {site:?}"
            );
            assert!(
                site.count - count <= missing,
                "{count} of {site:?}, {missing} missing"
            );
        }
        // No memory that was freed and used again passes for a block.
        if let Some(peak) = document["peak_bytes"].as_u64() {
            assert!(number(&document, "/bytes") <= peak, "{document}");
        }
    });
}

#[test]
fn off_is_said_with_a_remedy() {
    matrix(|interpreter| {
        for mode in ["off", "stopped"] {
            let target = Target::spawn(interpreter, "traced.py", &["1", mode]);
            let run = tracemalloc(&target, &[]);
            assert_eq!(
                run.code(),
                Some(exit::TRACEMALLOC_OFF.into()),
                "{}",
                run.stderr
            );
            for word in ["not on", "PYTHONTRACEMALLOC", "tracemalloc.start"] {
                assert!(run.stderr.contains(word), "{}", run.stderr);
            }
            assert!(run.stdout.is_empty());
        }
    });
}

#[test]
fn two_snapshots_differ_by_what_was_allocated_between() {
    matrix(|interpreter| {
        let scratch = Scratch::new("tracemalloc");
        let (old, new) = (scratch.join("old.json"), scratch.join("new.json"));
        let mut target = Target::spawn(interpreter, "traced.py", &["1"]);
        let told = told(&target);
        let blobs = told.sites.iter().find(|site| site.function == "blobs");
        let blobs = blobs.expect("a site in blobs");
        let pid = target.pid().to_string();
        let save = |path: &std::path::Path| {
            let path = path.to_str().expect("UTF-8");
            onlooker(&["tracemalloc", "-p", &pid, "-o", path]).success();
        };
        save(&old);
        target.write(b"x");
        target.next_ready();
        let later = self::told(&target);
        save(&new);
        let diff = |args: &[&str]| {
            let files = [old.to_str().expect("UTF-8"), new.to_str().expect("UTF-8")];
            onlooker(&[&["tracemalloc", "diff"], &files[..], args].concat()).success()
        };
        let document = diff(&["--json"]).json();
        let first = &document["changes"][0];
        assert_eq!(first["file"], told.file.as_str());
        assert_eq!(number(first, "/line"), blobs.line);
        let later = later.sites.iter().find(|site| site.line == blobs.line);
        let later = later.expect("the same site");
        let gained = (later.count - blobs.count, later.bytes - blobs.bytes);
        let seen = (
            number(first, "/count_gained"),
            number(first, "/bytes_gained"),
        );
        assert_eq!(seen, gained);
        let text = diff(&[]).text().to_owned();
        assert!(
            text.contains(&format!("{}:{}", told.file, blobs.line)),
            "{text}"
        );
    });
}

#[test]
fn reports_have_all_bytes() {
    let Some(interpreter) = interpreters().pop() else {
        return;
    };
    let scratch = Scratch::new("tracemalloc-reports");
    let target = Target::spawn(&interpreter, "traced.py", &["3"]);
    let bytes = number(&snapshot(&target, &[]), "/bytes");
    let write = |name: &str| {
        let path = scratch.join(name);
        tracemalloc(&target, &["-o", path.to_str().expect("UTF-8")]).success();
        std::fs::read_to_string(path).expect("a report")
    };
    let sum: u64 = write("x.txt")
        .lines()
        .map(|line| {
            line.rsplit(' ')
                .next()
                .expect("a weight")
                .parse::<u64>()
                .expect("a number")
        })
        .sum();
    assert_eq!(sum, bytes);
    let svg = write("x.svg");
    assert!(svg.contains("bytes") && svg.contains("traced.py:"), "{svg}");
    assert!(!svg.contains("ticks"), "a snapshot has no clock");
    let table = tracemalloc(&target, &["--limit", "2"]).success();
    assert!(table.text().contains("traced.py:"), "{}", table.text());
    assert!(table.text().contains("--limit"), "{}", table.text());
}

#[test]
fn bad_input_is_refused() {
    let scratch = Scratch::new("tracemalloc-input");
    let (foreign, missing) = (scratch.join("foreign.json"), scratch.join("missing.json"));
    std::fs::write(&foreign, "{}").expect("a file");
    let path = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let cases: BTreeMap<u8, Vec<String>> = [
        (
            exit::DATA,
            vec!["diff".to_owned(), path(&foreign), path(&foreign)],
        ),
        (
            exit::NO_INPUT,
            vec!["diff".to_owned(), path(&missing), path(&foreign)],
        ),
        (exit::USAGE, vec![]),
        (
            exit::CANNOT_CREATE,
            ["-p", "1", "-o", "/nowhere/x.json"]
                .map(str::to_owned)
                .to_vec(),
        ),
    ]
    .into();
    for (code, args) in cases {
        let mut all = vec!["tracemalloc".to_owned()];
        all.extend(args);
        let run = onlooker(&all);
        assert_eq!(run.code(), Some(code.into()), "{all:?}: {}", run.stderr);
    }
}

#[test]
fn a_target_that_ends_meanwhile_is_told() {
    let Some(interpreter) = interpreters().pop() else {
        return;
    };
    let target = Target::spawn(&interpreter, "traced.py", &["1"]);
    let attached = attach::attach_for_memory(target.pid().cast_signed(), attach::STARTING);
    let mut attached = attached.expect("an interpreter");
    target.finish();
    let error = onlooker::tracemalloc::read(&mut attached).expect_err("it has ended");
    assert!(matches!(error, Error::Exited { .. }), "{error}");
}
