//! Reads runs of pages with several threads.
//!
//! The kernel copies what is read through `/proc/PID/mem` page by page and twice, so that one
//! thread takes about 0.35 s for a GiB, and a third less by `process_vm_readv`. Neither needs a lock,
//! and the threads of a target that is stopped leave their cores to us.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use onlooker_heap::space::{PAGE_BYTES, Range};
use onlooker_unwinder::memory::{MAX_SEGMENTS, ReadError, ReadMemory, RemoteAddr, Segment};

/// What a thread reads at once; progress is told as often.
const BATCH_BYTES: u64 = 16 << 20;
/// More do not copy faster.
const MAX_THREADS: usize = 4;

/// Some pieces of memory (start, length), and where they go.
struct Batch<'a> {
    pieces: Vec<(u64, u64)>,
    buffer: &'a mut [u8],
    /// Where `buffer` begins in the whole one.
    at: u64,
}

/// Reads `runs` (start, end), which are in order, one behind the other into `buffer`, which has
/// room for them; what of them was there, in order. Each batch is read from a memory of its own.
///
/// # Errors
/// When the process is gone or may not be read.
pub(super) fn read<M: ReadMemory>(
    open: impl Fn() -> M + Sync,
    runs: &[(u64, u64)],
    buffer: &mut [u8],
    mut progress: impl FnMut(u64),
) -> Result<Vec<Range>, ReadError> {
    let batches = batches(runs, buffer);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = threads.min(MAX_THREADS).min(batches.len()).max(1);
    let mut answers: Vec<Option<Result<Vec<Range>, ReadError>>> = Vec::new();
    answers.resize_with(batches.len(), || None);
    let (answers, done, failed) = (
        Mutex::new(answers),
        AtomicU64::new(0),
        AtomicBool::new(false),
    );
    let queue = Mutex::new(batches.into_iter().enumerate());
    let work = |mut told: Option<&mut dyn FnMut(u64)>| {
        while !failed.load(Ordering::Relaxed) {
            let next = queue.lock().ok().and_then(|mut queue| queue.next());
            let Some((index, batch)) = next else { break };
            let bytes = batch.buffer.len() as u64;
            let answer = read_batch(open(), batch);
            failed.fetch_or(answer.is_err(), Ordering::Relaxed);
            if let Ok(mut answers) = answers.lock() {
                answers[index] = Some(answer);
            }
            let done = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
            if let Some(told) = &mut told {
                told(done);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| work(None));
        }
        work(Some(&mut progress));
    });
    progress(done.into_inner());
    let mut ranges: Vec<Range> = Vec::new();
    // After a failure some have no answer.
    for answer in answers
        .into_inner()
        .unwrap_or_default()
        .into_iter()
        .flatten()
    {
        for range in answer? {
            add(&mut ranges, range);
        }
    }
    Ok(ranges)
}

/// Cuts the runs into batches of neighbours.
fn batches<'a>(runs: &[(u64, u64)], mut buffer: &'a mut [u8]) -> Vec<Batch<'a>> {
    let mut batches = Vec::new();
    let mut pieces: Vec<(u64, u64)> = Vec::new();
    let (mut at, mut bytes) = (0, 0);
    let mut close = |pieces: &mut Vec<(u64, u64)>, bytes: &mut u64| {
        let whole = std::mem::take(&mut buffer);
        let (here, rest) = whole.split_at_mut((*bytes as usize).min(whole.len()));
        buffer = rest;
        batches.push(Batch {
            pieces: std::mem::take(pieces),
            buffer: here,
            at,
        });
        at += *bytes;
        *bytes = 0;
    };
    for &(start, end) in runs {
        let mut from = start;
        while from < end {
            let len = (end - from).min(BATCH_BYTES - bytes);
            pieces.push((from, len));
            bytes += len;
            from += len;
            if bytes == BATCH_BYTES {
                close(&mut pieces, &mut bytes);
            }
        }
    }
    if bytes > 0 {
        close(&mut pieces, &mut bytes);
    }
    batches
}

