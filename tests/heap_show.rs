//! `onlooker heap show`: objects of an image beside what the target itself says of them.

#[path = "support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use onlooker::error::exit;
use onlooker::heap::copy::Limits;
use onlooker::heap::image;
use onlooker::heap::take::{self, Options};
use onlooker_heap::census::Census;
use onlooker_heap::image::Image;
use onlooker_heap::objects::Object;
use onlooker_heap::show::Heap;
use onlooker_unwinder::layout::fields;
use onlooker_unwinder::memory::{Lookup, RemoteAddr};
use serde_json::Value;
use support::{Interpreter, Scratch, Target, any, matrix, onlooker};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Keeps the memory of `referrers.py`, which stays as it is told.
fn keep(interpreter: &Interpreter, path: &Path) -> Target {
    let target = Target::spawn(interpreter, "referrers.py", &[]);
    let pid = target.pid().to_string();
    onlooker(&["heap", "-p", &pid, "-o", text(path)]).success();
    target
}

fn show(path: &Path, flags: &[&str]) -> Value {
    let mut args = vec!["heap", "show", text(path), "--json"];
    args.extend(flags);
    onlooker(&args).success().json()
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// Address and type of each that is an object.
fn objects(referrers: &[Value], conservative: bool) -> BTreeSet<(u64, String)> {
    referrers
        .iter()
        .filter(|each| each["kind"] == "object" && each["conservative"] == conservative)
        .map(|each| {
            let name = each["type"].as_str().expect("a type");
            (number(&each["address"]), name.to_owned())
        })
        .collect()
}

/// One image for both: making it takes longest.
#[test]
fn referrers_and_values_are_those_that_the_target_knows() {
    let scratch = Scratch::new("objects");
    matrix(|interpreter| {
        let path = scratch.join("image.olkh");
        let target = keep(interpreter, &path);
        let more = target.ready().more.clone();
        // Nothing of it is needed.
        drop(target);
        assert_referrers(&more, &path);
        assert_values(list(&more["values"]), &path);
    });
}

/// What the garbage collector of the target knows, and no more.
fn assert_referrers(more: &BTreeMap<String, Value>, path: &Path) {
    let shown = show(path, &["--type", "__main__.Order", "--referrers", "1000"]);
    assert_eq!(shown["count"], 1);
    let order = &shown["objects"][0];
    assert_eq!(order["address"], more["order"]);
    let referrers = list(&order["referrers"]);
    let (exact, perhaps) = (objects(referrers, false), objects(referrers, true));
    let told: BTreeSet<(u64, String)> = list(&more["gc"])
        .iter()
        .map(|each| {
            let name = each[1].as_str().expect("a type");
            (number(&each[0]), name.to_owned())
        })
        .collect();
    let missed: Vec<_> = told.difference(&exact).collect();
    // What is written in C: `itertools.repeat` alone.
    let types: Vec<_> = missed.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(types, ["itertools.repeat"], "{missed:?}");
    assert!(perhaps.is_superset(&missed.into_iter().cloned().collect()));
    let invented: Vec<_> = exact.difference(&told).collect();
    assert!(invented.is_empty(), "{invented:?}");
    for each in list(&more["gc"]) {
        let Some(how) = each[2].as_str() else {
            continue;
        };
        let found = referrers
            .iter()
            .any(|from| from["address"] == each[0] && from["how"] == how);
        assert!(found, "{each} in {referrers:#?}");
    }
    // Every counted reference is told: what is written in C has one.
    let exact = number(&order["referrers_exact"]);
    assert_eq!(number(&order["reference_count"]), exact + 1);
}

fn assert_values(told: &[Value], path: &Path) {
    let mut image = image::open(path).expect("an image");
    let report = image::report(&mut image);
    let heap = Heap::new(&image.space, &image.meta.layout, &report.census);
    for each in told {
        let shown = heap.repr(RemoteAddr(number(&each[0])));
        assert_eq!(shown, each[1].as_str().expect("a repr"));
    }
}

#[test]
fn one_leads_to_the_next() {
    let scratch = Scratch::new("next");
    let path = scratch.join("image.olkh");
    let target = keep(&any(), &path);
    let shown = show(&path, &["--type", "__main__.Order", "--referrers", "1000"]);
    let referrers = list(&shown["objects"][0]["referrers"]);
    let cell = referrers
        .iter()
        .find(|each| each["type"] == "builtins.cell")
        .expect("the cell of the closure");
    let address = format!("{:#x}", number(&cell["address"]));
    let shown = show(&path, &["--address", &address]);
    let cell = &shown["objects"][0];
    assert_eq!(cell["type"], "builtins.cell");
    let closure = &cell["referrers"][0];
    assert_eq!(
        (&closure["type"], &closure["how"]),
        (&"builtins.tuple".into(), &"[0]".into())
    );
    // The table says the same, cut where it was asked to.
    let run = onlooker(&[
        "heap",
        "show",
        text(&path),
        "--type",
        "builtins.list",
        "--limit",
        "2",
    ]);
    let table = run.success();
    let lists = show(&path, &["--type", "builtins.list", "--limit", "2"]);
    let more = number(&lists["count"]) - 2;
    let table = table.text().replace(',', "");
    assert!(
        table.contains(&format!("\n{more} more objects (--limit)")),
        "{table}"
    );
    let run = onlooker(&[
        "heap",
        "show",
        text(&path),
        "--address",
        &address,
        "--referrers",
        "0",
    ]);
    let table = run.success();
    assert!(
        table.text().contains("1 more referrers (--referrers)"),
        "{}",
        table.text()
    );
    drop(target);
}

/// The memory of `census.py`, which can be changed.
fn copied(args: &[&str]) -> (Image<Vec<u8>>, Census) {
    let target = Target::spawn(&any(), "census.py", args);
    let options = Options {
        limits: Limits { max_bytes: 1 << 30 },
        pause: true,
        keep: false,
    };
    let taken = take::take(target.pid().cast_signed(), options, |_, _| {});
    let taken = taken.expect("a census");
    (taken.image, taken.report.census)
}

fn name_of(census: &Census, object: &Object) -> String {
    census.names[object.of as usize].to_string()
}

/// Every list says that the largest block of memory holds its items.
#[test]
fn a_table_that_many_claim_ends_the_search() {
    let (mut image, census) = copied(&["5000", "buffer"]);
    let table = census.largest[0].addr;
    let lists: Vec<_> = census
        .objects_in(&image.space)
        .filter(|object| name_of(&census, object) == "builtins.list")
        .collect();
    assert!(lists.len() > 15_000, "{}", lists.len());
    for list in lists {
        for (offset, word) in [(fields::OB_SIZE, 1 << 20), (fields::LIST_ITEMS, table.0)] {
            let at = list.addr.offset(offset).expect("a field");
            image.space.put(at, &u64::to_le_bytes(word));
        }
    }
    let heap = Heap::new(&image.space, &image.meta.layout, &census);
    let since = Instant::now();
    let _ = heap.referrers(&[table], 4);
    assert!(
        since.elapsed() < Duration::from_secs(20),
        "{:?}",
        since.elapsed()
    );
}

/// A deque whose first block is followed by itself, without end.
#[test]
fn a_block_is_owned_once() {
    const LEFT_BLOCK: u64 = 24;
    const RIGHT_BLOCK: u64 = 32;
    const RIGHT_LINK: u64 = 8 + 8 * 64;
    let (mut image, census) = copied(&["1000"]);
    let mut queues = census.objects_in(&image.space);
    let queue = queues.find(|object| name_of(&census, object) == "__main__.Queue");
    let queue = queue.expect("a queue").addr.0;
    drop(queues);
    let own_bytes = |image: &Image<Vec<u8>>| {
        let heap = Heap::new(&image.space, &image.meta.layout, &census);
        heap.subject_at(RemoteAddr(queue))
            .expect("an object")
            .own_bytes
    };
    let whole = own_bytes(&image);
    let first = image.space.u64(RemoteAddr(queue + LEFT_BLOCK));
    let first = first.expect("a block");
    for (at, word) in [
        (queue + fields::OB_SIZE, 1 << 40),
        (queue + RIGHT_BLOCK, 0),
        (first + RIGHT_LINK, first),
    ] {
        image.space.put(RemoteAddr(at), &u64::to_le_bytes(word));
    }
    // 200 items are in four blocks.
    let circle = own_bytes(&image);
    assert!(circle < whole && circle > 512, "{circle} of {whole}");
}

#[test]
fn what_is_not_there_is_said() {
    let scratch = Scratch::new("nothing");
    let path = scratch.join("image.olkh");
    drop(keep(&any(), &path));
    let run = onlooker(&["heap", "show", text(&path), "--type", "Order"]);
    assert_eq!(run.code(), Some(exit::EMPTY.into()), "{}", run.stderr);
    assert!(
        run.stderr.contains("perhaps __main__.Order"),
        "{}",
        run.stderr
    );
    let run = onlooker(&["heap", "show", text(&path), "--address", "0x10"]);
    assert_eq!(run.code(), Some(exit::EMPTY.into()), "{}", run.stderr);
    for flags in [
        &["--address", "ten"][..],
        &[],
        &["--type", "a", "--address", "1"],
    ] {
        let mut args = vec!["heap", "show", text(&path)];
        args.extend(flags);
        let run = onlooker(&args);
        assert_eq!(run.code(), Some(exit::USAGE.into()), "{}", run.stderr);
    }
}
