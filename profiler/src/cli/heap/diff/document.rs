//! A difference as JSON; the README tells what the fields are.

use onlooker_heap::diff::{Change, Difference};
use onlooker_heap::image::Meta;
use serde::Serialize;

use crate::heap::Report;

#[derive(Serialize)]
pub(super) struct Document {
    pub(super) a: Image,
    pub(super) b: Image,
    pub(super) same_process: bool,
    pub(super) notes: Vec<String>,
    pub(super) objects: Objects,
    pub(super) types: Vec<Type>,
    pub(super) modules: Vec<Module>,
    pub(super) arenas: Option<Vec<Arena>>,
}

#[derive(Serialize)]
pub(super) struct Image {
    pub(super) pid: i32,
    pub(super) python: String,
    pub(super) command: Vec<String>,
    pub(super) taken_unix_ns: u64,
    pub(super) resident_bytes: u64,
}

#[derive(Serialize)]
pub(super) struct Objects {
    #[serde(flatten)]
    pub(super) change: Row,
    pub(super) appeared: Option<u64>,
    pub(super) gone: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct Type {
    pub(super) r#type: String,
    #[serde(flatten)]
    pub(super) change: Row,
    pub(super) appeared: Option<u64>,
    pub(super) gone: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct Module {
    pub(super) module: String,
    #[serde(flatten)]
    pub(super) change: Row,
}

#[derive(Serialize)]
pub(super) struct Arena {
    pub(super) address: u64,
    pub(super) blocks: [u64; 2],
    pub(super) used_bytes: [u64; 2],
    pub(super) blocks_gained: i64,
    pub(super) bytes_gained: i64,
}

/// Both figures, and what was gained.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) count: [u64; 2],
    pub(super) own_bytes: [u64; 2],
    pub(super) count_gained: i64,
    pub(super) bytes_gained: i64,
}

impl From<Change> for Row {
    fn from(change: Change) -> Self {
        Self {
            count: change.count,
            own_bytes: change.bytes,
            count_gained: change.count_gained(),
            bytes_gained: change.bytes_gained(),
        }
    }
}

impl Document {
    pub(super) fn new(
        metas: [&Meta; 2],
        reports: &[Report; 2],
        same_process: bool,
        notes: Vec<String>,
        difference: Difference,
    ) -> Self {
        let [a, b] = [0, 1].map(|side| Image {
            pid: metas[side].process.pid,
            python: metas[side].process.python.clone(),
            command: metas[side].process.command.clone(),
            taken_unix_ns: metas[side].taken_unix_ns,
            resident_bytes: reports[side].resident_bytes,
        });
        let types = &difference.types;
        let sum = |of: fn(&Change) -> [u64; 2]| {
            [0, 1].map(|side| types.iter().map(|each| of(&each.change)[side]).sum())
        };
        let all = Change {
            count: sum(|change| change.count),
            bytes: sum(|change| change.bytes),
        };
        let moves = || types.iter().filter_map(|each| each.moves);
        Self {
            a,
            b,
            same_process,
            notes,
            objects: Objects {
                change: all.into(),
                appeared: same_process.then(|| moves().map(|moves| moves.appeared).sum()),
                gone: same_process.then(|| moves().map(|moves| moves.gone).sum()),
            },
            types: difference
                .types
                .iter()
                .map(|each| Type {
                    r#type: each.name.to_string(),
                    change: each.change.into(),
                    appeared: each.moves.map(|moves| moves.appeared),
                    gone: each.moves.map(|moves| moves.gone),
                })
                .collect(),
            modules: difference
                .modules
                .into_iter()
                .map(|(module, change)| Module {
                    module,
                    change: change.into(),
                })
                .collect(),
            arenas: difference.arenas.map(|arenas| {
                let arena = |(address, change): (u64, Change)| Arena {
                    address,
                    blocks: change.count,
                    used_bytes: change.bytes,
                    blocks_gained: change.count_gained(),
                    bytes_gained: change.bytes_gained(),
                };
                arenas.into_iter().map(arena).collect()
            }),
        }
    }
}
