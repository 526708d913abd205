//! `onlooker heap -o FILE.olkh` and what can be done with the file: the same report, a difference,
//! and one clear error for what is no image.

#[path = "support/mod.rs"]
mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use onlooker::error::exit;
use onlooker::heap::copy::Limits;
use onlooker::heap::image;
use onlooker::heap::take::{self, Options};
use onlooker_heap::diff::{Moves, Side, TypeChange, diff};
use serde_json::Value;
use support::{
    Run, Scratch, Target, any, matrix, names, onlooker, onlooker_command, program, run, say,
};

/// As `heap/src/image/mod.rs` tells.
const HEADER_BYTES: usize = 140;

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Writes an image of a process; what was said of it.
#[track_caller]
fn keep(target: &Target, path: &Path, flags: &[&str]) -> Value {
    let pid = target.pid().to_string();
    let mut args = vec!["heap", "--json", "-p", &pid, "-o", text(path)];
    args.extend(flags);
    onlooker(&args).success().json()
}

fn read(path: &Path) -> Run {
    onlooker(&["heap", "--json", text(path)])
}

/// An image of a small program.
fn sample(scratch: &Scratch) -> PathBuf {
    let target = Target::spawn(&any(), "orders.py", &["100"]);
    let path = scratch.join("sample.olkh");
    keep(&target, &path, &[]);
    path
}

#[test]
fn an_image_says_what_the_run_that_wrote_it_said() {
    let scratch = Scratch::new("same");
    matrix(|interpreter| {
        let modes: [(&[&str], &[&str], Option<&str>); 4] = [
            (&["1000"], &[], None),
            (&["1000", "busy"], &["--pause"], None),
            (&["1000", "busy"], &[], None),
            (&["300"], &["--max-memory", "4M"], Some("debug")),
        ];
        for (args, flags, allocator) in modes {
            let mut command = interpreter.command(&program("census.py"), args);
            if let Some(allocator) = allocator {
                command.env("PYTHONMALLOC", allocator);
            }
            let target = Target::spawn_command(&mut command);
            let path = scratch.join("image.olkh");
            let live = keep(&target, &path, flags);
            drop(target);
            let kept = read(&path).success().json();
            assert_eq!(kept, live, "{args:?} {flags:?} {allocator:?}");
            let meta = std::fs::metadata(&path).expect("an image");
            assert_eq!(meta.permissions().mode() & 0o7777, 0o600);
        }
        assert_eq!(names(scratch.path()), ["image.olkh"]);
    });
}

#[test]
fn the_table_of_an_image_is_that_of_its_process() {
    let scratch = Scratch::new("table");
    let target = Target::spawn(&any(), "census.py", &["100"]);
    let path = scratch.join("image.olkh");
    let pid = target.pid().to_string();
    let live = onlooker(&["heap", "-p", &pid, "-o", text(&path), "--limit", "5"]).success();
    let kept = onlooker(&["heap", text(&path), "--limit", "5"]).success();
    assert_eq!(kept.text(), live.text());
    assert!(kept.text().contains("Resident: "), "{}", kept.text());
}

/// Elsewhere `-` is stdout.
#[test]
fn an_image_is_not_written_to_stdout() {
    let target = Target::spawn(&any(), "census.py", &["100"]);
    let pid = target.pid().to_string();
    let run = onlooker(&["heap", "-p", &pid, "-o", "-"]);
    assert_eq!(run.code(), Some(exit::USAGE.into()));
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains("needs a file"), "{}", run.stderr);
}

/// What the program says that it made and dropped is what the difference shows.
#[test]
fn a_difference_has_what_appeared_and_what_is_gone() {
    let scratch = Scratch::new("diff");
    matrix(|interpreter| {
        let mut target = Target::spawn(interpreter, "orders.py", &["3000", "2000", "100"]);
        let [a, b] = ["a.olkh", "b.olkh"].map(|name| scratch.join(name));
        keep(&target, &a, &["--pause"]);
        target.write(b"x");
        target.next_ready();
        keep(&target, &b, &["--pause"]);
        let diff = difference(&a, &b);
        let row = row(&diff["types"], "type", "__main__.Order");
        assert_eq!(row["count"], serde_json::json!([3000, 4900]), "{row}");
        assert_eq!(row["count_gained"], 1900);
        assert_eq!(row["appeared"], 2000, "{row}");
        assert_eq!(row["gone"], 100, "{row}");
        let own = &row["own_bytes"];
        let gained = own[1].as_i64().expect("bytes") - own[0].as_i64().expect("bytes");
        assert_eq!(row["bytes_gained"], gained);
        assert!(gained >= 1900 * 48, "{row}");
        // Nobody made or dropped a class.
        let row = self::row(&diff["types"], "type", "__main__.Ledger");
        assert_eq!((&row["appeared"], &row["gone"]), (&0.into(), &0.into()));
        let module = self::row(&diff["modules"], "module", "__main__");
        assert_eq!(module["count"], serde_json::json!([3001, 4901]));
        assert_eq!(diff["same_process"], true);
        assert_eq!(diff["notes"], serde_json::json!([]));
        assert_arenas(&diff, &a, &b);
        assert_sorted(&diff);
        // Against itself nothing has changed.
        let same = difference(&a, &a);
        let objects = &same["objects"];
        for field in ["count_gained", "bytes_gained", "appeared", "gone"] {
            assert_eq!(objects[field], 0, "{field}");
        }
    });
}

