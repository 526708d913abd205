//! The census as JSON; the README tells what the fields are.

use std::collections::BTreeMap;

use onlooker_heap::census::{ArenaUse, Census, Sum, TypeCount};
use onlooker_heap::malloc::Heap;
use serde::Serialize;

use crate::heap;

#[derive(Serialize)]
pub(super) struct Report {
    pid: i32,
    python: String,
    pause_ns: Option<u64>,
    blocks_allocated: u64,
    raw_blocks: Option<u64>,
    objects_live: u64,
    inconsistent_pools: u64,
    absent_pools: u64,
    types: Vec<Type>,
    modules: Vec<Module>,
    rss: Rss,
    arenas: Arenas,
    blocks: Vec<Use>,
    size_classes: Vec<SizeClass>,
    gc: Vec<Interpreter>,
    gc_tracked: u64,
    gc_listed: Option<u64>,
    frozen: u64,
    garbage: Option<Garbage>,
    immortal: u64,
    interpreters: Vec<Share>,
    static_objects: Option<u64>,
    static_types: Option<Vec<Static>>,
    largest: Vec<Large>,
    malloc: Malloc,
    debug: Option<Debug>,
    left_out_bytes: u64,
    left_out: Vec<LeftOut>,
    swapped_bytes: u64,
}

#[derive(Serialize)]
struct Type {
    r#type: String,
    count: u64,
    own_bytes: u64,
    block_bytes: u64,
    gc_tracked: u64,
}

#[derive(Serialize)]
struct Garbage {
    objects: u64,
    own_bytes: u64,
    types: Vec<GarbageOf>,
}

#[derive(Serialize)]
struct GarbageOf {
    r#type: String,
    count: u64,
    own_bytes: u64,
}

#[derive(Serialize)]
struct Module {
    module: String,
    count: u64,
    own_bytes: u64,
}

#[derive(Serialize)]
struct Rss {
    total_bytes: u64,
    excess_bytes: u64,
    parts: Vec<Part>,
}

#[derive(Serialize)]
struct Part {
    part: &'static str,
    resident_bytes: u64,
}

#[derive(Serialize)]
struct Arenas {
    count: u64,
    total_bytes: u64,
    used_bytes: u64,
    sparse_count: u64,
    sparse_bytes: u64,
    sparse_pinned_by: Vec<PinnedBy>,
    found_by_scan: bool,
    each: Vec<Arena>,
}

#[derive(Serialize)]
struct Arena {
    address: u64,
    bytes: u64,
    used_bytes: u64,
    pinned_by: Option<String>,
}

#[derive(Serialize)]
struct PinnedBy {
    r#type: String,
    arenas: u64,
}

#[derive(Serialize)]
struct Use {
    r#use: &'static str,
    count: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct SizeClass {
    block_bytes: u32,
    used: u64,
    free: u64,
}

#[derive(Serialize)]
struct Interpreter {
    interpreter: i64,
    generations: Option<[u64; 3]>,
    permanent: Option<u64>,
    closed: bool,
    collecting: bool,
}

#[derive(Serialize)]
struct Share {
    interpreter: i64,
    arenas: Option<u64>,
    blocks: Option<u64>,
    block_bytes: Option<u64>,
    objects: Option<u64>,
}

#[derive(Serialize)]
struct Static {
    r#type: String,
    count: u64,
}

#[derive(Serialize)]
struct Large {
    r#type: String,
    address: u64,
    own_bytes: u64,
}

#[derive(Serialize)]
struct Malloc {
    chunks_used: u64,
    chunks_free: u64,
    unwalked_bytes: u64,
    reached_objects: u64,
}

#[derive(Serialize)]
struct LeftOut {
    what: &'static str,
    bytes: u64,
}

#[derive(Serialize)]
struct Debug {
    domains: BTreeMap<&'static str, Domain>,
    violations: Vec<Violation>,
}

#[derive(Serialize)]
struct Domain {
    count: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Violation {
    address: u64,
    side: &'static str,
    domain: Option<&'static str>,
    size: Option<u64>,
    r#type: Option<String>,
    object: Option<u64>,
    found: String,
}

/// By module of the type, most bytes first.
pub(super) fn modules(counts: &[TypeCount]) -> Vec<(String, Sum)> {
    let mut modules: BTreeMap<&str, Sum> = BTreeMap::new();
    for each in counts {
        let sum = modules.entry(&each.name.module).or_default();
        sum.count += each.count;
        sum.bytes += each.own_bytes;
    }
    let mut modules: Vec<_> = modules
        .into_iter()
        .map(|(name, sum)| (name.to_owned(), sum))
        .collect();
    modules.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.bytes));
    modules
}

