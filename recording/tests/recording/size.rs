//! What a recording costs on disk.

use crate::common::{Made, SECOND_NS, load};
use onlooker_recording::tables::{RssPoint, Totals};

/// Bytes per sample of a minute at 100 Hz of one stack of a thousand frames, with a block every
/// second: over all, and of the seconds after the first, in which nothing new is seen.
///
/// `name` gives the name of each frame. The clock is late by up to 200 microseconds, as a
/// sleeping process is.
fn bytes_per_sample(name: impl Fn(u32) -> String) -> (f64, f64) {
    const SECONDS: u64 = 60;
    let mut made = Made::new();
    let thread = made.thread(42);
    let mut stack = None;
    for depth in 0..1000 {
        stack = Some(made.frame(stack, &name(depth), Some(1 + depth * 17 % 900)));
    }
    let (mut late_ns, mut after_first) = (0x9E37_79B9_u64, 0);
    for second in 0..SECONDS {
        for tick in 0..100 {
            late_ns = late_ns
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let due_ns = second * SECOND_NS + tick * SECOND_NS / 100;
            made.sample(due_ns + (late_ns >> 33) % 200_000, thread, stack);
        }
        let now_ns = (second + 1) * SECOND_NS;
        made.rss(RssPoint {
            time_ns: now_ns,
            process: onlooker_recording::tables::ProcessId(0),
            rss_bytes: (50 << 20) + second * 4096,
        });
        let ticks = (second + 1) * 100;
        let totals = Totals {
            ticks,
            missed_ticks: second / 7,
            retries: second,
            read_calls: ticks + 5,
            read_segments: ticks * 4,
            read_bytes: ticks * 131_072,
            code_calls: 1200 + second,
            code_bytes: 900_000 + second * 512,
            own_cpu_ns: ticks * 61_234,
            lost: vec![("torn".to_owned(), second / 3)],
            ..made.expected.running_totals.clone()
        };
        made.expected.running_totals = totals;
        made.block(now_ns);
        if second == 0 {
            after_first = made.writer.bytes_written();
        }
    }
    let steady_bytes = made.writer.bytes_written() - after_first;
    let (bytes, expected, _) = made.finish();
    assert_eq!(load(&bytes).tables, expected);
    let samples = SECONDS as f64 * 100.0;
    (
        bytes.len() as f64 / samples,
        steady_bytes as f64 / (samples - 100.0),
    )
}

#[test]
fn an_unchanged_deep_stack_costs_four_bytes_per_sample() {
    let recursion = bytes_per_sample(|depth| format!("visit_{}", depth % 3));
    let distinct = bytes_per_sample(|depth| format!("package.module_{depth}.Class.method"));
    println!("recursion {recursion:.2?}, all functions distinct {distinct:.2?}");
    for (whole, steady) in [recursion, distinct] {
        assert!(whole <= 4.0, "{whole} bytes per sample in all");
        assert!(steady <= 4.0, "{steady} bytes per sample once known");
    }
}
