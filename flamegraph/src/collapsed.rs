//! Collapsed stacks: `name (file:line);name (file:line) weight`, root first.
//!
//! One line per distinct stack, sorted, so that two reports can be compared with `diff`.

use std::io::{self, Write};

use onlooker_recording::tables::Tables;

use crate::fold::Folded;
use crate::labels::labelled;
use crate::render::Options;

/// Writes every distinct stack with its weight. No samples give no line.
pub(crate) fn write(
    tables: &Tables,
    options: &Options,
    folded: &Folded,
    out: &mut dyn Write,
) -> io::Result<()> {
    let labelled = labelled(tables, options, folded);
    let ranks = labelled.labels.ranks();
    let mut path = Path::default();
    let mut result = Ok(());
    labelled.tree.walk(&ranks, |id, depth| {
        let node = labelled.tree.nodes[id as usize];
        path.enter(depth, &labelled.labels.texts[node.label as usize]);
        if node.own > 0 && result.is_ok() {
            result = writeln!(out, "{} {}", path.text, node.own);
        }
    });
    result
}

/// The labels from the root to the node that is being visited, joined by `;`. Only what changes
/// from node to node is written again.
#[derive(Debug, Default)]
pub(crate) struct Path {
    pub(crate) text: String,
    ends: Vec<usize>,
}

impl Path {
    /// Goes to a node at `depth` (1 for the outermost) that shows `label`.
    pub(crate) fn enter(&mut self, depth: usize, label: &str) {
        self.ends.truncate(depth - 1);
        self.text.truncate(self.ends.last().copied().unwrap_or(0));
        if !self.ends.is_empty() {
            self.text.push(';');
        }
        self.text.push_str(label);
        self.ends.push(self.text.len());
    }
}