/// The type that has most bytes in an arena; `None` where no type has any.
pub(super) fn pinned_by(census: &Census, arena: &ArenaUse) -> Option<String> {
    let name = census.names.get(arena.pinned_by as usize);
    name.map(ToString::to_string)
}

/// Arenas less than a tenth full: how many bytes they have, and the types that most of them hold.
pub(super) fn sparse(taken: &heap::Report) -> (u64, u64, Vec<(String, u64)>) {
    let census = &taken.census;
    let mut pinned: BTreeMap<String, u64> = BTreeMap::new();
    let (mut count, mut bytes) = (0, 0);
    for arena in census.arenas.iter().filter(|a| a.used_bytes * 10 < a.bytes) {
        count += 1;
        bytes += arena.bytes;
        let name = pinned_by(census, arena);
        *pinned
            .entry(name.unwrap_or_else(|| "unowned".to_owned()))
            .or_default() += 1;
    }
    let mut pinned: Vec<_> = pinned.into_iter().collect();
    pinned.sort_by_key(|(_, arenas)| std::cmp::Reverse(*arenas));
    (count, bytes, pinned)
}

pub(super) fn report(taken: &heap::Report) -> Report {
    let census = &taken.census;
    let pymalloc = &census.blocks.pymalloc;
    let chunks = &census.blocks.chunks;
    let used = chunks.iter().filter(|chunk| chunk.in_use).count() as u64;
    let (sparse_count, sparse_bytes, pinned) = sparse(taken);
    Report {
        pid: taken.pid,
        python: taken.python.clone(),
        pause_ns: taken.pause_ns,
        blocks_allocated: pymalloc.blocks(),
        raw_blocks: pymalloc.raw_blocks,
        objects_live: census.objects,
        inconsistent_pools: pymalloc.inconsistent().count() as u64,
        absent_pools: pymalloc.absent().count() as u64,
        types: census
            .counts
            .iter()
            .map(|each| Type {
                r#type: each.name.to_string(),
                count: each.count,
                own_bytes: each.own_bytes,
                block_bytes: each.block_bytes,
                gc_tracked: each.gc_tracked,
            })
            .collect(),
        modules: modules(&census.counts)
            .into_iter()
            .map(|(module, sum)| Module {
                module,
                count: sum.count,
                own_bytes: sum.bytes,
            })
            .collect(),
        rss: Rss {
            total_bytes: taken.resident_bytes,
            excess_bytes: taken.parts.excess_bytes,
            parts: taken
                .parts
                .bytes
                .iter()
                .map(|(part, resident_bytes)| Part {
                    part: part.name(),
                    resident_bytes: *resident_bytes,
                })
                .collect(),
        },
        arenas: Arenas {
            count: census.arenas.len() as u64,
            total_bytes: census.arenas.iter().map(|arena| arena.bytes).sum(),
            used_bytes: census.arenas.iter().map(|arena| arena.used_bytes).sum(),
            sparse_count,
            sparse_bytes,
            sparse_pinned_by: pinned
                .into_iter()
                .map(|(name, arenas)| PinnedBy {
                    r#type: name,
                    arenas,
                })
                .collect(),
            found_by_scan: pymalloc.scanned,
            each: census
                .arenas
                .iter()
                .map(|arena| Arena {
                    address: arena.start,
                    bytes: arena.bytes,
                    used_bytes: arena.used_bytes,
                    pinned_by: pinned_by(census, arena),
                })
                .collect(),
        },
        blocks: census
            .uses
            .iter()
            .map(|(what, sum)| Use {
                r#use: what.name(),
                count: sum.count,
                bytes: sum.bytes,
            })
            .collect(),
        size_classes: census
            .size_classes
            .iter()
            .map(|class| SizeClass {
                block_bytes: class.block_bytes,
                used: class.used,
                free: class.free,
            })
            .collect(),
        gc: census
            .collectors()
            .map(|each| Interpreter {
                interpreter: each.id,
                generations: each.lists.map(|l| l.generations.map(|list| list.count)),
                permanent: each.lists.map(|l| l.permanent.count),
                closed: each.lists.is_some_and(|l| l.all_closed()),
                collecting: each.lists.is_some_and(|l| l.collecting),
            })
            .collect(),
        gc_tracked: census.gc_tracked(),
        gc_listed: census.gc_listed(),
        frozen: census.frozen,
        garbage: census.garbage.as_ref().ok().map(garbage),
        immortal: census.immortal,
        interpreters: census
            .interpreters
            .iter()
            .map(|each| Share {
                interpreter: each.id,
                arenas: each.share.map(|share| share.arenas),
                blocks: each.share.map(|share| share.blocks),
                block_bytes: each.share.map(|share| share.block_bytes),
                objects: each.share.map(|share| share.objects),
            })
            .collect(),
        static_objects: census
            .statics
            .as_ref()
            .map(|all| all.iter().map(|(_, count)| count).sum()),
        static_types: census.statics.as_ref().map(|all| {
            all.iter()
                .map(|(name, count)| Static {
                    r#type: name.to_string(),
                    count: *count,
                })
                .collect()
        }),
        largest: census
            .largest
            .iter()
            .map(|each| Large {
                r#type: each.name.to_string(),
                address: each.addr.0,
                own_bytes: each.own_bytes,
            })
            .collect(),
        malloc: Malloc {
            chunks_used: used,
            chunks_free: chunks.len() as u64 - used,
            unwalked_bytes: census.heaps.iter().map(Heap::unwalked_bytes).sum(),
            reached_objects: census.reached.count,
        },
        debug: census.domains.as_ref().map(|domains| Debug {
            domains: domains
                .iter()
                .map(|(name, sum)| {
                    let domain = Domain {
                        count: sum.count,
                        bytes: sum.bytes,
                    };
                    (*name, domain)
                })
                .collect(),
            violations: violations(taken),
        }),
        left_out_bytes: taken.left_out.values().sum(),
        left_out: taken
            .left_out
            .iter()
            .map(|(what, bytes)| LeftOut {
                what: what.name(),
                bytes: *bytes,
            })
            .collect(),
        swapped_bytes: taken.swapped_bytes,
    }
}

fn garbage(of: &onlooker_heap::census::Garbage) -> Garbage {
    let types = of.types.iter().map(|each| GarbageOf {
        r#type: each.name.to_string(),
        count: each.count,
        own_bytes: each.own_bytes,
    });
    Garbage {
        objects: of.objects,
        own_bytes: of.own_bytes,
        types: types.collect(),
    }
}

fn violations(taken: &heap::Report) -> Vec<Violation> {
    use onlooker_heap::guards::{Domain, Side};
    let census = &taken.census;
    let damage = census.damage.iter().map(|each| {
        let violation = &each.violation;
        let of = each.object.map(|(_, of)| of as usize);
        Violation {
            address: violation.addr.0,
            side: match violation.side {
                Side::Before => "before",
                Side::Behind => "behind",
            },
            domain: violation.domain.map(Domain::name),
            size: violation.len,
            r#type: of
                .and_then(|of| census.names.get(of))
                .map(ToString::to_string),
            object: each.object.map(|(object, _)| object.0),
            found: violation.found.iter().map(|b| format!("{b:02x}")).collect(),
        }
    });
    damage.collect()
}
