//! A fault that the kernel puts off while a signal waits.
//!
//! The kernel handles a fault under the lock of its mapping alone and, where that is not enough (a
//! mapping of the kernel's own as `[vvar]`, of a device, of some file systems), once more under that of all.
//! In between it lets a thread go that has got a signal, which touches the page again (`do_user_addr_fault`,
//! `arch/x86/mm/fault.c`). Where each fault is an event, each of these tries is one and brings a
//! signal: it would never end. So after a try that was one before, the next one is no event.

use crate::sys::perf::{Kind, Record};

/// What is known of one thread.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// Whether each fault is an event.
    possible: bool,
    /// The last fault: the instruction and what it touched.
    last: (u64, u64),
    /// Whether every second fault is an event for now.
    avoided: bool,
}

impl Repeats {
    pub(super) fn of(kind: Kind) -> Self {
        Self {
            possible: kind == Kind::PageFaults { period: 1 },
            ..Self::default()
        }
    }

    /// Takes in an event; the period to set, if another.
    pub(super) fn noted(&mut self, record: &Record) -> Option<u64> {
        let fault = (record.registers.ip, record.touch.addr);
        let again = std::mem::replace(&mut self.last, fault) == fault;
        if !self.possible || again == self.avoided {
            return None;
        }
        self.avoided = again;
        Some(1 + u64::from(again))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::perf::Touch;
    use crate::sys::ptrace::Registers;

    fn fault(ip: u64, addr: u64) -> Record {
        Record {
            touch: Touch {
                addr,
                ..Touch::default()
            },
            registers: Registers {
                ip,
                ..Registers::default()
            },
            ..Record::default()
        }
    }

    #[test]
    fn a_fault_that_repeats_is_let_through_and_the_others_are_events_again() {
        let mut repeats = Repeats::of(Kind::PageFaults { period: 1 });
        let faults = [(1, 1), (2, 1), (2, 1), (2, 1), (2, 2), (3, 2)];
        let set = faults.map(|(ip, addr)| repeats.noted(&fault(ip, addr)));
        assert_eq!(set, [None, None, Some(2), None, Some(1), None]);
        let mut seldom = Repeats::of(Kind::PageFaults { period: 64 });
        let set = faults.map(|(ip, addr)| seldom.noted(&fault(ip, addr)));
        assert_eq!(set, [None; 6]);
    }
}
