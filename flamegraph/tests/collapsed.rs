//! Collapsed stacks, line by line.

mod support;

use onlooker_flamegraph::{Format, Options, Selection};
use onlooker_recording::tables::WeightKind;
use support::{Builder, collapsed_weight, report, shop};

#[test]
fn short_names() {
    let (text, summary) = report(&shop(), &Options::default(), Format::Raw);
    insta::assert_snapshot!(text);
    insta::assert_debug_snapshot!("summary_of_the_shop", summary);
    assert_eq!(collapsed_weight(&text), summary.weight);
}

#[test]
fn threads_and_full_names() {
    let options = Options {
        threads: true,
        full_filenames: true,
        ..Options::default()
    };
    insta::assert_snapshot!(report(&shop(), &options, Format::Raw).0);
}

#[test]
fn threads_of_one_name_are_told_apart_by_id() {
    let (mut builder, main) = Builder::one_thread();
    let process = builder.tables.threads[0].process;
    let known = builder.thread(process, Some(12), "pool");
    let unknown = builder.thread(process, None, "pool");
    let nameless = builder.thread(process, None, "");
    let stack = builder.stack(&["f a.py:1"]);
    for thread in [main, known, unknown, nameless] {
        builder.sample(thread, stack);
    }
    let options = Options {
        threads: true,
        ..Options::default()
    };
    assert_eq!(
        report(&builder.tables, &options, Format::Raw).0,
        "thread (0x7f0000001003);f (a.py:1) 1\n\
         thread (MainThread);f (a.py:1) 1\n\
         thread (pool 0x7f0000001002);f (a.py:1) 1\n\
         thread (pool 12);f (a.py:1) 1\n"
    );
}

#[test]
fn several_processes_stand_below_their_parents() {
    let mut builder = Builder::new();
    let parent = builder.process(10, Some(1), &["python3", "serve.py; rm"]);
    let child = builder.process(11, Some(10), &["python3", "-c", "print(1)\nprint(2)"]);
    let stack = builder.stack(&["f a.py:1"]);
    for process in [parent, child] {
        let thread = builder.thread(process, None, "MainThread");
        builder.sample(thread, stack);
    }
    let options = Options {
        threads: true,
        ..Options::default()
    };
    insta::assert_snapshot!(report(&builder.tables, &Options::default(), Format::Raw).0);
    insta::assert_snapshot!(report(&builder.tables, &options, Format::Raw).0);
}

#[test]
fn processes_that_are_each_others_parents_end() {
    let mut builder = Builder::new();
    let one = builder.process(1, Some(2), &["a"]);
    builder.process(2, Some(1), &["b"]);
    let thread = builder.thread(one, None, "");
    let stack = builder.stack(&["f a.py:1"]);
    builder.sample(thread, stack);
    assert_eq!(
        report(&builder.tables, &Options::default(), Format::Raw).0,
        "process 2:\"b\";process 1:\"a\";f (a.py:1) 1\n"
    );
}

#[test]
fn names_cannot_break_a_line() {
    let (mut builder, main) = Builder::one_thread();
    let outer = builder.frame(None, ("# a;b", "dir;x/c\n.py", Some(1)));
    let inner = builder.frame(Some(outer), ("λ\u{1b}[31m 7", "", None));
    let last = builder.frame(Some(inner), ("", "<string>", Some(4)));
    builder.sample(main, Some(last));
    assert_eq!(
        report(&builder.tables, &Options::default(), Format::Raw).0,
        "\\# a,b (c\\n.py:1);λ\\u{1b}[31m 7 (?);? (<string>:4) 1\n"
    );
}

#[test]
fn stacks_that_differ_only_in_columns_are_one_line() {
    let (mut builder, main) = Builder::one_thread();
    let stack = builder.stack(&["f a.py:1", "g a.py:2"]);
    builder.sample(main, stack);
    let mut other = builder.tables.locations[1];
    other.column = Some(4);
    builder.tables.locations.push(other);
    let mut node = builder.tables.stacks[1];
    node.location.0 = 2;
    builder.tables.stacks.push(node);
    let other = Some(onlooker_recording::tables::StackId(2));
    builder.sample(main, other);
    assert_eq!(
        report(&builder.tables, &Options::default(), Format::Raw).0,
        "f (a.py:1);g (a.py:2) 2\n"
    );
}

#[test]
fn each_kind_of_weight_has_its_own_report() {
    let (mut builder, main) = Builder::one_thread();
    let stack = builder.stack(&["f a.py:1"]);
    builder.sample(main, stack);
    let sample = builder.sample(main, stack);
    (sample.weight_kind, sample.weight) = (WeightKind::BytesGrown, 4096);
    let options = Options {
        selection: Selection {
            weight: WeightKind::BytesGrown,
            ..Selection::default()
        },
        ..Options::default()
    };
    let (text, summary) = report(&builder.tables, &options, Format::Raw);
    assert_eq!(text, "f (a.py:1) 4096\n");
    assert_eq!((summary.samples, summary.left_out), (1, 1));
}

#[test]
fn only_verified_samples_on_request() {
    let options = Options {
        selection: Selection {
            include_unverified: false,
            ..Selection::default()
        },
        ..Options::default()
    };
    let (text, summary) = report(&shop(), &options, Format::Raw);
    assert!(!text.contains("[cut"), "{text}");
    assert_eq!((summary.unverified, summary.left_out), (0, 2));
}
