//! Where `tracemalloc` keeps what, in 3.8 – 3.15.
//!
//! x86-64, release builds with the lock. From the sources: `Modules/hashtable.h` and
//! `Modules/_tracemalloc.c` (3.8), `Include/internal/pycore_hashtable.h` and
//! `Modules/_tracemalloc.c` (3.9 – 3.12), `pycore_tracemalloc.h` and `Python/tracemalloc.c`
//! (3.13+). `tests/tracemalloc.rs` compares what is read by them with the interpreter's own
//! answer on every version.

use onlooker_unwinder::layout::Minor;

/// `_Py_hashtable_t`: entries, number of buckets, bucket array. The order is the same in all
/// versions, but 3.8 counts buckets first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableLayout {
    pub(super) entries: u64,
    pub(super) buckets: u64,
    pub(super) array: u64,
    /// Bytes that must be read to see all of it.
    pub(super) bytes: u32,
}

/// How the key and the value lie in an entry behind `next` and `key_hash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryLayout {
    /// 3.8: `key_size` bytes, then the value itself, unaligned. Of traces the key is a pointer,
    /// and once any domain but 0 was used a pointer and a domain.
    Inline,
    /// 3.9+: two pointers.
    Pointers,
}

/// What `frame_t.filename` points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filename {
    /// A `str`.
    Object,
    /// 3.15: UTF-8 that ends with a NUL, so that no object is touched without the lock.
    Utf8,
}

/// The structures of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) table: TableLayout,
    pub(super) entry: EntryLayout,
    pub(super) filename: Filename,
    /// `traceback_t.total_nframe`, the frames before they were cut off (3.9+).
    pub(super) has_total: bool,
}

impl Format {
    pub(super) fn of(version: Minor) -> Self {
        let old = version < Minor::new(3, 9);
        Self {
            table: if old { TABLE_38 } else { TABLE_39 },
            entry: if old {
                EntryLayout::Inline
            } else {
                EntryLayout::Pointers
            },
            filename: if version >= Minor::new(3, 15) {
                Filename::Utf8
            } else {
                Filename::Object
            },
            has_total: !old,
        }
    }
}

const TABLE_38: TableLayout = TableLayout {
    buckets: 0,
    entries: 8,
    array: 16,
    bytes: 72,
};

const TABLE_39: TableLayout = TableLayout {
    entries: 0,
    buckets: 8,
    array: 16,
    bytes: 80,
};

/// 3.8: `key_size` and `data_size`, behind `buckets`.
pub(super) const KEY_BYTES_38: u64 = 24;
pub(super) const DATA_BYTES_38: u64 = 32;
/// 3.9+: `get_entry_func`, `hash_func`, `compare_func`, `key_destroy_func`,
/// `value_destroy_func`, `alloc.malloc`, `alloc.free`; the two destroy functions may be NULL.
pub(super) const HASH_FUNCTION: u64 = 32;
pub(super) const COMPARE_FUNCTION: u64 = 40;
pub(super) const FUNCTIONS_39: [u64; 5] = [24, HASH_FUNCTION, COMPARE_FUNCTION, 64, 72];
/// 3.8: `hash_func`, `compare_func`, `alloc.malloc`, `alloc.free`.
pub(super) const FUNCTIONS_38: [u64; 4] = [40, 48, 56, 64];
/// `HASHTABLE_MIN_SIZE`.
pub(super) const MIN_BUCKETS: u64 = 16;

/// An entry: `next`, `key_hash`, then key and value.
pub(super) const ENTRY_NEXT: u64 = 0;
pub(super) const ENTRY_HASH: u64 = 8;
pub(super) const ENTRY_KEY: u64 = 16;

/// `trace_t`: `size`, `traceback`.
pub(super) const TRACE_BYTES: u64 = 16;
pub(super) const TRACE_TRACEBACK: u64 = 8;

/// `traceback_t`: `hash`, `nframe`, `total_nframe`, frames. In 3.8 `nframe` is an `int`, of
/// which the lower half is enough.
pub(super) const TRACEBACK_FRAMES: u64 = 8;
pub(super) const TRACEBACK_TOTAL: u64 = 10;
pub(super) const TRACEBACK_HEAD_BYTES: u64 = 12;
/// `frame_t` is packed: `filename`, `lineno`.
pub(super) const FRAME_BYTES: u64 = 12;
pub(super) const FRAME_LINE: u64 = 8;

/// `struct _PyTraceMalloc_Config`: `initialized`, `tracing`, `max_nframe`, all `int`.
pub(super) const CONFIG_INITIALIZED: u64 = 0;
pub(super) const CONFIG_TRACING: u64 = 4;
pub(super) const CONFIG_MAX_FRAMES: u64 = 8;
pub(super) const CONFIG_BYTES: u32 = 12;
/// `MAX_NFRAME` (`UINT16_MAX`).
pub(super) const MAX_FRAMES: u32 = 0xffff;

/// `struct _tracemalloc_runtime_state` (3.12+): the configuration first.
pub(super) const STATE_TRACED: u64 = 144;
pub(super) const STATE_PEAK: u64 = 152;
pub(super) const STATE_FILENAMES: u64 = 160;
pub(super) const STATE_TRACEBACKS: u64 = 176;
pub(super) const STATE_TRACES: u64 = 184;
pub(super) const STATE_DOMAINS: u64 = 192;
pub(super) const STATE_BYTES: u64 = 200;
