//! Finds the processes to sample, in a thread of its own: attaching takes milliseconds, and the
//! samples of others must not wait for it.
//!
//! A process belongs to the family when it is the root or the child of a member, Python or not:
//! launchers and shells stand between. A child whose parent has ended comes to us when we have
//! started the root ([`Orphans`]); else it is found while its parent lives. Once found
//! it is followed to its end, whoever its parent is by then.

mod attach;

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use onlooker_recording::tables::{Mapping, Process};

use super::describe::describe;
use super::kin::{Orphans, children, executable, started};
use crate::attach::{Attached, Known};
use crate::error::Error;

/// The shortest time between two looks; a look may take a twentieth of the time between.
const LOOK_EVERY: Duration = Duration::from_millis(4);
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_millis(50);
/// Where only one process is watched its samples tell sooner that it has ended.
const LOOK_ALONE_EVERY: Duration = Duration::from_secs(1);
const LOOK_SHARE: u32 = 20;
/// A fork that will call exec at once is still its parent's image: it is given so long.
const FORK_SETTLES: Duration = Duration::from_millis(4);
/// Time between the first two tries to attach.
const FIRST_RETRY: Duration = Duration::from_millis(3);
/// After the end of the root nobody waits for what has not been Python for so long: a daemon that
/// the program has left behind.
const STAYS_OTHER: Duration = Duration::from_secs(5);

/// What the finder says.
#[derive(Debug)]
pub enum News {
    /// A process to sample.
    Python(Box<Newcomer>),
    /// A process that runs no Python, or none any more.
    Other(i32),
    /// A process that cannot be sampled, told once for each executable and reason.
    Failed(Error),
    /// A process is gone.
    Gone(i32),
    /// Every process is gone.
    AllGone,
}

/// A process to sample.
#[derive(Debug)]
pub struct Newcomer {
    /// Its interpreter.
    pub attached: Attached,
    /// Its row.
    pub process: Process,
    /// The files that it maps.
    pub mappings: Vec<Mapping>,
}

impl Newcomer {
    /// Gathers what a recording says about a process. Reads files.
    #[must_use]
    pub fn new(attached: Attached) -> Self {
        let version = attached.version.to_string();
        let (process, mappings) = describe(attached.pid, version, attached.executable.clone());
        Self {
            attached,
            process,
            mappings,
        }
    }
}

/// Looks for processes until it is dropped.
#[derive(Debug)]
pub struct Finder {
    /// Where the loop hears of processes.
    pub news: Receiver<News>,
    lost: Sender<i32>,
}

impl Finder {
    /// Starts to look after `root`, and its descendants with `children`, also those that come to us
    /// as `orphans`. What is in `attached` is sampled already.
    #[must_use]
    pub fn start(
        root: i32,
        attached: Option<&Attached>,
        children: bool,
        orphans: Option<Orphans>,
    ) -> Self {
        let (news, receiver) = channel();
        let (lost, requests) = channel();
        let mut family = Family {
            root,
            members: HashMap::new(),
            known: Known::default(),
            reported: HashSet::new(),
            not_python: HashSet::new(),
            children,
            orphans,
            news,
        };
        if let Some(attached) = attached {
            family.known.learn(attached);
        }
        family.add(root, None, attached.is_some());
        thread::spawn(move || family.run(&requests));
        Self {
            news: receiver,
            lost,
        }
    }

    /// Tells that a process has no interpreter any more: by its end, or by exec.
    pub fn lost(&self, pid: i32) {
        // A finder that has ended knows already.
        let _ = self.lost.send(pid);
    }
}

#[derive(Debug)]
struct Member {
    /// Tells it from a later process with the same id.
    started: u64,
    executable: Option<(u64, u64)>,
    since: Instant,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// To be tried again.
    Try { at: Instant, wait: Duration },
    /// Sampled by the loop.
    Sampled,
    /// Never to be tried again.
    Refused,
}

struct Family {
    root: i32,
    members: HashMap<i32, Member>,
    known: Known,
    /// Executables and exit codes of failures that were told.
    reported: HashSet<(String, u8)>,
    /// Executables that never became Python.
    not_python: HashSet<(u64, u64)>,
    children: bool,
    orphans: Option<Orphans>,
    news: Sender<News>,
}

impl Family {
    fn run(mut self, lost: &Receiver<i32>) {
        let mut pause = Duration::ZERO;
        loop {
            match lost.recv_timeout(pause) {
                Ok(pid) => {
                    self.try_again(pid);
                    pause = Duration::ZERO;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let start = Instant::now();
            self.look();
            if self.is_over() {
                let _ = self.news.send(News::AllGone);
                return;
            }
            let waits = |member: &Member| matches!(member.phase, Phase::Try { .. });
            pause = if self.children {
                (start.elapsed() * LOOK_SHARE).clamp(LOOK_EVERY, LOOK_AT_LEAST_EVERY)
            } else if self.members.values().any(waits) {
                LOOK_AT_LEAST_EVERY
            } else {
                LOOK_ALONE_EVERY
            };
            self.attach();
        }
    }

    /// Whether nobody is left, or after the end of the root only programs that are no Python.
    fn is_over(&self) -> bool {
        let waits_for = |member: &Member| match member.phase {
            Phase::Sampled => true,
            Phase::Try { .. } => member.since.elapsed() < STAYS_OTHER,
            Phase::Refused => false,
        };
        let root = self.members.contains_key(&self.root);
        !root && !self.members.values().any(waits_for)
    }

    fn tell(&self, news: News) {
        // Nobody listens at the end of the recording.
        let _ = self.news.send(news);
    }

    fn try_again(&mut self, pid: i32) {
        if let Some(member) = self.members.get_mut(&pid) {
            member.since = Instant::now();
            member.phase = Phase::Try {
                at: member.since,
                wait: FIRST_RETRY,
            };
        }
    }

    fn add(&mut self, pid: i32, parent: Option<i32>, sampled: bool) {
        let Some(started) = started(pid) else { return };
        let executable = executable(pid);
        let parents = parent.and_then(|parent| self.members.get(&parent)?.executable);
        let since = Instant::now();
        // A fresh fork may be about to call exec.
        let settles = parents.is_some() && parents == executable;
        let phase = if sampled {
            Phase::Sampled
        } else {
            Phase::Try {
                at: since
                    + if settles {
                        FORK_SETTLES
                    } else {
                        Duration::ZERO
                    },
                wait: FIRST_RETRY,
            }
        };
        let member = Member {
            started,
            executable,
            since,
            phase,
        };
        self.members.insert(pid, member);
    }

    /// Takes out who is gone and takes in who is new.
    fn look(&mut self) {
        let news = &self.news;
        self.members.retain(|pid, member| {
            let lives = started(*pid) == Some(member.started);
            if !lives {
                let _ = news.send(News::Gone(*pid));
            }
            lives
        });
        if !self.children {
            return;
        }
        let orphans = self.orphans.as_mut().map(|all| all.of(self.root));
        for orphan in orphans.unwrap_or_default() {
            if !self.members.contains_key(&orphan) {
                self.add(orphan, None, false);
            }
        }
        let mut parents: Vec<i32> = self.members.keys().copied().collect();
        // Children of children that are new, too.
        while let Some(parent) = parents.pop() {
            for child in children(parent) {
                if !self.members.contains_key(&child) {
                    self.add(child, Some(parent), false);
                    parents.push(child);
                }
            }
        }
    }
}
