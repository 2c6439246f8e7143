//! The features of a data set: numbers, or the bytes of images.

use crate::Result;
use crate::base::memory::reserve;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// Features, row-major, shared with the data sets that were made from the same ones.
#[derive(Clone, Debug)]
pub enum Features {
    /// Numbers in the user's units.
    Numbers(Arc<Vec<f32>>),
    /// Images: each value is a byte divided by 255. They stay bytes until a
    /// mini-batch needs them, and a part of a data set shares them with the whole.
    Pixels {
        /// All the images.
        pixels: Arc<Vec<u8>>,
        /// Which of them are the rows.
        rows: Arc<Vec<usize>>,
    },
}

/// Consecutive rows of [`Features`].
#[derive(Clone, Copy, Debug)]
pub enum FeatureRows<'a> {
    /// Their values.
    Numbers(&'a [f32]),
    /// All the images, and which of them are the rows.
    Pixels(&'a [u8], &'a [usize]),
}

impl Features {
    /// All the rows.
    pub fn rows(&self) -> FeatureRows<'_> {
        match self {
            Features::Numbers(values) => FeatureRows::Numbers(values),
            Features::Pixels { pixels, rows } => FeatureRows::Pixels(pixels, rows),
        }
    }

    /// The rows `indices`, of `width` values each.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn subset(&self, indices: &[usize], width: usize) -> Result<Self> {
        Ok(match self {
            Features::Numbers(values) => Features::Numbers(Arc::new(gather(values, width, indices)?)),
            Features::Pixels { pixels, rows } => {
                Features::Pixels { pixels: pixels.clone(), rows: Arc::new(gather(rows, 1, indices)?) }
            }
        })
    }
}

impl<'a> FeatureRows<'a> {
    /// How many rows of `width` values there are.
    pub fn count(&self, width: usize) -> usize {
        match self {
            FeatureRows::Numbers(values) => values.len() / width,
            FeatureRows::Pixels(_, rows) => rows.len(),
        }
    }

    /// Some of the rows, of `width` values each.
    pub fn slice(&self, range: Range<usize>, width: usize) -> Self {
        match self {
            FeatureRows::Numbers(values) => FeatureRows::Numbers(&values[range.start * width..range.end * width]),
            FeatureRows::Pixels(pixels, rows) => FeatureRows::Pixels(pixels, &rows[range]),
        }
    }

    /// The values as numbers.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn to_f32(&self, width: usize) -> Result<Cow<'a, [f32]>> {
        match *self {
            FeatureRows::Numbers(values) => Ok(Cow::Borrowed(values)),
            FeatureRows::Pixels(pixels, rows) => {
                let mut values = reserve(rows.len() * width)?;
                for &row in rows {
                    values.extend(pixels[row * width..(row + 1) * width].iter().map(|&byte| f32::from(byte) / 255.0));
                }
                Ok(Cow::Owned(values))
            }
        }
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
