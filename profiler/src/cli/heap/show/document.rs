//! Objects and their referrers as JSON; the README tells what the fields are.

use onlooker_heap::show::{Heap, Referrer, Referrers, Source, Subject};
use serde::Serialize;

use crate::heap::Report;

#[derive(Serialize)]
pub(super) struct Document {
    pub(super) pid: i32,
    pub(super) python: String,
    /// Objects of the type.
    pub(super) count: u64,
    pub(super) objects: Vec<Object>,
}

#[derive(Serialize)]
pub(super) struct Object {
    pub(super) address: u64,
    pub(super) r#type: String,
    pub(super) block_bytes: u64,
    pub(super) own_bytes: u64,
    pub(super) reference_count: Option<u64>,
    pub(super) repr: String,
    pub(super) referrers: Vec<From>,
    pub(super) referrers_exact: u64,
    pub(super) referrers_conservative: u64,
}

#[derive(Serialize)]
pub(super) struct From {
    /// `object`, `block` or `memory`.
    pub(super) kind: &'static str,
    pub(super) address: u64,
    pub(super) r#type: Option<String>,
    pub(super) how: String,
    pub(super) conservative: bool,
}

impl Document {
    pub(super) fn new<B: AsRef<[u8]>>(
        report: &Report,
        heap: &Heap<'_, B>,
        count: u64,
        subjects: impl Iterator<Item = (Subject, Referrers)>,
    ) -> Self {
        Self {
            pid: report.pid,
            python: report.python.clone(),
            count,
            objects: subjects
                .map(|(subject, referrers)| Object {
                    address: subject.addr.0,
                    r#type: subject.type_name,
                    block_bytes: subject.block_bytes,
                    own_bytes: subject.own_bytes,
                    reference_count: subject.reference_count,
                    repr: subject.repr,
                    referrers: referrers
                        .shown
                        .iter()
                        .map(|each| from(heap, each))
                        .collect(),
                    referrers_exact: referrers.exact,
                    referrers_conservative: referrers.conservative,
                })
                .collect(),
        }
    }
}

fn from<B: AsRef<[u8]>>(heap: &Heap<'_, B>, referrer: &Referrer) -> From {
    let (kind, address, of) = match referrer.source {
        Source::Object(object) => ("object", object.addr, Some(heap.type_name(object.of))),
        Source::Block(block) => ("block", block.addr, None),
        Source::Memory(addr) => ("memory", addr, None),
    };
    From {
        kind,
        address: address.0,
        r#type: of,
        how: heap.describe_how(referrer.how),
        conservative: referrer.how.is_conservative(),
    }
}
