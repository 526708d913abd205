//! Which samples count.
//!
//! Every report asks here and nowhere else, so that two reports of one recording with the same
//! selection always speak of the same samples.

use onlooker_recording::tables::{Sample, State, StringId, Tables, Trust, WeightKind};

/// Reasons that mean that the outer part of a stack is missing: the names that the unwinder gives
/// to where a walk ended early.
///
/// Any other reason on an unverified sample means a whole stack that could not be proven. A
/// verified sample with a reason is always a cut one, for there is nothing else to give a reason
/// for. Whoever adds a reason to the unwinder adds it here, or a cut stack passes for a whole one.
pub const CUT_REASONS: &[&str] = &["torn", "unreadable", "limit", "chunks", "thread", "rounds"];

/// By what a thread was doing, whether its sample counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Samples of threads that were on a CPU or could have been. A thread that slept is left
    /// out, whether it slept for input or for the interpreter lock; one whose state could not be
    /// seen is not.
    #[default]
    Cpu,
    /// Every sample.
    Wall,
    /// Samples of threads that were known to hold the interpreter lock, also while they slept:
    /// they kept all others from running.
    Gil,
}

impl Mode {
    fn takes(self, state: State) -> bool {
        match self {
            Self::Cpu => !state.sleeping,
            Self::Wall => true,
            Self::Gil => state.known && state.holds_gil,
        }
    }
}

/// Which samples count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Selection {
    /// By what their threads were doing.
    pub mode: Mode,
    /// Whether samples count that did not pass every check.
    pub include_unverified: bool,
    /// The kind of weight that is added up; samples of other kinds do not count.
    pub weight: WeightKind,
}

impl Default for Selection {
    /// Every sample of a thread that did not sleep, whose weight is a number of samples.
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            include_unverified: true,
            weight: WeightKind::Samples,
        }
    }
}

impl Selection {
    /// Whether a sample counts.
    #[must_use]
    pub fn takes(&self, sample: &Sample) -> bool {
        sample.weight_kind == self.weight
            && self.mode.takes(sample.state)
            && (self.include_unverified || sample.trust == Trust::Verified)
    }
}

/// How many samples a row stands for: merged tables have one row for many.
pub(crate) fn stands_for(sample: &Sample) -> u64 {
    match sample.weight_kind {
        WeightKind::Samples => sample.weight,
        _ => 1,
    }
}

/// Why the outer part of a sample's stack is missing, `None` for a whole stack.
pub(crate) fn cut(tables: &Tables, sample: &Sample) -> Option<StringId> {
    let reason = sample.reason?;
    let is_cut = sample.trust == Trust::Verified || CUT_REASONS.contains(&tables.string(reason));
    is_cut.then_some(reason)
}

#[cfg(test)]
mod tests {
    use onlooker_recording::tables::ThreadId;

    use super::*;

    fn sample() -> Sample {
        Sample {
            time_ns: 0,
            thread: ThreadId(0),
            stack: None,
            state: State::default(),
            trust: Trust::Verified,
            reason: None,
            weight_kind: WeightKind::Samples,
            weight: 1,
        }
    }

    #[test]
    fn an_unknown_state_is_busy_but_holds_no_lock() {
        let [cpu, wall, gil] = [Mode::Cpu, Mode::Wall, Mode::Gil].map(|mode| Selection {
            mode,
            ..Selection::default()
        });
        assert!(cpu.takes(&sample()) && wall.takes(&sample()));
        assert!(!gil.takes(&sample()));

        let mut waiter = sample();
        waiter.state.known = true;
        waiter.state.sleeping = true;
        waiter.state.waits_for_gil = true;
        assert!(!cpu.takes(&waiter) && !gil.takes(&waiter));
        assert!(wall.takes(&waiter));

        let mut holder = waiter;
        holder.state.waits_for_gil = false;
        holder.state.holds_gil = true;
        assert!(gil.takes(&holder) && !cpu.takes(&holder));
    }

    #[test]
    fn other_weights_and_unwanted_trust_do_not_count() {
        let mut grown = sample();
        grown.weight_kind = WeightKind::BytesGrown;
        assert!(!Selection::default().takes(&grown));

        let mut unverified = sample();
        unverified.trust = Trust::Unverified;
        assert!(Selection::default().takes(&unverified));
        let strict = Selection {
            include_unverified: false,
            ..Selection::default()
        };
        assert!(!strict.takes(&unverified));
    }

    #[test]
    fn only_a_cut_stack_is_called_cut() {
        let tables = Tables {
            strings: vec!["torn".into(), "not checked".into()],
            ..Tables::default()
        };
        let with = |trust, reason| Sample {
            trust,
            reason,
            ..sample()
        };
        let torn = Some(StringId(0));
        let unchecked = Some(StringId(1));
        assert_eq!(cut(&tables, &with(Trust::Verified, None)), None);
        assert_eq!(cut(&tables, &with(Trust::Unverified, torn)), torn);
        assert_eq!(cut(&tables, &with(Trust::Unverified, unchecked)), None);
        assert_eq!(cut(&tables, &with(Trust::Verified, unchecked)), unchecked);
    }
}
