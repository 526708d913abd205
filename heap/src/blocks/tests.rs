//! Numbers, parts and marks of a few blocks.

use super::marks::USES;
use super::*;
use crate::pymalloc::{Pool, PoolState};
use onlooker_unwinder::layout::Minor;

fn blocks() -> Blocks {
    let pool = |addr, carved| Pool {
        addr: RemoteAddr(addr),
        arena_index: 0,
        size: 64,
        carved,
        count: carved,
        state: PoolState::Whole,
    };
    let pymalloc = Pymalloc {
        pools: vec![pool(0x10000, 2), pool(0x14000, 0), pool(0x18000, 1)],
        ..Pymalloc::default()
    };
    let chunks = vec![Chunk {
        addr: RemoteAddr(0x40010),
        bytes: 1024,
        in_use: true,
    }];
    Blocks::new(pymalloc, chunks, Geometry::of(Minor::new(3, 12)))
}

#[test]
fn every_block_has_one_number_and_its_place() {
    let blocks = blocks();
    let all: Vec<_> = blocks.iter().collect();
    let indices: Vec<_> = all.iter().map(|block| block.index).collect();
    assert_eq!(indices, [0, 1, 2, 3]);
    assert_eq!(all[2].addr, RemoteAddr(0x18000 + POOL_HEADER_BYTES));
    for block in all {
        assert_eq!(blocks.locate(block.addr), Some(block));
        assert_eq!(blocks.get(block.index), Some(block));
    }
    assert_eq!(blocks.get(4), None);
    assert!(blocks.is_chunk(3) && !blocks.is_chunk(2));
}

#[test]
fn parts_are_all_of_it_and_types_get_their_numbers() {
    for count in 1..4 {
        let mut blocks = blocks();
        let parts = blocks.split(count);
        assert!(parts.len() <= count);
        assert_eq!(parts.iter().map(|part| part.pools.len()).sum::<usize>(), 3);
        let mut many = Vec::new();
        for mut part in parts {
            for index in part.first..part.first + part.marks.len() as u32 {
                part.set(index, Use::Object, index);
            }
            many.extend(part.finish(&[5, 70000, 0]));
        }
        blocks.join(many);
        let types = [0, 1, 2].map(|index| blocks.type_of(index));
        assert_eq!(types, [Some(5), Some(70000), Some(0)]);
        assert_eq!(blocks.use_of(3), Use::Free);
    }
}

#[test]
fn a_mark_is_read_as_it_was_set_whatever_the_number_of_the_type() {
    let mut blocks = blocks();
    for what in USES {
        blocks.set(1, what, NO_TYPE);
        assert_eq!((blocks.use_of(1), blocks.type_of(1)), (what, None));
    }
    for of in [0, 1, 65518, 65519, 65520, 1 << 20] {
        blocks.set(1, Use::Object, of);
        assert_eq!(
            (blocks.use_of(1), blocks.type_of(1)),
            (Use::Object, Some(of))
        );
    }
    assert_eq!(blocks.use_of(0), Use::Free);
}
