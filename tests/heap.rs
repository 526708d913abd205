//! `onlooker heap` over the matrix, compared with what the target counts itself.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::process::Command;

use onlooker::heap::copy::{Limits, Prepared};
use onlooker::heap::take::{self, Options};
use onlooker::target::memory::FileMemory;
use serde_json::Value;
use support::{Interpreter, Target, matrix, onlooker, program};

/// What a target made and what its garbage collector tracks, by type.
fn told(target: &Target, what: &str) -> BTreeMap<String, u64> {
    let value = target.ready().more.get(what).expect("told").clone();
    serde_json::from_value(value).expect("counts by type")
}

fn census(target: &Target, flags: &[&str]) -> Value {
    let pid = target.pid().to_string();
    let mut args = vec!["heap", "--json", "-p", &pid];
    args.extend(flags);
    onlooker(&args).success().json()
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

/// One figure of each type that is not 0.
fn by_type(census: &Value, figure: &str) -> BTreeMap<String, u64> {
    let types = census["types"].as_array().expect("types");
    types
        .iter()
        .map(|each| {
            let name = each["type"].as_str().expect("a name");
            (name.to_owned(), number(&each[figure]))
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// Every figure that the target knows too.
#[track_caller]
fn assert_exact(target: &Target, census: &Value) {
    let counts = by_type(census, "count");
    for (name, made) in told(target, "made") {
        assert_eq!(counts.get(&name), Some(&made), "objects of {name}");
    }
    for (name, least) in told(target, "least") {
        let counted = counts.get(&name).copied().unwrap_or_default();
        // Its interpreter has some thousands of its own.
        let range = least..least + 40_000;
        assert!(range.contains(&counted), "{counted} objects of {name}");
    }
    let tracked: BTreeMap<_, _> = told(target, "tracked")
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .collect();
    let seen = by_type(census, "gc_tracked");
    let differs = |name: &&String| seen.get(*name) != tracked.get(*name);
    let names = seen.keys().chain(tracked.keys()).filter(differs);
    let all: Vec<_> = names
        .map(|name| (name, seen.get(name), tracked.get(name)))
        .collect();
    assert!(all.is_empty(), "seen and told: {all:?}");
    assert_eq!(number(&census["gc_tracked"]), tracked.values().sum::<u64>());
    assert_eq!(census["gc_listed"], census["gc_tracked"]);
    assert_eq!(
        number(&census["objects_live"]),
        counts.values().sum::<u64>()
    );
    assert_eq!(number(&census["inconsistent_pools"]), 0);
    assert_eq!(number(&census["malloc"]["unwalked_bytes"]), 0);
    assert_eq!(number(&census["malloc"]["reached_objects"]), 0);
}

#[track_caller]
fn assert_rss(census: &Value) {
    let total = number(&census["rss"]["total_bytes"]);
    let parts = census["rss"]["parts"].as_array().expect("parts");
    let sum: u64 = parts.iter().map(|p| number(&p["resident_bytes"])).sum();
    assert!(sum.abs_diff(total) * 100 <= total, "{sum} of {total}");
    // What nothing is known of: `.bss`, the interpreter's data stacks.
    let rest = parts.iter().find(|p| p["part"] == "rest").expect("rest");
    assert!(number(&rest["resident_bytes"]) * 10 <= total, "{census:#}");
}

#[test]
fn counts_what_the_target_counts_while_it_rests() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "census.py", &["1000"]);
        let census = census(&target, &[]);
        assert_exact(&target, &census);
        assert_rss(&census);
        assert_eq!(census["pause_ns"], Value::Null);
        assert_eq!(census["pid"], target.pid());
        assert_eq!(census["python"], interpreter.full_version());
    });
}

/// Blocks are larger by what they are rounded up to, and by the word that malloc keeps of a chunk.
#[test]
fn an_ordered_dict_owns_its_order() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "ordered.py", &[]);
        let census = census(&target, &["--pause"]);
        let own = by_type(&census, "own_bytes");
        for (name, told) in told(&target, "sizes") {
            let own = own[&name];
            assert!(
                own >= told && own * 10 <= told * 12,
                "{own} of {told} {name}"
            );
        }
    });
}

