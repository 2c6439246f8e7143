//! The features of a data set: numbers, or the bytes of images.

use super::{Chunks, Shared};
use crate::base::memory::{collect, reserve};
use crate::{Error, Result};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// Features, row-major, shared with the data sets that were made from the same ones.
#[derive(Clone, Debug)]
pub enum Features {
    /// Numbers.
    Numbers {
        /// In the user's units, less the column's offset.
        values: Chunks<f32>,
        /// One for each column, or one for all; empty where all are 0. A column that lies so far from 0 that f32 could
        /// not tell its values apart has its mean here: a date in days since antiquity.
        offsets: Arc<Vec<f64>>,
        /// Columns all of whose values are one number that f32 does not hold: which, and that number.
        constants: Arc<Vec<(usize, f64)>>,
    },
    /// Images: each value is a byte divided by 255. They stay bytes until a
    /// mini-batch needs them, and a part of a data set shares them with the whole.
    Pixels {
        /// All the images.
        pixels: Chunks<u8>,
        /// Which of them are the rows.
        rows: Chunks<usize>,
    },
}

/// Consecutive rows of [`Features`].
#[derive(Clone, Copy, Debug)]
pub enum FeatureRows<'a> {
    /// Their values, and the columns' offsets.
    Numbers(&'a [f32], &'a [f64]),
    /// All the images, and which of them are the rows.
    Pixels(&'a [u8], &'a [usize]),
}

/// A mean so many standard deviations from 0 is taken off before a column becomes f32, which then keeps its values to
/// 1/30,000 of their standard deviation or better. Columns nearer to 0 stay as they are.
const FAR: f64 = 1000.0;

impl Features {
    /// Numbers that are f32 already.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for NaN and infinity.
    pub fn from_f32(values: impl Into<Shared<f32>>, width: usize) -> Result<Self> {
        let values = values.into();
        check(&values, width, |at| f64::from(values[at]))?;
        Ok(Features::Numbers { values: values.into(), offsets: Arc::default(), constants: Arc::default() })
    }

    /// Numbers of rows of `width`, each of its `columns` (`width`, or 1 for all values) less its offset.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for NaN, infinity and what is beyond f32; [`Error::OutOfMemory`].
    pub fn from_f64(values: &[f64], width: usize, columns: usize) -> Result<Self> {
        let (offsets, mut constants) = offsets(values, columns);
        constants.retain(|_| columns == width);
        let stored = less(values, &offsets)?;
        check(&stored, width, |at| values[at])?;
        Ok(Features::Numbers { values: stored.into(), offsets: Arc::new(offsets), constants: Arc::new(constants) })
    }

