//! An image is what was written, or it is refused.

use std::collections::BTreeMap;
use std::io::{self, Cursor};

use onlooker_heap::image::{self, Identity, Image, ImageError, Meta, Process};
use onlooker_heap::mappings::{Kind, Mapping, What};
use onlooker_heap::pymalloc::{Arena, Roots, StaticRoots};
use onlooker_heap::space::{PAGE_BYTES, Range, Space};
use onlooker_unwinder::layout::{Minor, tables};
use onlooker_unwinder::memory::{Lookup, RemoteAddr};

/// Where the header ends, see `heap/src/image/mod.rs`.
const HEADER_BYTES: usize = 140;

fn meta() -> Meta {
    Meta {
        onlooker: "0.1.0".to_owned(),
        process: Process {
            pid: 4711,
            python: "3.9.1".to_owned(),
            command: vec!["python3".to_owned(), "é\n".to_owned()],
            identity: Some(Identity {
                boot_id: "a boot".to_owned(),
                start_ticks: u64::MAX,
            }),
        },
        taken_unix_ns: u64::MAX,
        pause_ns: Some(1),
        at_once: true,
        left_out: BTreeMap::from([(What::BrkHeap, 4096), (What::LargeBuffers, 8192)]),
        residency_known: true,
        layout: tables::for_version(Minor::new(3, 9)).expect("a table"),
        roots: Roots {
            runtime: RemoteAddr(0x7fff_1234_5678),
            statics: Some(StaticRoots {
                arenas: RemoteAddr(0x1000),
                max_arenas: RemoteAddr(0x1008),
                raw_blocks: None,
            }),
        },
        thread_ids: vec![1, u64::MAX],
        raw_blocks: Some(3),
        scanned: false,
    }
}

fn mapping(start: u64, end: u64, kind: Kind) -> Mapping {
    Mapping {
        start,
        end,
        kind,
        writable: kind != Kind::Kernel,
        resident_bytes: 4096,
        swapped_bytes: 1,
    }
}

/// Three pages in two ranges, the second of which came short.
fn sample() -> Image<Vec<u8>> {
    let bytes: Vec<u8> = (0..=250)
        .cycle()
        .take(2 * PAGE_BYTES as usize + 100)
        .collect();
    let ranges = vec![
        Range {
            start: 0x10000,
            len: 100,
            at: 2 * PAGE_BYTES,
        },
        Range {
            start: 0x40000,
            len: 2 * PAGE_BYTES,
            at: 0,
        },
    ];
    let mut space = Space::new(ranges, bytes).expect("ranges");
    space.add(RemoteAddr(0x90001), Box::new(*b"builtins.str\0"));
    space.add(RemoteAddr(0x90101), Box::new(*b""));
    space.set_absent(vec![(0x20000, 0x21000), (0x22000, 0x23000)]);
    Image {
        meta: meta(),
        mappings: vec![
            mapping(0x10000, 0x11000, Kind::Heap),
            mapping(0x40000, 0x42000, Kind::Anonymous),
            mapping(0xffff_ffff_ff60_0000, 0xffff_ffff_ff60_1000, Kind::Kernel),
        ],
        arenas: vec![Arena {
            start: 0x40000,
            len: 256 << 10,
            carved_end: 0x42000,
            index: 7,
        }],
        space,
    }
}

fn written() -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image::write(&sample(), &mut out, |_, _| Ok(())).expect("written");
    out.into_inner()
}

#[test]
fn what_is_opened_is_what_was_written() {
    let file = written();
    let (expected, found) = (sample(), image::open(&file[..]).expect("an image"));
    assert_eq!(found.meta, expected.meta);
    assert_eq!(found.mappings, expected.mappings);
    assert_eq!(found.arenas, expected.arenas);
    assert_eq!(found.space.absent(), expected.space.absent());
    assert!(found.space.small().eq(expected.space.small()));
    assert!(found.space.large().eq(expected.space.large()));
    assert_eq!(found.space.bytes(RemoteAddr(0x10000), 101), None);
    // Pages lie in the file where pages can be mapped.
    assert!(
        found
            .space
            .ranges()
            .iter()
            .all(|range| range.at % PAGE_BYTES == 0)
    );
    assert_eq!(file.len() as u64 % PAGE_BYTES, 0);
}

