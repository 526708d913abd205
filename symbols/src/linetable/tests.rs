//! Small tables with the answer justified beside them. The formats as a whole are checked
//! against the interpreters themselves in `tests/linetable_live.rs`.

use proptest::prelude::*;

use super::*;

fn line(format: LineTableFormat, table: &[u8], lasti: i32) -> Option<u32> {
    let position = locate(format, table, 10, lasti);
    assert_eq!(LineTable::new(format, table, 10).locate(lasti), position);
    position.line
}

#[test]
fn lnotab_keeps_the_first_line_up_to_the_first_step() {
    let table = [4, 1, 6, 2];
    let lines = [0, 3, 4, 9, 10, 9999].map(|at| line(LineTableFormat::LnotabSigned, &table, at));
    assert_eq!(lines, [10, 10, 11, 11, 13, 13].map(Some));
}

#[test]
fn lnotab_line_deltas_are_signed_since_3_6() {
    // 0xff is one line back for 3.6, and 255 lines on for 3.5.
    let table = [2, 0xff];
    assert_eq!(line(LineTableFormat::LnotabSigned, &table, 2), Some(9));
    assert_eq!(line(LineTableFormat::LnotabUnsigned, &table, 2), Some(265));
}

#[test]
fn lnotab_applies_every_step_at_the_same_address() {
    // 300 lines do not fit into one signed byte.
    let table = [2, 127, 0, 127, 0, 46];
    assert_eq!(line(LineTableFormat::LnotabSigned, &table, 1), Some(10));
    assert_eq!(line(LineTableFormat::LnotabSigned, &table, 2), Some(310));
}

#[test]
fn pep626_delta_applies_to_its_own_range() {
    // Four bytes on line 10, two without a line, two on line 11, then nothing.
    let table = [4, 0, 2, 0x80, 2, 1];
    let lines = [0, 3, 4, 6, 8].map(|at| line(LineTableFormat::Pep626, &table, at));
    assert_eq!(lines, [Some(10), Some(10), None, Some(11), None]);
}

#[test]
fn a_frame_that_has_not_started_is_on_the_first_line() {
    for format in [
        LineTableFormat::LnotabUnsigned,
        LineTableFormat::LnotabSigned,
        LineTableFormat::Pep626,
        LineTableFormat::Locations,
    ] {
        assert_eq!(line(format, &[], -1), Some(10));
    }
}

/// The first byte of an entry for `units` code units.
fn entry(kind: u8, units: u8) -> u8 {
    0x80 | kind << 3 | (units - 1)
}

fn position(line: u32, column: u32, end_line: u32, end_column: u32) -> Position {
    Position {
        line: Some(line),
        column: Some(column),
        end_line: Some(end_line),
        end_column: Some(end_column),
    }
}

#[test]
fn locations_decode_every_kind() {
    let table = [
        // Short: columns 8·3 + 5 = 29 to 29 + 11 = 40 on line 10, one unit.
        &[entry(3, 1), 0x5b][..],
        // One line on, columns 100 to 120, two units.
        &[entry(11, 2), 100, 120],
        // No columns, three lines back: |3| << 1 with the sign bit is 7.
        &[entry(13, 1), 7],
        // Long: 100 lines on (200 = 8 + 3·64), two lines long, from column 70 (71 = 7 + 64)
        // to an unknown one.
        &[entry(14, 1), 0x48, 3, 2, 0x47, 1, 0],
        // No location; the line stays.
        &[entry(15, 1)],
        &[entry(0, 1), 0x01],
    ]
    .concat();
    let at = |unit: i32| locate(LineTableFormat::Locations, &table, 10, unit * 2);
    assert_eq!(at(0), position(10, 29, 10, 40));
    assert_eq!(at(1), position(11, 100, 11, 120));
    assert_eq!(at(2), at(1));
    let no_columns = Position {
        line: Some(8),
        end_line: Some(8),
        ..Position::default()
    };
    assert_eq!(at(3), no_columns);
    let open_end = Position {
        end_column: None,
        ..position(108, 70, 110, 0)
    };
    assert_eq!(at(4), open_end);
    assert_eq!(at(5), Position::default());
    assert_eq!(at(6), position(108, 0, 108, 1));
    assert_eq!(at(7), Position::default());
}

#[test]
fn a_lost_line_delta_ends_the_table() {
    // The delta of the second entry is cut off by the third.
    let table = [entry(0, 1), 0x01, entry(13, 1), 0x47, entry(0, 1), 0x01];
    let lines = [0, 2, 4].map(|at| line(LineTableFormat::Locations, &table, at));
    assert_eq!(lines, [Some(10), None, None]);
}

#[test]
fn numbers_that_do_not_fit_have_no_position() {
    let seven_groups = [entry(13, 1), 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x3f];
    assert_eq!(line(LineTableFormat::Locations, &seven_groups, 0), None);
    let mut beyond_int = Vec::new();
    for _ in 0..40 {
        // 2²⁶ lines on, each time.
        beyond_int.extend([entry(13, 1), 0x40, 0x40, 0x40, 0x40, 0x08]);
    }
    let table = LineTable::new(LineTableFormat::Locations, &beyond_int, 10);
    assert!(table.locate(0).line.is_some());
    assert_eq!(table.locate(2 * 39), Position::default());
}

fn any_format() -> impl Strategy<Value = LineTableFormat> {
    prop_oneof![
        Just(LineTableFormat::LnotabUnsigned),
        Just(LineTableFormat::LnotabSigned),
        Just(LineTableFormat::Pep626),
        Just(LineTableFormat::Locations),
    ]
}

proptest! {
    #[test]
    fn any_bytes_end_and_both_ways_agree(
        format in any_format(),
        table in prop::collection::vec(any::<u8>(), 0..400),
        first_line: i32,
        lasti in prop_oneof![any::<i32>(), -2..2000],
    ) {
        let once = locate(format, &table, first_line, lasti);
        let decoded = LineTable::new(format, &table, first_line);
        prop_assert_eq!(decoded.locate(lasti), once);
        prop_assert!(once.line.is_some() || once.end_column.is_none());
    }
}
