//! Growth by site: what makes a site, what is added up, what is printed.

mod support;

use onlooker_flamegraph::{By, Site, has_growth, sites, write_sites, write_sites_json};
use onlooker_recording::tables::{Tables, WeightKind};
use support::Builder;

const MIB: u64 = 1 << 20;

/// A list and a cache that grow, buffers that go, a file that is mapped.
fn grown() -> Tables {
    let (mut builder, thread) = Builder::one_thread();
    let main = "<module> /srv/app.py:80";
    let mut add = |frames: &[&str], samples: &[(WeightKind, u64)]| {
        let stack = builder.stack(frames);
        for (kind, weight) in samples {
            let sample = builder.sample(thread, stack);
            (sample.weight_kind, sample.weight) = (*kind, *weight);
        }
    };
    use WeightKind::{BytesFile, BytesGrown, BytesKept, Samples};
    let list = [
        (BytesGrown, 2 * MIB),
        (BytesGrown, 2 * MIB),
        (BytesKept, 2 * MIB),
        (BytesKept, 2 * MIB),
    ];
    add(&[main, "fill /srv/app.py:10"], &list);
    add(
        &[main, "again /srv/app.py:70", "fill /srv/app.py:11"],
        &[(BytesGrown, MIB), (BytesKept, MIB)],
    );
    add(
        &[main, "buffers /srv/lib/io.py:5"],
        &[(BytesGrown, 8 * MIB)],
    );
    add(&[main], &[(Samples, 5), (BytesFile, 3 * MIB)]);
    builder.tables
}

/// Function, line, bytes grown and kept, events.
type Row = (Option<String>, Option<u32>, u64, u64, u64);

fn found(by: By) -> Vec<Row> {
    let of = |s: Site| (s.function, s.line, s.grown_bytes, s.kept_bytes, s.events);
    sites(&grown(), by).into_iter().map(of).collect()
}

#[test]
fn a_site_is_what_was_asked_for() {
    let name = |name: &str| Some(name.to_owned());
    assert_eq!(
        found(By::Line),
        [
            (name("fill"), Some(10), 4 * MIB, 4 * MIB, 2),
            (name("fill"), Some(11), MIB, MIB, 1),
            (name("buffers"), Some(5), 8 * MIB, 0, 1),
        ]
    );
    assert_eq!(
        found(By::Function),
        [
            (name("fill"), None, 5 * MIB, 5 * MIB, 3),
            (name("buffers"), None, 8 * MIB, 0, 1),
        ]
    );
    assert_eq!(
        found(By::File),
        [
            (None, None, 5 * MIB, 5 * MIB, 3),
            (None, None, 8 * MIB, 0, 1)
        ]
    );
    let stacks: Vec<_> = sites(&grown(), By::Stack)
        .into_iter()
        .map(|s| s.stack)
        .collect();
    assert_eq!(stacks.len(), 3);
    assert_eq!(
        stacks[1].as_deref(),
        Some(
            &[
                "<module> (/srv/app.py:80)",
                "again (/srv/app.py:70)",
                "fill (/srv/app.py:11)"
            ]
            .map(String::from)[..]
        )
    );
}

#[test]
fn a_recording_of_time_has_no_sites() {
    assert!(has_growth(&grown()));
    let shop = support::shop();
    assert!(!has_growth(&shop) && sites(&shop, By::Line).is_empty());
}

#[test]
fn json_has_the_promised_fields() {
    let mut out = Vec::new();
    write_sites_json(&sites(&grown(), By::Function), &mut out).expect("memory");
    let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    let first = &json["sites"][0];
    assert_eq!(first["function"], "fill");
    assert_eq!(first["file"], "/srv/app.py");
    assert!(first["line"].is_null());
    assert_eq!(first["grown_bytes"], 5 * MIB);
    assert_eq!(first["kept_bytes"], 5 * MIB);
    assert_eq!(first["events"], 3);
    assert_eq!(first.as_object().map(serde_json::Map::len), Some(6));
}

#[test]
fn the_table_has_shares_and_sums() {
    let table = |by| {
        let mut out = Vec::new();
        write_sites(&grown(), by, 10, &mut out).expect("memory");
        String::from_utf8(out).expect("UTF-8")
    };
    insta::assert_snapshot!(table(By::Line));
    insta::assert_snapshot!(table(By::Stack));
}
