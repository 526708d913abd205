//! Flame graph as an SVG picture, drawn by inferno.
//!
//! The picture grows downwards from the root, as py-spy's does: of a deep stack one sees the top
//! of the page first, and that is where the program starts. What is too narrow to be seen or too
//! deep to be drawn is added up in a frame that says so, so that widths always stand for weights.

use std::collections::BTreeSet;
use std::io::{self, Write};

use inferno::flamegraph::color::{Color, PaletteMap};
use inferno::flamegraph::{Direction, TextTruncateDirection, from_lines};
use onlooker_recording::tables::{Tables, Totals, WeightKind};

use crate::fold::Folded;
use crate::labels::{Labelled, labelled};
use crate::prune::{Drawing, drawing};
use crate::render::{Options, Summary};
use crate::summary::{short_line, summary_line};
use crate::text::{shorten, visible};

/// Characters of a title, and of the smaller line below it, that fit a picture 1,200 pixels wide.
const TITLE_CHARS: usize = 100;
const SUBTITLE_CHARS: usize = 165;

/// Weights above this are scaled down: inferno adds them up in 64 bits and places frames with
/// doubles, which hold no larger whole numbers.
const MAX_WEIGHT: u128 = 1 << 53;

/// Writes the picture. Without any weight it is a picture that says so.
pub(crate) fn write(
    tables: &Tables,
    options: &Options,
    folded: &Folded,
    out: &mut dyn Write,
) -> io::Result<()> {
    let title = title(tables);
    let subtitle = subtitle(tables, options.selection.weight, &folded.summary);
    let labelled = labelled(tables, options, folded);
    let drawing = drawing(&labelled.tree, &labelled.labels);
    if drawing.lines.is_empty() {
        return write_empty(&title, &subtitle, out);
    }
    let shift = shift(&drawing);
    let lines: Vec<String> = drawing
        .lines
        .iter()
        .map(|(stack, weight)| format!("{stack} {}", weight >> shift))
        .collect();
    let mut palette = palette(tables, &labelled);
    let mut settings = inferno::flamegraph::Options::default();
    settings.title = title;
    settings.subtitle = Some(subtitle);
    if has_clock(tables.counts()) {
        // The whole line, which the picture has no room for. In a comment there is no `--`.
        settings.notes = summary_line(tables.counts()).replace("--", "- -");
    }
    settings.count_name = count_name(options.selection.weight).to_owned();
    settings.direction = Direction::Inverted;
    settings.text_truncate_direction = TextTruncateDirection::Right;
    // What is too narrow was taken out before, with its weight kept.
    settings.min_width = 0.0;
    settings.factor = (1_u64 << shift) as f64;
    settings.palette_map = Some(&mut palette);
    // For the frames that stand for what is not drawn, which have no place in the palette.
    settings.deterministic = true;
    from_lines(&mut settings, lines.iter().map(String::as_str), out)
}

/// Whether it was recorded over time; what was read at once has no ticks to tell of.
fn has_clock(totals: &Totals) -> bool {
    (totals.ticks, totals.duration_ns) != (0, 0)
}

/// `program — Python 3.12.1`.
pub(crate) fn title(tables: &Tables) -> String {
    let program = match tables.header.program.as_str() {
        "" => "profile",
        program => program,
    };
    let versions: BTreeSet<&str> = tables
        .processes
        .iter()
        .map(|process| process.python.as_str())
        .filter(|version| !version.is_empty())
        .collect();
    let program = visible(program);
    let program = shorten(&program, TITLE_CHARS);
    if versions.is_empty() {
        program.into_owned()
    } else {
        let versions: Vec<&str> = versions.into_iter().collect();
        format!("{program} — Python {}", visible(&versions.join(", ")))
    }
}

/// The honest line of the recording, and what this report adds to it.
fn subtitle(tables: &Tables, weight: WeightKind, summary: &Summary) -> String {
    let counts = tables.counts();
    let in_bytes = matches!(weight, WeightKind::BytesGrown | WeightKind::BytesKept);
    let mut line = if in_bytes && !has_clock(counts) {
        format!(
            "{} in {} stacks",
            crate::units::bytes(summary.weight as f64),
            crate::units::count(summary.distinct_stacks)
        )
    } else {
        short_line(counts)
    };
    if tables.totals.is_none() {
        line.push_str("; recording unfinished");
    }
    for (count, what) in [
        (summary.cut, "cut"),
        (summary.empty, "without a stack"),
        (summary.left_out, "left out"),
    ] {
        if count > 0 {
            line.push_str(&format!("; {} {what}", crate::units::count(count)));
        }
    }
    shorten(&line, SUBTITLE_CHARS).into_owned()
}

fn count_name(weight: WeightKind) -> &'static str {
    match weight {
        WeightKind::Samples => "samples",
        WeightKind::Nanoseconds => "nanoseconds",
        WeightKind::BytesGrown | WeightKind::BytesKept | WeightKind::BytesFile => "bytes",
    }
}

/// By how many bits weights are scaled down.
fn shift(drawing: &Drawing) -> u32 {
    let sum: u128 = drawing
        .lines
        .iter()
        .map(|(_, weight)| u128::from(*weight))
        .sum();
    (0..64)
        .find(|shift| sum >> shift <= MAX_WEIGHT)
        .unwrap_or(63)
}

/// One colour per function and for good: it depends on nothing but the function's name and the
/// last component of its file, so that a function is found again in another report, at another
/// line, on another machine.
fn palette(tables: &Tables, labelled: &Labelled) -> PaletteMap {
    let mut palette = PaletteMap::default();
    for (location, label) in tables.locations.iter().zip(&labelled.of_location) {
        let file = tables.string(location.filename);
        let file = file.rsplit('/').next().unwrap_or(file);
        let color = color(tables.string(location.name), file);
        palette.insert(&labelled.labels.texts[*label as usize], color);
    }
    // Processes, threads and marks are no functions, nor is inferno's own root, which has no name.
    let others = labelled.labels.texts.iter().map(String::as_str);
    for text in others.chain([""]) {
        if palette.get(text).is_none() {
            palette.insert(text, Color::new(200, 200, 200));
        }
    }
    palette
}

/// A warm colour from the FNV-1a hash of a function: the same everywhere and in every version,
/// which the standard library's hashes do not promise.
fn color(name: &str, file: &str) -> Color {
    let hash = name
        .bytes()
        .chain([0])
        .chain(file.bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    // The low bits of this hash are the weak ones.
    let part = |shift: u32, range: u64| ((hash >> shift) % range) as u8;
    Color::new(205 + part(24, 50), 100 + part(36, 130), part(48, 60))
}

/// A picture without frames, which inferno refuses to draw.
fn write_empty(title: &str, subtitle: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "<?xml version=\"1.0\" standalone=\"no\"?>\n\
         <svg version=\"1.1\" width=\"1200\" height=\"120\" viewBox=\"0 0 1200 120\" \
         xmlns=\"http://www.w3.org/2000/svg\" font-family=\"monospace\" text-anchor=\"middle\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#f8f8f8\"/>\n\
         <text id=\"title\" x=\"50%\" y=\"24\" font-size=\"17\">{}</text>\n\
         <text id=\"subtitle\" x=\"50%\" y=\"48\" font-size=\"12\">{}</text>\n\
         <text x=\"50%\" y=\"88\" font-size=\"14\">no samples</text>\n\
         </svg>",
        xml(title),
        xml(subtitle)
    )
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
