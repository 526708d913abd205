//! From samples to weights: first per distinct stack, then on a tree of labels.
//!
//! Samples are many and stacks are few, so the samples are added up by stack id before anything
//! else is done. The tree then has one node per distinct path of *labels*; two stacks that differ
//! only in what a report does not show (columns) meet in one node.

use std::collections::{HashMap, HashSet};

use onlooker_recording::tables::{LocationId, Sample, StackId, StringId, Tables, Trust};

use crate::render::Summary;
use crate::select::{self, Selection};

/// What samples are kept apart by, next to their stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupBy {
    /// Nothing.
    Nothing,
    /// Their process.
    Process,
    /// Their thread.
    Thread,
}

impl GroupBy {
    /// The group of a sample: an index into the table that it is grouped by, or 0.
    fn of(self, tables: &Tables, sample: &Sample) -> u32 {
        match self {
            Self::Nothing => 0,
            Self::Process => tables.threads[sample.thread.index()].process.0,
            Self::Thread => sample.thread.0,
        }
    }
}

/// The weight of one stack in one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) group: u32,
    pub(crate) stack: StackId,
    pub(crate) cut: Option<StringId>,
    pub(crate) weight: u64,
}

/// All selected samples with a stack, added up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folded {
    /// In the order of their first sample.
    pub(crate) rows: Vec<Row>,
    pub(crate) summary: Summary,
}

/// Adds up the samples that count.
pub(crate) fn fold(tables: &Tables, selection: &Selection, group_by: GroupBy) -> Folded {
    let mut folded = Folded::default();
    let mut row_of: HashMap<(u32, StackId, Option<StringId>), usize> = HashMap::new();
    let mut stacks = HashSet::new();
    let summary = &mut folded.summary;
    for sample in &tables.samples {
        let count = select::stands_for(sample);
        let add = |to: &mut u64, if_so: bool| {
            if if_so {
                *to = to.saturating_add(count);
            }
        };
        if !selection.takes(sample) {
            add(&mut summary.left_out, true);
            continue;
        }
        let Some(stack) = sample.stack else {
            add(&mut summary.empty, true);
            continue;
        };
        let cut = select::cut(tables, sample);
        add(&mut summary.samples, true);
        summary.weight = summary.weight.saturating_add(sample.weight);
        add(&mut summary.unverified, sample.trust == Trust::Unverified);
        add(&mut summary.cut, cut.is_some());
        stacks.insert((stack, cut));

        let group = group_by.of(tables, sample);
        let row = *row_of.entry((group, stack, cut)).or_insert_with(|| {
            folded.rows.push(Row {
                group,
                stack,
                cut,
                weight: 0,
            });
            folded.rows.len() - 1
        });
        let weight = &mut folded.rows[row].weight;
        *weight = weight.saturating_add(sample.weight);
    }
    summary.distinct_stacks = stacks.len() as u64;
    folded
}

/// One node of a [`Tree`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    /// The caller's node. Always smaller than the node's own id; the root is its own parent.
    pub(crate) parent: u32,
    /// What it shows: an id of whoever built the tree. Meaningless for the root.
    pub(crate) label: u32,
    /// The weight that ends here.
    pub(crate) own: u64,
}

/// Weights on a prefix tree of labels.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Parents stand before their children; node 0 is the root and no frame.
    pub(crate) nodes: Vec<Node>,
    children: HashMap<(u32, u32), u32>,
    /// Where a stack ended when it was added below a node, so that a caller shared by many
    /// stacks is walked once.
    known: HashMap<(u32, StackId), u32>,
}

impl Tree {
    /// The root of every tree.
    pub(crate) const ROOT: u32 = 0;

    pub(crate) fn new() -> Self {
        let root = Node {
            parent: Self::ROOT,
            label: 0,
            own: 0,
        };
        Self {
            nodes: vec![root],
            children: HashMap::new(),
            known: HashMap::new(),
        }
    }

    /// The node that shows `label` below `parent`.
    pub(crate) fn child(&mut self, parent: u32, label: u32) -> u32 {
        *self.children.entry((parent, label)).or_insert_with(|| {
            let id = u32::try_from(self.nodes.len()).expect("fewer than 2^32 nodes");
            self.nodes.push(Node {
                parent,
                label,
                own: 0,
            });
            id
        })
    }

    /// Adds a whole stack below `root`, with the label that `label_of` gives for each location.
    pub(crate) fn add(
        &mut self,
        tables: &Tables,
        root: u32,
        stack: StackId,
        weight: u64,
        label_of: impl Fn(LocationId) -> u32,
    ) {
        let mut path = Vec::new();
        let mut node = root;
        let mut next = Some(stack);
        while let Some(id) = next {
            if let Some(&known) = self.known.get(&(root, id)) {
                node = known;
                break;
            }
            path.push(id);
            next = tables.stacks[id.index()].parent;
        }
        for id in path.into_iter().rev() {
            node = self.child(node, label_of(tables.stacks[id.index()].location));
            self.known.insert((root, id), node);
        }
        let own = &mut self.nodes[node as usize].own;
        *own = own.saturating_add(weight);
    }

    /// The weight of each node with everything below it.
    pub(crate) fn totals(&self) -> Vec<u64> {
        let mut totals: Vec<u64> = self.nodes.iter().map(|node| node.own).collect();
        for id in (1..totals.len()).rev() {
            let parent = self.nodes[id].parent as usize;
            totals[parent] = totals[parent].saturating_add(totals[id]);
        }
        totals
    }

    /// Visits every frame with its depth (1 for the outermost), callers first, callees in the
    /// order of `rank` of their labels. Recursion would overflow on deep stacks, so there is none.
    pub(crate) fn walk(&self, rank: &[u32], mut visit: impl FnMut(u32, usize)) {
        let mut order: Vec<u32> = (1..).take(self.nodes.len() - 1).collect();
        let key = |id: u32| {
            let node = self.nodes[id as usize];
            (node.parent, rank[node.label as usize])
        };
        // Children of one parent side by side, the last one first: they are popped in order.
        order.sort_unstable_by_key(|&id| {
            let (parent, rank) = key(id);
            (parent, std::cmp::Reverse(rank))
        });
        let mut first = vec![0; self.nodes.len() + 1];
        for &id in &order {
            first[self.nodes[id as usize].parent as usize + 1] += 1;
        }
        for parent in 0..self.nodes.len() {
            first[parent + 1] += first[parent];
        }
        let children = |id: u32| &order[first[id as usize]..first[id as usize + 1]];
        let mut stack: Vec<(u32, usize)> = Vec::new();
        stack.extend(children(Self::ROOT).iter().map(|&id| (id, 1)));
        while let Some((id, depth)) = stack.pop() {
            visit(id, depth);
            stack.extend(children(id).iter().map(|&id| (id, depth + 1)));
        }
    }
}
