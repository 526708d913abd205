//! Threads that come and go.

use super::Recorder;
use crate::record::batch::NewThread;
use crate::record::kernel::KernelThread;
use crate::record::rows::{KnownThread, ProcessRows, identity};
use crate::session::{ThreadLabel, ThreadStack};

impl Recorder {
    /// Adds a thread that was not there before.
    pub(in crate::record) fn thread(
        &mut self,
        rows: &mut ProcessRows,
        stack: &ThreadStack,
        label: ThreadLabel,
        kernel: Option<KernelThread>,
    ) {
        let key = self.threads;
        self.threads += 1;
        self.batch.threads.push(NewThread {
            key,
            process: rows.key,
            os_thread_id: label.os_thread_id,
            thread_id: stack.thread_id,
            interpreter: stack.interpreter,
            name: label.name.unwrap_or_default(),
        });
        let known = KnownThread {
            key,
            kernel,
            last: Vec::new(),
            stacks_epoch: self.stacks_epoch,
            seen: self.totals.ticks,
        };
        rows.threads.insert(identity(stack), known);
    }

    /// Tells that the thread of a stack is still there though it has no sample in this tick.
    pub fn seen(&self, rows: &mut ProcessRows, stack: &ThreadStack) {
        if let Some(known) = rows.threads.get_mut(&identity(stack)) {
            known.seen = self.totals.ticks;
        }
    }

    /// Forgets threads that are gone once there are more of them than of others.
    pub fn forget_threads(&mut self, rows: &mut ProcessRows, current: usize) {
        if rows.threads.len() <= 2 * current + 16 {
            return;
        }
        let now = self.totals.ticks;
        let ended = &mut self.batch.ended;
        rows.threads.retain(|_, known| {
            if known.seen != now {
                ended.push(known.key);
            }
            known.seen == now
        });
    }

    /// Forgets a process that is gone.
    pub fn process_ended(&mut self, rows: ProcessRows) {
        let keys = rows.threads.into_values().map(|known| known.key);
        self.batch.ended.extend(keys);
    }
}
