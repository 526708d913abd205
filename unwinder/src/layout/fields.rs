//! Fields that no GIL build from 3.8 to 3.15 moves (`Include/object.h`, `Include/cpython/*.h`).
//! A free-threaded build moves them all: they then become part of the table.

use super::Offset;

/// `PyObject.ob_type`.
pub const OB_TYPE: Offset = 8;
/// `PyVarObject.ob_size`.
pub const OB_SIZE: Offset = 16;
/// Size of a `PyVarObject` header.
pub const VAR_OBJECT_BYTES: u64 = 24;
/// `PyASCIIObject.length`.
pub const STR_LENGTH: Offset = 16;
/// `PyASCIIObject.hash`.
pub const STR_HASH: Offset = 24;
/// `PyASCIIObject.state`: interned 0–1, kind 2–4, compact 5, ascii 6.
pub const STR_STATE: Offset = 32;
/// `PyBytesObject.ob_sval`.
pub const BYTES_DATA: Offset = 32;
/// `PyLongObject`: first digit.
pub const INT_DIGITS: Offset = 24;
/// `PyDictObject.ma_keys`.
pub const DICT_KEYS: Offset = 32;
/// `PyDictObject.ma_values`.
pub const DICT_VALUES: Offset = 40;
/// `PyModuleObject.md_dict` (`Include/internal/pycore_moduleobject.h`).
pub const MODULE_DICT: Offset = 16;
/// `PyListObject.ob_item`.
pub const LIST_ITEMS: Offset = 24;
/// `PySetObject.mask`, `.table`.
pub const SET_MASK: Offset = 32;
/// `PySetObject.table`: entries of 16 bytes, key first.
pub const SET_TABLE: Offset = 40;
/// `PyTypeObject.tp_name`, a C string.
pub const TYPE_NAME: Offset = 24;
/// `PyTypeObject.tp_basicsize`.
pub const TYPE_BASIC_SIZE: Offset = 32;
/// `PyTypeObject.tp_flags`.
pub const TYPE_FLAGS: Offset = 168;
/// `PyTypeObject.tp_dictoffset`.
pub const TYPE_DICT_OFFSET: Offset = 288;
/// Bytes of a type that names and attributes need.
pub const TYPE_BYTES: u64 = 296;
/// `Py_TPFLAGS_INLINE_VALUES` (3.13+).
pub const FLAG_INLINE_VALUES: u64 = 1 << 2;
/// `Py_TPFLAGS_MANAGED_DICT` (3.11+).
pub const FLAG_MANAGED_DICT: u64 = 1 << 4;
/// `Py_TPFLAGS_LONG_SUBCLASS`.
pub const FLAG_INT: u64 = 1 << 24;
/// `Py_TPFLAGS_LIST_SUBCLASS`.
pub const FLAG_LIST: u64 = 1 << 25;
/// `Py_TPFLAGS_TUPLE_SUBCLASS`.
pub const FLAG_TUPLE: u64 = 1 << 26;
/// `Py_TPFLAGS_BYTES_SUBCLASS`.
pub const FLAG_BYTES: u64 = 1 << 27;
/// `Py_TPFLAGS_UNICODE_SUBCLASS`.
pub const FLAG_STR: u64 = 1 << 28;
/// `Py_TPFLAGS_DICT_SUBCLASS`.
pub const FLAG_DICT: u64 = 1 << 29;
/// `Py_TPFLAGS_TYPE_SUBCLASS`.
pub const FLAG_TYPE: u64 = 1 << 31;
