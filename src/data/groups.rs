//! Which rows belong together: copies of a picture, visits of a patient.

use super::Chunks;
use crate::Result;
use crate::base::memory::{collect, make_room};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use twox_hash::XxHash3_128;

/// What tells a group from others, in whatever data set: what it was given as.
pub(super) type GroupName = u128;

/// A number for each row: rows of the same one belong together. Groups are numbered in the order in which they come.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    numbers: Chunks<u32>,
    /// How many groups the rows, and those that they were taken from, are of.
    count: usize,
    /// These first, and then those of rows that were appended.
    known: Arc<Mutex<KnownGroups>>,
}

#[derive(Debug, Default)]
struct KnownGroups {
    names: Vec<GroupName>,
    numbers: HashMap<GroupName, u32>,
}

/// The name of the group that was given as a number; 0.0 and -0.0 are one.
pub(super) fn name_of_number(number: f64) -> GroupName {
    (number + 0.0).to_bits().into()
}

/// The name of the group that was given as a text, or as a picture.
pub(super) fn name_of_bytes(bytes: &[u8]) -> GroupName {
    XxHash3_128::oneshot(bytes)
}

impl KnownGroups {
    /// The numbers of the groups called `names`.
    fn number(&mut self, names: impl IntoIterator<Item = GroupName>) -> Result<Vec<u32>> {
        let mut numbers = vec![];
        for name in names {
            let next = self.names.len() as u32;
            make_room(&mut numbers, 1)?;
            make_room(&mut self.names, 1)?;
            let number = *self.numbers.entry(name).or_insert(next);
            if number == next {
                self.names.push(name);
            }
            numbers.push(number);
        }
        Ok(numbers)
    }
}

impl Groups {
    /// The groups of rows, by their names.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn of(names: impl IntoIterator<Item = GroupName>) -> Result<Self> {
        let mut known = KnownGroups::default();
        let numbers = known.number(names)?.into();
        Ok(Groups { numbers, count: known.names.len(), known: Arc::new(Mutex::new(known)) })
    }

    /// One number per row.
    pub fn numbers(&self) -> &[u32] {
        self.numbers.as_slice()
    }

    /// Those of the rows `rows`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn subset(&self, rows: &[usize]) -> Result<Self> {
        Ok(Groups { numbers: self.numbers.gather(1, rows)?.into(), ..self.clone() })
    }

    /// Those of the rows from `start` to `end`.
    pub fn slice(&self, start: usize, end: usize) -> Self {
        Groups { numbers: self.numbers.slice(start, end), ..self.clone() }
    }

    /// These rows' and then those of `more`, which are in the group of the same name where there is one.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn append(&self, more: &Self) -> Result<Self> {
        let names: Vec<GroupName> = {
            let known = more.known.lock();
            collect(more.numbers().iter().map(|&number| known.names[number as usize]))?
        };
        let mut known = self.known.lock();
        if known.names.len() == self.count {
            let numbers = self.numbers.append(&known.number(names)?.into())?;
            return Ok(Groups { numbers, count: known.names.len(), known: self.known.clone() });
        }
        // Other rows were appended to these before: their groups are none of this data set's.
        let own = known.names[..self.count].to_vec();
        drop(known);
        let mut known = KnownGroups::default();
        known.number(own)?;
        let numbers = self.numbers.append(&known.number(names)?.into())?;
        Ok(Groups { numbers, count: known.names.len(), known: Arc::new(Mutex::new(known)) })
    }
}
