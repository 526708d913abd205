//! Recordings made for the tests.

use onlooker_recording::read::{Loaded, read};
use onlooker_recording::tables::*;
use onlooker_recording::write::Writer;

/// A second.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// What the time of a sample is rounded to at the rate of [`header`].
const UNIT_NS: u64 = 10_000;

/// What a test recording starts with.
pub(crate) fn header() -> Header {
    Header {
        onlooker_version: "0.1.0".to_owned(),
        command_line: vec!["onlooker".to_owned(), "record".to_owned()],
        program: "shop.py".to_owned(),
        started_unix_ns: 1_700_000_000_123_456_789,
        rate_hz: 100.0,
    }
}

/// A recording as it grows, and what should be read back.
pub(crate) struct Made {
    /// The writer.
    pub(crate) writer: Writer<Vec<u8>>,
    /// What was put into it.
    pub(crate) expected: Tables,
    /// Length of the stream after each block.
    pub(crate) ends: Vec<u64>,
}

impl Made {
    /// A recording with nothing but its header.
    pub(crate) fn new() -> Self {
        let writer = Writer::new(Vec::new(), &header()).unwrap();
        let ends = vec![writer.bytes_written()];
        let expected = Tables {
            header: header(),
            ..Tables::default()
        };
        Self {
            writer,
            expected,
            ends,
        }
    }

    /// The id of a string.
    pub(crate) fn string(&mut self, text: &str) -> StringId {
        let id = self.writer.string(text);
        if id.index() == self.expected.strings.len() {
            self.expected.strings.push(text.to_owned());
        }
        assert_eq!(self.expected.string(id), text);
        id
    }

    /// The id of a frame.
    pub(crate) fn frame(
        &mut self,
        parent: Option<StackId>,
        name: &str,
        line: Option<u32>,
    ) -> StackId {
        let row = Location {
            name: self.string(name),
            filename: self.string("/srv/shop.py"),
            line,
            column: line.map(|line| line % 40),
            end_line: line,
            end_column: line.map(|line| line % 40 + 7),
        };
        let location = self.writer.location(row);
        if location.index() == self.expected.locations.len() {
            self.expected.locations.push(row);
        }
        let node = StackNode { parent, location };
        let stack = self.writer.stack(parent, location);
        if stack.index() == self.expected.stacks.len() {
            self.expected.stacks.push(node);
        }
        assert_eq!(self.expected.stacks[stack.index()], node);
        stack
    }

    /// A process with one thread and one mapping.
    pub(crate) fn thread(&mut self, pid: i32) -> ThreadId {
        let row = Process {
            pid,
            parent_pid: (pid > 1).then_some(1),
            command: vec!["python3".to_owned(), "shop.py".to_owned()],
            python: "3.12.1".to_owned(),
            executable: "/usr/bin/python3".to_owned(),
        };
        let process = self.writer.process(row.clone());
        self.expected.processes.push(row);
        let mapping = Mapping {
            process,
            start: 0x5000,
            end: 0x9000,
            file_offset: 0x1000,
            path: "/usr/bin/python3".to_owned(),
            build_id: "c0ffee".to_owned(),
        };
        self.writer.mapping(mapping.clone());
        self.expected.mappings.push(mapping);
        let row = Thread {
            process,
            os_thread_id: Some(pid),
            thread_id: 0x7f00_0000_0000,
            interpreter: 0,
            name: self.string("MainThread"),
        };
        self.expected.threads.push(row.clone());
        self.writer.thread(row)
    }

    /// A verified sample of weight 1.
    pub(crate) fn sample(&mut self, time_ns: u64, thread: ThreadId, stack: Option<StackId>) {
        let sample = Sample {
            time_ns,
            thread,
            stack,
            state: State {
                running: true,
                holds_gil: true,
                waits_for_gil: false,
                known: true,
                sleeping: false,
            },
            trust: Trust::Verified,
            reason: None,
            weight_kind: WeightKind::Samples,
            weight: 1,
        };
        self.any_sample(sample);
    }

    /// Any sample.
    pub(crate) fn any_sample(&mut self, sample: Sample) {
        self.writer.sample(sample);
        self.expected.samples.push(Sample {
            time_ns: sample.time_ns / UNIT_NS * UNIT_NS,
            ..sample
        });
        self.expected.running_totals.verified += 1;
    }

