//! The hottest functions, and the summary line that stands with them.

mod support;

use onlooker_flamegraph::{Selection, hottest, summary_line, write_hottest};
use onlooker_recording::tables::{Tables, Totals, WeightKind};
use support::{Builder, shop, totals};

fn table(tables: &Tables, n: usize, weight: WeightKind) -> String {
    let selection = Selection {
        weight,
        ..Selection::default()
    };
    let mut out = Vec::new();
    write_hottest(&hottest(tables, &selection, n), weight, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn of_the_shop() {
    insta::assert_snapshot!(table(&shop(), 10, WeightKind::Samples));
}

#[test]
fn a_recursion_counts_once() {
    let hot = hottest(&shop(), &Selection::default(), 100);
    let walk = hot.iter().find(|hot| hot.name == "walk").unwrap();
    assert_eq!((walk.own, walk.total), (5, 5));
    let module = hot.iter().find(|hot| hot.name == "<module>").unwrap();
    assert_eq!((module.own, module.total), (0, 16));
    let own: u64 = hot.iter().map(|hot| hot.own).sum();
    assert_eq!(own, 23, "every sample with a stack has one innermost frame");
}

#[test]
fn long_names_lose_their_middle_and_lines_stay_short() {
    let (mut builder, main) = Builder::one_thread();
    let name = format!("{}.<locals>.wrapper", "VeryLongClassName".repeat(6));
    let file = format!("/srv/{}/module.py", "x".repeat(50));
    let stack = builder.frame(None, (&name, &file, Some(1)));
    let sample = builder.sample(main, Some(stack));
    sample.weight = 1_234_567_890;
    let text = table(&builder.tables, 10, WeightKind::Samples);
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    insta::assert_snapshot!(text);
}

#[test]
fn time_and_bytes_have_their_units() {
    let (mut builder, main) = Builder::one_thread();
    let stack = builder.stack(&["f a.py:1", "g a.py:2"]);
    for (kind, weight) in [
        (WeightKind::Nanoseconds, 1_500_000_000),
        (WeightKind::BytesKept, 3 << 20),
    ] {
        let sample = builder.sample(main, stack);
        (sample.weight_kind, sample.weight) = (kind, weight);
    }
    insta::assert_snapshot!(table(&builder.tables, 10, WeightKind::Nanoseconds));
    insta::assert_snapshot!(table(&builder.tables, 1, WeightKind::BytesKept));
}

#[test]
fn nothing_is_hot_without_samples() {
    assert_eq!(table(&Tables::default(), 10, WeightKind::Samples), "");
    let (mut builder, main) = Builder::one_thread();
    let stack = builder.stack(&["f a.py:1"]);
    builder.sample(main, stack).weight = 0;
    assert_eq!(table(&builder.tables, 10, WeightKind::Samples), "");
}

#[test]
fn summary_lines() {
    insta::assert_snapshot!(summary_line(&totals()));
    insta::assert_snapshot!(summary_line(&Totals::default()));
    let huge = Totals {
        duration_ns: u64::MAX,
        ticks: u64::MAX,
        missed_ticks: u64::MAX,
        verified: u64::MAX,
        unverified: u64::MAX,
        unverified_by: vec![("a".into(), u64::MAX), ("b\n".into(), u64::MAX)],
        lost: vec![("a".into(), u64::MAX), ("b\n".into(), u64::MAX)],
        retries: u64::MAX,
        read_calls: u64::MAX,
        read_segments: u64::MAX,
        read_bytes: u64::MAX,
        code_calls: u64::MAX,
        code_bytes: u64::MAX,
        own_cpu_ns: u64::MAX,
    };
    insta::assert_snapshot!(summary_line(&huge));
}
