//! What a recorder counts when the disk stands still.

use onlooker_recording::tables::Header;

use super::Recorder;
use crate::record::queue_tests::{Disk, first, sample};

#[test]
fn samples_that_a_full_queue_drops_are_counted_and_the_others_are_there() {
    let (disk, go, written) = Disk::new();
    let mut recorder = Recorder::new(disk, &Header::default()).unwrap();
    recorder.batch = first();
    recorder.batch.verified = 1;
    let mut pushed = 1;
    let mut now_ns = 0;
    while recorder.totals().lost.is_empty() {
        // Each makes a block due, so the first blocks the writing thread.
        now_ns += 2_000_000_000;
        recorder.send(now_ns).unwrap();
        assert!(pushed < 1000, "a queue without an end");
        recorder.batch.samples.extend([sample(1, 1), sample(2, 0)]);
        recorder.batch.frames.push(1);
        recorder.batch.verified += 2;
        pushed += 2;
    }
    // What was dropped is what the threads' next stacks would have built on.
    assert_eq!(recorder.stacks_epoch, 1);
    drop(go);
    recorder.batch.drop_samples();
    let totals = recorder.finish().unwrap();
    assert_eq!(totals.lost, [("queue".to_owned(), 2)]);
    assert_eq!(totals.unverified, 0);
    // The last two were never handed over.
    assert_eq!(totals.verified + 2 + 2, pushed);
    let stream: Vec<u8> = written.iter().flatten().collect();
    let loaded = onlooker_recording::read::read(stream.as_slice()).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.tables.samples.len() as u64, totals.verified);
}