    /// Images, of which all are rows.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn from_pixels(pixels: impl Into<Shared<u8>>, rows: usize) -> Result<Self> {
        Ok(Features::Pixels { pixels: pixels.into().into(), rows: collect(0..rows)?.into() })
    }

    /// All the rows.
    pub fn rows(&self) -> FeatureRows<'_> {
        match self {
            Features::Numbers { values, offsets, .. } => FeatureRows::Numbers(values.as_slice(), offsets),
            Features::Pixels { pixels, rows } => FeatureRows::Pixels(pixels.as_slice(), rows.as_slice()),
        }
    }

    /// What was taken off the columns, as in [`Features::Numbers`]; nothing off images.
    pub(super) fn offsets(&self) -> &[f64] {
        match self {
            Features::Numbers { offsets, .. } => offsets,
            Features::Pixels { .. } => &[],
        }
    }

    /// The rows `indices`, of `width` values each.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn subset(&self, indices: &[usize], width: usize) -> Result<Self> {
        Ok(match self {
            Features::Numbers { values, offsets, constants } => Features::Numbers {
                values: values.gather(width, indices)?.into(),
                offsets: offsets.clone(),
                constants: constants.clone(),
            },
            Features::Pixels { pixels, rows } => {
                Features::Pixels { pixels: pixels.clone(), rows: rows.gather(1, indices)?.into() }
            }
        })
    }

    /// The rows from `start` to `end`, of `width` values each, without a copy.
    pub(super) fn slice(&self, start: usize, end: usize, width: usize) -> Self {
        match self {
            Features::Numbers { values, offsets, constants } => Features::Numbers {
                values: values.slice(start * width, end * width),
                offsets: offsets.clone(),
                constants: constants.clone(),
            },
            Features::Pixels { pixels, rows } => {
                Features::Pixels { pixels: pixels.clone(), rows: rows.slice(start, end) }
            }
        }
    }

    /// The same rows, of `width` values each. Images are let go of where most of them are none of the rows.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(super) fn without_others(self, width: usize) -> Result<Self> {
        match self {
            Features::Pixels { pixels, rows } if pixels.len() / width > 2 * rows.len() => {
                let pixels = pixels.gather(width, rows.joined()?)?.into();
                Ok(Features::Pixels { pixels, rows: collect(0..rows.len())?.into() })
            }
            features => Ok(features),
        }
    }

    /// These rows and then those of `more`, which become numbers less these offsets.
    ///
    /// # Errors
    /// [`Error::Shape`] where one has images and the other numbers; [`Error::InvalidArgument`] for a value beyond f32;
    /// [`Error::OutOfMemory`].
    pub(super) fn append(&self, more: &Self, width: usize) -> Result<Self> {
        match (self, more) {
            (Features::Numbers { values, offsets, .. }, Features::Numbers { values: new, offsets: theirs, .. }) => {
                let values = if offsets == theirs {
                    values.append(new)?
                } else {
                    let given = more.as_given(width)?;
                    let stored = less(&given, offsets)?;
                    check(&stored, width, |at| given[at])?;
                    values.append(&stored.into())?
                };
                Ok(Features::Numbers { values, offsets: offsets.clone(), constants: Arc::default() })
            }
            (Features::Pixels { pixels, rows }, Features::Pixels { pixels: new, rows: places }) => {
                let first = pixels.len() / width;
                let pixels = pixels.append(&new.gather(width, places.joined()?)?.into())?;
                let rows = rows.append(&collect(first..first + places.len())?.into())?;
                Ok(Features::Pixels { pixels, rows })
            }
            (Features::Pixels { .. }, _) => Err(Error::Shape("numbers cannot be appended to images".into())),
            _ => Err(Error::Shape("images cannot be appended to numbers".into())),
        }
    }

    /// The values as the user gave them, those of constant columns too.
    fn as_given(&self, width: usize) -> Result<Vec<f64>> {
        let mut given = self.rows().to_f64(width)?;
        if let Features::Numbers { constants, .. } = self {
            for row in given.chunks_mut(width) {
                constants.iter().for_each(|&(column, value)| row[column] = value);
            }
        }
        Ok(given)
    }

    /// Rows whose feature number k is number `places[k]` of these of `width` values, or 0 where it is none of them.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Internal`] for images.
    pub(super) fn columns(&self, places: &[Option<usize>], width: usize) -> Result<Self> {
        let Features::Numbers { values, offsets, constants } = self else {
            return Err(Error::Internal("images have no columns".into()));
        };
        let chosen = gather_columns(values.joined()?, width, places)?;
        let offset = |place: &Option<usize>| place.map_or(0.0, |place| offsets[place]);
        let offsets = if offsets.is_empty() { vec![] } else { places.iter().map(offset).collect() };
        let constant = |&(column, value): &(usize, f64)| {
            places.iter().position(|&place| place == Some(column)).map(|column| (column, value))
        };
        let constants = constants.iter().filter_map(constant).collect();
        Ok(Features::Numbers { values: chosen.into(), offsets: Arc::new(offsets), constants: Arc::new(constants) })
    }
}

/// Rows whose value number k is number `places[k]` of these of `width` values, or 0 where it is none of them.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(super) fn gather_columns<T: Copy + Default>(
    values: &[T],
    width: usize,
    places: &[Option<usize>],
) -> Result<Vec<T>> {
    let mut chosen = reserve((values.len() / width).saturating_mul(places.len()))?;
    for row in values.chunks_exact(width) {
        chosen.extend(places.iter().map(|place| place.map_or_else(T::default, |place| row[place])));
    }
    Ok(chosen)
}

/// The offset of each column, none where all are 0; and the constant columns of which f32 does not hold the value.
fn offsets(values: &[f64], columns: usize) -> (Vec<f64>, Vec<(usize, f64)>) {
    let rows = (values.len() / columns) as f64;
    // Relative to the first row: nothing cancels.
    let first = &values[..columns];
    let (mut sums, mut squares) = (vec![0.0; columns], vec![0.0; columns]);
    for row in values.chunks_exact(columns) {
        for column in 0..columns {
            let difference = row[column] - first[column];
            sums[column] += difference;
            squares[column] += difference * difference;
        }
    }
    let offset = |column: usize| {
        let shift = sums[column] / rows;
        let (mean, variance) = (first[column] + shift, squares[column] / rows - shift * shift);
        if is_far(mean, variance.sqrt()) { mean } else { 0.0 }
    };
    let offsets: Vec<f64> = (0..columns).map(offset).collect();
    let is_inexact = |&(column, value): &(usize, f64)| squares[column] == 0.0 && f64::from(value as f32) != value;
    let constants = (0..columns).zip(first.iter().copied()).filter(is_inexact).collect();
    (if offsets.iter().any(|&offset| offset != 0.0) { offsets } else { vec![] }, constants)
}

/// Whether a column of this mean and standard deviation has an offset. A constant has none.
pub(super) fn is_far(mean: f64, std: f64) -> bool {
    std > 0.0 && mean.is_finite() && mean.abs() > FAR * std
}

