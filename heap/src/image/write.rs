//! Writes an image.

use std::io::{self, Seek, SeekFrom, Write};

use crc32fast::Hasher;

use super::header::{HEADER_BYTES, Header, PAGES, Section};
use super::{Image, tables};
use crate::space::{PAGE_BYTES, Range};

/// Bytes that are written at once.
const STEP_BYTES: usize = 4 << 20;

/// Writes an image. `progress` is told how many bytes of pages of how many are written, and may
/// end it with an error.
///
/// The header comes last: what was cut off while it was written does not begin as an image.
///
/// # Errors
/// Those of `out` and of `progress`.
pub fn write<B: AsRef<[u8]>, W: Write + Seek>(
    image: &Image<B>,
    out: &mut W,
    mut progress: impl FnMut(u64, u64) -> io::Result<()>,
) -> io::Result<()> {
    let mut at = 0;
    let ranges: Vec<Range> = image
        .space
        .ranges()
        .iter()
        .map(|range| {
            let range = Range { at, ..*range };
            at += range.len.next_multiple_of(PAGE_BYTES);
            range
        })
        .collect();
    let small = [
        serde_json::to_vec(&image.meta)?,
        tables::encode_mappings(&image.mappings),
        tables::encode_arenas(&image.arenas),
        tables::encode_absent(image.space.absent()),
        tables::encode_ranges(&ranges),
        tables::encode_pieces(image.space.small()),
    ];
    let mut header = Header::default();
    for (section, bytes) in header.sections.iter_mut().zip(&small) {
        *section = Section {
            bytes: bytes.len() as u64,
            crc: crc32fast::hash(bytes),
        };
    }
    out.write_all(&[0; HEADER_BYTES])?;
    for bytes in &small {
        out.write_all(bytes)?;
    }
    let used = HEADER_BYTES + small.iter().map(Vec::len).sum::<usize>();
    let zeros = [0; PAGE_BYTES as usize];
    out.write_all(&zeros[..used.next_multiple_of(zeros.len()) - used])?;
    let mut crc = Hasher::new();
    let mut done = 0;
    for (_, bytes) in image.space.large() {
        let padding = &zeros[..bytes.len().next_multiple_of(zeros.len()) - bytes.len()];
        for part in bytes.chunks(STEP_BYTES).chain([padding]) {
            crc.update(part);
            out.write_all(part)?;
            done += part.len() as u64;
            progress(done, at)?;
        }
    }
    header.sections[PAGES] = Section {
        bytes: at,
        crc: crc.finalize(),
    };
    out.seek(SeekFrom::Start(0))?;
    out.write_all(&header.encode())?;
    out.flush()
}
