//! Recordings of memory, read by the same code that reads processes.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use onlooker_symbols::names::CodeTable;
use onlooker_unwinder::code::Position;
use onlooker_unwinder::layout::{Layout, Minor, debug_offsets, owner, tables};
use onlooker_unwinder::memory::{Class, ReadMemory, RecordedMemory, RemoteAddr};
use onlooker_unwinder::sampler::Sampler;

fn recordings() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/recordings");
    let entries = fs::read_dir(folder).expect("tests/recordings");
    let mut found: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    found.sort();
    assert!(found.len() >= 3, "a recording is missing: {found:?}");
    found
}

/// The text of `stacks`, made anew.
fn stacks(sampler: &mut Sampler<RecordedMemory>, codes: &mut CodeTable) -> String {
    let layout = sampler.layout().clone();
    sampler.sample().expect("a sample");
    codes.begin();
    for thread in sampler.threads() {
        sampler
            .python_frames(thread)
            .for_each(|frame| codes.want(frame.code));
    }
    codes.refresh(sampler.memory_mut(), &layout).expect("names");
    let mut text = String::new();
    for thread in sampler.threads() {
        text += &format!("thread {:#x}: {:?}\n", thread.tstate.0, thread.outcome);
        for frame in sampler.python_frames(thread) {
            let code = codes.get(frame.code).expect("a code object");
            let generator = frame.owner == owner::GENERATOR;
            if let Position::At(lasti) = code.header.position(frame.instr, generator) {
                let line = code.position(lasti).line.unwrap_or_default();
                text += &format!("  {} ({}:{line})\n", code.name, code.filename);
            }
        }
    }
    text
}

fn load(folder: &Path) -> (RecordedMemory, Layout, RemoteAddr) {
    let file = File::open(folder.join("memory")).expect("memory");
    let mut memory = RecordedMemory::load(BufReader::new(file)).expect("a recording");
    let facts = fs::read_to_string(folder.join("runtime")).expect("runtime");
    let (version, runtime) = facts.trim().split_once('\n').expect("two lines");
    let runtime = u64::from_str_radix(runtime.trim_start_matches("0x"), 16).expect("an address");
    let runtime = RemoteAddr(runtime);
    let minor = version
        .split('.')
        .nth(1)
        .and_then(|m| m.parse().ok())
        .expect("a version");
    let layout = tables::for_version(Minor::new(3, minor)).unwrap_or_else(|| {
        let mut table = vec![0; debug_offsets::TABLE_BYTES];
        memory
            .read_exact(runtime, &mut table)
            .expect("debug offsets");
        debug_offsets::parse(&table).expect("a layout")
    });
    (memory, layout, runtime)
}

#[test]
fn a_replay_gives_the_stacks_of_the_recording() {
    for folder in recordings() {
        let (memory, layout, runtime) = load(&folder);
        let expected = fs::read_to_string(folder.join("stacks")).expect("stacks");
        let mut sampler = Sampler::new(memory, layout, runtime);
        let mut codes = CodeTable::new(1);
        assert_eq!(
            stacks(&mut sampler, &mut codes),
            expected,
            "{}: cold",
            folder.display()
        );
        let before = sampler.cost(Class::Stacks);
        assert_eq!(
            stacks(&mut sampler, &mut codes),
            expected,
            "{}: warm",
            folder.display()
        );
        assert_eq!(
            sampler.cost(Class::Stacks).since(before).calls,
            1,
            "{}",
            folder.display()
        );
    }
}

/// With the newest chunk alone read ahead, the same stacks cost a call for nearly every frame.
#[test]
fn a_replay_counts_what_a_reader_of_one_chunk_pays() {
    for folder in recordings() {
        let (memory, layout, runtime) = load(&folder);
        let chunks = layout.thread.data_stack.is_some();
        let expected = fs::read_to_string(folder.join("stacks")).expect("stacks");
        let mut sampler = Sampler::new(memory, layout, runtime);
        sampler.limit_to_newest_chunk();
        let mut codes = CodeTable::new(1);
        stacks(&mut sampler, &mut codes);
        let before = sampler.cost(Class::Stacks);
        assert_eq!(
            stacks(&mut sampler, &mut codes),
            expected,
            "{}",
            folder.display()
        );
        let calls = sampler.cost(Class::Stacks).since(before).calls;
        if chunks {
            assert!(calls > 100, "{}: {calls}", folder.display());
        }
    }
}
