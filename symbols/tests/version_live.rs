//! Finds the version text where it really is: in the writable memory of an interpreter.

mod interpreters;

use std::fs;

use onlooker_symbols::{ElfFile, PyVersion, version::find_version};

/// Prints its version and the bytes of its own memory at the ranges given as arguments.
const DUMP: &str = "
import sys
out = getattr(sys.stdout, 'buffer', sys.stdout)
out.write(('%d.%d.%d\\n' % sys.version_info[:3]).encode('ascii'))
image, ranges = sys.argv[1], sys.argv[2:]
base = 0
for line in open('/proc/self/maps'):
    if line.rstrip().endswith(image):
        fields = line.split()
        base = int(fields[0].split('-')[0], 16) - int(fields[2], 16)
        break
memory = open('/proc/self/mem', 'rb', 0)
for r in ranges:
    start, size, pie = map(int, r.split(':'))
    memory.seek(start + base * pie)
    out.write(memory.read(size))
";

#[test]
fn every_interpreter_tells_its_version() {
    for interpreter in interpreters::all() {
        let whose = interpreter.image.display();
        let bytes = fs::read(&interpreter.image).expect("read the image");
        let elf = ElfFile::parse(&bytes).expect("parse");
        let pie = u8::from(elf.is_pie_or_shared());
        let ranges = elf.writable_ranges();
        let output = interpreter
            .command()
            .args(["-c", DUMP])
            .arg(&interpreter.image)
            .args(ranges.map(|range| format!("{}:{}:{pie}", range.addr.0, range.mem_size)))
            .output()
            .expect("run the interpreter");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{whose}: {errors}");
        let newline = output.stdout.iter().position(|&byte| byte == b'\n');
        let (said, memory) = output.stdout.split_at(newline.expect("a line"));
        let found = find_version(memory).map(|version| version.to_string());
        assert_eq!(found.as_deref(), std::str::from_utf8(said).ok(), "{whose}");
        let by_name = interpreter
            .image
            .to_str()
            .and_then(PyVersion::from_file_name);
        let (major, minor) = interpreter.version;
        assert_eq!(
            by_name,
            Some(PyVersion::minor_only(major, minor)),
            "{whose}"
        );
    }
}
