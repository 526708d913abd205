//! Access to single entries of debug information, across compilation units.
//!
//! `gimli::Unit` would read the line program of each unit as well; all that is needed here
//! is a unit's abbreviations, and where its strings are when they are indexed (clang).

use std::cell::OnceCell;

use gimli::{
    Abbreviations, AttributeValue, DebugStrOffsetsBase, DebuggingInformationEntry, Dwarf,
    UnitHeader, UnitOffset, UnitSectionOffset, constants,
};

use super::DwarfError;
use super::sections::Bytes;

pub(super) type Die<'a> = DebuggingInformationEntry<Bytes<'a>>;

/// The place of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DieRef {
    pub(super) unit: usize,
    pub(super) offset: UnitOffset,
}

/// All compilation units, in the order of the section, their abbreviations read on demand.
pub(super) struct Units<'a> {
    dwarf: &'a Dwarf<Bytes<'a>>,
    units: Vec<Unit<'a>>,
}

struct Unit<'a> {
    header: UnitHeader<Bytes<'a>>,
    abbreviations: OnceCell<Abbreviations>,
    str_offsets_base: OnceCell<DebugStrOffsetsBase>,
}

impl<'a> Units<'a> {
    pub(super) fn new(dwarf: &'a Dwarf<Bytes<'a>>) -> Result<Self, DwarfError> {
        let mut units: Vec<Unit<'a>> = Vec::new();
        let mut headers = dwarf.units();
        loop {
            let header = headers.next().map_err(|source| DwarfError::Malformed {
                unit: units.last().map_or(0, Unit::offset),
                source,
            })?;
            let Some(header) = header else {
                return Ok(Self { dwarf, units });
            };
            units.push(Unit {
                header,
                abbreviations: OnceCell::new(),
                str_offsets_base: OnceCell::new(),
            });
        }
    }

    pub(super) fn len(&self) -> usize {
        self.units.len()
    }

    /// The header of a unit and what is needed to read its entries.
    pub(super) fn unit(
        &self,
        unit: usize,
    ) -> Result<(&UnitHeader<Bytes<'a>>, &Abbreviations), DwarfError> {
        let this = &self.units[unit];
        if this.abbreviations.get().is_none() {
            let read = this.header.abbreviations(&self.dwarf.debug_abbrev);
            let _ = this.abbreviations.set(read.map_err(self.malformed(unit))?);
        }
        let abbreviations = this.abbreviations.get_or_init(Abbreviations::default);
        Ok((&this.header, abbreviations))
    }

    /// Reads one entry.
    pub(super) fn die(&self, at: DieRef) -> Result<Die<'a>, DwarfError> {
        let (header, abbreviations) = self.unit(at.unit)?;
        header
            .entry(abbreviations, at.offset)
            .map_err(self.malformed(at.unit))
    }

    /// The name of an entry; `None` when it has none or it cannot be read.
    pub(super) fn name(&self, unit: usize, die: &Die<'a>) -> Option<&'a [u8]> {
        let name = match die.attr_value(constants::DW_AT_name)? {
            AttributeValue::String(name) => name,
            AttributeValue::DebugStrRef(at) => self.dwarf.string(at).ok()?,
            AttributeValue::DebugLineStrRef(at) => self.dwarf.line_string(at).ok()?,
            AttributeValue::DebugStrOffsetsIndex(index) => {
                let format = self.units[unit].header.format();
                let base = self.str_offsets_base(unit)?;
                let offsets = &self.dwarf.debug_str_offsets;
                let at = offsets.get_str_offset(format, base, index).ok()?;
                self.dwarf.string(at).ok()?
            }
            _ => return None,
        };
        Some(name.slice())
    }

    /// Where `DW_AT_type` leads to, in this unit or another. `None` for `void` and for the
    /// kinds of references that C compilers do not write into linked files.
    pub(super) fn type_of(&self, unit: usize, die: &Die<'a>) -> Option<DieRef> {
        match die.attr_value(constants::DW_AT_type)? {
            AttributeValue::UnitRef(offset) => Some(DieRef { unit, offset }),
            AttributeValue::DebugInfoRef(at) => {
                let starts = |other: &Unit<'_>| other.offset() <= at.0 as u64;
                let unit = self.units.partition_point(starts).checked_sub(1)?;
                let offset = UnitSectionOffset(at.0).to_unit_offset(&self.units[unit].header)?;
                Some(DieRef { unit, offset })
            }
            _ => None,
        }
    }

    /// Names the unit in an error.
    pub(super) fn malformed(&self, unit: usize) -> impl Fn(gimli::Error) -> DwarfError + use<> {
        let unit = self.units[unit].offset();
        move |source| DwarfError::Malformed { unit, source }
    }

    fn str_offsets_base(&self, unit: usize) -> Option<DebugStrOffsetsBase> {
        let this = &self.units[unit];
        if let Some(base) = this.str_offsets_base.get() {
            return Some(*base);
        }
        let offset = this.header.root_offset();
        let root = self.die(DieRef { unit, offset }).ok()?;
        match root.attr_value(constants::DW_AT_str_offsets_base)? {
            AttributeValue::DebugStrOffsetsBase(base) => {
                Some(*this.str_offsets_base.get_or_init(|| base))
            }
            _ => None,
        }
    }
}

impl Unit<'_> {
    fn offset(&self) -> u64 {
        self.header.offset().0 as u64
    }
}