/// In a process of one thread `struct pthread` lies in memory of the dynamic loader, which the kernel
/// makes one mapping with arenas when they come to lie below it.
#[test]
fn no_page_is_in_two_parts() {
    matrix(|interpreter| {
        for count in ["2000", "20000"] {
            let target = Target::spawn(interpreter, "alone.py", &[count]);
            let census = census(&target, &[]);
            assert_rss(&census);
            assert_eq!(number(&census["rss"]["excess_bytes"]), 0, "{count}");
        }
    });
}

#[test]
fn a_pause_counts_every_block() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "census.py", &["1000"]);
        let census = census(&target, &["--pause"]);
        assert_exact(&target, &census);
        assert!(number(&census["pause_ns"]) > 0);
        if interpreter.at_least(3, 12) {
            let blocks = number(&census["blocks_allocated"]) + number(&census["raw_blocks"]);
            let own = number(&target.ready().more["blocks"]);
            assert!(blocks.abs_diff(own) <= 1, "{blocks} seen, {own} told");
        }
        assert!(!is_traced(target.pid()));
    });
}

fn is_traced(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    !status.contains("TracerPid:\t0\n")
}

#[test]
fn a_target_that_never_rests_is_counted_too() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "census.py", &["4000", "busy"]);
        for flags in [&[][..], &["--pause"]] {
            let census = census(&target, flags);
            let counts = by_type(&census, "count");
            // `churn` makes and drops these.
            let moving = ["__main__.Slotted"];
            for (name, made) in told(&target, "made") {
                let seen = counts.get(&name).copied().unwrap_or(0);
                if !moving.contains(&name.as_str()) {
                    let off = seen.abs_diff(made);
                    assert!(off * 1000 <= made, "{seen} of {made} {name} {flags:?}");
                }
            }
            if !flags.is_empty() {
                // The one that holds the lock may be in the middle of taking a block, each time.
                assert!(number(&census["inconsistent_pools"]) <= 1);
            }
        }
    });
}

/// Chunks are split and merged and the `brk` heap grows and shrinks while they are copied.
#[test]
fn a_heap_that_never_rests_is_walked_to_its_end() {
    const SCALE: u64 = 8000;
    matrix(|interpreter| {
        for mode in ["", "grow"] {
            let target = Target::spawn(interpreter, "churn.py", &[&SCALE.to_string(), mode]);
            let census = census(&target, &[]);
            let counts = by_type(&census, "count");
            for (name, made) in told(&target, "made") {
                let seen = counts.get(&name).copied().unwrap_or(0);
                let off = seen.abs_diff(made);
                assert!(off * 1000 <= made, "{seen} of {made} {name} {mode}");
            }
            assert_eq!(number(&census["malloc"]["unwalked_bytes"]), 0, "{mode}");
            // Without its blocks an object is counted only where a list leads to it.
            assert!(number(&census["malloc"]["reached_objects"]) * 1000 < SCALE);
            assert_eq!(census["pause_ns"], Value::Null);
        }
    });
}

/// What is copied at several instants may show one object in two places and another in none, as
/// often the one as the other: by type they differ, all together they do not.
#[test]
fn objects_that_change_places_are_all_there() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "swaps.py", &["20000"]);
        let made: u64 = told(&target, "made").values().sum();
        for flags in [&[][..], &["--pause"]] {
            let counts = by_type(&census(&target, flags), "count");
            let of = |name: &str| counts.get(name).copied().unwrap_or_default();
            let seen = of("__main__.Left") + of("__main__.Right");
            assert!(seen.abs_diff(made) * 1000 <= made, "{seen} of {made}");
            if !flags.is_empty() {
                let off = of("__main__.Left").abs_diff(made / 2);
                assert!(off <= 1, "{off}");
            }
        }
    });
}

