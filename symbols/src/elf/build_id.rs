//! The build id: the linker's hash of the file, by which debug information is found.

use std::fmt::Write;

use goblin::elf::note::{NT_GNU_BUILD_ID, NoteDataIterator};
use goblin::elf::program_header::PT_NOTE;
use goblin::elf::section_header::SHT_NOTE;

use super::{CTX, ElfFile, bytes};

/// `ld --build-id` writes 8 to 20 bytes and allows a hex string of the user's.
const MAX_BUILD_ID_BYTES: usize = 64;

impl ElfFile<'_> {
    /// The GNU build id in lower-case hex, from the loaded notes or the note sections;
    /// `None` when the linker wrote none.
    pub fn build_id(&self) -> Option<String> {
        let segments = self.program_headers.iter();
        let segments = segments.filter(|ph| ph.p_type == PT_NOTE);
        let segments = segments.map(|ph| (ph.p_offset, ph.p_filesz, ph.p_align));
        let sections = self.section_headers.iter();
        let sections = sections.filter(|sh| sh.sh_type == SHT_NOTE);
        let sections = sections.map(|sh| (sh.sh_offset, sh.sh_size, sh.sh_addralign));
        segments
            .chain(sections)
            .find_map(|(offset, size, align)| self.build_id_in(offset, size, align))
    }

    fn build_id_in(&self, offset: u64, size: u64, align: u64) -> Option<String> {
        let data = bytes::slice(self.bytes, offset, size)?;
        let notes = NoteDataIterator {
            data,
            size: data.len(),
            offset: 0,
            ctx: (usize::try_from(align).ok()?, CTX),
        };
        // A note that cannot be read ends the iterator.
        let mut ids = notes.flatten().filter(|note| {
            note.n_type == NT_GNU_BUILD_ID
                && note.name == "GNU"
                && (1..=MAX_BUILD_ID_BYTES).contains(&note.desc.len())
        });
        let desc = ids.next()?.desc;
        Some(desc.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }))
    }
}
