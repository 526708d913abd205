//! Makes a recording of memory: everything that one cold and one warm sample of a process read,
//! and the stacks that they gave. `tests/replay.rs` runs on these.
//!
//! usage: record_memory PID FOLDER

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::ExitCode;

use onlooker::attach;
use onlooker_symbols::names::CodeTable;
use onlooker_unwinder::code::Position;
use onlooker_unwinder::layout::{debug_offsets, owner};
use onlooker_unwinder::memory::{LiveMemory, ReadMemory, RecordingMemory};
use onlooker_unwinder::sampler::Sampler;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [pid, folder] = &args[..] else {
        eprintln!("usage: record_memory PID FOLDER");
        return ExitCode::from(64);
    };
    match record(pid.parse().unwrap_or_default(), Path::new(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("record_memory: {error}");
            ExitCode::FAILURE
        }
    }
}

fn record(pid: i32, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let attached = attach::attach(pid, attach::STARTING)?;
    let layout = attached.sampler.layout().clone();
    let runtime = attached.sampler.runtime();
    fs::create_dir_all(folder)?;
    let file = File::create(folder.join("memory"))?;
    let memory = RecordingMemory::new(LiveMemory::new(pid), file)?;
    let mut sampler = Sampler::new(memory, layout.clone(), runtime);
    // The debug offsets, for the replay to take its layout from (3.13+).
    let mut table = vec![0; debug_offsets::TABLE_BYTES];
    let _ = sampler.memory_mut().read_exact(runtime, &mut table);
    let mut codes = CodeTable::new(1);
    let mut text = String::new();
    for _ in 0..2 {
        sampler.sample()?;
        codes.begin();
        for thread in sampler.threads() {
            sampler
                .python_frames(thread)
                .for_each(|frame| codes.want(frame.code));
        }
        codes.refresh(sampler.memory_mut(), &layout)?;
    }
    for thread in sampler.threads() {
        writeln!(text, "thread {:#x}: {:?}", thread.tstate.0, thread.outcome)?;
        for frame in sampler.python_frames(thread) {
            let Some(code) = codes.get(frame.code) else {
                continue;
            };
            let generator = frame.owner == owner::GENERATOR;
            if let Position::At(lasti) = code.header.position(frame.instr, generator) {
                let line = code.position(lasti).line.unwrap_or_default();
                writeln!(text, "  {} ({}:{line})", code.name, code.filename)?;
            }
        }
    }
    fs::write(folder.join("stacks"), text)?;
    let facts = format!("{}\n{:#x}\n", attached.version, runtime.0);
    fs::write(folder.join("runtime"), facts)?;
    Ok(())
}