fn with_malloc(interpreter: &Interpreter, allocator: &str) -> Target {
    let mut command = interpreter.command(&program("census.py"), &["300"]);
    Target::spawn_command(command.env("PYTHONMALLOC", allocator))
}

#[test]
fn other_allocators_hide_nothing() {
    matrix(|interpreter| {
        for allocator in ["malloc", "debug", "malloc_debug"] {
            let target = with_malloc(interpreter, allocator);
            let census = census(&target, &["--pause"]);
            assert_exact(&target, &census);
            assert_rss(&census);
            let has_arenas = number(&census["arenas"]["count"]) > 0;
            assert_eq!(has_arenas, allocator == "debug", "{allocator}");
            if allocator == "malloc" {
                assert_eq!(census["debug"], Value::Null);
            } else {
                assert_eq!(census["debug"]["violations"], Value::Array(Vec::new()));
                let objects = &census["debug"]["domains"]["object"];
                assert!(number(&objects["count"]) > number(&census["objects_live"]) * 9 / 10);
            }
        }
    });
}

#[test]
fn guards_that_were_overwritten_are_told() {
    matrix(|interpreter| {
        let mut command = interpreter.command(&program("overrun.py"), &[] as &[&str]);
        let target = Target::spawn_command(command.env("PYTHONMALLOC", "debug"));
        let census = census(&target, &["--pause"]);
        let told = target.ready().more["overrun"].as_array().expect("told");
        let seen = census["debug"]["violations"].as_array().expect("seen");
        assert_eq!(seen.len(), told.len(), "{seen:?}");
        for expected in told {
            let found = seen
                .iter()
                .find(|each| ["address", "side"].iter().all(|f| each[f] == expected[f]))
                .unwrap_or_else(|| panic!("{expected} is not in {seen:?}"));
            for field in ["domain", "size", "found", "type", "object"] {
                assert_eq!(found[field], expected[field], "{field}");
            }
        }
    });
}

#[test]
fn arenas_that_are_nearly_empty_are_told_with_what_holds_them() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "census.py", &["1000", "fragmented"]);
        let census = census(&target, &[]);
        let arenas = &census["arenas"];
        let share = number(&arenas["sparse_bytes"]) * 10 / number(&arenas["total_bytes"]);
        assert!(share >= 5, "{arenas:#}");
        assert_eq!(arenas["sparse_pinned_by"][0]["type"], "builtins.str");
        // One by one they are what is told of all together.
        let each = arenas["each"].as_array().expect("arenas");
        assert_eq!(each.len() as u64, number(&arenas["count"]));
        let sum = |field: &str, of: &dyn Fn(&&Value) -> bool| -> u64 {
            let found = each.iter().filter(of);
            found.map(|arena| number(&arena[field])).sum()
        };
        for (field, all) in [("bytes", "total_bytes"), ("used_bytes", "used_bytes")] {
            assert_eq!(sum(field, &|_| true), number(&arenas[all]), "{field}");
        }
        let is_sparse =
            |arena: &&Value| number(&arena["used_bytes"]) * 10 < number(&arena["bytes"]);
        let sparse = sum("bytes", &is_sparse);
        assert_eq!(sparse, number(&arenas["sparse_bytes"]));
        let held = |arena: &&Value| arena["pinned_by"] == "builtins.str";
        let by_str = each.iter().filter(is_sparse).filter(held).count() as u64;
        assert_eq!(number(&arenas["sparse_pinned_by"][0]["arenas"]), by_str);
        // Blocks of all sizes are those in the arenas.
        let classes = census["size_classes"].as_array().expect("size classes");
        let used = |class: &Value| number(&class["block_bytes"]) * number(&class["used"]);
        let used: u64 = classes.iter().map(used).sum();
        assert_eq!(used, number(&arenas["used_bytes"]));
    });
}

