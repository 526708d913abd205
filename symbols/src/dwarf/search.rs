//! Finds structs by name and reads their members.

use std::collections::{HashMap, HashSet};

use gimli::constants;

use super::place::{Place, unsigned};
use super::units::{Die, DieRef, Units};
use super::{DwarfError, DwarfLayouts, Member, Struct, StructId};

/// The runtime, interpreter and thread states of 3.13 have 14 000 members together, most
/// of them static strings; a hostile file could let structs overlap and grow without end.
const MAX_MEMBERS: usize = 1 << 18;

/// C has no limit for `typedef`s of `typedef`s; CPython has three. A longer chain is a loop.
const MAX_TYPE_HOPS: usize = 64;

/// What a type is, once `typedef`s, qualifiers and array dimensions are taken off.
enum Shape<'a> {
    Struct {
        at: DieRef,
        size: Option<u64>,
    },
    /// A struct that this unit knows by name only.
    Declared {
        tag: Option<&'a [u8]>,
    },
    Other {
        size: Option<u64>,
    },
}

/// The state of one search.
struct Search<'u, 'a> {
    units: &'u Units<'a>,
    layouts: DwarfLayouts,
    /// Every struct by its place, so that each is read once.
    ids: HashMap<DieRef, StructId>,
    /// Structs that have an id and no members yet.
    queue: Vec<(StructId, DieRef)>,
    members: usize,
}

pub(super) fn layouts(units: &Units<'_>, wanted: &[&str]) -> Result<DwarfLayouts, DwarfError> {
    let mut search = Search {
        units,
        layouts: DwarfLayouts::default(),
        ids: HashMap::new(),
        queue: Vec::new(),
        members: 0,
    };
    let mut names: HashSet<Vec<u8>> = wanted.iter().map(|name| (*name).into()).collect();
    // `typedef`s of structs that were not complete where the `typedef` was.
    let mut tags: HashMap<String, String> = HashMap::new();
    for unit in 0..units.len() {
        let missing = |name: &&str| {
            let found = &search.layouts.by_name;
            !found.contains_key(*name)
                && !tags.get(*name).is_some_and(|tag| found.contains_key(tag))
        };
        if !wanted.iter().any(missing) {
            break;
        }
        search.unit(unit, &mut names, &mut tags)?;
    }
    search.read_queue()?;
    let mut layouts = search.layouts;
    for (name, tag) in tags {
        if let Some(&id) = layouts.by_name.get(&tag) {
            layouts.by_name.entry(name).or_insert(id);
        }
    }
    layouts
        .by_name
        .retain(|name, _| wanted.contains(&name.as_str()));
    Ok(layouts)
}

