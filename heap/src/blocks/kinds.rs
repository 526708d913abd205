//! What a block may be.

/// What a block is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Use {
    /// Not in use.
    #[default]
    Free,
    /// A live object.
    Object,
    /// An object that CPython keeps on a free list to use it again: it is not live.
    Parked,
    /// The keys of a dict or of a class's instances.
    DictKeys,
    /// The values of a dict or of an instance.
    Values,
    /// The items of a list.
    ListItems,
    /// The table of a set.
    SetTable,
    /// A buffer of another object.
    Buffer,
    /// In use, by nothing that was recognised.
    Unowned,
}

impl Use {
    /// All of them, in their order.
    pub(crate) const ALL: [Self; 9] = [
        Self::Free,
        Self::Object,
        Self::Parked,
        Self::DictKeys,
        Self::Values,
        Self::ListItems,
        Self::SetTable,
        Self::Buffer,
        Self::Unowned,
    ];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Object => "object",
            Self::Parked => "free_list",
            Self::DictKeys => "dict_keys",
            Self::Values => "values",
            Self::ListItems => "list_items",
            Self::SetTable => "set_table",
            Self::Buffer => "buffer",
            Self::Unowned => "unowned",
        }
    }
}
