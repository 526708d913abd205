//! One list, followed from element to element.
//!
//! A list that changes while it is copied breaks somewhere: an element does not point back to the
//! one before. The walk keeps what it has, asks for the memory around the break, and goes on from
//! an element before it.

use onlooker_unwinder::memory::RemoteAddr;

use super::links::Links;
use super::{LINK_MASK, is_absent, link};
use crate::space::Space;

/// Elements before a break that are given up for another try; more if that did not help.
const BEFORE: usize = 16;
/// The smallest object with links: these, its count and its type.
const SMALLEST_BYTES: u64 = 32;

/// A list and the elements of it that were met.
#[derive(Clone, Debug)]
pub(crate) struct Walked {
    head: u64,
    /// Links of objects.
    pub(crate) elements: Links,
    /// Whether it came back to its head, each element pointing back to the one before.
    pub(crate) closed: bool,
    before: usize,
    stuck_at: usize,
}

impl Walked {
    pub(super) fn new<B: AsRef<[u8]>>(space: &Space<B>, head: u64) -> Self {
        let mut this = Self {
            head,
            elements: Links::default(),
            closed: false,
            before: BEFORE,
            stuck_at: 0,
        };
        this.go_on(space);
        this
    }

    fn last(&self) -> u64 {
        self.elements.last().unwrap_or(self.head)
    }

    fn go_on<B: AsRef<[u8]>>(&mut self, space: &Space<B>) {
        // Memory of several instants may lead in a circle.
        let most = space.len_bytes() / SMALLEST_BYTES;
        let mut before = self.last();
        while let Some(node) = link(space, before, 0) {
            if node == self.head & LINK_MASK {
                self.closed = true;
                return;
            }
            if !Links::can_be(node)
                || link(space, node, 8) != Some(before & LINK_MASK)
                || self.elements.len() as u64 >= most
            {
                return;
            }
            self.elements.push(node);
            before = node;
        }
    }

    /// What is worth to be copied again: around both sides of the break. Nothing where the list
    /// leads into memory that is swapped out or was left out, for that does not come.
    pub(super) fn wanted<B: AsRef<[u8]>>(&self, space: &Space<B>) -> Vec<RemoteAddr> {
        if self.closed {
            return Vec::new();
        }
        let before = self.last();
        let next = link(space, before, 0);
        if is_absent(space, before) || next.is_some_and(|next| is_absent(space, next)) {
            return Vec::new();
        }
        let mut wanted = vec![RemoteAddr(before)];
        wanted.extend(next.map(RemoteAddr));
        wanted
    }

    /// Goes on after what it wanted was copied again.
    pub(super) fn again<B: AsRef<[u8]>>(&mut self, space: &Space<B>) {
        if self.closed {
            return;
        }
        self.elements
            .truncate(self.elements.len().saturating_sub(self.before));
        self.go_on(space);
        let is_stuck = self.elements.len() <= self.stuck_at;
        self.before = if is_stuck {
            self.before.saturating_mul(2)
        } else {
            BEFORE
        };
        self.stuck_at = self.stuck_at.max(self.elements.len());
    }
}
