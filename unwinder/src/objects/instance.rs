//! Attributes of instances and of modules.

use super::{Objects, Read, Stop};
use crate::layout::{Attributes, fields};
use crate::memory::{Lookup, RemoteAddr};

impl<L: Lookup> Objects<'_, L> {
    /// The value of an attribute in a module's namespace.
    ///
    /// # Errors
    /// What is missing, or why it is no module.
    pub fn module_attribute(&self, module: RemoteAddr, name: &str) -> Read<Option<RemoteAddr>> {
        let dict = self.pointer(module, fields::MODULE_DICT)?;
        if dict.is_null() {
            return Ok(None);
        }
        self.dict_get(dict, name)
    }

    /// The value of an attribute that an instance of a class written in Python has itself
    /// (nothing from its class, no slots). `None` when it has none of that name.
    ///
    /// # Errors
    /// What is missing, or why it is no such instance.
    pub fn attribute(&self, object: RemoteAddr, name: &str) -> Read<Option<RemoteAddr>> {
        let ob_type = self.pointer(object, fields::OB_TYPE)?;
        let flags = self.word(ob_type, fields::TYPE_FLAGS)?;
        let objects = &self.layout.objects;
        let before = |distance: u64| {
            object
                .0
                .checked_sub(distance)
                .map(RemoteAddr)
                .ok_or(Stop::Invalid("instance"))
        };
        let managed = flags & fields::FLAG_MANAGED_DICT != 0;
        // Values, if the attributes are in an array, or a dict.
        let (values, dict) = match objects.attributes {
            Attributes::ValuesBefore if managed => {
                (self.pointer(before(32)?, 0)?, self.pointer(before(24)?, 0)?)
            }
            Attributes::TaggedBefore if managed => {
                let word = self.word(before(24)?, 0)?;
                if word & 1 == 1 {
                    // The pointer is kept one too low to mark it.
                    let values = RemoteAddr(word).offset(1);
                    (values.ok_or(Stop::Invalid("instance"))?, RemoteAddr::NULL)
                } else {
                    (RemoteAddr::NULL, RemoteAddr(word))
                }
            }
            Attributes::Inline if managed => {
                let dict = self.pointer(before(24)?, 0)?;
                if dict.is_null() && flags & fields::FLAG_INLINE_VALUES != 0 {
                    let basic = self.word(ob_type, fields::TYPE_BASIC_SIZE)?;
                    (object.offset(basic).ok_or(Stop::Invalid("instance"))?, dict)
                } else {
                    (RemoteAddr::NULL, dict)
                }
            }
            _ => {
                let offset = self.word(ob_type, fields::TYPE_DICT_OFFSET)?;
                if offset == 0 || offset > 1 << 16 {
                    return Ok(None);
                }
                (RemoteAddr::NULL, self.pointer(object, offset)?)
            }
        };
        if !dict.is_null() {
            return self.dict_get(dict, name);
        }
        if values.is_null() {
            return Ok(None);
        }
        let keys = self.pointer(ob_type, objects.cached_keys)?;
        if keys.is_null() {
            return Ok(None);
        }
        let values = values
            .offset(objects.dict_values)
            .ok_or(Stop::Invalid("instance"))?;
        self.find(&self.items(keys, Some(values))?, name)
    }
}
