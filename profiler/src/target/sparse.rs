//! A program or library of which only that is read by which symbols are found.
//!
//! A `libpython` with debug information has 30 MB, of which that is a tenth. The rest stays pages
//! that were never touched, which cost nothing.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use onlooker_symbols::ElfFile;
use onlooker_symbols::elf::parts;

/// A file in its length, with zeros for what [`parts`] leaves out. What is no program is left out
/// but for its first bytes; one that has no section headers is read whole.
///
/// # Errors
/// When the file cannot be read, or is cut off meanwhile.
pub(super) fn read(file: &File) -> io::Result<Vec<u8>> {
    let len = file.metadata()?.len();
    let too_long = |_| io::Error::from(io::ErrorKind::FileTooLarge);
    let mut bytes = vec![0; usize::try_from(len).map_err(too_long)?];
    let read = |bytes: &mut [u8], part: Range<u64>| {
        let end = part.end.min(len);
        match part.start < end {
            // Both fit: the whole length does.
            true => file.read_exact_at(&mut bytes[part.start as usize..end as usize], part.start),
            false => Ok(()),
        }
    };
    read(&mut bytes, 0..parts::HEADER_BYTES)?;
    for part in parts::headers(&bytes).into_iter().flatten() {
        read(&mut bytes, part)?;
    }
    let parts = match ElfFile::parse(&bytes) {
        Ok(elf) => elf.symbol_parts(),
        Err(_) => Some(Vec::new()),
    };
    match parts {
        Some(parts) => parts
            .into_iter()
            .try_for_each(|part| read(&mut bytes, part))?,
        None => read(&mut bytes, 0..len)?,
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_changes_no_answer() {
        let path = std::env::current_exe().expect("ourselves");
        let whole = std::fs::read(&path).expect("a file");
        let sparse = read(&File::open(&path).expect("a file")).expect("its parts");
        assert_eq!(sparse.len(), whole.len());
        let left_out = sparse.iter().zip(&whole).filter(|(a, b)| a != b).count();
        assert!(left_out > whole.len() / 4, "{left_out} of {}", whole.len());
        let (whole, sparse) = (ElfFile::parse(&whole), ElfFile::parse(&sparse));
        let (whole, sparse) = (whole.expect("a program"), sparse.expect("the same"));
        let names = ["main", "_start", "nothing of this name"];
        assert!(whole.symbol("main").is_some());
        assert_eq!(sparse.symbols(&names), whole.symbols(&names));
        assert_eq!(sparse.section(".text"), whole.section(".text"));
        assert_eq!(sparse.build_id(), whole.build_id());
        let maps = [(0x10_0000, 0x20_0000, 0)];
        assert_eq!(sparse.bias(&maps), whole.bias(&maps));
    }
}
