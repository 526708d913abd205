//! Which functions were seen to be called from which call sites.
//!
//! A copy of a stack that moves may have halves of two frames: a frame is filled word by word while
//! it is pushed (`_PyFrame_Initialize`, `Include/internal/pycore_frame.h`), and its header and its
//! value stack lie in different lines of the cache, which are copied one after the other. Halves
//! that do not belong together make a link that the program never makes, from a call site that was
//! seen to call something else. So such a link must stand still to be believed, while one that was
//! seen before needs no second copy.

use crate::memory::RemoteAddr;

/// Call sites of one place in the table compete for it.
pub(super) const PLACES: usize = 1 << 10;
/// So many links of a place are kept: a call site may call several functions.
const WAYS: usize = 4;
/// A link counts for so many calls of ours, then it is as if never seen.
const EXPIRES_AFTER: u64 = 1 << 12;
/// One that was seen so lately need not be noted again.
const FRESH_FOR: u64 = 1 << 10;
/// 2^64 divided by the golden ratio: neighbours come to lie far from each other.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A call, as two frames show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    /// The caller's instruction.
    pub(super) site: u64,
    /// The function that is called.
    pub(super) function: RemoteAddr,
    /// The code of the frame that was pushed for it.
    pub(super) code: RemoteAddr,
}

/// What is known of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It was seen; whether that is so long ago that it is worth to be noted again.
    Before { long_ago: bool },
    /// Its call site was, but with other functions.
    Otherwise,
    /// Nothing.
    Never,
}

/// Links that were seen.
#[derive(Debug)]
pub(super) struct Links {
    /// Each with the call of ours that saw it.
    places: Box<[[(Link, u64); WAYS]]>,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            places: vec![[(Link::default(), 0); WAYS]; PLACES].into(),
        }
    }
}

impl Links {
    /// What is known of a link in call `now`.
    pub(super) fn look(&self, link: Link, now: u64) -> Seen {
        let mut found = Seen::Never;
        for (known, seen) in &self.places[place(link.site)] {
            let age = now - seen;
            if known.site != link.site || age > EXPIRES_AFTER {
                continue;
            }
            if *known == link {
                return Seen::Before {
                    long_ago: age > FRESH_FOR,
                };
            }
            found = Seen::Otherwise;
        }
        found
    }

    /// Notes that it was seen in call `now`.
    pub(super) fn note(&mut self, link: Link, now: u64) {
        let ways = &mut self.places[place(link.site)];
        let same = ways.iter().position(|(known, _)| *known == link);
        let oldest = || (0..WAYS).min_by_key(|at| ways[*at].1).unwrap_or_default();
        let at = same.unwrap_or_else(oldest);
        ways[at] = (link, now);
    }
}

/// The place of a call site in a table of [`PLACES`].
pub(super) fn place(site: u64) -> usize {
    (site.wrapping_mul(SPREAD) >> 32) as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(function: u64) -> Link {
        Link {
            site: 0x7f10_0042,
            function: RemoteAddr(0x7f20_0000 + 0x10 * function),
            code: RemoteAddr(0x7f30_0000 + 0x10 * function),
        }
    }

    #[test]
    fn a_link_is_told_from_others_of_its_call_site() {
        let mut links = Links::default();
        assert_eq!(links.look(link(0), 1), Seen::Never);
        links.note(link(0), 1);
        assert_eq!(links.look(link(0), 2), Seen::Before { long_ago: false });
        assert_eq!(links.look(link(1), 2), Seen::Otherwise);
        // The function's place with the code of another.
        let half = Link {
            code: link(1).code,
            ..link(0)
        };
        assert_eq!(links.look(half, 2), Seen::Otherwise);
        let elsewhere = Link {
            site: 0x7f10_0044,
            ..link(0)
        };
        assert_eq!(links.look(elsewhere, 2), Seen::Never);
    }

    #[test]
    fn the_last_links_of_a_call_site_are_kept() {
        let mut links = Links::default();
        for number in 0..=WAYS as u64 {
            links.note(link(number), number + 1);
        }
        let now = WAYS as u64 + 1;
        assert_eq!(links.look(link(0), now), Seen::Otherwise);
        let seen = |number| links.look(link(number), now);
        assert!((1..=WAYS as u64).all(|number| seen(number) == Seen::Before { long_ago: false }));
    }

    #[test]
    fn a_link_that_was_not_seen_for_long_is_forgotten() {
        let mut links = Links::default();
        links.note(link(0), 1);
        let old = 1 + FRESH_FOR;
        assert_eq!(links.look(link(0), old), Seen::Before { long_ago: false });
        assert_eq!(
            links.look(link(0), old + 1),
            Seen::Before { long_ago: true }
        );
        let last = 1 + EXPIRES_AFTER;
        assert_eq!(links.look(link(1), last), Seen::Otherwise);
        assert_eq!(links.look(link(0), last + 1), Seen::Never);
        assert_eq!(links.look(link(1), last + 1), Seen::Never);
    }
}
