//! Columns as the format stores them: omitted when constant, differences where values climb.

use crate::proto;
use thiserror::Error;

/// A value in a block that no writer of this format writes.
///
/// The block's checksum was right, so this is a file made by something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{what} is {value}, which no recording has")]
pub struct InvalidValue {
    /// The column or field.
    pub what: &'static str,
    /// What it holds.
    pub value: i128,
}

/// Shorthand for an [`InvalidValue`].
pub(crate) fn invalid(what: &'static str, value: impl Into<i128>) -> InvalidValue {
    InvalidValue {
        what,
        value: value.into(),
    }
}

/// Nanoseconds of the unit in which the time of samples is stored: a thousandth of the period,
/// within reason. Of a clock that is on time to a tenth of its period, a sample's instant then
/// takes one byte; nanoseconds would take three, all of it noise.
pub(crate) fn time_unit_ns(rate_hz: f64) -> u64 {
    // A float cast to an integer saturates; what is no rate becomes the finest unit.
    ((1e6 / rate_hz) as u64).clamp(100, 10_000)
}

/// Drops what a constant column need not store.
pub(crate) fn pack<T: Copy + Default + PartialEq>(mut values: Vec<T>) -> Vec<T> {
    if let Some(&first) = values.first()
        && values.iter().all(|value| *value == first)
    {
        values.truncate(usize::from(first != T::default()));
    }
    values
}

/// A column of `count` rows, whichever way it is stored.
#[derive(Clone, Copy)]
pub(crate) struct Column<'a, T> {
    values: &'a [T],
}

impl<'a, T: Copy + Default> Column<'a, T> {
    /// The column that `values` stand for; its length must be 0, 1 or `count`.
    pub(crate) fn new(
        what: &'static str,
        values: &'a [T],
        count: usize,
    ) -> Result<Self, InvalidValue> {
        if values.len() > 1 && values.len() != count {
            return Err(invalid(what, values.len() as u64));
        }
        Ok(Self { values })
    }

    /// The value in a row.
    pub(crate) fn at(&self, row: usize) -> T {
        match self.values {
            [] => T::default(),
            [only] => *only,
            values => values[row],
        }
    }
}

/// The differences of climbing values.
pub(crate) fn steps(values: impl Iterator<Item = u32>) -> Vec<i64> {
    let mut last = 0;
    pack(
        values
            .map(|value| {
                let step = i64::from(value) - last;
                last = i64::from(value);
                step
            })
            .collect(),
    )
}

/// Undoes [`steps`] for one column, row by row.
pub(crate) struct Climb<'a> {
    what: &'static str,
    column: Column<'a, i64>,
    last: i64,
}

impl<'a> Climb<'a> {
    pub(crate) fn new(
        what: &'static str,
        values: &'a [i64],
        count: usize,
    ) -> Result<Self, InvalidValue> {
        let column = Column::new(what, values, count)?;
        Ok(Self {
            what,
            column,
            last: 0,
        })
    }

    /// The value of the next row.
    pub(crate) fn next(&mut self, row: usize) -> Result<u32, InvalidValue> {
        let value = i128::from(self.last) + i128::from(self.column.at(row));
        let id = u32::try_from(value).map_err(|_| invalid(self.what, value))?;
        self.last = i64::from(id);
        Ok(id)
    }
}

/// Stores `value` so that 0 is free for "none".
pub(crate) fn or_zero(value: Option<u32>) -> u64 {
    value.map_or(0, |value| u64::from(value) + 1)
}

/// Undoes [`or_zero`].
pub(crate) fn from_or_zero(
    what: &'static str,
    stored: impl Into<i128>,
) -> Result<Option<u32>, InvalidValue> {
    match stored.into() {
        0 => Ok(None),
        stored => u32::try_from(stored - 1)
            .map(Some)
            .map_err(|_| invalid(what, stored)),
    }
}