    /// A point of the series of resident sizes.
    pub(crate) fn rss(&mut self, point: RssPoint) {
        self.writer.rss(point);
        self.expected.rss.push(RssPoint {
            time_ns: point.time_ns / UNIT_NS * UNIT_NS,
            ..point
        });
    }

    /// Ends a block.
    pub(crate) fn block(&mut self, now_ns: u64) {
        self.expected.running_totals.duration_ns = now_ns;
        let totals = &self.expected.running_totals;
        self.writer.write_block(now_ns, totals).unwrap();
        self.ends.push(self.writer.bytes_written());
    }

    /// Ends the recording: its bytes, what should be read, and the ends of its blocks but the
    /// last ones.
    pub(crate) fn finish(mut self) -> (Vec<u8>, Tables, Vec<usize>) {
        let totals = &self.expected.running_totals;
        let bytes = self.writer.finish(totals).unwrap();
        self.expected.totals = Some(totals.clone());
        let ends = self.ends.iter().map(|end| *end as usize).collect();
        (bytes, self.expected, ends)
    }
}

/// A recording of `blocks` seconds at 10 Hz, in which every second brings a new function.
pub(crate) fn seconds(blocks: u64) -> (Vec<u8>, Tables, Vec<usize>) {
    let mut made = Made::new();
    let thread = made.thread(42);
    let root = made.frame(None, "<module>", Some(1));
    let process = ProcessId(0);
    for second in 0..blocks {
        let name = format!("function_{second}");
        let inner = made.frame(Some(root), &name, Some(10 + second as u32));
        for tick in 0..10 {
            let stack = if tick % 3 == 0 { root } else { inner };
            let time_ns = second * SECOND_NS + tick * SECOND_NS / 10;
            made.sample(time_ns, thread, Some(stack));
        }
        let time_ns = second * SECOND_NS;
        let rss_bytes = 1 << 20;
        made.rss(RssPoint {
            time_ns,
            process,
            rss_bytes,
        });
        made.block((second + 1) * SECOND_NS);
    }
    made.finish()
}

/// Checks that every id of what was read is valid and every stack ends.
pub(crate) fn check_ids(loaded: &Loaded) {
    let tables = &loaded.tables;
    for (id, node) in tables.stacks.iter().enumerate() {
        assert!(node.parent.is_none_or(|parent| parent.index() < id));
        assert!(node.location.index() < tables.locations.len());
    }
    for location in &tables.locations {
        assert!(location.name.index() < tables.strings.len());
        assert!(location.filename.index() < tables.strings.len());
    }
    for thread in &tables.threads {
        assert!(thread.name.index() < tables.strings.len());
        assert!(thread.process.index() < tables.processes.len());
    }
    for mapping in &tables.mappings {
        assert!(mapping.process.index() < tables.processes.len());
    }
    for sample in &tables.samples {
        assert!(sample.thread.index() < tables.threads.len());
        assert!(tables.frames(sample.stack).count() <= tables.stacks.len());
        let strings = tables.strings.len();
        assert!(sample.reason.is_none_or(|reason| reason.index() < strings));
    }
    for point in &tables.rss {
        assert!(point.process.index() < tables.processes.len());
    }
    for warning in &loaded.warnings {
        assert_eq!(warning.to_string().lines().count(), 1, "{warning}");
    }
}

/// Reads a recording that must be readable, and checks it.
pub(crate) fn load(bytes: &[u8]) -> Loaded {
    let loaded = read(bytes).unwrap();
    check_ids(&loaded);
    loaded
}

/// A sample by what it says and not by its ids: its time, and name and line of its frames.
pub(crate) type Said = (u64, Vec<(String, Option<u32>)>);

/// What the samples say, for comparing recordings whose ids differ.
pub(crate) fn meaning(tables: &Tables) -> Vec<Said> {
    let frame = |location: &Location| (tables.string(location.name).to_owned(), location.line);
    let frames = |sample: &Sample| tables.frames(sample.stack).map(frame).collect();
    let said = |sample: &Sample| (sample.time_ns, frames(sample));
    tables.samples.iter().map(said).collect()
}
