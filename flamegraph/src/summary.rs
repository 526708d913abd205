//! The one line that says how far a profile can be trusted and what it cost.

use onlooker_recording::tables::{Tables, Totals, WeightKind};

use crate::select::{self, Mode, Selection};
use crate::units::{bytes, count, duration, percent, share};

/// The honest summary of a recording: how long, how many ticks, what was verified, not verified
/// and lost, what a sample cost the reader, and the profiler's own CPU time.
///
/// Zeros are written, for "0 lost" is an answer. A *sample* is what one tick saw, so calls and
/// bytes are per tick; verified, unverified and lost count the samples of single threads.
#[must_use]
pub fn summary_line(totals: &Totals) -> String {
    let own_share = share(totals.own_cpu_ns, totals.duration_ns);
    format!(
        "{}; {} retries; {}; own CPU {} ({})",
        trust(totals),
        count(totals.retries),
        cost(totals),
        duration(totals.own_cpu_ns),
        percent(own_share)
    )
}

/// What to tell someone whose report is nearly empty because the threads slept: one sample or
/// less in twenty ticks. `None` when there is nothing to tell.
#[must_use]
pub fn asleep_line(tables: &Tables, selection: &Selection) -> Option<String> {
    // No growth is of a thread that sleeps.
    if selection.mode != Mode::Cpu || selection.weight != WeightKind::Samples {
        return None;
    }
    let (mut shown, mut asleep) = (0_u64, 0_u64);
    for sample in tables
        .samples
        .iter()
        .filter(|sample| sample.stack.is_some())
    {
        let count = select::stands_for(sample);
        if selection.takes(sample) {
            shown = shown.saturating_add(count);
        }
        if sample.state.sleeping {
            asleep = asleep.saturating_add(count);
        }
    }
    (asleep > 0 && shown.saturating_mul(20) < tables.counts().ticks).then(|| {
        format!(
            "{} of {} samples are of sleeping threads and not shown; -i shows them",
            count(asleep),
            count(asleep + shown)
        )
    })
}

/// The same without what a reader of the picture does not need.
pub(crate) fn short_line(totals: &Totals) -> String {
    format!("{}; {}", trust(totals), cost(totals))
}

fn trust(totals: &Totals) -> String {
    let lost = totals.lost.iter();
    let lost = lost.fold(0_u64, |sum, (_, lost)| sum.saturating_add(*lost));
    format!(
        "{}, {} ticks, {} missed; {} verified, {}, {}",
        duration(totals.duration_ns),
        count(totals.ticks),
        count(totals.missed_ticks),
        count(totals.verified),
        by_reason(totals.unverified, "unverified", &totals.unverified_by),
        by_reason(lost, "lost", &totals.lost)
    )
}

/// `3 lost (2 torn, 1 unreadable)`, the most frequent reason first.
fn by_reason(sum: u64, what: &str, reasons: &[(String, u64)]) -> String {
    let mut reasons: Vec<_> = reasons.iter().filter(|(_, some)| *some > 0).collect();
    reasons.sort_by(|(left, many), (right, more)| more.cmp(many).then(left.cmp(right)));
    let reasons: Vec<String> = reasons
        .into_iter()
        .map(|(reason, some)| format!("{} {}", count(*some), crate::text::visible(reason)))
        .collect();
    let sum = count(sum);
    if reasons.is_empty() {
        format!("{sum} {what}")
    } else {
        format!("{sum} {what} ({})", reasons.join(", "))
    }
}

fn cost(totals: &Totals) -> String {
    if totals.ticks == 0 {
        return "no sample was read".to_owned();
    }
    let ticks = totals.ticks as f64;
    format!(
        "{:.1} calls, {} per sample",
        totals.read_calls as f64 / ticks,
        bytes(totals.read_bytes as f64 / ticks)
    )
}
