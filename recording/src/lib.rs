//! Sample tables and the `.olk` stream.
//!
//! [`tables`] says what a recording is made of, [`mod@write`] appends it to a stream while a
//! process is being watched, [`read`] gets back what is readable of a stream. The crate knows
//! neither processes nor remote addresses, and no report.
//!
//! ```
//! use onlooker_recording::tables::{Header, Totals};
//! use onlooker_recording::{read, write};
//!
//! let header = Header { program: "shop.py".to_owned(), ..Header::default() };
//! let mut writer = write::Writer::new(Vec::new(), &header)?;
//! let name = writer.string("checkout");
//! let bytes = writer.finish(&Totals::default())?;
//!
//! let loaded = read::read(&bytes[..])?;
//! assert!(loaded.warnings.is_empty());
//! assert_eq!(loaded.tables.string(name), "checkout");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The format, version 1
//!
//! Integers outside of messages are little-endian.
//!
//! | bytes | start of the stream |
//! |---|---|
//! | 8 | magic number `8B 4F 4C 4B 0D 0A 1A 0A` (`\x8BOLK\r\n\x1A\n`) |
//! | 4 | format version |
//!
//! Blocks follow, one after the other, at least one a second:
//!
//! | bytes | block |
//! |---|---|
//! | 8 | marker `F1 6F 6C 6B 00 B1 6B 9E` |
//! | 4 | sequence number, from 0 |
//! | 4 | length of the payload, at most 4 MiB and 64 KiB |
//! | 4 | length of the payload before compression, at most 4 MiB |
//! | 4 | CRC-32 of the payload |
//! | 4 | CRC-32 of the four numbers above |
//! | … | payload: one zstd frame, a message `Block` of `proto/olk.proto` |
//!
//! A message holds the rows that are new in each table since the last block (strings, code
//! locations, stacks, processes, threads, mappings, and in the first block the header), with the
//! id of the first of each; the samples and resident sizes since the last block, by column; and
//! the counts so far. A column that is the same in every row is stored once or not at all.
//! Instants are stored in thousandths of the sampling period. So a sample of a stack that is
//! known, from a clock that is nearly on time, takes a byte or two, and a share of what a block
//! costs. The last block is marked as such, and its counts are the final ones.
//!
//! # What survives damage
//!
//! * **A writer that is killed** leaves a stream that ends somewhere. Whole blocks are read, the
//!   counts are those of the last one, and [`Warning::Unfinished`](read::Warning::Unfinished)
//!   says so.
//! * **A damaged block** is found by its checksums and passed over up to the next marker at
//!   which a block with right checksums begins. A block is taken whole or not at all.
//! * **Rows are written twice**: when they are new, and again 32 blocks later or before the
//!   recording ends, always in another block. The reader resolves ids when it has read
//!   everything, so that either copy serves all samples before and after it. Damage that does
//!   not reach both copies loses the samples of the damaged blocks and nothing else. Disk pays
//!   for this with twice the size of the tables, memory with the rows of the last 32 blocks.
//! * **What still cannot be resolved** is dropped and counted
//!   ([`Warning::Unresolved`](read::Warning::Unresolved)): a stack is shown whole or not at all.
//!   Where rows are missing, ids in the tables read differ from those that the writer gave.
//! * **Nothing is trusted.** Lengths are bounded before memory is allocated for them, content
//!   is not decompressed beyond the length in the block's head, a parent of a stack always has a
//!   smaller id, and all that is kept has a limit ([`read::read_within`]).
//!
//! A file of a newer version is refused as a whole. Within a version, messages may get fields
//! that an older reader can do without.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod columns;
mod frame;
mod limits;
mod proto;
pub mod read;
pub mod tables;
pub mod write;

pub use columns::InvalidValue;
pub use frame::FORMAT_VERSION;
