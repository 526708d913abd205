//! A disk that stands still costs samples, never rows and never time.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};

use onlooker_recording::tables::{Header, Process, State, WeightKind};
use onlooker_symbols::linetable::Position;

use super::batch::{Batch, NewLocation, NewProcess, NewThread, RawSample};
use super::queue::{Offer, Queue};

/// Takes nothing after its head until it is let go, then keeps what it gets.
pub(super) struct Disk {
    head_written: bool,
    go: Receiver<()>,
    bytes: Sender<Vec<u8>>,
}

impl Disk {
    /// With what lets it go when it is dropped, and what it has written.
    pub(super) fn new() -> (Self, Sender<()>, Receiver<Vec<u8>>) {
        let (go, wait) = channel();
        let (bytes, written) = channel();
        let disk = Self {
            head_written: false,
            go: wait,
            bytes,
        };
        (disk, go, written)
    }
}

impl Write for Disk {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.head_written {
            // Closed once the test lets go.
            let _ = self.go.recv();
        }
        let _ = self.bytes.send(buf.to_vec());
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.head_written = true;
        Ok(())
    }
}

pub(super) fn first() -> Batch {
    Batch {
        processes: vec![NewProcess {
            process: Process {
                pid: 1,
                parent_pid: None,
                command: Vec::new(),
                python: "3.12.1".to_owned(),
                executable: String::new(),
            },
            mappings: Vec::new(),
        }],
        threads: vec![NewThread {
            key: 0,
            process: 0,
            os_thread_id: None,
            thread_id: 1,
            interpreter: 0,
            name: "main".to_owned(),
        }],
        locations: ["outer", "inner"].map(place).into(),
        samples: vec![sample(0, 2)],
        frames: vec![0, 1],
        ..Batch::default()
    }
}

fn place(name: &str) -> NewLocation {
    NewLocation {
        name: name.to_owned(),
        filename: "a.py".to_owned(),
        position: Position::default(),
    }
}

pub(super) fn sample(same: u32, own: u32) -> RawSample {
    RawSample {
        time_ns: 0,
        thread: 0,
        same,
        own,
        state: State::default(),
        reason: None,
        weight_kind: WeightKind::Samples,
        weight: 1,
        growth: None,
    }
}

#[test]
fn a_full_queue_gives_the_batch_back_and_the_rest_is_whole() {
    let (disk, go, written) = Disk::new();
    let queue = Queue::start(disk, &Header::default()).unwrap();
    let mut batch = first();
    let mut taken = 0_u64;
    let mut full = loop {
        // Each makes a block due, so the first blocks the writing thread.
        batch.time_ns = (taken + 1) * 2_000_000_000;
        match queue.offer(batch) {
            Offer::Taken => taken += 1,
            Offer::Full(batch) => break *batch,
            Offer::Gone => panic!("the writer does not fail"),
        }
        batch = Batch {
            samples: vec![sample(1, 1)],
            frames: vec![1],
            ..Batch::default()
        };
    };
    assert!((64..=66).contains(&taken), "{taken}");
    full.locations.push(place("late"));
    assert_eq!(full.drop_samples(), 1);
    full.samples.push(sample(0, 1));
    full.frames.push(2);
    drop(go);
    queue.finish(full).unwrap();
    let stream: Vec<u8> = written.iter().flatten().collect();
    let loaded = onlooker_recording::read::read(stream.as_slice()).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let tables = loaded.tables;
    assert_eq!(tables.samples.len() as u64, taken + 1);
    let stack = |sample: usize| -> Vec<&str> {
        let frames = tables.frames(tables.samples[sample].stack);
        frames.map(|frame| tables.string(frame.name)).collect()
    };
    assert_eq!(stack(0), ["inner", "outer"]);
    assert_eq!(stack(1), ["inner", "outer"]);
    assert_eq!(stack(taken as usize), ["late"]);
}