/// Stores instants, rounded down to the unit.
pub(crate) fn pack_times(unit_ns: u64, times_ns: impl Iterator<Item = u64>) -> proto::Times {
    // An instant in units is below 2^63 because a unit has at least two nanoseconds.
    let mut units = times_ns.map(|time| (time / unit_ns).cast_signed());
    let Some(first) = units.next() else {
        return proto::Times::default();
    };
    let mut last = first;
    let steps: Vec<i64> = units
        .map(|time| {
            let step = time - last;
            last = time;
            step
        })
        .collect();
    let step = steps.iter().copied().min().unwrap_or(0);
    proto::Times {
        unit_ns,
        first: first.cast_unsigned(),
        step,
        excess: pack(steps.iter().map(|s| (s - step).cast_unsigned()).collect()),
    }
}

/// Undoes [`pack_times`].
pub(crate) fn unpack_times(
    times: &proto::Times,
    count: usize,
) -> Result<impl Iterator<Item = Result<u64, InvalidValue>>, InvalidValue> {
    let excess = Column::new("excess of time", &times.excess, count.saturating_sub(1))?;
    let (unit_ns, step) = (i128::from(times.unit_ns), i128::from(times.step));
    let mut now = i128::from(times.first);
    Ok((0..count).map(move |row| {
        if row > 0 {
            now += step + i128::from(excess.at(row - 1));
        }
        // Neither factor can exceed 2^85, what a hundred thousand rows can add up to; times a
        // 64-bit unit that may overflow even 128 bits.
        now.checked_mul(unit_ns)
            .and_then(|time| u64::try_from(time).ok())
            .ok_or(invalid("time", now))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn constant_columns_shrink() {
        assert_eq!(pack(vec![0u32; 5]), []);
        assert_eq!(pack(vec![3u32; 5]), [3]);
        assert_eq!(pack(vec![3u32, 3, 4]), [3, 3, 4]);
        assert_eq!(pack(Vec::<u32>::new()), []);
    }

    #[test]
    fn a_column_of_another_length_is_refused() {
        assert!(Column::new("weight", &[1u32, 2], 3).is_err());
        let zero = Column::<u32>::new("weight", &[], 3).unwrap();
        assert_eq!(zero.at(2), 0);
    }

    #[test]
    fn the_unit_of_time_follows_the_rate() {
        assert_eq!(time_unit_ns(100.0), 10_000);
        assert_eq!(time_unit_ns(1000.0), 1000);
        assert_eq!(time_unit_ns(f64::INFINITY), 100);
        assert_eq!(time_unit_ns(0.0), 10_000);
        assert_eq!(time_unit_ns(f64::NAN), 100);
        assert_eq!(time_unit_ns(-1.0), 100);
    }

    #[test]
    fn absurd_times_are_refused() {
        let times = proto::Times {
            unit_ns: u64::MAX,
            first: u64::MAX,
            step: -1,
            excess: vec![u64::MAX],
        };
        let read: Vec<_> = unpack_times(&times, 1000).unwrap().collect();
        assert!(read.iter().all(Result::is_err));
    }

    proptest! {
        #[test]
        fn times_survive_in_any_order(
            times in prop::collection::vec(any::<u64>(), 0..50),
            rate_hz in any::<f64>(),
        ) {
            let unit_ns = time_unit_ns(rate_hz);
            let packed = pack_times(unit_ns, times.iter().copied());
            let read: Result<Vec<u64>, _> = unpack_times(&packed, times.len()).unwrap().collect();
            let rounded: Vec<u64> = times.iter().map(|t| t - t % unit_ns).collect();
            prop_assert_eq!(read.unwrap(), rounded);
        }

        #[test]
        fn ids_survive_in_any_order(ids in prop::collection::vec(any::<u32>(), 0..50)) {
            let stored = steps(ids.iter().copied());
            let mut climb = Climb::new("id", &stored, ids.len()).unwrap();
            for (row, id) in ids.iter().enumerate() {
                prop_assert_eq!(climb.next(row).unwrap(), *id);
            }
        }

        #[test]
        fn optional_numbers_survive(value in any::<Option<u32>>()) {
            prop_assert_eq!(from_or_zero("line", or_zero(value)).unwrap(), value);
        }
    }
}
