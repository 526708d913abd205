//! Why a process may not be read, and what to do about it.
//!
//! The kernel answers every refusal with the same number, so the reason is found by looking at
//! the same facts that it looks at (`__ptrace_may_access`, `kernel/ptrace.c`; Yama,
//! `security/yama/yama_lsm.c`).

use std::fs;
use std::path::Path;

use super::read_text;

/// `CAP_SYS_PTRACE` (`include/uapi/linux/capability.h`).
const CAP_SYS_PTRACE: u32 = 19;

/// `CAP_PERFMON`, which holds for perf events where CAP_SYS_ADMIN had to before Linux 5.8.
const CAP_PERFMON: u32 = 38;

/// Why perf events of another process, its time in the kernel included, may not be opened, and
/// what to do: the rules of `perf_allow_kernel` (`kernel/events/core.c`).
pub(crate) fn explain_perf(proc: &Path) -> (String, String) {
    let level = fs::read_to_string(proc.join("sys/kernel/perf_event_paranoid"));
    let level: Option<i32> = level.ok().and_then(|text| text.trim().parse().ok());
    let capable = Facts::gather(proc, 0).own_capabilities >> CAP_PERFMON & 1 == 1;
    match level {
        None => (
            "this kernel has none (no /proc/sys/kernel/perf_event_paranoid)".to_owned(),
            "use a kernel with CONFIG_PERF_EVENTS".to_owned(),
        ),
        Some(level @ 2..) if !capable => (
            format!("kernel.perf_event_paranoid is {level} and CAP_PERFMON is missing"),
            "run `sudo onlooker …`, add the capability (containers: --cap-add=PERFMON), or allow \
             it until the next boot with `sudo sysctl kernel.perf_event_paranoid=1`"
                .to_owned(),
        ),
        Some(_) => (
            "the kernel refuses perf_event_open (a security module or the seccomp filter of a \
             container)"
                .to_owned(),
            "let the filter pass perf_event_open, or run Onlooker on the host".to_owned(),
        ),
    }
}

/// What decides about permission.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Our effective user id.
    pub own_uid: u32,
    /// The target's effective user id.
    pub target_uid: Option<u32>,
    /// Its name for messages.
    pub target_user: Option<String>,
    /// Our effective capabilities.
    pub own_capabilities: u64,
    /// `kernel.yama.ptrace_scope`; `None` without Yama.
    pub ptrace_scope: Option<u8>,
    /// Process that traces the target, 0 for none.
    pub tracer: i32,
    /// Whether the two processes are in different user namespaces.
    pub other_user_namespace: bool,
}

impl Facts {
    /// Gathers the facts from the proc file system at `proc` (`/proc` but in tests).
    #[must_use]
    pub fn gather(proc: &Path, pid: i32) -> Self {
        let status = |who: &str| read_text(&proc.join(who).join("status"));
        let own = status("self").unwrap_or_default();
        let target = status(&pid.to_string()).unwrap_or_default();
        let target_uid = field(&target, "Uid").and_then(|uids| nth(uids, 1));
        let namespace = |who: &str| fs::read_link(proc.join(who).join("ns/user")).ok();
        let (ours, theirs) = (namespace("self"), namespace(&pid.to_string()));
        Self {
            own_uid: field(&own, "Uid")
                .and_then(|uids| nth(uids, 1))
                .unwrap_or(u32::MAX),
            target_uid,
            target_user: target_uid.and_then(user_name),
            own_capabilities: field(&own, "CapEff")
                .and_then(|caps| u64::from_str_radix(caps.trim(), 16).ok())
                .unwrap_or_default(),
            ptrace_scope: fs::read_to_string(proc.join("sys/kernel/yama/ptrace_scope"))
                .ok()
                .and_then(|scope| scope.trim().parse().ok()),
            tracer: field(&target, "TracerPid")
                .and_then(|t| t.trim().parse().ok())
                .unwrap_or(0),
            other_user_namespace: theirs.is_some() && ours != theirs,
        }
    }

