//! Tables written down frame by frame, for tests.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::HashMap;

use onlooker_flamegraph::{Format, Options, Summary, render};
use onlooker_recording::tables::{
    Header, Location, LocationId, Process, ProcessId, Sample, StackId, StackNode, State, StringId,
    Tables, Thread, ThreadId, Totals, Trust, WeightKind,
};

/// Interns what it is given; the tables are consistent at any time.
pub(crate) struct Builder {
    pub(crate) tables: Tables,
    strings: HashMap<String, StringId>,
    locations: HashMap<(String, String, Option<u32>), LocationId>,
    stacks: HashMap<(Option<StackId>, LocationId), StackId>,
}

impl Builder {
    /// Tables with a header and totals and nothing else.
    pub(crate) fn new() -> Self {
        Self {
            tables: Tables {
                header: Header {
                    onlooker_version: "0.1.0".into(),
                    program: "python3 shop.py".into(),
                    rate_hz: 100.0,
                    ..Header::default()
                },
                totals: Some(totals()),
                ..Tables::default()
            },
            strings: HashMap::new(),
            locations: HashMap::new(),
            stacks: HashMap::new(),
        }
    }

    /// One process with one thread that has a name.
    pub(crate) fn one_thread() -> (Self, ThreadId) {
        let mut builder = Self::new();
        let process = builder.process(4711, None, &["python3", "shop.py"]);
        let thread = builder.thread(process, Some(4711), "MainThread");
        (builder, thread)
    }

    pub(crate) fn string(&mut self, text: &str) -> StringId {
        let strings = &mut self.tables.strings;
        *self.strings.entry(text.to_owned()).or_insert_with(|| {
            strings.push(text.to_owned());
            StringId(strings.len() as u32 - 1)
        })
    }

    pub(crate) fn process(
        &mut self,
        pid: i32,
        parent_pid: Option<i32>,
        command: &[&str],
    ) -> ProcessId {
        self.tables.processes.push(Process {
            pid,
            parent_pid,
            command: command.iter().map(|&word| word.to_owned()).collect(),
            python: "3.12.1".into(),
            executable: "/usr/bin/python3.12".into(),
        });
        ProcessId(self.tables.processes.len() as u32 - 1)
    }

    pub(crate) fn thread(
        &mut self,
        process: ProcessId,
        os_thread_id: Option<i32>,
        name: &str,
    ) -> ThreadId {
        let name = self.string(name);
        let thread_id = 0x7f00_0000_1000 + self.tables.threads.len() as u64;
        self.tables.threads.push(Thread {
            process,
            os_thread_id,
            thread_id,
            interpreter: 0,
            name,
        });
        ThreadId(self.tables.threads.len() as u32 - 1)
    }

    /// A frame below `parent`.
    pub(crate) fn frame(
        &mut self,
        parent: Option<StackId>,
        (name, file, line): (&str, &str, Option<u32>),
    ) -> StackId {
        let key = (name.to_owned(), file.to_owned(), line);
        let location = if let Some(&location) = self.locations.get(&key) {
            location
        } else {
            let row = Location {
                name: self.string(name),
                filename: self.string(file),
                line,
                column: None,
                end_line: None,
                end_column: None,
            };
            self.tables.locations.push(row);
            let location = LocationId(self.tables.locations.len() as u32 - 1);
            self.locations.insert(key, location);
            location
        };
        let stacks = &mut self.tables.stacks;
        *self.stacks.entry((parent, location)).or_insert_with(|| {
            stacks.push(StackNode { parent, location });
            StackId(stacks.len() as u32 - 1)
        })
    }

    /// A stack, outermost frame first, as `name file:line` or `name file`.
    pub(crate) fn stack(&mut self, frames: &[&str]) -> Option<StackId> {
        frames.iter().fold(None, |parent, frame| {
            let (name, place) = frame.split_once(' ').expect("a name and a place");
            let (file, line) = place
                .rsplit_once(':')
                .and_then(|(file, line)| Some((file, line.parse().ok()?)))
                .map_or((place, None), |(file, line)| (file, Some(line)));
            Some(self.frame(parent, (name, file, line)))
        })
    }

