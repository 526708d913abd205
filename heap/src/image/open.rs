//! Opens an image.

use std::thread;

use crc32fast::Hasher;
use serde_json::Value;

use super::header::{Header, PAGES, SECTIONS};
use super::tables::{self, MOST_BYTES};
use super::{Image, ImageError, Meta};
use crate::pymalloc::{Geometry, are_invented};
use crate::space::Space;
use onlooker_unwinder::layout::Layout;
use onlooker_unwinder::memory::RemoteAddr;

/// A thread takes some tens of microseconds, as do so many bytes.
const WORTH_A_THREAD: usize = 1 << 20;
/// No field of any build lies so far inside of its structure.
const MAX_OFFSET: u64 = 1 << 20;

/// Opens an image from the bytes of its file, which stay where they are. Reads all of it once, to
/// check it; copies tables only.
///
/// # Errors
/// When it is none, is cut off, or a byte of it is not what was written.
pub fn open<B: AsRef<[u8]>>(file: B) -> Result<Image<B>, ImageError> {
    let bytes = file.as_ref();
    let header = Header::decode(bytes)?;
    let section = |index: usize| {
        let Some(part) = part(bytes, &header, index) else {
            return Err(ImageError::Damaged("its header"));
        };
        if crc(part) != header.sections[index].crc {
            return Err(ImageError::Damaged(SECTIONS[index]));
        }
        Ok(part)
    };
    let [meta, mappings, arenas, absent, ranges, pieces] = [0, 1, 2, 3, 4, 5].map(section);
    let meta: Meta = serde_json::from_slice(meta?).map_err(|_| ImageError::Damaged("meta"))?;
    if !is_sane(&meta.layout) {
        return Err(ImageError::Damaged("its layout"));
    }
    if meta.left_out.values().any(|bytes| *bytes > MOST_BYTES) {
        return Err(ImageError::Damaged("what was left out"));
    }
    let mappings = tables::decode_mappings(mappings?)?;
    let arenas = tables::decode_arenas(arenas?, Geometry::of(meta.layout.version))?;
    let absent = tables::decode_absent(absent?)?;
    let pages = header.start(PAGES).unwrap_or_default();
    let ranges = tables::decode_ranges(ranges?, pages)?;
    let pieces: Vec<(RemoteAddr, Box<[u8]>)> = tables::decode_pieces(pieces?)?
        .into_iter()
        .map(|(addr, piece)| (RemoteAddr(addr), piece.into()))
        .collect();
    let end =
        (header.start(PAGES - 1).unwrap_or_default() + header.sections[PAGES - 1].bytes) as usize;
    if bytes[end..pages as usize].iter().any(|byte| *byte != 0) {
        return Err(ImageError::Damaged("no zeros before its pages"));
    }
    section(PAGES)?;
    let mut space = Space::new(ranges, file).map_err(|_| ImageError::Damaged("ranges"))?;
    space.set_absent(absent);
    if are_invented(&space, &arenas) {
        return Err(ImageError::Damaged("arenas without memory"));
    }
    for (addr, piece) in pieces {
        space.add(addr, piece);
    }
    Ok(Image {
        meta,
        mappings,
        arenas,
        space,
    })
}

/// Its halves have a thread each where that is worth it.
fn crc(bytes: &[u8]) -> u32 {
    let hash = |bytes: &[u8]| {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher
    };
    if bytes.len() < WORTH_A_THREAD {
        return hash(bytes).finalize();
    }
    let (first, second) = bytes.split_at(bytes.len() / 2);
    thread::scope(|scope| {
        let second = scope.spawn(move || hash(second));
        let mut first = hash(first);
        match second.join() {
            Ok(second) => first.combine(&second),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        first.finalize()
    })
}

fn part<'a>(bytes: &'a [u8], header: &Header, index: usize) -> Option<&'a [u8]> {
    let start = header.start(index)?;
    let end = start.checked_add(header.sections[index].bytes)?;
    bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

/// Whether all numbers of a layout can be offsets.
fn is_sane(layout: &Layout) -> bool {
    fn small(value: &Value) -> bool {
        match value {
            Value::Number(number) => number.as_u64().is_none_or(|number| number < MAX_OFFSET),
            Value::Array(values) => values.iter().all(small),
            Value::Object(fields) => fields.values().all(small),
            _ => true,
        }
    }
    serde_json::to_value(layout).is_ok_and(|value| small(&value))
}