    /// Why reading is refused and what to do, each a clause.
    #[must_use]
    pub fn explain(&self) -> (String, String) {
        let capable = self.own_capabilities >> CAP_SYS_PTRACE & 1 == 1;
        let who = match (&self.target_user, self.target_uid) {
            (Some(name), _) => name.clone(),
            (None, Some(uid)) => format!("uid {uid}"),
            (None, None) => "another user".to_owned(),
        };
        if capable {
            return (
                "the kernel refuses although CAP_SYS_PTRACE is there (a security module or a \
                 seccomp filter)"
                    .to_owned(),
                "look at the audit log, or run Onlooker outside of the sandbox".to_owned(),
            );
        }
        if self.ptrace_scope == Some(3) {
            return (
                "kernel.yama.ptrace_scope is 3, which forbids it to everybody".to_owned(),
                "set it to 1 or less in /etc/sysctl.d and reboot".to_owned(),
            );
        }
        if self.own_uid == 0 {
            return (
                "this root user has no CAP_SYS_PTRACE, as in a container".to_owned(),
                "start the container with `--cap-add=SYS_PTRACE` (Kubernetes: \
                 securityContext.capabilities.add: [\"SYS_PTRACE\"]), or run Onlooker on the host"
                    .to_owned(),
            );
        }
        if self.target_uid.is_none_or(|uid| uid != self.own_uid) {
            return (
                format!("it belongs to {who}"),
                format!("run Onlooker as {who} or as root: `sudo onlooker …`"),
            );
        }
        if self.other_user_namespace {
            return (
                "it lives in another user namespace".to_owned(),
                "run Onlooker as root on the host: `sudo onlooker …`".to_owned(),
            );
        }
        match self.ptrace_scope {
            Some(scope @ 1..) => (
                format!("kernel.yama.ptrace_scope is {scope}"),
                if scope == 1 {
                    "run `sudo onlooker …`, launch the program with `onlooker record -- COMMAND`, \
                     or allow it until the next boot with `sudo sysctl kernel.yama.ptrace_scope=0`"
                        .to_owned()
                } else {
                    "run `sudo onlooker …`, or allow it until the next boot with `sudo sysctl \
                     kernel.yama.ptrace_scope=0`"
                        .to_owned()
                },
            ),
            _ => (
                "it has made itself unreadable (it changed its user, or was started from a file \
                 that only root may read)"
                    .to_owned(),
                "run `sudo onlooker …`".to_owned(),
            ),
        }
    }
}

/// The value of a line `name:\tvalue`.
pub(crate) fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

fn nth(values: &str, n: usize) -> Option<u32> {
    values.split_ascii_whitespace().nth(n)?.parse().ok()
}

fn user_name(uid: u32) -> Option<String> {
    let user = nix::unistd::User::from_uid(uid.into()).ok()??;
    Some(format!("user {}", user.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(facts: &Facts) -> String {
        let (why, remedy) = facts.explain();
        format!("{why}; {remedy}")
    }

    #[test]
    fn each_rule_has_its_remedy() {
        let other = Facts {
            own_uid: 1000,
            target_uid: Some(0),
            ..Facts::default()
        };
        assert!(explain(&other).contains("sudo onlooker"));
        let same = Facts {
            own_uid: 1000,
            target_uid: Some(1000),
            ..Facts::default()
        };
        let yama = |scope| Facts {
            ptrace_scope: Some(scope),
            ..same.clone()
        };
        assert!(explain(&yama(1)).contains("sysctl kernel.yama.ptrace_scope=0"));
        assert!(explain(&yama(2)).contains("ptrace_scope is 2"));
        assert!(explain(&yama(3)).contains("reboot"));
        let container = Facts {
            own_uid: 0,
            target_uid: Some(0),
            ..Facts::default()
        };
        assert!(explain(&container).contains("--cap-add=SYS_PTRACE"));
        let capable = Facts {
            own_capabilities: 1 << CAP_SYS_PTRACE,
            ..same
        };
        assert!(explain(&capable).contains("security module"));
    }

    #[test]
    fn each_rule_of_perf_events_has_its_remedy() {
        let dir = std::env::temp_dir().join(format!("onlooker-perf-{}", std::process::id()));
        fs::create_dir_all(dir.join("sys/kernel")).unwrap();
        fs::create_dir_all(dir.join("self")).unwrap();
        let explain = |level: Option<&str>, capabilities: u64| {
            let file = dir.join("sys/kernel/perf_event_paranoid");
            match level {
                Some(level) => fs::write(file, level).unwrap(),
                None => drop(fs::remove_file(file)),
            }
            let status = format!("Uid:\t0\t0\t0\t0\nCapEff:\t{capabilities:016x}\n");
            fs::write(dir.join("self/status"), status).unwrap();
            let (why, remedy) = explain_perf(&dir);
            format!("{why}; {remedy}")
        };
        let strict = explain(Some("3\n"), 0);
        assert!(strict.contains("perf_event_paranoid is 3") && strict.contains("=1"));
        assert!(explain(Some("2\n"), 1 << CAP_PERFMON).contains("seccomp"));
        assert!(explain(Some("1\n"), 0).contains("seccomp"));
        assert!(explain(None, 0).contains("CONFIG_PERF_EVENTS"));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn facts_come_from_the_proc_file_system_that_is_given() {
        let dir = std::env::temp_dir().join(format!("onlooker-proc-{}", std::process::id()));
        for path in ["self", "7", "sys/kernel/yama"] {
            fs::create_dir_all(dir.join(path)).unwrap();
        }
        let status = |uid: u32| format!("Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n");
        fs::write(
            dir.join("self/status"),
            status(1000) + "CapEff:\t0000000000080000\n",
        )
        .unwrap();
        // The kernel cuts names inside a character.
        let mut target = b"Name:\tcaf\xc3\n".to_vec();
        target.extend((status(4242) + "TracerPid:\t9\n").into_bytes());
        fs::write(dir.join("7/status"), target).unwrap();
        fs::write(dir.join("sys/kernel/yama/ptrace_scope"), "2\n").unwrap();
        let facts = Facts::gather(&dir, 7);
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!((facts.own_uid, facts.target_uid), (1000, Some(4242)));
        assert_eq!((facts.ptrace_scope, facts.tracer), (Some(2), 9));
        assert_eq!(facts.own_capabilities, 1 << CAP_SYS_PTRACE);
    }
}
