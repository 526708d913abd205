//! What a frame is called in a report, and the tree of these names.

use std::collections::{HashMap, HashSet};

use onlooker_recording::tables::{ProcessId, Tables, ThreadId};

use crate::fold::{Folded, GroupBy, Tree};
use crate::names::short_names;
use crate::render::Options;
use crate::text::frame_part;

/// The file name of every location, short or whole.
pub(crate) fn file_names(tables: &Tables, full: bool) -> Vec<&str> {
    let files: Vec<&str> = tables
        .locations
        .iter()
        .map(|location| tables.string(location.filename))
        .collect();
    if full { files } else { short_names(&files) }
}

/// Distinct labels, by id.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    /// The text of each label: no `;`, no invisible character, never empty, never ending in a
    /// number after a space (which is where a collapsed line has its weight).
    pub(crate) texts: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Labels {
    /// The id of a label.
    pub(crate) fn intern(&mut self, text: String) -> u32 {
        let next = u32::try_from(self.texts.len()).expect("fewer than 2^32 labels");
        *self.ids.entry(text).or_insert_with_key(|text| {
            self.texts.push(text.clone());
            next
        })
    }

    /// The place of each label in the order of their texts.
    pub(crate) fn ranks(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..).take(self.texts.len()).collect();
        order.sort_unstable_by_key(|&id| &self.texts[id as usize]);
        let mut ranks = vec![0; order.len()];
        for (rank, id) in (0..).zip(order) {
            ranks[id as usize] = rank;
        }
        ranks
    }
}

/// The tree that collapsed stacks and flame graphs are written from, and its labels.
#[derive(Debug)]
pub(crate) struct Labelled {
    pub(crate) labels: Labels,
    pub(crate) tree: Tree,
    /// The label of each location.
    pub(crate) of_location: Vec<u32>,
}

/// Puts the folded samples on a tree of labels: process, thread, mark of a cut, then the frames,
/// outermost first.
pub(crate) fn labelled(tables: &Tables, options: &Options, folded: &Folded) -> Labelled {
    let mut labels = Labels::default();
    let of_location: Vec<u32> = tables
        .locations
        .iter()
        .zip(file_names(tables, options.full_filenames))
        .map(|(location, file)| {
            labels.intern(frame_label(
                tables.string(location.name),
                file,
                location.line,
            ))
        })
        .collect();
    let group_by = group_by(tables, options);
    let roots = RootFrames::new(tables, options);
    let mut root_of_group: HashMap<u32, u32> = HashMap::new();
    let mut tree = Tree::new();
    for row in &folded.rows {
        let mut root = *root_of_group.entry(row.group).or_insert_with(|| {
            let frames = match group_by {
                GroupBy::Nothing => Vec::new(),
                GroupBy::Process => roots.of_process(ProcessId(row.group)),
                GroupBy::Thread => roots.of_thread(ThreadId(row.group)),
            };
            frames.into_iter().fold(Tree::ROOT, |parent, text| {
                tree.child(parent, labels.intern(text))
            })
        });
        if let Some(reason) = row.cut {
            root = tree.child(root, labels.intern(cut_label(tables.string(reason))));
        }
        tree.add(tables, root, row.stack, row.weight, |location| {
            of_location[location.index()]
        });
    }
    Labelled {
        labels,
        tree,
        of_location,
    }
}

/// What the samples of a report are kept apart by. One process among its own threads needs no
/// frame that says so.
pub(crate) fn group_by(tables: &Tables, options: &Options) -> GroupBy {
    if options.threads {
        GroupBy::Thread
    } else if tables.processes.len() > 1 {
        GroupBy::Process
    } else {
        GroupBy::Nothing
    }
}

/// `name (file:line)`, or `name (file)` where the line is unknown.
pub(crate) fn frame_label(name: &str, file: &str, line: Option<u32>) -> String {
    let name = if name.is_empty() { "?" } else { name };
    let file = if file.is_empty() { "?" } else { file };
    // Readers of collapsed stacks take a line that starts with `#` for a comment.
    let escape = if name.starts_with('#') { "\\" } else { "" };
    let (name, file) = (frame_part(name), frame_part(file));
    match line {
        Some(line) => format!("{escape}{name} ({file}:{line})"),
        None => format!("{escape}{name} ({file})"),
    }
}

/// The outermost frame of a stack whose outer part is missing.
pub(crate) fn cut_label(reason: &str) -> String {
    format!("[cut: {}]", frame_part(reason))
}

/// The frames above a stack's own: its process where there are several, its thread where that was
/// asked for.
struct RootFrames<'a> {
    tables: &'a Tables,
    threads: bool,
    process_by_pid: HashMap<i32, ProcessId>,
    /// Names that several threads of one process share, for which the name alone does not do.
    shared_names: HashSet<(ProcessId, &'a str)>,
}

impl<'a> RootFrames<'a> {
    fn new(tables: &'a Tables, options: &Options) -> Self {
        let process_by_pid = (0..)
            .map(ProcessId)
            .zip(&tables.processes)
            .map(|(id, process)| (process.pid, id))
            .collect();
        let mut names = HashSet::new();
        let shared_names = tables
            .threads
            .iter()
            .map(|thread| (thread.process, tables.string(thread.name)))
            .filter(|name| !names.insert(*name))
            .collect();
        Self {
            tables,
            threads: options.threads,
            process_by_pid,
            shared_names,
        }
    }

    /// The process below its parents, as far as they were watched.
    fn of_process(&self, id: ProcessId) -> Vec<String> {
        if self.tables.processes.len() < 2 {
            return Vec::new();
        }
        let mut chain = vec![id];
        let mut next = self.parent(id);
        while let Some(parent) = next {
            // Process ids are used again, so a chain of parents can close.
            if chain.contains(&parent) {
                break;
            }
            chain.push(parent);
            next = self.parent(parent);
        }
        chain
            .into_iter()
            .rev()
            .map(|id| {
                let process = &self.tables.processes[id.index()];
                let command = process.command.join(" ");
                format!("process {}:\"{}\"", process.pid, frame_part(&command))
            })
            .collect()
    }

    fn parent(&self, id: ProcessId) -> Option<ProcessId> {
        let pid = self.tables.processes[id.index()].parent_pid?;
        self.process_by_pid.get(&pid).copied()
    }

    fn of_thread(&self, id: ThreadId) -> Vec<String> {
        let thread = &self.tables.threads[id.index()];
        let mut frames = self.of_process(thread.process);
        if self.threads {
            let name = self.tables.string(thread.name);
            let shared = self.shared_names.contains(&(thread.process, name));
            frames.push(format!(
                "thread ({})",
                frame_part(&thread_name(self.tables, id, shared))
            ));
        }
        frames
    }
}

/// The name of a thread, its id where it has none, both where asked for.
pub(crate) fn thread_name(tables: &Tables, id: ThreadId, with_id: bool) -> String {
    let thread = &tables.threads[id.index()];
    let name = tables.string(thread.name);
    // The kernel's id is the one that other tools show.
    let id = thread.os_thread_id.map_or_else(
        || format!("0x{:x}", thread.thread_id),
        |os_thread_id| os_thread_id.to_string(),
    );
    match (name.is_empty(), with_id) {
        (true, _) => id,
        (false, true) => format!("{name} {id}"),
        (false, false) => name.to_owned(),
    }
}
