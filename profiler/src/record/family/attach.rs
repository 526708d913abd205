//! Attaching to the members of a family: at once, again, or never.

use std::time::{Duration, Instant};

use super::{FIRST_RETRY, Family, Newcomer, News, Phase};
use crate::error::Error;
use crate::record::kin::executable;
use crate::target;

/// The longest time between two tries.
const LAST_RETRY: Duration = Duration::from_millis(500);
/// What has not become Python in this time is not Python; it is looked at seldom from then on.
const BECOMES_PYTHON: Duration = Duration::from_secs(1);

impl Family {
    /// Tries whoever is due.
    pub(super) fn attach(&mut self) {
        let now = Instant::now();
        let due: Vec<i32> = self
            .members
            .iter()
            .filter(|(_, member)| matches!(member.phase, Phase::Try { at, .. } if at <= now))
            .map(|(pid, _)| *pid)
            .collect();
        for pid in due {
            self.attach_one(pid);
        }
    }

    fn attach_one(&mut self, pid: i32) {
        let Some(member) = self.members.get_mut(&pid) else {
            return;
        };
        let executable = executable(pid);
        if executable != member.executable {
            member.executable = executable;
            member.since = Instant::now();
            member.phase = Phase::Try {
                at: member.since,
                wait: FIRST_RETRY,
            };
        }
        let age = member.since.elapsed();
        let unlikely = executable.is_some_and(|file| self.not_python.contains(&file));
        let error = if unlikely && age < BECOMES_PYTHON {
            None
        } else {
            match self.known.attach(pid) {
                Ok(attached) => {
                    member.phase = Phase::Sampled;
                    self.tell(News::Python(Box::new(Newcomer::new(attached))));
                    return;
                }
                Err(error) => Some(error),
            }
        };
        let Phase::Try { wait, .. } = member.phase else {
            return;
        };
        let next = |wait| Phase::Try {
            at: Instant::now() + wait,
            wait,
        };
        match error {
            None => member.phase = next(BECOMES_PYTHON),
            Some(Error::NotPython { .. }) => {
                if age > BECOMES_PYTHON {
                    self.not_python.extend(executable);
                }
                member.phase = next((wait * 2).min(LAST_RETRY));
                if wait > FIRST_RETRY {
                    self.tell(News::Other(pid));
                }
            }
            Some(
                Error::NotReady { .. }
                | Error::NotProven { .. }
                | Error::Exited { .. }
                | Error::NoProcess { .. }
                | Error::Zombie { .. },
            ) => member.phase = next((wait * 3 / 2).min(LAST_RETRY)),
            // An exec between two looks leaves nothing where the first look found something.
            Some(Error::Read { .. }) if age < BECOMES_PYTHON => {
                member.phase = next((wait * 3 / 2).min(LAST_RETRY));
            }
            Some(error) => {
                member.phase = Phase::Refused;
                let told = (target::executable(pid), error.exit_code());
                if self.reported.insert(told) {
                    self.tell(News::Failed(error));
                }
                self.tell(News::Other(pid));
            }
        }
    }
}
