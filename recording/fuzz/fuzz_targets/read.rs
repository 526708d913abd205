//! Any bytes as a recording: no panic, no more memory than allowed, every id valid.
//!
//! `cargo +nightly fuzz run read` in `recording/`, with a few small recordings in
//! `fuzz/corpus/read` to start from. Checksums pass under `cfg(fuzzing)`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onlooker_recording::read::read_within;

fuzz_target!(|bytes: &[u8]| {
    let Ok(loaded) = read_within(bytes, 64 << 20) else {
        return;
    };
    for warning in &loaded.warnings {
        assert_eq!(warning.to_string().lines().count(), 1);
    }
    let tables = &loaded.tables;
    for (id, node) in tables.stacks.iter().enumerate() {
        assert!(node.parent.is_none_or(|parent| parent.index() < id));
        let location = tables.locations[node.location.index()];
        let _ = (
            tables.string(location.name),
            tables.string(location.filename),
        );
    }
    for thread in &tables.threads {
        let _ = (
            &tables.processes[thread.process.index()],
            tables.string(thread.name),
        );
    }
    for sample in &tables.samples {
        let _ = &tables.threads[sample.thread.index()];
        let _ = sample.stack.map(|stack| tables.stacks[stack.index()]);
        let _ = sample.reason.map(|reason| tables.string(reason));
    }
    for process in tables.mappings.iter().map(|row| row.process) {
        let _ = &tables.processes[process.index()];
    }
    for process in tables.rss.iter().map(|row| row.process) {
        let _ = &tables.processes[process.index()];
    }
});