    /// A verified sample of weight 1 that can be changed.
    pub(crate) fn sample(&mut self, thread: ThreadId, stack: Option<StackId>) -> &mut Sample {
        let time_ns = self.tables.samples.len() as u64 * 10_000_000;
        self.tables.samples.push(Sample {
            time_ns,
            thread,
            stack,
            state: State::default(),
            trust: Trust::Verified,
            reason: None,
            weight_kind: WeightKind::Samples,
            weight: 1,
        });
        self.tables.samples.last_mut().expect("just pushed")
    }

    /// An unverified sample with a reason.
    pub(crate) fn unverified(&mut self, thread: ThreadId, stack: Option<StackId>, reason: &str) {
        let reason = Some(self.string(reason));
        let sample = self.sample(thread, stack);
        sample.trust = Trust::Unverified;
        sample.reason = reason;
    }
}

pub(crate) fn totals() -> Totals {
    Totals {
        duration_ns: 5_020_000_000,
        ticks: 500,
        missed_ticks: 2,
        verified: 1_480,
        unverified: 20,
        unverified_by: vec![("gap".into(), 1), ("moved".into(), 19)],
        lost: vec![("unreadable".into(), 1), ("torn".into(), 2)],
        retries: 4,
        read_calls: 512,
        read_segments: 2_048,
        read_bytes: 10_957_000,
        code_calls: 61,
        code_bytes: 120_000,
        own_cpu_ns: 121_000_000,
    }
}

/// A small shop with everything that reports tell apart: libraries, two files of one name, lines
/// that differ, a recursion, two threads, an idle thread, cut and unverified samples.
pub(crate) fn shop() -> Tables {
    let (mut builder, main) = Builder::one_thread();
    let process = ProcessId(0);
    let worker = builder.thread(process, Some(4712), "worker");
    let idle = builder.thread(process, None, "");

    let total = builder.stack(&[
        "<module> /srv/shop/shop.py:80",
        "main /srv/shop/shop.py:71",
        "Cart.total /srv/shop/models/cart.py:12",
    ]);
    let total_later = builder.stack(&[
        "<module> /srv/shop/shop.py:80",
        "main /srv/shop/shop.py:71",
        "Cart.total /srv/shop/models/cart.py:14",
    ]);
    let view = builder.stack(&[
        "<module> /srv/shop/shop.py:80",
        "main /srv/shop/shop.py:72",
        "show /srv/shop/views/cart.py:3",
        "dumps /usr/lib/python3.12/json/__init__.py:231",
    ]);
    let recursion = builder.stack(&[
        "<module> /srv/shop/shop.py:80",
        "walk /srv/shop/shop.py:20",
        "walk /srv/shop/shop.py:22",
        "walk /srv/shop/shop.py:22",
    ]);
    let request = builder.stack(&[
        "Thread._bootstrap /usr/lib/python3.12/threading.py:1030",
        "fetch /srv/shop/shop.py:40",
        "get /srv/venv/lib/python3.12/site-packages/requests/api.py:73",
    ]);
    let frozen = builder.stack(&[
        "_find_and_load <frozen importlib._bootstrap>:1360",
        "exec <string>",
    ]);
    for (stack, times) in [
        (total, 6),
        (total_later, 2),
        (view, 3),
        (recursion, 4),
        (frozen, 1),
    ] {
        for _ in 0..times {
            builder.sample(main, stack);
        }
    }
    for _ in 0..5 {
        builder.sample(worker, request);
    }
    builder.unverified(worker, request, "not checked");
    builder.unverified(main, recursion, "torn");
    builder.sample(idle, None);
    builder.sample(idle, None);
    builder.tables
}

/// A report as text, and what went into it.
pub(crate) fn report(tables: &Tables, options: &Options, format: Format) -> (String, Summary) {
    let mut out = Vec::new();
    let summary = render(tables, options, format, &mut out).expect("memory takes every write");
    (String::from_utf8(out).expect("reports are UTF-8"), summary)
}

/// The weight at the end of each collapsed line, added up.
pub(crate) fn collapsed_weight(text: &str) -> u64 {
    text.lines()
        .map(|line| line.rsplit_once(' ').expect("a weight").1)
        .map(|weight| weight.parse::<u64>().expect("a number"))
        .sum()
}
