//! What a stack of 1 000 plain frames costs, three ways, on every interpreter of the matrix:
//! every chunk in one read (what Onlooker does), only the newest chunk ahead of the walk, one
//! read per frame. Calls and bytes are exact; nothing here is a time.
//!
//! `cargo bench -p onlooker --bench reads`

#[path = "../tests/support/mod.rs"]
mod support;

use onlooker::attach;
use onlooker_unwinder::layout::Frames;
use onlooker_unwinder::memory::{Class, Cost, LiveMemory, ReadMemory};
use onlooker_unwinder::sampler::Sampler;
use support::{Target, interpreters};

const FRAMES: &str = "1000";

/// The second sample of a sampler: the first one has learnt.
fn warm(sampler: &mut Sampler<LiveMemory>) -> Cost {
    sampler.sample().expect("a sample");
    sampler.sample().expect("a sample");
    let before = sampler.cost(Class::Stacks);
    sampler.sample().expect("a sample");
    sampler.cost(Class::Stacks).since(before)
}

/// One read for the thread state and one for each frame, as the links are followed.
fn one_by_one(sampler: &mut Sampler<LiveMemory>) -> Cost {
    let len = match sampler.layout().frames {
        Frames::Objects(_) => 112,
        Frames::Interpreter(frame) => frame.header_bytes as usize,
    };
    let mut addresses = Vec::new();
    for thread in sampler.threads() {
        addresses.push(thread.tstate);
        addresses.extend(thread.frames.iter().map(|frame| frame.addr));
    }
    let memory = sampler.memory_mut();
    memory.set_class(Class::Other);
    let before = memory.cost(Class::Other);
    let mut buf = vec![0; len];
    for addr in addresses {
        memory.read_exact(addr, &mut buf).expect("a frame");
    }
    memory.cost(Class::Other).since(before)
}

fn main() {
    println!("one thread, {FRAMES} plain frames; calls / bytes of one warm sample");
    println!(
        "{:<26}{:>20}{:>22}{:>22}",
        "interpreter", "every chunk", "newest chunk only", "one read per frame"
    );
    for interpreter in interpreters() {
        let target = Target::spawn(&interpreter, "plain1000.py", &[FRAMES, "0"]);
        let pid = target.pid().cast_signed();
        let attached = match attach::attach(pid, attach::STARTING) {
            Ok(attached) => attached,
            Err(error) => {
                println!("{:<26}{error}", interpreter.label);
                continue;
            }
        };
        let (layout, runtime) = (
            attached.sampler.layout().clone(),
            attached.sampler.runtime(),
        );
        let sampler = || Sampler::new(LiveMemory::new(pid), layout.clone(), runtime);
        let every = warm(&mut sampler());
        let mut newest = sampler();
        newest.limit_to_newest_chunk();
        let newest = match layout.thread.data_stack {
            Some(_) => cell(warm(&mut newest)),
            None => "no chunks".to_owned(),
        };
        let mut each = sampler();
        each.sample().expect("a sample");
        let each = one_by_one(&mut each);
        println!(
            "{:<26}{:>20}{newest:>22}{:>22}",
            interpreter.label,
            cell(every),
            cell(each)
        );
    }
}

fn cell(cost: Cost) -> String {
    format!("{} / {}", cost.calls, cost.bytes)
}
