//! What `onlooker heap` calls garbage, compared with what the collector of the target then finds.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use support::{Interpreter, Scratch, Target, matrix, onlooker, program};

const SCALE: u64 = 40;

/// What the collector found, by type.
#[derive(Debug, Deserialize)]
struct Found {
    types: BTreeMap<String, u64>,
}

fn census(target: &Target, flags: &[&str]) -> Value {
    let pid = target.pid().to_string();
    onlooker(&[&["heap", "--json", "-p", &pid], flags].concat())
        .success()
        .json()
}

fn by_type(garbage: &Value) -> BTreeMap<String, u64> {
    let types = garbage["types"].as_array().expect("garbage is told");
    let each = |each: &Value| {
        let name = each["type"].as_str().expect("a name").to_owned();
        (name, each["count"].as_u64().expect("a count"))
    };
    types.iter().map(each).collect()
}

fn spawn(interpreter: &Interpreter, allocator: &str) -> Target {
    let scale = SCALE.to_string();
    let mut command = interpreter.command(&program("garbage.py"), &[&scale]);
    Target::spawn_command(command.env("PYTHONMALLOC", allocator))
}

/// What the collector says when it is asked.
fn collect(target: &mut Target) -> BTreeMap<String, u64> {
    target.write(b"\n");
    let found: Found = serde_json::from_str(&target.next_line()).expect("what was found");
    found.types
}

#[track_caller]
fn assert_same(interpreter: &Interpreter, seen: &Value, found: &BTreeMap<String, u64>) {
    let mut expected = found.clone();
    // The collector lets generators end first, and then these are gone with their frames.
    *expected.entry("builtins.generator".to_owned()).or_default() += SCALE;
    if !interpreter.at_least(3, 11) {
        *expected.entry("builtins.frame".to_owned()).or_default() += SCALE;
    }
    let mut types = by_type(seen);
    if interpreter.at_least(3, 13) && !interpreter.at_least(3, 14) {
        // 3.13.0 does not see dicts that instances share their values with, later ones do.
        let dict = "builtins.dict";
        assert!(types.get(dict) <= expected.get(dict), "{types:?}");
        types.remove(dict);
        expected.remove(dict);
    }
    assert_eq!(types, expected);
    let sum: u64 = by_type(seen).values().sum();
    assert_eq!(seen["objects"], sum);
    assert!(!types.contains_key("__main__.Held"));
    support::say(&format!("{sum} objects, as the collector says"));
}

#[test]
fn garbage_is_what_the_collector_finds() {
    matrix(|interpreter| {
        let mut target = spawn(interpreter, "default");
        assert!(target.ready().more["held"].as_u64() > Some(SCALE));
        let resting = census(&target, &[]);
        let stopped = census(&target, &["--pause"]);
        assert_eq!(resting["garbage"], stopped["garbage"]);
        let found = collect(&mut target);
        assert_same(interpreter, &resting["garbage"], &found);
    });
}

#[test]
fn images_tell_the_same_garbage() {
    matrix(|interpreter| {
        let target = spawn(interpreter, "default");
        let scratch = Scratch::new("garbage");
        let path = scratch.join("garbage.olkh");
        let path = path.to_str().expect("UTF-8");
        for flags in [&["-o", path][..], &["-o", path, "--pause"]] {
            let live = census(&target, flags);
            let image = onlooker(&["heap", "--json", path]).success().json();
            assert!(
                live["garbage"]["objects"].as_u64() > Some(SCALE),
                "{flags:?}"
            );
            assert_eq!(live["garbage"], image["garbage"]);
        }
    });
}

#[test]
fn garbage_is_told_whatever_the_allocator() {
    matrix(|interpreter| {
        for allocator in ["malloc", "debug"] {
            let mut target = spawn(interpreter, allocator);
            let seen = census(&target, &["--pause"]);
            let found = collect(&mut target);
            assert_same(interpreter, &seen["garbage"], &found);
        }
    });
}

/// Stopped anywhere: inside of C, between two instructions, with references in registers.
#[test]
fn nothing_alive_is_garbage_wherever_it_is_stopped() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "census.py", &["300", "busy"]);
        let mut told = 0;
        for _ in 0..5 {
            let garbage = &census(&target, &["--pause"])["garbage"];
            if garbage.is_null() {
                continue;
            }
            told += 1;
            for name in by_type(garbage).keys() {
                // Its threads make cycles of none of their own objects.
                assert!(!name.starts_with("__main__."), "{garbage}");
            }
        }
        assert!(told > 0);
    });
}

#[test]
fn garbage_of_a_process_that_runs_is_not_told() {
    matrix(|interpreter| {
        let target = Target::spawn(interpreter, "census.py", &["300", "busy"]);
        assert_eq!(census(&target, &[])["garbage"], Value::Null);
        let left_out = census(&target, &["--pause", "--max-memory", "2M"]);
        assert_eq!(left_out["garbage"], Value::Null);
    });
}
