//! Where a member is in its struct, in every way that compilers have written it.
//!
//! DWARF 4 counts bit fields from the start of the struct, older versions from the highest
//! bit of a storage unit; DWARF 2 gives the offset of a member as an expression.

use gimli::{AttributeValue, Operation, constants};

use super::sections::Bytes;
use super::units::Die;
use super::{Bits, Field};

/// What an entry says about the place of a member.
pub(super) struct Place {
    byte: Option<u64>,
    /// Since DWARF 4: from the start of the struct.
    data_bit: Option<u64>,
    /// Up to DWARF 3: from the highest bit of a storage unit of `storage_bytes`.
    old_bit: Option<u64>,
    storage_bytes: Option<u64>,
    width: Option<u64>,
}

impl Place {
    pub(super) fn of(die: &Die<'_>) -> Self {
        let location = constants::DW_AT_data_member_location;
        Self {
            // Members of unions have none.
            byte: match die.attr_value(location) {
                None => Some(0),
                Some(AttributeValue::Exprloc(expression)) => constant(expression.0),
                Some(AttributeValue::Block(expression)) => constant(expression),
                Some(value) => value.udata_value(),
            },
            data_bit: unsigned(die, constants::DW_AT_data_bit_offset),
            old_bit: unsigned(die, constants::DW_AT_bit_offset),
            storage_bytes: unsigned(die, constants::DW_AT_byte_size),
            width: unsigned(die, constants::DW_AT_bit_size),
        }
    }

    /// `None` when the place is not a constant.
    pub(super) fn field(&self, size: Option<u64>) -> Option<Field> {
        let byte = self.byte?;
        let Some(width) = self.width else {
            return Some(Field {
                offset: byte,
                size,
                bits: None,
            });
        };
        let first_bit = match (self.data_bit, self.old_bit) {
            (Some(bit), _) => bit,
            (None, Some(from_top)) => {
                let storage_bits = self.storage_bytes.or(size)?.checked_mul(8)?;
                let bit = storage_bits.checked_sub(from_top)?.checked_sub(width)?;
                byte.checked_mul(8)?.checked_add(bit)?
            }
            (None, None) => byte.checked_mul(8)?,
        };
        Some(Field {
            offset: first_bit / 8,
            size: None,
            bits: Some(Bits {
                shift: (first_bit % 8) as u8,
                width,
            }),
        })
    }
}

/// An attribute that is a constant, also where its form is a signed one.
pub(super) fn unsigned(die: &Die<'_>, name: gimli::DwAt) -> Option<u64> {
    die.attr_value(name)?.udata_value()
}

/// Old compilers write the offset of a member as the expression `plus_uconst offset`.
fn constant(expression: Bytes<'_>) -> Option<u64> {
    let encoding = gimli::Encoding {
        address_size: 8,
        format: gimli::Format::Dwarf32,
        version: 3,
    };
    let mut input = expression;
    match Operation::parse(&mut input, encoding).ok()? {
        Operation::PlusConstant { value } if input.is_empty() => Some(value),
        _ => None,
    }
}
