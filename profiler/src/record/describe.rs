//! What a recording says about frames and processes.

use onlooker_recording::tables::{Mapping, Process, ProcessId};
use onlooker_symbols::ElfFile;
use onlooker_symbols::linetable::Position;

use crate::session::{Session, StackFrame};
use crate::target;
use crate::target::maps::Maps;

/// The build id of a file stands near its beginning.
const HEAD_BYTES: u64 = 64 << 10;

/// Where a frame stands in the source.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Name of the function.
    pub(super) name: String,
    /// Its file.
    pub(super) filename: String,
    /// The place in it.
    pub(super) position: Position,
}

/// The place of a frame of the last sample.
pub(super) fn place(session: &Session, frame: StackFrame) -> Option<Place> {
    let code = session.code(frame)?;
    Some(Place {
        name: code.name.to_string(),
        filename: code.filename.to_string(),
        position: code.position(frame.lasti),
    })
}

/// The rows of a process: itself, and its executable mappings of files with the build ids that
/// tell which files they were. Reads files.
pub(super) fn describe(pid: i32, python: String, executable: String) -> (Process, Vec<Mapping>) {
    let process = Process {
        pid,
        parent_pid: target::parent(pid),
        command: target::command_line(pid),
        python,
        executable,
    };
    let Ok(maps) = Maps::read(pid) else {
        return (process, Vec::new());
    };
    let mut rows = Vec::new();
    for file in maps.files.iter().filter(|file| file.executable) {
        let bytes = file.head(pid, HEAD_BYTES).unwrap_or_default();
        let build_id = ElfFile::parse(&bytes).ok().and_then(|elf| elf.build_id());
        for piece in &file.pieces {
            rows.push(Mapping {
                // The writing thread knows the id.
                process: ProcessId(0),
                start: piece.start,
                end: piece.end,
                file_offset: piece.file_offset,
                path: file.path.to_string_lossy().into_owned(),
                build_id: build_id.clone().unwrap_or_default(),
            });
        }
    }
    (process, rows)
}
