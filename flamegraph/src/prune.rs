//! What of a tree is drawn.
//!
//! inferno wants every stack as a line of text, all at once, and a browser wants a picture that
//! it can hold. Both are far from given: one recursion 5,000 frames deep that is sampled at every
//! depth would be 25 million names. So the tree is cut down before it becomes text, and whatever
//! is cut away stays as weight.

use crate::collapsed::Path;
use crate::fold::Tree;
use crate::labels::Labels;

/// Frames narrower than this share of the picture are not drawn, as in py-spy: about one pixel.
const MIN_SHARE: f64 = 0.001;

/// Deeper frames are added up in one. Browsers and rasterisers give up at 32,767 pixels of
/// height, and a frame is 16 high; CPython's own limit for recursion is 1,000.
const MAX_DEPTH: usize = 2_000;

/// Most frames that a browser zooms smoothly, with a margin.
const MAX_FRAMES: usize = 50_000;

/// Most text that is handed to inferno, in bytes.
const MAX_TEXT: usize = 128 << 20;

/// Stacks to draw, sorted, each with what ends there or is too narrow below it.
pub(crate) struct Drawing {
    pub(crate) lines: Vec<(String, u64)>,
}

/// Chooses what is drawn: everything wide enough, and what is wide enough grows until the picture
/// is of a size that can be used. Empty only if the tree has no weight.
pub(crate) fn drawing(tree: &Tree, labels: &Labels) -> Drawing {
    let totals = tree.totals();
    let whole = totals[Tree::ROOT as usize];
    if whole == 0 {
        return Drawing { lines: Vec::new() };
    }
    let shape = Shape::new(tree, labels, totals);
    let mut least = ((whole as f64 * MIN_SHARE) as u64).max(1);
    while !shape.fits(least) {
        least = least.saturating_mul(2);
    }
    Drawing {
        lines: shape.lines(least),
    }
}

struct Shape<'a> {
    tree: &'a Tree,
    labels: &'a Labels,
    totals: Vec<u64>,
    depths: Vec<usize>,
    /// Bytes of the line that ends at a node.
    lengths: Vec<usize>,
}

impl<'a> Shape<'a> {
    fn new(tree: &'a Tree, labels: &'a Labels, totals: Vec<u64>) -> Self {
        let mut depths = vec![0; tree.nodes.len()];
        let mut lengths = vec![0; tree.nodes.len()];
        for (id, node) in tree.nodes.iter().enumerate().skip(1) {
            let parent = node.parent as usize;
            depths[id] = depths[parent] + 1;
            lengths[id] = lengths[parent] + labels.texts[node.label as usize].len() + 1;
        }
        Self {
            tree,
            labels,
            totals,
            depths,
            lengths,
        }
    }

    /// A node's callers are at least as wide as itself, so they are drawn if it is.
    fn is_drawn(&self, id: usize, least: u64) -> bool {
        self.totals[id] >= least && self.depths[id] <= MAX_DEPTH
    }

    /// What ends at each node that is drawn, or is not drawn below it.
    fn rests(&self, least: u64) -> Vec<u64> {
        let mut rests: Vec<u64> = self.tree.nodes.iter().map(|node| node.own).collect();
        for (id, node) in self.tree.nodes.iter().enumerate().skip(1) {
            let parent = node.parent as usize;
            // What is too deep has a frame of its own and does not end at its caller.
            if !self.is_drawn(id, least) && self.depths[id] <= MAX_DEPTH {
                rests[parent] = rests[parent].saturating_add(self.totals[id]);
            }
        }
        rests
    }

    fn fits(&self, least: u64) -> bool {
        let rests = self.rests(least);
        let (mut frames, mut text) = (0_usize, 0_usize);
        for id in (1..self.tree.nodes.len()).filter(|&id| self.is_drawn(id, least)) {
            frames += 1;
            if rests[id] > 0 {
                text = text.saturating_add(self.lengths[id]);
            }
        }
        frames <= MAX_FRAMES && text <= MAX_TEXT
    }

    fn lines(&self, least: u64) -> Vec<(String, u64)> {
        let rests = self.rests(least);
        let mut lines = Vec::new();
        let narrow = rests[Tree::ROOT as usize];
        if narrow > 0 {
            lines.push(("[too narrow to draw]".to_owned(), narrow));
        }
        let mut path = Path::default();
        self.tree.walk(&self.labels.ranks(), |id, depth| {
            let id = id as usize;
            if !self.is_drawn(id, least) {
                return;
            }
            let node = self.tree.nodes[id];
            path.enter(depth, &self.labels.texts[node.label as usize]);
            if rests[id] > 0 {
                lines.push((path.text.clone(), rests[id]));
            }
            let deeper = self.totals[id].saturating_sub(node.own);
            if depth == MAX_DEPTH && deeper > 0 {
                let stack = format!("{};[more than {MAX_DEPTH} frames deep]", path.text);
                lines.push((stack, deeper));
            }
        });
        lines
    }
}