#[test]
fn no_byte_of_the_file_may_be_another() {
    let mut file = written();
    for at in 0..file.len() {
        // In the header each bit.
        let bits = if at < HEADER_BYTES { 8 } else { 1 };
        for bit in 0..bits {
            file[at] ^= 1 << bit;
            assert!(image::open(&file[..]).is_err(), "bit {bit} of byte {at}");
            file[at] ^= 1 << bit;
        }
    }
    image::open(&file[..]).expect("whole again");
}

#[test]
fn a_file_that_is_cut_off_is_called_so() {
    let file = written();
    for len in 0..file.len() {
        let error = image::open(&file[..len]).expect_err("no image");
        match error {
            ImageError::Truncated { bytes, expected } => {
                assert_eq!(bytes, len as u64);
                assert!(expected > bytes);
            }
            error => assert_eq!((error, len), (ImageError::Foreign, 0)),
        }
    }
}

#[test]
fn what_was_not_written_to_its_end_does_not_begin_as_an_image() {
    let mut out = Cursor::new(Vec::new());
    let full = io::Error::from(io::ErrorKind::StorageFull);
    let mut full = Some(full);
    let result = image::write(&sample(), &mut out, |_, _| full.take().map_or(Ok(()), Err));
    assert_eq!(
        result.expect_err("no room").kind(),
        io::ErrorKind::StorageFull
    );
    let error = image::open(out.get_ref()).expect_err("no image");
    assert_eq!(error, ImageError::Foreign);
}

#[test]
fn a_newer_format_is_called_so() {
    let mut file = written();
    file[12] = 2;
    let error = image::open(&file[..]).expect_err("no image");
    assert_eq!(error, ImageError::Version(2));
}

/// Values that no checksum notices, for they were written.
#[test]
fn values_that_no_writer_writes_are_refused() {
    type Change = fn(&mut Image<Vec<u8>>);
    let changes: [(&str, Change); 9] = [
        ("overlapping mappings", |image| image.mappings[1].start = 0),
        ("an empty mapping", |image| image.mappings[0].end = 0x10000),
        ("memory of the kernel", |image| {
            image.mappings[2].writable = true;
        }),
        ("a mapping too large", |image| {
            image.mappings[0].resident_bytes = u64::MAX;
        }),
        ("an arena of another size", |image| {
            image.arenas[0].len = 4096;
        }),
        ("an arena that ends elsewhere", |image| {
            image.arenas[0].carved_end = 0;
        }),
        ("more arenas than came", |image| {
            image.arenas.extend(arenas(4097));
        }),
        ("more left out than there is", |image| {
            image.meta.left_out.insert(What::Anonymous, u64::MAX);
        }),
        ("an offset without end", |image| {
            image.meta.layout.interpreter.next = u64::MAX;
        }),
    ];
    for (what, change) in changes {
        let mut bad = sample();
        change(&mut bad);
        let mut out = Cursor::new(Vec::new());
        image::write(&bad, &mut out, |_, _| Ok(())).expect("written");
        let error = image::open(out.get_ref());
        assert!(matches!(error, Err(ImageError::Damaged(_))), "{what}");
    }
}

/// Arenas of which nothing is here.
fn arenas(count: u64) -> impl Iterator<Item = Arena> {
    (0..count).map(|n| Arena {
        start: (1 << 32) + n * (256 << 10),
        len: 256 << 10,
        carved_end: (1 << 32) + n * (256 << 10),
        index: 8,
    })
}

#[test]
fn arenas_that_came_or_were_left_out_are_kept() {
    let mut image = sample();
    image.arenas.extend(arenas(8192));
    let left_out = (1 << 32) + 4096 * (256 << 10);
    image.space.set_absent(vec![(1 << 32, left_out)]);
    let mut out = Cursor::new(Vec::new());
    image::write(&image, &mut out, |_, _| Ok(())).expect("written");
    let found = image::open(out.get_ref()).expect("an image");
    assert_eq!(found.arenas, image.arenas);
}