#[track_caller]
fn difference(a: &Path, b: &Path) -> Value {
    let args = ["heap", "diff", text(a), text(b), "--json"];
    onlooker(&args).success().json()
}

#[track_caller]
fn row<'a>(rows: &'a Value, key: &str, name: &str) -> &'a Value {
    let rows = rows.as_array().expect("rows");
    let found = rows.iter().find(|row| row[key] == name);
    found.unwrap_or_else(|| panic!("no {name} in {rows:?}"))
}

/// Without its arenas every tracked object is reached by the lists of the collector alone. That
/// it has no block does not make it another one.
#[test]
fn an_object_that_only_a_list_led_to_is_the_same_one() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "orders.py", &["300"]);
        let options = Options {
            limits: Limits { max_bytes: 1 << 30 },
            pause: true,
            keep: false,
        };
        let taken = take::take(target.pid().cast_signed(), options, |_, _| {});
        let taken = taken.expect("a census");
        let (mut image, whole) = (taken.image, taken.report.census);
        image.arenas.clear();
        let lists = image::report(&mut image).census;
        assert!(lists.reached.count > 300);
        let [whole, lists] = [&whole, &lists].map(|census| Side {
            census,
            space: &image.space,
        });
        for (before, after) in [(&whole, &lists), (&lists, &whole), (&lists, &lists)] {
            let types = diff(before, after, true).types;
            for each in &types {
                let moves = each.moves.expect("of one process");
                let moved = moves.appeared.cast_signed() - moves.gone.cast_signed();
                assert_eq!(moved, each.change.count_gained(), "{each:?}");
            }
            let name = |each: &&TypeChange| each.name.to_string() == "__main__.Order";
            let orders = types.iter().find(name).expect("orders");
            assert_eq!(orders.change.count, [300, 300]);
            assert_eq!(orders.moves, Some(Moves::default()));
        }
    });
}

/// Blocks by arena add up to those of each image.
#[track_caller]
fn assert_arenas(diff: &Value, a: &Path, b: &Path) {
    let arenas = diff["arenas"].as_array().expect("of one process");
    for (side, path) in [a, b].into_iter().enumerate() {
        let blocks = |arena: &Value| arena["blocks"][side].as_u64().expect("a number");
        let sum: u64 = arenas.iter().map(blocks).sum();
        let census = read(path).success().json();
        assert_eq!(census["blocks_allocated"], sum);
    }
}

/// By absolute change of bytes.
#[track_caller]
fn assert_sorted(diff: &Value) {
    for rows in ["types", "modules", "arenas"] {
        let rows = diff[rows].as_array().expect("rows");
        let gained = |row: &Value| row["bytes_gained"].as_i64().expect("bytes").unsigned_abs();
        assert!(rows.is_sorted_by(|a, b| gained(a) >= gained(b)));
    }
}

#[test]
fn two_processes_are_compared_by_type_only() {
    let scratch = Scratch::new("foreign");
    let interpreters = support::interpreters();
    let (first, last) = (&interpreters[0], &interpreters[interpreters.len() - 1]);
    let [a, b] = ["a.olkh", "b.olkh"].map(|name| scratch.join(name));
    keep(&Target::spawn(first, "orders.py", &["500"]), &a, &[]);
    keep(&Target::spawn(last, "orders.py", &["700"]), &b, &[]);
    let diff = difference(&a, &b);
    let row = row(&diff["types"], "type", "__main__.Order");
    assert_eq!(row["count"], serde_json::json!([500, 700]));
    assert_eq!(row["appeared"], Value::Null);
    assert_eq!(diff["same_process"], false);
    assert_eq!(diff["arenas"], Value::Null);
    assert!(!diff["notes"].as_array().expect("notes").is_empty());
    let table = onlooker(&["heap", "diff", text(&a), text(&b), "--limit", "3"]).success();
    assert!(table.text().contains("two processes"), "{}", table.text());
    assert!(table.text().contains("+200"), "{}", table.text());
}

/// One line on standard error, nothing on standard output, and this exit code.
#[track_caller]
fn assert_refused(run: &Run, code: u8, words: &str) {
    assert_eq!(run.code(), Some(code.into()), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains(words), "{words}: {}", run.stderr);
    assert!(run.stdout.is_empty());
}

