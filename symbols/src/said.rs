//! What code objects say, kept once for all that say the same.
//!
//! A program that compiles its templates again and again makes new code objects of them all the
//! time, but no new names: what is kept of these grows with what is distinct.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::LineTable;
use crate::names::CodeId;

/// Beyond so many, what no code object says that is still kept is dropped.
const MAX_KEPT: usize = 1 << 16;

/// Everything that a code object says about itself.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Said {
    pub(crate) name: Arc<str>,
    pub(crate) filename: Arc<str>,
    pub(crate) first_line: i32,
    /// `None` where it could not be read.
    pub(crate) lines: Option<LineTable>,
}

/// All that was said by the code objects of one process.
#[derive(Debug, Default)]
pub(crate) struct AllSaid {
    ids: FxHashMap<Arc<Said>, CodeId>,
    next_id: u64,
}

impl AllSaid {
    /// What is kept of it, and the id that stands for it.
    pub(crate) fn intern(&mut self, said: Said) -> (Arc<Said>, CodeId) {
        if let Some((kept, id)) = self.ids.get_key_value(&said) {
            return (Arc::clone(kept), *id);
        }
        let (kept, id) = (Arc::new(said), CodeId(self.next_id));
        self.next_id += 1;
        self.ids.insert(Arc::clone(&kept), id);
        (kept, id)
    }

    /// Drops what nobody else holds, when there is much.
    pub(crate) fn evict(&mut self) {
        if self.ids.len() > MAX_KEPT {
            self.ids.retain(|said, _| Arc::strong_count(said) > 1);
        }
    }
}