impl<'a> Search<'_, 'a> {
    /// Looks at what stands at file scope in one unit. Names for which only a declaration is
    /// found are added to `names` under their tag.
    fn unit(
        &mut self,
        unit: usize,
        names: &mut HashSet<Vec<u8>>,
        tags: &mut HashMap<String, String>,
    ) -> Result<(), DwarfError> {
        let units = self.units;
        let (header, abbreviations) = units.unit(unit)?;
        let malformed = units.malformed(unit);
        let mut cursor = header.entries(abbreviations);
        // From before the root to the root and to its first child.
        let mut found = cursor.next_entry().map_err(&malformed)?;
        found = found && cursor.next_entry().map_err(&malformed)?;
        while found {
            let Some(die) = cursor.current() else {
                break;
            };
            if let Some(name) = self.wanted_name(unit, die, names) {
                let at = DieRef {
                    unit,
                    offset: die.offset(),
                };
                match self.shape(at)? {
                    (Shape::Struct { at, .. }, 1) => {
                        let id = self.id(at);
                        self.layouts.by_name.insert(name, id);
                    }
                    (Shape::Declared { tag: Some(tag) }, 1) if tag != name.as_bytes() => {
                        names.insert(tag.to_vec());
                        tags.insert(name, String::from_utf8_lossy(tag).into_owned());
                    }
                    _ => {}
                }
            }
            found = cursor.next_sibling().map_err(&malformed)?.is_some();
        }
        Ok(())
    }

    /// The name of a type that is looked for and not yet found.
    fn wanted_name(&self, unit: usize, die: &Die<'a>, names: &HashSet<Vec<u8>>) -> Option<String> {
        if !matches!(
            die.tag(),
            constants::DW_TAG_structure_type
                | constants::DW_TAG_union_type
                | constants::DW_TAG_typedef
        ) {
            return None;
        }
        let name = names.get(self.units.name(unit, die)?)?;
        let name = String::from_utf8_lossy(name);
        (!self.layouts.by_name.contains_key(&*name)).then(|| name.into_owned())
    }

    /// Follows a type to what it is, and says how many elements it has in all.
    fn shape(&self, mut at: DieRef) -> Result<(Shape<'a>, u64), DwarfError> {
        let mut count = Some(1u64);
        for _ in 0..MAX_TYPE_HOPS {
            let die = self.units.die(at)?;
            let size = unsigned(&die, constants::DW_AT_byte_size);
            let shape = match die.tag() {
                constants::DW_TAG_structure_type | constants::DW_TAG_union_type => {
                    if die.has_attr(constants::DW_AT_declaration) {
                        let tag = self.units.name(at.unit, &die);
                        Shape::Declared { tag }
                    } else {
                        Shape::Struct { at, size }
                    }
                }
                constants::DW_TAG_typedef
                | constants::DW_TAG_const_type
                | constants::DW_TAG_volatile_type
                | constants::DW_TAG_restrict_type
                | constants::DW_TAG_atomic_type
                | constants::DW_TAG_array_type => {
                    if die.tag() == constants::DW_TAG_array_type {
                        let elements = self.elements(at)?;
                        count = count.zip(elements).and_then(|(a, b)| a.checked_mul(b));
                    }
                    match self.units.type_of(at.unit, &die) {
                        Some(next) => {
                            at = next;
                            continue;
                        }
                        None => Shape::Other { size },
                    }
                }
                constants::DW_TAG_pointer_type => {
                    let (header, _) = self.units.unit(at.unit)?;
                    let address_size = u64::from(header.address_size());
                    let size = size.or(Some(address_size));
                    Shape::Other { size }
                }
                _ => Shape::Other { size },
            };
            return Ok((shape, count.unwrap_or(0)));
        }
        Ok((Shape::Other { size: None }, 1))
    }

    /// How many elements an array has; `None` for a flexible one.
    fn elements(&self, at: DieRef) -> Result<Option<u64>, DwarfError> {
        let mut product = Some(1u64);
        self.children(at, |_, die| {
            if die.tag() == constants::DW_TAG_subrange_type {
                let bound = unsigned(die, constants::DW_AT_upper_bound);
                let elements = unsigned(die, constants::DW_AT_count)
                    .or_else(|| bound.and_then(|bound| bound.checked_add(1)));
                product = product.zip(elements).and_then(|(a, b)| a.checked_mul(b));
            }
            Ok(())
        })?;
        Ok(product)
    }

    /// Calls `each` with every direct child of an entry.
    fn children(
        &self,
        of: DieRef,
        mut each: impl FnMut(usize, &Die<'a>) -> Result<(), DwarfError>,
    ) -> Result<(), DwarfError> {
        let (header, abbreviations) = self.units.unit(of.unit)?;
        let malformed = self.units.malformed(of.unit);
        let tree = header.entries_tree(abbreviations, Some(of.offset));
        let mut tree = tree.map_err(&malformed)?;
        let mut children = tree.root().map_err(&malformed)?.children();
        while let Some(child) = children.next().map_err(&malformed)? {
            each(of.unit, child.entry())?;
        }
        Ok(())
    }

    /// The id of the struct at this place; new ones are put into the queue. (A queue and
    /// not recursion: how deep structs are nested is up to the file.)
    fn id(&mut self, at: DieRef) -> StructId {
        *self.ids.entry(at).or_insert_with(|| {
            let id = StructId(self.layouts.structs.len());
            self.layouts.structs.push(Struct::default());
            self.queue.push((id, at));
            id
        })
    }

    fn read_queue(&mut self) -> Result<(), DwarfError> {
        while let Some((id, at)) = self.queue.pop() {
            let size = unsigned(&self.units.die(at)?, constants::DW_AT_byte_size);
            let mut found: Vec<(Option<String>, Place, Option<DieRef>)> = Vec::new();
            let limit = MAX_MEMBERS - self.members;
            self.children(at, |unit, die| {
                if die.tag() == constants::DW_TAG_member {
                    if found.len() == limit {
                        return Err(DwarfError::TooManyMembers { limit: MAX_MEMBERS });
                    }
                    let name = self.units.name(unit, die);
                    let name = name.map(|name| String::from_utf8_lossy(name).into_owned());
                    found.push((name, Place::of(die), self.units.type_of(unit, die)));
                }
                Ok(())
            })?;
            self.members += found.len();
            let mut members = Vec::with_capacity(found.len());
            for (name, place, of_type) in found {
                members.extend(self.member(name, &place, of_type)?);
            }
            self.layouts.structs[id.0] = Struct { size, members };
        }
        Ok(())
    }

    /// `None` for a member whose place is not a constant.
    fn member(
        &mut self,
        name: Option<String>,
        place: &Place,
        of_type: Option<DieRef>,
    ) -> Result<Option<Member>, DwarfError> {
        let mut size = None;
        let mut inner = None;
        if let Some(of_type) = of_type {
            let (shape, count) = self.shape(of_type)?;
            let one = match shape {
                Shape::Struct { at, size } => {
                    inner = Some(self.id(at));
                    size
                }
                Shape::Declared { .. } => None,
                Shape::Other { size } => size,
            };
            // An array of no or unknown length has no size of its own.
            size = one
                .and_then(|one| one.checked_mul(count))
                .filter(|_| count > 0);
        }
        let field = place.field(size);
        Ok(field.map(|field| Member { name, field, inner }))
    }
}
