//! Steps of stacks, compared with those that really occur.
//!
//! A step is a pair of functions, caller and callee; the outermost frame is a step from nothing.
//! A stack that mixes two instants nearly always has a step in it that the program never makes.

use std::collections::{HashMap, HashSet};

/// A function, as code objects tell it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Function {
    /// Qualified name from 3.11, plain name before.
    pub name: String,
    /// `co_filename`.
    pub filename: String,
    /// `co_firstlineno`.
    pub line: i32,
}

impl Function {
    /// Whether the interpreter itself calls it before any program runs: what stands on such a
    /// function was pushed before there was an oracle. Programs call these too, but then there
    /// is a frame below. The codecs are those of `sys.stdin`, `stdout` and `stderr`
    /// (`create_stdio`, `Python/pylifecycle.c`).
    fn starts_up(&self) -> bool {
        let file = self.filename.as_str();
        file.starts_with("<frozen importlib.")
            || matches!(file, "<frozen zipimport>" | "<frozen getpath>")
            || file.starts_with("<frozen encodings")
            || file.contains("/encodings/")
            || file == "<frozen codecs>"
            || self.file() == "codecs.py"
    }

    /// Whether it is called wherever the program happens to be when an object dies.
    fn finalizes(&self) -> bool {
        self.name.rsplit('.').next() == Some("__del__")
            || matches!(self.file(), "weakref.py" | "_weakrefset.py")
    }

    /// Whether an import statement calls it, wherever it stands: the first time
    /// (`_find_and_load`), while another thread imports the same (`_lock_unlock_module`), for
    /// names of a package (`_handle_fromlist`). Which of them it is differs from run to run.
    /// `PyImport_ImportModuleLevelObject`, `Python/import.c`.
    fn imports(&self) -> bool {
        self.filename == "<frozen importlib._bootstrap>"
            && matches!(
                self.name.as_str(),
                "_find_and_load" | "_lock_unlock_module" | "_handle_fromlist"
            )
    }

    /// Whether it is a part of the `threading` module: whether one of its functions has to call
    /// another to wait for a thread depends on which comes first.
    fn is_of_threading(&self) -> bool {
        self.file() == "threading.py"
    }

    fn file(&self) -> &str {
        self.filename.rsplit('/').next().unwrap_or_default()
    }
}

/// Id of a function within one [`Oracle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionId(u32);

/// A caller (`None` below an outermost frame) and its callee.
pub type Edge = (Option<FunctionId>, FunctionId);

/// What really occurs.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    ids: HashMap<Function, FunctionId>,
    functions: Vec<Function>,
    edges: HashSet<Edge>,
    anywhere: HashSet<FunctionId>,
    tracers: HashSet<FunctionId>,
}

/// What is known of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The oracle saw it.
    Seen,
    /// The oracle did not see it, but whether it occurs is chance: its callee runs wherever the
    /// program happens to be (finalizers, weak references, signal handlers, callbacks of the
    /// garbage collection, trace functions and what they call), or it is how an import or
    /// `threading` waits for another thread.
    Anywhere,
    /// The oracle did not see it.
    Impossible,
}

impl Oracle {
    /// The id of a function; a new one when it is not known.
    pub fn id(&mut self, function: Function) -> FunctionId {
        let next = FunctionId(u32::try_from(self.functions.len()).unwrap_or(u32::MAX));
        let functions = &mut self.functions;
        *self.ids.entry(function).or_insert_with_key(|function| {
            functions.push(function.clone());
            next
        })
    }

    /// The function of an id that this oracle gave.
    #[must_use]
    pub fn function(&self, id: FunctionId) -> &Function {
        &self.functions[id.0 as usize]
    }

    /// Adds a step that occurs.
    pub fn add(&mut self, caller: Option<Function>, callee: Function) {
        let caller = caller.map(|caller| self.id(caller));
        let callee = self.id(callee);
        self.edges.insert((caller, callee));
    }

    /// Adds a function that runs wherever the program happens to be.
    pub fn add_anywhere(&mut self, function: Function) {
        let id = self.id(function);
        self.anywhere.insert(id);
    }

    /// Adds a trace or profile function of the program. It runs wherever the program happens to
    /// be, and the interpreter tells nobody what it calls (`tracing` of its thread state is set).
    pub fn add_tracer(&mut self, function: Function) {
        let id = self.id(function);
        self.tracers.insert(id);
    }

    /// How many different steps occur.
    #[must_use]
    pub fn edges(&self) -> usize {
        self.edges.len()
    }

