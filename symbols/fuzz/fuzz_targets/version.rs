//! Any memory and any file name: a version or none, without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onlooker_symbols::{PyVersion, version::find_version};

fuzz_target!(|memory: &[u8]| {
    if let Some(found) = find_version(memory) {
        assert!(found.to_hex().is_some());
    }
    let _ = std::str::from_utf8(memory).map(PyVersion::from_file_name);
});
