//! Any table in any format: both ways to look up agree. The first byte chooses the format,
//! eight more the first line and the instruction.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onlooker_symbols::linetable::{LineTable, LineTableFormat, locate};

fuzz_target!(|input: (u8, i32, i16, &[u8])| {
    let (format, first_line, lasti, table) = input;
    let format = match format % 4 {
        0 => LineTableFormat::LnotabUnsigned,
        1 => LineTableFormat::LnotabSigned,
        2 => LineTableFormat::Pep626,
        _ => LineTableFormat::Locations,
    };
    let lasti = i32::from(lasti);
    let decoded = LineTable::new(format, table, first_line);
    assert_eq!(
        decoded.locate(lasti),
        locate(format, table, first_line, lasti)
    );
});
