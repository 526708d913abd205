//! Decodes the line tables of the standard library and compares every instruction with
//! what the interpreter that compiled it says.

mod interpreters;

use onlooker_symbols::linetable::{LineTable, LineTableFormat, Position, locate};

const ORACLE: &str = include_str!("linetable_oracle.py");

/// Enough to know that the modules were really found; 2.7 has the fewest.
const MIN_CODE_OBJECTS: usize = 200;

fn parse_row(row: &str) -> Position {
    let mut fields = row.split(',').map(|field| match field {
        "-" => None,
        number => Some(number.parse().expect("a number")),
    });
    let mut next = || fields.next().expect("four fields");
    Position {
        line: next(),
        column: next(),
        end_line: next(),
        end_column: next(),
    }
}

fn parse_hex(hex: &str) -> Vec<u8> {
    let hex = hex.trim_start_matches('-').as_bytes();
    let digits = hex.chunks_exact(2).map(|pair| std::str::from_utf8(pair));
    digits
        .map(|pair| u8::from_str_radix(pair.expect("ASCII"), 16).expect("hex"))
        .collect()
}

/// Checks one code object; returns how many instructions it has.
fn check(format: LineTableFormat, described: &str, whose: &str) -> usize {
    let mut fields = described.split(' ');
    let mut next = || fields.next().expect("a field");
    let first_line: i32 = next().parse().expect("co_firstlineno");
    let bytes = parse_hex(next());
    let code_size: i32 = next().parse().expect("size of the code");
    let table = LineTable::new(format, &bytes, first_line);
    let mut expected = Position::default();
    let mut rows = 0;
    for (row, lasti) in fields.zip((-2..).step_by(2)) {
        if row != "=" {
            expected = parse_row(row);
        }
        let found = table.locate(lasti);
        assert_eq!(
            found, expected,
            "{whose}: first line {first_line}, lasti {lasti} of {code_size}, table {bytes:02x?}"
        );
        // Linear in the table for each instruction, so only some of them.
        if rows % 16 == 0 {
            assert_eq!(locate(format, &bytes, first_line, lasti), expected);
        }
        rows += 1;
    }
    assert_eq!(rows, 1 + usize::try_from(code_size).unwrap().div_ceil(2));
    rows
}

#[test]
fn positions_equal_those_of_every_interpreter() {
    for interpreter in interpreters::all() {
        let output = interpreter
            .command()
            .args(["-c", ORACLE])
            .output()
            .expect("run the interpreter");
        let whose = interpreter.executable.display().to_string();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{whose}: {errors}");
        let text = String::from_utf8(output.stdout).expect("ASCII");
        let format = LineTableFormat::of_version(interpreter.version.0, interpreter.version.1);
        let instructions: usize = text.lines().map(|line| check(format, line, &whose)).sum();
        let code_objects = text.lines().count();
        assert!(code_objects >= MIN_CODE_OBJECTS, "{whose}: {code_objects}");
        eprintln!("{whose}: {code_objects} code objects, {instructions} instructions, {format:?}");
    }
}
