//! What holds for any tables: no panic, and every weight arrives in every report.

mod support;

use onlooker_flamegraph::{Format, Mode, Options, Selection, hottest};
use onlooker_recording::tables::{
    Location, LocationId, Sample, StackId, StackNode, State, StringId, Tables, ThreadId, Trust,
    WeightKind,
};
use proptest::prelude::*;
use support::{Builder, collapsed_weight, report};

const STRINGS: [&str; 10] = [
    "",
    "torn",
    "not checked",
    "f",
    "a;b",
    "# c 5",
    "/srv/a/x.py",
    "/srv/b/x.py",
    "/usr/lib/python3.12/x.py",
    "\u{7}\n",
];

fn string() -> impl Strategy<Value = StringId> {
    (0..STRINGS.len() as u32).prop_map(StringId)
}

fn location() -> impl Strategy<Value = Location> {
    (string(), string(), proptest::option::of(0..3_u32)).prop_map(|(name, filename, line)| {
        Location {
            name,
            filename,
            line,
            column: None,
            end_line: None,
            end_column: None,
        }
    })
}

fn sample(stacks: u32) -> impl Strategy<Value = Sample> {
    let kinds = prop_oneof![
        4 => Just(WeightKind::Samples),
        1 => Just(WeightKind::BytesKept)
    ];
    (
        0..4_u32,
        proptest::option::weighted(0.9, 0..stacks),
        any::<(bool, bool, bool)>(),
        proptest::option::of(string()),
        kinds,
        0..1_000_u64,
    )
        .prop_map(
            |(thread, stack, (verified, sleeping, holds_gil), reason, weight_kind, weight)| {
                Sample {
                    time_ns: 0,
                    thread: ThreadId(thread),
                    stack: stack.map(StackId),
                    state: State {
                        running: !sleeping,
                        sleeping,
                        holds_gil,
                        known: holds_gil,
                        ..State::default()
                    },
                    trust: if verified {
                        Trust::Verified
                    } else {
                        Trust::Unverified
                    },
                    reason,
                    weight_kind,
                    weight,
                }
            },
        )
}

prop_compose! {
    /// Consistent tables of two processes with two threads each.
    fn tables()(
        locations in proptest::collection::vec(location(), 1..12),
        stacks in 1..30_u32,
    )(
        nodes in proptest::collection::vec(any::<(u32, u32)>(), stacks as usize),
        samples in proptest::collection::vec(sample(stacks), 0..60),
        locations in Just(locations),
    ) -> Tables {
        let mut builder = Builder::new();
        for pid in 1..=2 {
            let process = builder.process(pid, Some(3 - pid), &["python3"]);
            builder.thread(process, Some(pid), "name");
            builder.thread(process, None, "name");
        }
        let mut tables = builder.tables;
        // The names of the threads were the first string.
        for thread in &mut tables.threads {
            thread.name = StringId(3);
        }
        tables.strings = STRINGS.map(str::to_owned).to_vec();
        tables.stacks = (0..).zip(&nodes).map(|(id, (parent, location))| StackNode {
            // One in `id + 1` is outermost.
            parent: (parent % (id + 1)).checked_sub(1).map(StackId),
            location: LocationId(location % locations.len() as u32),
        }).collect();
        tables.locations = locations;
        tables.samples = samples;
        tables
    }
}

fn options() -> impl Strategy<Value = Options> {
    any::<(bool, bool, bool, bool, bool)>().prop_map(
        |(idle, include_unverified, threads, full_filenames, kept)| Options {
            selection: Selection {
                mode: if idle { Mode::Wall } else { Mode::Cpu },
                include_unverified,
                weight: if kept {
                    WeightKind::BytesKept
                } else {
                    WeightKind::Samples
                },
            },
            threads,
            full_filenames,
        },
    )
}

/// Samples behind a row: merged tables have one row for many.
fn stands_for(sample: &Sample) -> u64 {
    match sample.weight_kind {
        WeightKind::Samples => sample.weight,
        _ => 1,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_weight_arrives(tables in tables(), options in options()) {
        let taken = |sample: &&Sample| options.selection.takes(sample);
        let with_stack = || tables.samples.iter().filter(taken).filter(|s| s.stack.is_some());
        let weight: u64 = with_stack().map(|sample| sample.weight).sum();

        let (raw, summary) = report(&tables, &options, Format::Raw);
        prop_assert_eq!(collapsed_weight(&raw), weight);
        prop_assert_eq!(summary.weight, weight);
        prop_assert_eq!(summary.samples, with_stack().map(stands_for).sum::<u64>());
        prop_assert_eq!(
            summary.samples + summary.empty + summary.left_out,
            tables.samples.iter().map(stands_for).sum::<u64>()
        );
        let mut lines: Vec<&str> = raw.lines().map(|line| line.rsplit_once(' ').unwrap().0).collect();
        let all = lines.len();
        lines.sort_unstable();
        lines.dedup();
        prop_assert_eq!(lines.len(), all, "one line per distinct stack");

        let (svg, same) = report(&tables, &options, Format::Flamegraph);
        prop_assert_eq!(same, summary);
        if weight > 0 {
            let total = format!("total_samples=\"{weight}\"");
            prop_assert!(svg.contains(&total));
        } else {
            prop_assert!(svg.contains("no samples"));
        }

        let (json, same) = report(&tables, &options, Format::Speedscope);
        prop_assert_eq!(same, summary);
        let file: serde_json::Value = serde_json::from_str(&json).unwrap();
        let mut sum = 0;
        for profile in file["profiles"].as_array().unwrap() {
            let weights = profile["weights"].as_array().unwrap();
            for (stack, weight) in profile["samples"].as_array().unwrap().iter().zip(weights) {
                if !stack.as_array().unwrap().is_empty() {
                    sum += weight.as_u64().unwrap();
                }
            }
        }
        prop_assert_eq!(sum, weight);

        let hot = hottest(&tables, &options.selection, usize::MAX);
        prop_assert_eq!(hot.iter().map(|hot| hot.own).sum::<u64>(), weight);
        for hot in hot {
            prop_assert!(hot.own <= hot.total && hot.total <= weight);
            prop_assert!(hot.own_share <= hot.total_share && hot.total_share <= 1.0);
        }
    }
}
