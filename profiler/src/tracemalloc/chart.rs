//! A snapshot as sample tables, so that every report of stacks can be made from it.

use onlooker_heap::tracemalloc::{Frame, Snapshot};
use onlooker_recording::tables::{
    Header, Interner, Location, LocationId, Process, ProcessId, Sample, StackId, StackNode, State,
    StringId, Tables, Thread, ThreadId, Totals, Trust, WeightKind,
};

use super::document::Origin;

/// One sample for each traceback, weighted with its live bytes.
///
/// `tracemalloc` keeps no names of functions: a frame's name is `file.py:12`.
#[must_use]
pub fn tables(origin: &Origin, snapshot: &Snapshot) -> Tables {
    let mut builder = Builder::default();
    let no_name = builder.string("");
    builder.tables.header = Header {
        program: origin.command.join(" "),
        ..Header::default()
    };
    builder.tables.processes.push(Process {
        pid: origin.pid,
        parent_pid: None,
        command: origin.command.clone(),
        python: origin.python.clone(),
        executable: String::new(),
    });
    builder.tables.threads.push(Thread {
        process: ProcessId(0),
        os_thread_id: None,
        thread_id: 0,
        interpreter: 0,
        name: no_name,
    });
    // Everything was read at once: no clock, nothing that was cut short.
    builder.tables.totals = Some(Totals::default());
    for traces in &snapshot.traces {
        let traceback = snapshot.tracebacks.get(traces.traceback as usize);
        let frames = traceback.map_or(&[][..], |traceback| &traceback.frames);
        let stack = frames.iter().rev().fold(None, |parent, frame| {
            let location = builder.location(snapshot, *frame);
            Some(builder.stack(StackNode { parent, location }))
        });
        builder.tables.samples.push(Sample {
            time_ns: 0,
            thread: ThreadId(0),
            stack,
            state: State::default(),
            trust: Trust::Verified,
            reason: None,
            weight_kind: WeightKind::BytesKept,
            weight: traces.bytes,
        });
    }
    builder.tables
}

#[derive(Default)]
struct Builder {
    tables: Tables,
    strings: Interner<String>,
    locations: Interner<Location>,
    stacks: Interner<StackNode>,
}

impl Builder {
    fn string(&mut self, text: &str) -> StringId {
        let (id, new) = self.strings.intern(text.to_owned());
        if new {
            self.tables.strings.push(text.to_owned());
        }
        StringId(id)
    }

    fn location(&mut self, snapshot: &Snapshot, frame: Frame) -> LocationId {
        let file = snapshot.files.get(frame.file as usize);
        let file = file.map_or("", String::as_str);
        let short = file.rsplit('/').next().unwrap_or(file);
        let name = self.string(&format!("{short}:{}", frame.line));
        let location = Location {
            name,
            filename: self.string(file),
            line: None,
            column: None,
            end_line: None,
            end_column: None,
        };
        let (id, new) = self.locations.intern(location);
        if new {
            self.tables.locations.push(location);
        }
        LocationId(id)
    }

    fn stack(&mut self, node: StackNode) -> StackId {
        let (id, new) = self.stacks.intern(node);
        if new {
            self.tables.stacks.push(node);
        }
        StackId(id)
    }
}