    /// What is known of a step.
    #[must_use]
    pub fn judge(&self, edge: Edge) -> Verdict {
        if self.edges.contains(&edge) {
            return Verdict::Seen;
        }
        let callee = self.function(edge.1);
        let waits = || {
            let caller = edge.0.map(|caller| self.function(caller));
            callee.is_of_threading() && caller.is_some_and(Function::is_of_threading)
        };
        if self.anywhere.contains(&edge.1) || callee.finalizes() || callee.imports() || waits() {
            Verdict::Anywhere
        } else {
            Verdict::Impossible
        }
    }
}

/// A step that the oracle did not see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impossible {
    /// How often it was sampled.
    pub count: u64,
    /// The first stack that had it, outermost frame first.
    pub example: Vec<FunctionId>,
}

/// Steps of many stacks.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Stacks that were compared.
    pub stacks: u64,
    /// Stacks of the interpreter's start, which are not compared.
    pub outside: u64,
    /// Steps that were compared.
    pub steps: u64,
    /// Steps that occur by chance, which the oracle did not see ([`Verdict::Anywhere`]).
    pub anywhere: u64,
    /// Steps that the oracle did not see.
    pub impossible: u64,
    /// Stacks with at least one of these.
    pub impossible_stacks: u64,
    different: HashSet<Edge>,
    worst: HashMap<Edge, Impossible>,
}

impl Tally {
    /// Compares one stack, outermost frame first.
    pub fn add(&mut self, oracle: &Oracle, stack: &[FunctionId]) {
        let Some(outermost) = stack.first() else {
            self.stacks += 1;
            return;
        };
        if oracle.function(*outermost).starts_up() {
            self.outside += 1;
            return;
        }
        self.stacks += 1;
        let before = self.impossible;
        let mut traced = false;
        let callers = std::iter::once(None).chain(stack.iter().copied().map(Some));
        for edge in callers.zip(stack.iter().copied()) {
            self.steps += 1;
            self.different.insert(edge);
            traced |= oracle.tracers.contains(&edge.1);
            let verdict = match oracle.judge(edge) {
                Verdict::Impossible if traced => Verdict::Anywhere,
                verdict => verdict,
            };
            match verdict {
                Verdict::Seen => {}
                Verdict::Anywhere => self.anywhere += 1,
                Verdict::Impossible => {
                    self.impossible += 1;
                    let entry = self.worst.entry(edge).or_insert_with(|| Impossible {
                        count: 0,
                        example: stack.to_vec(),
                    });
                    entry.count += 1;
                }
            }
        }
        self.impossible_stacks += u64::from(self.impossible > before);
    }

    /// How many different steps there were.
    #[must_use]
    pub fn different(&self) -> usize {
        self.different.len()
    }

    /// The share of impossible steps, 0 to 1.
    #[must_use]
    pub fn impossible_share(&self) -> f64 {
        self.impossible as f64 / self.steps.max(1) as f64
    }

    /// The most frequent impossible steps, at most `count` of them.
    #[must_use]
    pub fn worst(&self, count: usize) -> Vec<(Edge, &Impossible)> {
        let mut worst: Vec<_> = self.worst.iter().map(|(edge, it)| (*edge, it)).collect();
        worst.sort_by_key(|(edge, it)| (std::cmp::Reverse(it.count), *edge));
        worst.truncate(count);
        worst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str) -> Function {
        Function {
            name: name.to_owned(),
            filename: "/app/pairs.py".to_owned(),
            line: 1,
        }
    }

    /// `first` calls `one`, `second` calls `two`, by turns: the pair that tears.
    fn pairs() -> Oracle {
        let mut oracle = Oracle::default();
        oracle.add(None, function("<module>"));
        for (caller, callee) in [("first", "one"), ("second", "two")] {
            oracle.add(Some(function("<module>")), function(caller));
            oracle.add(Some(function(caller)), function(callee));
        }
        oracle
    }

    fn stack(oracle: &mut Oracle, names: &[&str]) -> Vec<FunctionId> {
        names.iter().map(|name| oracle.id(function(name))).collect()
    }

