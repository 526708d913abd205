//! Flame graphs: well-formed, complete, the same every time, and of a size that can be used.

mod support;

use onlooker_flamegraph::{Format, Options, Selection, hottest};
use onlooker_recording::tables::Tables;
use quick_xml::Reader;
use quick_xml::events::Event;
use support::{Builder, report, shop};

/// What a reader of the picture finds.
#[derive(Default)]
struct Picture {
    /// Contents of `<title>`: what is shown of each frame.
    frames: Vec<String>,
    /// Contents of `<text>`.
    texts: Vec<String>,
    /// Colours of the frames, in the order of `frames`.
    fills: Vec<String>,
    height: u64,
}

/// Reads the picture to its end and fails on anything that is not well-formed.
fn parse(svg: &str) -> Picture {
    let mut reader = Reader::from_str(svg);
    reader.config_mut().check_comments = true;
    let mut picture = Picture::default();
    let mut open = Vec::new();
    loop {
        match reader.read_event().expect("well-formed XML") {
            Event::Start(tag) => {
                let name = String::from_utf8(tag.name().as_ref().to_vec()).unwrap();
                if open.is_empty() {
                    picture.height = attribute(&tag, "height").parse().unwrap();
                }
                match name.as_str() {
                    "title" => picture.frames.push(String::new()),
                    "text" => picture.texts.push(String::new()),
                    _ => {}
                }
                open.push(name);
            }
            Event::Empty(tag)
                if tag.name().as_ref() == b"rect"
                    && open.last().is_some_and(|name| name == "g") =>
            {
                picture.fills.push(attribute(&tag, "fill"));
            }
            Event::End(_) => {
                open.pop();
            }
            Event::Text(text) => append(&mut picture, &open, &text.decode().unwrap()),
            Event::GeneralRef(entity) => {
                let character = match entity.as_ref() {
                    b"lt" => "<",
                    b"gt" => ">",
                    b"amp" => "&",
                    b"quot" => "\"",
                    b"apos" => "'",
                    other => panic!("unknown entity {other:?}"),
                };
                append(&mut picture, &open, character);
            }
            Event::Eof => break,
            _ => {}
        }
    }
    assert!(open.is_empty(), "unclosed: {open:?}");
    picture
}

fn append(picture: &mut Picture, open: &[String], text: &str) {
    match open.last().map(String::as_str) {
        Some("title") => picture.frames.last_mut().unwrap().push_str(text),
        Some("text") => picture.texts.last_mut().unwrap().push_str(text),
        _ => {}
    }
}

fn attribute(tag: &quick_xml::events::BytesStart<'_>, name: &str) -> String {
    let attribute = tag.try_get_attribute(name).unwrap().expect("the attribute");
    String::from_utf8(attribute.value.to_vec()).unwrap()
}

fn draw(tables: &Tables) -> (String, Picture) {
    let svg = report(tables, &Options::default(), Format::Flamegraph).0;
    let picture = parse(&svg);
    (svg, picture)
}

#[test]
fn frames_and_captions_of_the_shop() {
    let (svg, mut picture) = draw(&shop());
    picture.frames.sort();
    insta::assert_snapshot!(picture.frames.join("\n"));
    insta::assert_snapshot!(picture.texts[..2].join("\n"));
    assert!(
        svg.contains("function search("),
        "the picture is searchable"
    );
    assert_eq!(svg, draw(&shop()).0, "the same tables give the same bytes");
}

#[test]
fn a_function_keeps_its_colour_at_another_line_in_another_report() {
    let fill_of = |tables: &Tables| {
        let picture = draw(tables).1;
        let frame = picture
            .frames
            .iter()
            .position(|frame| frame.starts_with("work "))
            .unwrap();
        picture.fills[frame].clone()
    };
    let (mut builder, main) = Builder::one_thread();
    let stack = builder.stack(&["work /srv/a.py:1"]);
    builder.sample(main, stack);
    let (mut other, main) = Builder::one_thread();
    let stack = other.stack(&["main /opt/x.py:9", "work /opt/a.py:200"]);
    other.sample(main, stack);
    let fill = fill_of(&builder.tables);
    assert_eq!(fill, fill_of(&other.tables));
    // HASH = 0xe89d5eceee405dc4 is the FNV-1a of `work\0a.py`: 205 + (HASH >> 24) % 50,
    // 100 + (HASH >> 36) % 130, (HASH >> 48) % 60. The next version must find the same.
    assert_eq!(fill, "rgb(247,130,29)");
}

