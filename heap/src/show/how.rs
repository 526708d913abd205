//! References in words.

use std::cell::RefCell;

use onlooker_unwinder::memory::RemoteAddr;
use onlooker_unwinder::objects::Objects;

use super::{Heap, How, text};
use crate::types::c_string;

/// Longest name of an attribute that is shown whole.
const MAX_NAME: u64 = 100;

impl<B: AsRef<[u8]>> Heap<'_, B> {
    /// How an object refers to another, as one would write it behind its name where that is
    /// possible. Every character is printable.
    #[must_use]
    pub fn describe_how(&self, how: How) -> String {
        match how {
            How::Item(index) => format!("[{index}]"),
            How::Value(key) => format!("[{}]", self.repr(key)),
            How::Key => "(key)".to_owned(),
            How::Member => "(member)".to_owned(),
            How::Attribute(name) => format!(".{}", self.attribute_name(name)),
            How::Slot(name) => {
                let name = c_string(self.space, name);
                format!(".{}", text::name(name.as_deref().unwrap_or("?")))
            }
            How::Contents => ".cell_contents".to_owned(),
            How::Dict => ".__dict__".to_owned(),
            How::Class => ".__class__".to_owned(),
            How::AttributeName => "(name of an attribute)".to_owned(),
            How::Word(offset) => format!("+{offset:#x}"),
        }
    }

    fn attribute_name(&self, name: RemoteAddr) -> String {
        let missing = RefCell::new(Vec::new());
        let objects = Objects::new(self.space, self.layout, &missing);
        match objects.str_start(name, MAX_NAME) {
            Ok((points, _)) => {
                let point =
                    |point: &u32| char::from_u32(*point).unwrap_or(char::REPLACEMENT_CHARACTER);
                text::name(&points.iter().map(point).collect::<String>())
            }
            Err(_) => "?".to_owned(),
        }
    }
}