/// `values` less the offsets of their columns, as f32.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(crate) fn less(values: &[f64], offsets: &[f64]) -> Result<Vec<f32>> {
    if offsets.is_empty() {
        return collect(values.iter().map(|&value| value as f32));
    }
    let mut stored = reserve(values.len())?;
    for row in values.chunks(offsets.len()) {
        stored.extend(row.iter().zip(offsets).map(|(value, offset)| (value - offset) as f32));
    }
    Ok(stored)
}

/// An error that names the first of `values` which is not finite; `original` is what it was.
///
/// # Errors
/// [`Error::InvalidArgument`].
pub(crate) fn check(values: &[f32], width: usize, original: impl Fn(usize) -> f64) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let fault = format!("{} is not a finite single-precision number", original(at));
            Err(Error::InvalidArgument(fault).at([("row", at / width), ("feature", at % width)]))
        }
    }
}

impl<'a> FeatureRows<'a> {
    /// How many rows of `width` values there are.
    pub fn count(&self, width: usize) -> usize {
        match self {
            FeatureRows::Numbers(values, _) => values.len() / width,
            FeatureRows::Pixels(_, rows) => rows.len(),
        }
    }

    /// Some of the rows, of `width` values each.
    pub fn slice(&self, range: Range<usize>, width: usize) -> Self {
        match self {
            FeatureRows::Numbers(values, offsets) => {
                FeatureRows::Numbers(&values[range.start * width..range.end * width], offsets)
            }
            FeatureRows::Pixels(pixels, rows) => FeatureRows::Pixels(pixels, &rows[range]),
        }
    }

    /// The values as the user gave them, as f32.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn to_f32(&self, width: usize) -> Result<Cow<'a, [f32]>> {
        match *self {
            FeatureRows::Numbers(values, []) => Ok(Cow::Borrowed(values)),
            _ => Ok(Cow::Owned(self.values(width, |value| value as f32, |value| value)?)),
        }
    }

    /// The values as the user gave them.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn to_f64(&self, width: usize) -> Result<Vec<f64>> {
        self.values(width, |value| value, f64::from)
    }

    /// Each value: of numbers by `number`, of images by `pixel`.
    fn values<T>(&self, width: usize, number: impl Fn(f64) -> T, pixel: impl Fn(f32) -> T) -> Result<Vec<T>> {
        let mut result = reserve(self.count(width) * width)?;
        match *self {
            FeatureRows::Numbers(values, []) => result.extend(values.iter().map(|&value| number(value.into()))),
            FeatureRows::Numbers(values, offsets) => {
                for row in values.chunks(offsets.len()) {
                    result.extend(row.iter().zip(offsets).map(|(&value, offset)| number(f64::from(value) + offset)));
                }
            }
            FeatureRows::Pixels(pixels, rows) => {
                for &row in rows {
                    let bytes = &pixels[row * width..(row + 1) * width];
                    result.extend(bytes.iter().map(|&byte| pixel(f32::from(byte) / 255.0)));
                }
            }
        }
        Ok(result)
    }
}

/// The rows `rows` of row-major `values`, `width` values each.
pub(crate) fn gather<T: Copy>(values: &[T], width: usize, rows: &[usize]) -> Result<Vec<T>> {
    let mut result = reserve(rows.len() * width)?;
    if width == 1 {
        result.extend(rows.iter().map(|&row| values[row]));
        return Ok(result);
    }
    for &row in rows {
        result.extend_from_slice(&values[row * width..(row + 1) * width]);
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_far_from_zero_keeps_its_differences() {
        let day = 2_460_000.5;
        let rows: Vec<f64> = (0..1000).flat_map(|row| [day + f64::from(row) / 86_400.0, f64::from(row)]).collect();
        let features = Features::from_f64(&rows, 2, 2).unwrap();
        let Features::Numbers { values, offsets, .. } = &features else { panic!() };
        assert!((offsets[0] - day).abs() < 0.01 && offsets[1] == 0.0);
        assert!((f64::from(values.as_slice()[2] - values.as_slice()[0]) * 86_400.0 - 1.0).abs() < 1e-4);
        let back = features.subset(&[7, 3], 2).unwrap().rows().to_f64(2).unwrap();
        assert!(back.iter().zip(&rows[14..16]).all(|(a, b)| (a - b).abs() < 1e-9), "{back:?}");
        // Nothing else changes: not a column with a mean of 900 deviations, nor a constant.
        for column in [[900.0, 902.0], [5e9, 5e9]] {
            let features = Features::from_f64(&column, 1, 1).unwrap();
            assert_eq!(features.rows().to_f32(1).unwrap(), column.map(|value| value as f32).as_slice());
            assert!(matches!(features, Features::Numbers { offsets, .. } if offsets.is_empty()));
        }
    }

    #[test]
    fn a_number_beyond_f32_is_named_as_it_was_written() {
        let message = Features::from_f64(&[1.0, 3e39], 1, 1).unwrap_err().to_string();
        assert!(message.starts_with("row 1, feature 0: 3"), "{message}");
    }
}