#[test]
fn without_samples_the_picture_says_so() {
    let (mut builder, main) = Builder::one_thread();
    builder.tables.header.program = "a <b> & \"c\"".into();
    builder.sample(main, None);
    for tables in [Tables::default(), builder.tables] {
        let picture = draw(&tables).1;
        assert!(picture.texts.contains(&"no samples".to_owned()));
    }
}

#[test]
fn an_unfinished_recording_says_so() {
    let (mut builder, main) = Builder::one_thread();
    let stack = builder.stack(&["f a.py:1"]);
    builder.sample(main, stack);
    builder.tables.totals = None;
    let picture = draw(&builder.tables).1;
    assert!(picture.texts[1].ends_with("recording unfinished"));
}

#[test]
fn names_cannot_break_the_picture() {
    let (mut builder, main) = Builder::one_thread();
    let name = "# <a href=\"x\">&;]]>\u{0}\u{ffff}'--";
    let stack = builder.frame(None, (name, "<string>", Some(1)));
    builder.sample(main, Some(stack));
    builder.tables.header.program = format!("python -- {name}");
    builder.tables.processes[0].python = "<3>&".into();
    let picture = draw(&builder.tables).1;
    assert!(
        picture.frames.contains(
            &"\\# <a href=\"x\">&,]]>\\u{0}\\u{ffff}'-- (<string>:1) (1 samples, 100.00%)"
                .to_owned()
        ),
        "{:?}",
        picture.frames
    );
}

/// One recursion that is sampled at every depth.
fn deep(depth: usize) -> Tables {
    let (mut builder, main) = Builder::one_thread();
    let mut stack = None;
    for _ in 0..depth {
        stack = Some(builder.frame(stack, ("descend", "/srv/deep.py", Some(7))));
        builder.sample(main, stack);
    }
    builder.tables
}

#[test]
fn a_deep_recursion_is_drawn_as_far_as_a_browser_follows() {
    let (svg, picture) = draw(&deep(5_000));
    assert!(picture.height < 32_767, "{}", picture.height);
    assert!(svg.len() < 2 << 20, "{} bytes", svg.len());
    // 5,000 samples, of which 2,000 end at a frame that is drawn.
    let deeper = "[more than 2000 frames deep] (3,000 samples, 60.00%)".to_owned();
    assert!(picture.frames.contains(&deeper));
    assert_eq!(picture.frames.len(), 2_000 + 2);
}

#[test]
fn many_stacks_are_drawn_as_far_as_they_can_be_seen() {
    let (mut builder, main) = Builder::one_thread();
    let root = builder.frame(None, ("main", "/srv/wide.py", Some(1)));
    for leaf in 0..100_000 {
        let stack = builder.frame(
            Some(root),
            (&format!("leaf{leaf}"), "/srv/wide.py", Some(2)),
        );
        builder.sample(main, Some(stack));
    }
    let picture = draw(&builder.tables).1;
    let main = "main (wide.py:1) (100,000 samples, 100.00%)".to_owned();
    assert_eq!(picture.frames.len(), 2, "the root and `main`");
    assert!(picture.frames.contains(&main));

    // Without a common caller there is nothing wide enough at all.
    for node in &mut builder.tables.stacks {
        node.parent = None;
    }
    let picture = draw(&builder.tables).1;
    let narrow = "[too narrow to draw] (100,000 samples, 100.00%)".to_owned();
    assert!(picture.frames.contains(&narrow));
}

#[test]
fn weights_beyond_every_measure_are_reported() {
    let (mut builder, main) = Builder::one_thread();
    for name in ["f", "g", "h"] {
        let stack = builder.stack(&[&format!("{name} a.py:1")]);
        builder.sample(main, stack).weight = u64::MAX;
    }
    let picture = draw(&builder.tables).1;
    assert_eq!(picture.frames.len(), 4);
    for format in [Format::Raw, Format::Speedscope] {
        let (_, summary) = report(&builder.tables, &Options::default(), format);
        assert_eq!(summary.weight, u64::MAX);
    }
    let hot = hottest(&builder.tables, &Selection::default(), 10);
    assert!(hot.iter().all(|hot| hot.own_share <= 1.0));
}