fn add(ranges: &mut Vec<Range>, range: Range) {
    match ranges.last_mut() {
        _ if range.len == 0 => {}
        Some(last) if last.end() == range.start && last.at + last.len == range.at => {
            last.len += range.len;
        }
        _ => ranges.push(range),
    }
}

/// Reads one batch; what of it was there.
fn read_batch<M: ReadMemory>(mut memory: M, batch: Batch<'_>) -> Result<Vec<Range>, ReadError> {
    let Batch {
        mut pieces,
        buffer,
        at: base,
    } = batch;
    let mut ranges = Vec::new();
    let mut at = 0;
    let mut next = 0;
    let mut segments = Vec::with_capacity(pieces.len().min(MAX_SEGMENTS));
    while next < pieces.len() {
        segments.clear();
        segments.extend(
            pieces[next..]
                .iter()
                .take(MAX_SEGMENTS)
                .map(|&(start, len)| Segment {
                    addr: RemoteAddr(start),
                    len: len as u32,
                }),
        );
        let got = match memory.read(&segments, &mut buffer[at as usize..]) {
            Ok(got) => got as u64,
            Err(ReadError::Unmapped(_)) => 0,
            Err(error) => return Err(error),
        };
        let mut left = got;
        for _ in 0..segments.len() {
            let (start, len) = pieces[next];
            let part = len.min(left);
            let range = Range {
                start,
                len: part,
                at: base + at,
            };
            add(&mut ranges, range);
            at += part;
            left -= part;
            if part < len {
                // The page behind what was read is gone since: go on after it.
                let skip = (part + 1).next_multiple_of(PAGE_BYTES).min(len);
                pieces[next] = (start + skip, len - skip);
                if len == skip {
                    next += 1;
                }
                break;
            }
            next += 1;
        }
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use onlooker_unwinder::memory::RecordedMemory;

    #[test]
    fn batches_hold_all_runs_in_order() {
        let runs = [
            (0x1000, 0x3000),
            (0x10_0000, 0x10_0000 + 2 * BATCH_BYTES),
            (1 << 40, (1 << 40) + 4096),
        ];
        let total: u64 = runs.iter().map(|(start, end)| end - start).sum();
        let mut buffer = vec![0; total as usize];
        let batches = batches(&runs, &mut buffer);
        assert_eq!(batches.len(), 3);
        let mut at = 0;
        let mut pieces = Vec::new();
        for batch in &batches {
            assert_eq!(batch.at, at);
            let bytes: u64 = batch.pieces.iter().map(|(_, len)| len).sum();
            assert_eq!(batch.buffer.len() as u64, bytes);
            at += bytes;
            pieces.extend(&batch.pieces);
        }
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (start, len) in pieces {
            match joined.last_mut() {
                Some(last) if last.1 == start => last.1 = start + len,
                _ => joined.push((start, start + len)),
            }
        }
        assert_eq!(joined, runs);
    }

    #[test]
    fn a_page_that_is_gone_is_passed_over() {
        let mut memory = RecordedMemory::new();
        for page in [1_u64, 2, 4] {
            memory.insert(
                RemoteAddr(page * PAGE_BYTES),
                &[page as u8; PAGE_BYTES as usize],
            );
        }
        let mut buffer = vec![0; 4 * PAGE_BYTES as usize];
        let batch = Batch {
            pieces: vec![(PAGE_BYTES, 4 * PAGE_BYTES)],
            buffer: &mut buffer,
            at: 100,
        };
        let ranges = read_batch(memory, batch).expect("ranges");
        let range = |start, len, at| Range {
            start: start * PAGE_BYTES,
            len: len * PAGE_BYTES,
            at: 100 + at * PAGE_BYTES,
        };
        assert_eq!(ranges, [range(1, 2, 0), range(4, 1, 2)]);
        assert_eq!(buffer[2 * PAGE_BYTES as usize], 4);
    }
}