    #[test]
    fn a_stack_of_two_instants_is_found() {
        let mut oracle = pairs();
        let mut tally = Tally::default();
        for (names, times) in [
            (["<module>", "first", "one"], 50),
            (["<module>", "second", "two"], 47),
            // The caller was read before the turn and the callee after it.
            (["<module>", "first", "two"], 3),
        ] {
            let stack = stack(&mut oracle, &names);
            for _ in 0..times {
                tally.add(&oracle, &stack);
            }
        }
        assert_eq!((tally.stacks, tally.steps), (100, 300));
        assert_eq!((tally.impossible, tally.impossible_stacks), (3, 3));
        assert_eq!(tally.different(), 6);
        let worst = tally.worst(10);
        let [((Some(caller), callee), impossible)] = worst.as_slice() else {
            panic!("one pair, not {worst:?}");
        };
        assert_eq!(oracle.function(*caller).name, "first");
        assert_eq!(oracle.function(*callee).name, "two");
        assert_eq!((impossible.count, impossible.example.len()), (3, 3));
    }

    #[test]
    fn a_cut_stack_begins_where_no_stack_begins() {
        let mut oracle = pairs();
        let mut tally = Tally::default();
        let cut = stack(&mut oracle, &["first", "one"]);
        tally.add(&oracle, &cut);
        assert_eq!((tally.impossible, tally.steps), (1, 2));
    }

    #[test]
    fn a_name_that_is_no_function_is_found() {
        let mut oracle = pairs();
        let mut tally = Tally::default();
        let garbage = stack(&mut oracle, &["<module>", "first", "\u{fffd}\u{fffd}"]);
        tally.add(&oracle, &garbage);
        assert_eq!(tally.impossible, 1);
    }

    #[test]
    fn finalizers_and_handlers_run_anywhere_and_are_counted() {
        let mut oracle = pairs();
        oracle.add_anywhere(function("on_alarm"));
        let mut tally = Tally::default();
        for callee in ["Handle.__del__", "on_alarm"] {
            let stack = stack(&mut oracle, &["<module>", "first", callee]);
            tally.add(&oracle, &stack);
        }
        assert_eq!((tally.anywhere, tally.impossible), (2, 0));
    }

    #[test]
    fn what_a_trace_function_calls_is_not_known() {
        let mut oracle = pairs();
        oracle.add_tracer(function("trace"));
        let mut tally = Tally::default();
        let below = stack(&mut oracle, &["<module>", "first", "trace", "count", "two"]);
        tally.add(&oracle, &below);
        assert_eq!((tally.anywhere, tally.impossible), (3, 0));
        let above = stack(&mut oracle, &["<module>", "two", "trace"]);
        tally.add(&oracle, &above);
        assert_eq!(
            (tally.anywhere, tally.impossible),
            (4, 1),
            "its caller counts"
        );
    }

    #[test]
    fn imports_and_threads_that_wait_for_another_are_chance() {
        let place = |name: &str, filename: &str| Function {
            filename: filename.to_owned(),
            ..function(name)
        };
        let threading = |name| place(name, "/usr/lib/python3.15/threading.py");
        let bootstrap = |name| place(name, "<frozen importlib._bootstrap>");
        let mut oracle = pairs();
        let mut judge = |caller: Function, callee: Function| {
            let edge = (Some(oracle.id(caller)), oracle.id(callee));
            oracle.judge(edge)
        };
        let chance = Verdict::Anywhere;
        assert_eq!(
            judge(function("first"), bootstrap("_lock_unlock_module")),
            chance
        );
        assert_eq!(
            judge(function("first"), bootstrap("_find_and_load")),
            chance
        );
        assert_eq!(
            judge(threading("Event.wait"), threading("Condition.wait")),
            chance
        );
        let impossible = Verdict::Impossible;
        assert_eq!(
            judge(function("first"), bootstrap("_find_spec")),
            impossible
        );
        assert_eq!(
            judge(function("first"), threading("Condition.wait")),
            impossible
        );
    }

    #[test]
    fn what_ran_before_the_oracle_is_set_apart() {
        let mut oracle = pairs();
        let mut tally = Tally::default();
        for (name, filename) in [
            ("_find_and_load", "<frozen importlib._bootstrap>"),
            ("IncrementalEncoder.__init__", "<frozen codecs>"),
            (
                "IncrementalDecoder.__init__",
                "/usr/lib/python3.8/codecs.py",
            ),
            (
                "search_function",
                "/usr/lib/python3.8/encodings/__init__.py",
            ),
        ] {
            let mut starts = function(name);
            starts.filename = filename.to_owned();
            let id = oracle.id(starts);
            tally.add(&oracle, &[id]);
        }
        assert_eq!((tally.outside, tally.stacks, tally.steps), (4, 0, 0));
    }
}