#[test]
fn what_is_no_image_is_refused() {
    let scratch = Scratch::new("damaged");
    let path = sample(&scratch);
    let good = std::fs::read(&path).expect("an image");
    let bad = scratch.join("bad.olkh");
    let refused = |bytes: &[u8], words: &str| {
        std::fs::write(&bad, bytes).expect("write");
        assert_refused(&read(&bad), exit::DATA, words);
    };
    refused(b"", "not an image");
    refused(b"\x7fELF, or anything else", "not an image");
    refused(&good[..5], "truncated");
    refused(&good[..HEADER_BYTES], "truncated");
    refused(&good[..good.len() - 1], "truncated");
    refused(&good[..good.len() / 2], "truncated");
    let longer: Vec<u8> = good.iter().copied().chain([0]).collect();
    refused(&longer, "damaged");
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    refused(&flipped(0), "not an image");
    refused(&flipped(12), "format");
    for at in [8, 16, 24, 40, HEADER_BYTES - 1] {
        refused(&flipped(at), "damaged");
    }
    // Behind the header: each part has its own checksum.
    for part in 1..8 {
        let at = HEADER_BYTES + (good.len() - HEADER_BYTES - 1) * part / 7;
        refused(&flipped(at), "damaged");
    }
    assert_refused(&read(&scratch.join("none")), exit::NO_INPUT, "cannot read");
    assert_refused(&read(scratch.path()), exit::NO_INPUT, "cannot read");
    let fifo = scratch.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    assert_refused(&read(&fifo), exit::NO_INPUT, "not a regular file");
    let diff = onlooker(&["heap", "diff", text(&path), text(&bad)]);
    assert_refused(&diff, exit::DATA, "bad.olkh");
}

#[test]
fn memory_is_written_to_a_new_file_of_its_owner_only() {
    let scratch = Scratch::new("private");
    let target = Target::spawn(&any(), "orders.py", &["100"]);
    let pid = target.pid().to_string();
    let write = |name: &str| onlooker(&["heap", "-p", &pid, "-o", text(&scratch.join(name))]);
    // A link is not followed, whether it leads anywhere or not.
    std::fs::write(scratch.join("victim"), "mine").expect("write");
    symlink("victim", scratch.join("link")).expect("a link");
    symlink("nowhere", scratch.join("dangling")).expect("a link");
    for link in ["link", "dangling"] {
        assert_refused(&write(link), exit::CANNOT_CREATE, "link");
    }
    let victim = std::fs::read_to_string(scratch.join("victim"));
    assert_eq!(victim.expect("still there"), "mine");
    // A file that was there is replaced, with whoever could read it.
    let path = scratch.join("old.olkh");
    std::fs::write(&path, "old").expect("write");
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&path, open).expect("chmod");
    let before = std::fs::metadata(&path).expect("there").ino();
    write("old.olkh").success();
    let meta = std::fs::metadata(&path).expect("there");
    assert_eq!(meta.permissions().mode() & 0o7777, 0o600);
    assert_ne!(meta.ino(), before);
    read(&path).success();
    std::fs::create_dir(scratch.join("folder")).expect("a folder");
    for name in ["folder", "none/image.olkh"] {
        assert_refused(&write(name), exit::CANNOT_CREATE, name);
    }
    let device = onlooker(&["heap", "-p", &pid, "-o", "/dev/null"]);
    assert_refused(&device, exit::CANNOT_CREATE, "regular file");
    let left = ["dangling", "folder", "link", "old.olkh", "victim"];
    assert_eq!(names(scratch.path()), left);
    assert!(target.finish().success());
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let scratch = Scratch::new("full");
    let disk = scratch.join("disk");
    std::fs::create_dir(&disk).expect("directory");
    let mut mount = Command::new("mount");
    mount
        .args(["-t", "tmpfs", "-o", "size=1m", "none"])
        .arg(&disk);
    if !nix::unistd::geteuid().is_root() || !run(&mut mount).status.success() {
        say("skipped: a full disk: tmpfs cannot be mounted");
        return;
    }
    let target = Target::spawn(&any(), "census.py", &["100"]);
    let path = disk.join("image.olkh");
    std::fs::write(&path, "old").expect("write");
    let pid = target.pid().to_string();
    let end = onlooker(&["heap", "--json", "-p", &pid, "-o", text(&path)]);
    let left = names(&disk);
    let old = std::fs::read_to_string(&path);
    run(Command::new("umount").arg(&disk)).success();
    assert_eq!(end.code(), Some(exit::IO.into()), "{}", end.stderr);
    assert!(end.stderr.contains("No space"), "{}", end.stderr);
    assert_eq!(end.stderr.lines().count(), 1, "{}", end.stderr);
    assert_eq!(end.json()["pid"], target.pid(), "the report is there");
    assert_eq!(left, ["image.olkh"]);
    assert_eq!(old.expect("readable"), "old");
}

#[test]
fn arguments_that_do_not_go_together_are_refused() {
    for args in [
        &["-p", "1", "x.olkh"][..],
        &["x.olkh", "--pause"],
        &["x.olkh", "-o", "y.olkh"],
        &["x.olkh", "--max-memory", "1M"],
        &["diff", "x.olkh"],
        &["-p", "1", "diff", "x.olkh", "y.olkh"],
        &[],
    ] {
        let run = run(onlooker_command().arg("heap").args(args));
        assert_refused(&run, exit::USAGE, "--help");
    }
}