#[test]
fn a_limit_leaves_out_the_insides_of_buffers_first() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "census.py", &["1000", "buffer"]);
        let census = census(&target, &["--max-memory", "32M"]);
        assert_exact(&target, &census);
        let left_out = census["left_out"].as_array().expect("a list");
        assert_eq!(left_out.len(), 1, "{left_out:?}");
        assert_eq!(left_out[0]["what"], "large_buffers");
        let bytes = number(&left_out[0]["bytes"]);
        assert!((32 << 20..64 << 20).contains(&bytes), "{bytes}");
        assert_eq!(bytes, number(&census["left_out_bytes"]));
        assert_eq!(census["absent_pools"], 0);
        // Its object is known, and how large it is.
        let largest = &census["largest"][0];
        assert_eq!(largest["type"], "builtins.bytes");
        assert!(number(&largest["own_bytes"]) > 64 << 20);
    });
}

/// What is not there is neither zeros nor torn: a stop would not bring it.
#[test]
fn pools_that_were_left_out_are_told() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "census.py", &["1000", "fragmented"]);
        let census = census(&target, &["--pause", "--max-memory", "14M"]);
        assert!(number(&census["absent_pools"]) > 0);
        assert_eq!(census["inconsistent_pools"], 0);
        assert!(number(&census["left_out_bytes"]) > 0);
    });
}

/// What was left out does not come back when what changed is copied again, and the target is not
/// stopped again for it.
#[test]
fn what_was_left_out_stays_left_out() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "census.py", &["2000", "fragmented"]);
        let pid = target.pid().cast_signed();
        let limits = Limits {
            max_bytes: 14 << 20,
        };
        for (pause, keep) in [(false, false), (false, true), (true, false)] {
            let options = Options {
                limits,
                pause,
                keep,
            };
            let mut whole = 0;
            let progress = |done, total| whole += u64::from(done == total);
            let taken = take::take(pid, options, progress).expect("a census");
            // It is told of the last batch of a copy and of its end.
            assert!(whole <= 2, "{whole} times, {options:?}");
            let space = &taken.image.space;
            let is_absent =
                |(start, bytes): (u64, &[u8])| space.is_absent(start, start + bytes.len() as u64);
            assert!(!space.large().any(is_absent), "{options:?}");
            assert!(space.len_bytes() <= limits.max_bytes, "{options:?}");
            let census = taken.report.census;
            assert!(census.blocks.pymalloc.absent().count() > 0);
            assert_eq!(census.blocks.pymalloc.inconsistent().count(), 0);
        }
    });
}

#[test]
fn static_objects_and_what_an_interpreter_has_are_told() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "statics.py", &[]);
        let census = census(&target, &["--pause"]);
        let told = |name: &str| number(&target.ready().more[name]);
        if interpreter.at_least(3, 12) {
            let types = census["static_types"].as_array().expect("types");
            let count = |name: &str| {
                let found = types.iter().find(|each| each["type"] == name);
                found.map_or(0, |each| number(&each["count"]))
            };
            // Some have no base that knows them.
            let range = told("types")..told("types") + 10;
            assert!(
                range.contains(&count("builtins.type")),
                "{types:?} {range:?}"
            );
            // 3.12 has code in its executable, with more of them.
            assert!(count("builtins.int") >= told("ints"), "{types:?}");
            for (name, expected) in [("NoneType", 1), ("ellipsis", 1), ("bool", 2)] {
                assert_eq!(count(&format!("builtins.{name}")), expected, "{name}");
            }
            let sum: u64 = types.iter().map(|each| number(&each["count"])).sum();
            assert_eq!(sum, number(&census["static_objects"]));
        } else {
            assert_eq!(census["static_objects"], Value::Null);
        }
        let shares = census["interpreters"].as_array().expect("interpreters");
        let [inside, main] = &shares[..] else {
            panic!("{shares:?}");
        };
        assert_eq!(main["interpreter"], 0);
        let all = number(&census["blocks_allocated"]);
        if target.ready().more["own"] == true {
            assert!(number(&inside["objects"]) >= told("inside"), "{inside}");
            assert_eq!(number(&inside["blocks"]) + number(&main["blocks"]), all);
            assert!(number(&main["blocks"]) > 1000);
        } else {
            assert_eq!(inside["blocks"], Value::Null);
            assert_eq!(number(&main["blocks"]), all);
        }
        let counts = by_type(&census, "count");
        assert_eq!(counts.get("__main__.Inside"), Some(&told("inside")));
        // 3.8 has one collector for all.
        let collectors = if interpreter.at_least(3, 9) { 2 } else { 1 };
        assert_eq!(census["gc"].as_array().map(Vec::len), Some(collectors));
        assert_eq!(census["gc_listed"], census["gc_tracked"]);
    });
}

