//! How much all threads of a process were on a CPU, in one question: the kernel's taskstats, over
//! generic netlink (`kernel/taskstats.c`).
//!
//! Of a process the answer has, of what we look at, how often its threads came on a CPU
//! (`cpu_count`, which counts a thread when it comes, so that one that is on a CPU for the first
//! time counts) and how long they ran (`cpu_run_virtual_total`): the sums of what `schedstat` says
//! of each of them, and what it said of each that has ended (`fill_stats_for_tgid`,
//! `delayacct_add_tsk`). Both are there whether or not delays are accounted since Linux 5.14, and
//! before that where they are (its default).
//!
//! Asked by who has CAP_NET_ADMIN, in the first network namespace, of a process by its id in our
//! own namespace of processes.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send,
    socket,
};

/// `CTRL_CMD_GETFAMILY` of the family `GENL_ID_CTRL`, its attributes (`linux/genetlink.h`).
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// `TASKSTATS_CMD_GET`, its attributes, and places in `struct taskstats` (`linux/taskstats.h`).
const GET: u8 = 1;
const OF_PROCESS: u16 = 2;
const STATS_OF_PROCESS: u16 = 5;
const STATS: u16 = 3;
const CPU_COUNT: usize = 16;
const CPU_RUN_VIRTUAL_TOTAL: usize = 72;

const REQUEST: u16 = 1;
/// `struct nlmsghdr` and, behind it, `struct genlmsghdr`.
const MESSAGE_HEADER: usize = 16;
const HEADERS: usize = MESSAGE_HEADER + 4;
const ATTRIBUTE_HEADER: usize = 4;
/// No question has more.
const QUESTION_BYTES: usize = 64;
/// What is asked for has some hundred bytes.
const ANSWER_BYTES: usize = 4096;

/// How long one thread was on a CPU, or several: of one that is on a CPU now as of the last tick.
/// And how often, this time included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OnCpu {
    pub(crate) ran_ns: u64,
    pub(crate) times: u64,
}

impl OnCpu {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            ran_ns: self.ran_ns.wrapping_add(other.ran_ns),
            times: self.times.wrapping_add(other.times),
        }
    }

    /// `None` where the other is more.
    pub(crate) fn minus(self, other: Self) -> Option<Self> {
        Some(Self {
            ran_ns: self.ran_ns.checked_sub(other.ran_ns)?,
            times: self.times.checked_sub(other.times)?,
        })
    }
}

/// Where the kernel is asked.
#[derive(Debug)]
pub(crate) struct TaskStats {
    socket: OwnedFd,
    family: u16,
}

impl TaskStats {
    /// `None` where this kernel has no taskstats, or none here.
    pub(crate) fn open() -> Option<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkGeneric,
        );
        let mut this = Self {
            socket: socket.ok()?,
            family: CONTROL,
        };
        connect(this.socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).ok()?;
        let mut buf = [0; ANSWER_BYTES];
        let answer = this.ask(GET_FAMILY, FAMILY_NAME, b"TASKSTATS\0", &mut buf)?;
        let id = attribute(answer, FAMILY_ID)?;
        this.family = u16::from_le_bytes(id.try_into().ok()?);
        Some(this)
    }

    /// All threads of a process; `None` when it is gone or we may not ask.
    pub(crate) fn of(&self, pid: i32) -> Option<OnCpu> {
        let mut buf = [0; ANSWER_BYTES];
        let answer = self.ask(GET, OF_PROCESS, &pid.to_le_bytes(), &mut buf)?;
        let stats = attribute(attribute(answer, STATS_OF_PROCESS)?, STATS)?;
        Some(OnCpu {
            ran_ns: u64_at(stats, CPU_RUN_VIRTUAL_TOTAL)?,
            times: u64_at(stats, CPU_COUNT)?,
        })
    }

    /// The attributes of an answer. The kernel has given it when the question is sent.
    fn ask<'a>(
        &self,
        command: u8,
        kind: u16,
        value: &[u8],
        buf: &'a mut [u8; ANSWER_BYTES],
    ) -> Option<&'a [u8]> {
        let attribute_bytes = ATTRIBUTE_HEADER + value.len();
        let bytes = HEADERS + attribute_bytes.next_multiple_of(4);
        let mut question = [0; QUESTION_BYTES];
        let mut put = |at: usize, part: &[u8]| {
            question.get_mut(at..at + part.len())?.copy_from_slice(part);
            Some(())
        };
        put(0, &u32::try_from(bytes).ok()?.to_le_bytes())?;
        put(4, &self.family.to_le_bytes())?;
        put(6, &REQUEST.to_le_bytes())?;
        // No number and no sender at 8: there is one question at a time.
        put(MESSAGE_HEADER, &[command, 1])?;
        put(HEADERS, &u16::try_from(attribute_bytes).ok()?.to_le_bytes())?;
        put(HEADERS + 2, &kind.to_le_bytes())?;
        put(HEADERS + ATTRIBUTE_HEADER, value)?;
        let socket = self.socket.as_raw_fd();
        send(socket, question.get(..bytes)?, MsgFlags::empty()).ok()?;
        let got = recv(socket, buf, MsgFlags::MSG_DONTWAIT).ok()?;
        let answer = buf.get(..got)?;
        // Else it is an error.
        let is_ours = u16_at(answer, 4)? == self.family;
        answer.get(HEADERS..).filter(|_| is_ours)
    }
}

/// The value of the first attribute of a kind.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let len = usize::from(u16_at(attributes, 0)?);
        let kind = u16_at(attributes, 2)?;
        let value = attributes.get(ATTRIBUTE_HEADER..len)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let word = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(word.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_behind_others_and_broken_ones_are_none() {
        let attributes = [5, 0, 1, 0, 9, 0, 0, 0, 6, 0, 2, 0, 7, 8];
        assert_eq!(attribute(&attributes, 1), Some(&[9][..]));
        assert_eq!(attribute(&attributes, 2), Some(&[7, 8][..]));
        assert_eq!(attribute(&attributes, 3), None);
        assert_eq!(attribute(&attributes[..13], 2), None, "cut off");
        assert_eq!(attribute(&[0, 0, 7, 0], 1), None, "no room for its header");
    }

    #[test]
    fn more_is_never_taken_from_less() {
        let few = OnCpu {
            ran_ns: 10,
            times: 2,
        };
        let many = OnCpu {
            ran_ns: 9,
            times: 3,
        };
        assert_eq!(few.minus(many), None);
        assert_eq!(few.plus(many).minus(many), Some(few));
    }

    #[test]
    fn a_process_that_runs_is_seen_to() {
        let Some(stats) = TaskStats::open() else {
            println!("skipped: no taskstats here");
            return;
        };
        let pid = std::process::id().cast_signed();
        let Some(before) = stats.of(pid) else {
            println!("skipped: no CAP_NET_ADMIN");
            return;
        };
        // A thread that came and ended counts.
        std::thread::spawn(|| ()).join().expect("its end");
        let after = stats.of(pid).expect("we live");
        assert!(after.times > before.times && after.ran_ns >= before.ran_ns);
        assert_eq!(stats.of(i32::MAX), None, "nobody has this id");
    }
}
