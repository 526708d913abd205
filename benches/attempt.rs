//! What one attempt costs over the read that it cannot do without: `Session::sample(1)` at a high
//! rate beside one bare vectored call for the same segments, on targets that stand still.
//!
//! The two take turns in batches within one run; the ratio of their medians is what counts.
//!
//! `cargo bench -p onlooker --bench attempt`

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use onlooker::attach;
use onlooker::session::Session;
use onlooker_unwinder::memory::{LiveMemory, ReadMemory, Segment};
use support::{Target, interpreters};

const BATCHES: usize = 101;
const PER_BATCH: u32 = 200;
/// High enough that lists and code objects are not read with every attempt.
const RATE_HZ: f64 = 1e6;

fn main() {
    println!("one attempt beside one bare vectored call for the same bytes, medians");
    println!(
        "{:<26}{:>6}{:>10}{:>10}{:>12}{:>12}{:>8}",
        "interpreter", "depth", "segments", "bytes", "bare", "attempt", "ratio"
    );
    for interpreter in interpreters() {
        for depth in ["20", "1000"] {
            let target = Target::spawn(&interpreter, "plain1000.py", &[depth, "0"]);
            let pid = target.pid().cast_signed();
            match attach::attach(pid, attach::STARTING) {
                Ok(attached) => measure(
                    &interpreter.label,
                    depth,
                    pid,
                    Session::new(attached, RATE_HZ),
                ),
                Err(error) => println!("{:<26}{error}", interpreter.label),
            }
        }
    }
}

fn measure(label: &str, depth: &str, pid: i32, mut session: Session) {
    for _ in 0..PER_BATCH {
        session.sample(1).expect("a sample");
    }
    let plan = session.sampler_mut().plan_of_some();
    let segments: Vec<Segment> = plan.slots().iter().map(|slot| slot.segment).collect();
    let bytes: usize = segments.iter().map(|s| s.len as usize).sum();
    let mut memory = LiveMemory::new(pid);
    let mut buf = vec![0; bytes];
    let (mut bare, mut attempts) = (Vec::new(), Vec::new());
    for _ in 0..BATCHES {
        bare.push(time(|| {
            let got = memory.read(black_box(&segments), &mut buf);
            assert_eq!(got.expect("a read"), bytes);
        }));
        attempts.push(time(|| session.sample(1).expect("a sample")));
    }
    let (bare, attempt) = (median(bare), median(attempts));
    println!(
        "{label:<26}{depth:>6}{:>10}{bytes:>10}{:>9} ns{:>9} ns{:>8.2}",
        segments.len(),
        bare.as_nanos(),
        attempt.as_nanos(),
        attempt.as_secs_f64() / bare.as_secs_f64()
    );
}

/// The time of one, by that of a batch.
fn time(mut action: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..PER_BATCH {
        action();
    }
    start.elapsed() / PER_BATCH
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}