/// Memory that was mapped and never touched costs a look at its page map and no memory of ours.
#[test]
fn memory_that_is_only_reserved_costs_little() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "census.py", &["100", "reserved"]);
        let script = "ulimit -v 400000; exec \"$0\" heap --json -p $1";
        let binary = support::onlooker_command().get_program().to_owned();
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(binary);
        let run = support::run(command.arg(target.pid().to_string()));
        let census = run.success().json();
        assert_exact(&target, &census);
        assert_rss(&census);
    });
}

#[test]
fn the_table_names_types_and_parts() {
    let interpreter = support::interpreters().pop().expect("one");
    let target = Target::spawn(&interpreter, "census.py", &["100"]);
    let run = onlooker(&["heap", "-p", &target.pid().to_string()]).success();
    for word in [
        "__main__.Order",
        "python objects",
        "arenas",
        "Resident",
        "largest",
        "blocks of pymalloc by size",
        "emptiest arenas",
    ] {
        assert!(run.text().contains(word), "no {word} in {}", run.text());
    }
    let census = census(&target, &["--limit", "3"]);
    let each = census["arenas"]["each"].as_array().expect("arenas");
    let full = |arena: &&Value| number(&arena["used_bytes"]) * 1000 / number(&arena["bytes"]);
    let emptiest = each.iter().min_by_key(full).expect("an arena");
    let address = format!("{:#x}", number(&emptiest["address"]));
    assert!(run.text().contains(&address), "{address}: {}", run.text());
    let run = onlooker(&["heap", "-p", "1073741824"]);
    assert_eq!(run.code(), Some(67), "{}", run.stderr);
    let run = onlooker(&["heap", "-p", "1", "--max-memory", "none"]);
    assert_eq!(run.code(), Some(64), "{}", run.stderr);
}

#[test]
fn the_table_says_where_buffers_of_extensions_are() {
    matrix(|interpreter| {
        for (mode, expected) in [("", false), ("foreign", true)] {
            let target = Target::spawn(interpreter, "census.py", &["1000", mode]);
            let run = onlooker(&["heap", "-p", &target.pid().to_string()]).success();
            let text = run.text();
            let notes = text.lines().filter(|line| line.starts_with("note: "));
            let said = notes.filter(|line| line.contains("buffers of extension modules"));
            assert_eq!(said.count(), usize::from(expected), "{mode}: {text}");
        }
    });
}

/// What is not copied from page to page takes twice as long, under a pause too.
#[test]
fn pages_are_copied_to_the_beginnings_of_pages() {
    const PAGE_BYTES: usize = 4096;
    let Some(interpreter) = support::interpreters().pop() else {
        return;
    };
    let target = Target::spawn(&interpreter, "alone.py", &["20000"]);
    let pid = target.pid().cast_signed();
    let limits = Limits { max_bytes: 1 << 30 };
    let prepared = Prepared::new(pid, limits).expect("a buffer");
    let memory = FileMemory::open(pid).expect("memory");
    let copied = prepared
        .copy(pid, &memory, true, |_, _| {})
        .expect("a copy");
    assert!(copied.space.large().count() > 0);
    for (start, bytes) in copied.space.large() {
        assert_eq!(bytes.as_ptr().addr() % PAGE_BYTES, 0, "{start:#x}");
    }
}
