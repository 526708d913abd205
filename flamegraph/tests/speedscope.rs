//! Speedscope files: what the viewer needs, and nothing that its schema forbids.

mod support;

use onlooker_flamegraph::{Format, Options, Selection};
use onlooker_recording::tables::{Tables, WeightKind};
use serde_json::Value;
use support::{Builder, report, shop};

fn parse(tables: &Tables, options: &Options) -> Value {
    serde_json::from_str(&report(tables, options, Format::Speedscope).0).expect("valid JSON")
}

/// The schema's demands on a file with sampled profiles, and the importer's beyond it.
fn check(file: &Value) {
    assert_eq!(
        file["$schema"],
        "https://www.speedscope.app/file-format-schema.json"
    );
    assert!(file["name"].is_string() && file["exporter"].is_string());
    assert!(file["activeProfileIndex"].is_number());
    let frames = file["shared"]["frames"].as_array().expect("frames");
    for frame in frames {
        assert!(frame["name"].is_string());
        assert!(frame.get("file").is_none_or(Value::is_string));
        assert!(frame.get("line").is_none_or(Value::is_u64));
    }
    let profiles = file["profiles"].as_array().expect("profiles");
    assert!(!profiles.is_empty(), "the importer fails without a profile");
    for profile in profiles {
        assert_eq!(profile["type"], "sampled");
        assert!(profile["name"].is_string());
        assert!(["none", "nanoseconds", "bytes"].contains(&profile["unit"].as_str().unwrap()));
        let samples = profile["samples"].as_array().expect("samples");
        let weights = profile["weights"].as_array().expect("weights");
        assert_eq!(samples.len(), weights.len());
        let sum: u64 = weights.iter().map(|weight| weight.as_u64().unwrap()).sum();
        assert_eq!(profile["startValue"], 0);
        assert_eq!(profile["endValue"], sum);
        for frame in samples.iter().flat_map(|stack| stack.as_array().unwrap()) {
            assert!((frame.as_u64().unwrap() as usize) < frames.len());
        }
    }
}

#[test]
fn of_the_shop() {
    let file = parse(&shop(), &Options::default());
    check(&file);
    let mut text = serde_json::to_string_pretty(&file).unwrap();
    text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    insta::assert_snapshot!(text);
}

#[test]
fn weights_are_those_of_the_samples() {
    let tables = shop();
    let file = parse(&tables, &Options::default());
    let weight: u64 = file["profiles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|profile| profile["endValue"].as_u64().unwrap())
        .sum();
    let with_stack = tables
        .samples
        .iter()
        .filter(|sample| sample.stack.is_some());
    assert_eq!(weight, with_stack.count() as u64);
}

#[test]
fn time_goes_on_where_a_thread_has_no_frame() {
    let (mut builder, main) = Builder::one_thread();
    let stack = builder.stack(&["f a.py:1"]);
    for stack in [stack, stack, None, stack] {
        builder.sample(main, stack);
    }
    let file = parse(&builder.tables, &Options::default());
    check(&file);
    let profile = &file["profiles"][0];
    assert_eq!(profile["samples"], serde_json::json!([[0], [], [0]]));
    assert_eq!(profile["weights"], serde_json::json!([2, 1, 1]));
}

#[test]
fn a_file_without_samples_has_an_empty_profile() {
    let file = parse(&Tables::default(), &Options::default());
    check(&file);
    assert_eq!(file["profiles"][0]["name"], "no samples");
}

#[test]
fn units_follow_the_weight() {
    let (mut builder, main) = Builder::one_thread();
    let stack = builder.stack(&["f a.py"]);
    for kind in [WeightKind::Nanoseconds, WeightKind::BytesGrown] {
        builder.sample(main, stack).weight_kind = kind;
    }
    for (weight, unit) in [
        (WeightKind::Samples, "none"),
        (WeightKind::Nanoseconds, "nanoseconds"),
        (WeightKind::BytesGrown, "bytes"),
    ] {
        let options = Options {
            selection: Selection {
                weight,
                ..Selection::default()
            },
            ..Options::default()
        };
        let file = parse(&builder.tables, &options);
        check(&file);
        assert_eq!(file["profiles"][0]["unit"], unit);
    }
}
