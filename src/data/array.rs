//! Strided views of f32 or f64 memory, so that row-major and column-major hosts hand over what they have.

use super::Shared;
use crate::base::memory::reserve;
use crate::{Error, Result};
use std::borrow::Cow;
use std::ops::Deref;

/// Where the elements of an array lie in a buffer, in units of elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    shape: Vec<usize>,
    strides: Vec<isize>,
    /// The element with all indices 0, counted from the lowest one.
    origin: usize,
    /// How many elements lie between the lowest and the highest, both included.
    extent: usize,
}

impl Layout {
    /// The layout of `shape` with `strides`; without them C order, the last index fastest.
    ///
    /// # Errors
    /// [`Error::Shape`] when the numbers differ in length or overflow.
    pub fn new(shape: &[usize], strides: Option<&[isize]>) -> Result<Self> {
        let overflow = || Error::Shape(format!("an array of shape {shape:?} and strides {strides:?} exceeds memory"));
        let elements =
            shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size)).ok_or_else(overflow)?;
        if elements > isize::MAX as usize / size_of::<f64>() {
            return Err(overflow());
        }
        let strides = match strides {
            Some(given) if given.len() != shape.len() => {
                return Err(Error::Shape(format!("{} strides were given for {} dimensions", given.len(), shape.len())));
            }
            // A stride leads nowhere where there are no elements, or a single one: it may be any number.
            _ if elements == 0 => vec![0; shape.len()],
            Some(given) => given.iter().zip(shape).map(|(&stride, &size)| if size > 1 { stride } else { 0 }).collect(),
            None => {
                let mut strides = vec![1isize; shape.len()];
                for axis in (1..shape.len()).rev() {
                    strides[axis - 1] = strides[axis] * shape[axis] as isize;
                }
                strides
            }
        };
        let (mut below, mut above) = (0isize, 0isize);
        for (&size, &stride) in shape.iter().zip(&strides) {
            let reach = stride.checked_mul(size.saturating_sub(1) as isize).ok_or_else(overflow)?;
            let side = if reach < 0 { &mut below } else { &mut above };
            *side = side.checked_add(reach).ok_or_else(overflow)?;
        }
        let extent = if elements == 0 { 0 } else { above.checked_sub(below).ok_or_else(overflow)? as usize + 1 };
        if extent > isize::MAX as usize / size_of::<f64>() {
            return Err(overflow());
        }
        Ok(Layout { shape: shape.to_vec(), strides, origin: below.unsigned_abs(), extent })
    }

    /// The size of each dimension.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The distance from one index to the next, for each dimension; 0 where there is one index at most.
    pub fn strides(&self) -> &[isize] {
        &self.strides
    }

    /// How many elements the array has.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The element with all indices 0, counted from the lowest one in memory.
    pub fn origin(&self) -> usize {
        self.origin
    }

    /// How many elements of memory the array spans.
    pub fn extent(&self) -> usize {
        self.extent
    }

    /// The dimensions that lead somewhere, by their strides' sizes: stride and number of steps.
    fn steps(&self) -> Vec<(usize, usize)> {
        let axes = self.strides.iter().zip(&self.shape).filter(|&(_, &size)| size > 1 && self.extent > 0);
        let mut steps: Vec<_> = axes.map(|(&stride, &size)| (stride.unsigned_abs(), size - 1)).collect();
        steps.sort_unstable();
        steps
    }

    /// Whether two different indices may name the same element: such an array cannot be written to.
    pub fn overlaps(&self) -> bool {
        let mut reached = 0;
        self.steps().into_iter().any(|(stride, count)| {
            let clash = stride <= reached;
            reached += stride.saturating_mul(count);
            clash
        })
    }

    /// Whether between the lowest and the highest element there is memory that is not the array's.
    pub fn has_gaps(&self) -> bool {
        let mut reached = 0;
        self.steps().into_iter().any(|(stride, count)| {
            let gap = stride > reached + 1;
            reached += stride * count;
            gap
        })
    }

    /// Whether the elements lie next to each other, in C order of the indices.
    pub fn is_dense(&self) -> bool {
        let mut next = 1;
        let axes = self.shape.iter().zip(&self.strides).rev();
        axes.filter(|&(&size, _)| size > 1).all(|(&size, &stride)| {
            let dense = stride == next;
            next *= size as isize;
            dense
        })
    }

    /// The elements of `data`, which spans the layout, in C order.
    fn gather<T: Copy, U>(&self, data: &[T], convert: impl Fn(T) -> U) -> Result<Vec<U>> {
        let mut values = reserve(self.elements())?;
        if self.is_dense() {
            values.extend(data[..self.elements()].iter().map(|&value| convert(value)));
        } else {
            values.extend(self.positions().map(|at| convert(data[at])));
        }
        Ok(values)
    }

    /// The position of each element, counted from the lowest one in memory, in C order of the indices.
    pub fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        let mut index = vec![0usize; self.shape.len()];
        let mut position = self.origin as isize;
        (0..self.elements()).map(move |_| {
            let current = position as usize;
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                position += self.strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                position -= self.strides[axis] * self.shape[axis] as isize;
                index[axis] = 0;
            }
            current
        })
    }
}

/// The memory of a view, from its lowest element to its highest.
#[derive(Clone, Debug)]
pub enum Elements<'a> {
    /// Single precision.
    F32(Memory<'a, f32>),
    /// Double precision.
    F64(Memory<'a, f64>),
    /// Images: each value is a byte divided by 255.
    Pixels(Memory<'a, u8>),
}

/// Values that a view reads.
#[derive(Clone, Debug)]
pub enum Memory<'a, T: Clone> {
    /// Here for as long as the view, or its own.
    Seen(Cow<'a, [T]>),
    /// Lent for as long as anything shares it.
    Lent(Shared<T>),
}

impl<T: Clone> Deref for Memory<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Memory::Seen(values) => values,
            Memory::Lent(values) => values,
        }
    }
}

impl<'a, T: Clone, V: Into<Cow<'a, [T]>>> From<V> for Memory<'a, T> {
    fn from(values: V) -> Self {
        Memory::Seen(values.into())
    }
}

/// How many values a row of `shape` has; the largest number there is where they are more.
pub(crate) fn width_of(shape: &[usize]) -> usize {
    shape.iter().fold(1, |product: usize, &size| product.saturating_mul(size))
}

/// The value of a byte of an image.
pub(super) fn pixel(byte: u8) -> f32 {
    f32::from(byte) / 255.0
}

/// A read-only array.
#[derive(Clone, Debug)]
pub struct ArrayView<'a> {
    elements: Elements<'a>,
    layout: Layout,
}

impl<'a> ArrayView<'a> {
    /// A view of `elements`, which must span what `layout` says.
    ///
    /// # Errors
    /// [`Error::Shape`] when the memory is too small.
    pub fn new(elements: Elements<'a>, layout: Layout) -> Result<Self> {
        let length = match &elements {
            Elements::F32(values) => values.len(),
            Elements::F64(values) => values.len(),
            Elements::Pixels(bytes) => bytes.len(),
        };
        if length < layout.extent() {
            return Err(Error::Shape(format!("the array spans {} elements, its memory has {length}", layout.extent())));
        }
        Ok(ArrayView { elements, layout })
    }

    /// A view of row-major f32 values.
    pub fn f32(values: &'a [f32], shape: &[usize]) -> Result<Self> {
        Self::new(Elements::F32(values.into()), Layout::new(shape, None)?)
    }

    /// A view of row-major f64 values.
    pub fn f64(values: &'a [f64], shape: &[usize]) -> Result<Self> {
        Self::new(Elements::F64(values.into()), Layout::new(shape, None)?)
    }

    /// The size of each dimension.
    pub fn shape(&self) -> &[usize] {
        self.layout.shape()
    }

    /// The memory.
    pub(super) fn elements(&self) -> &Elements<'a> {
        &self.elements
    }

    /// The values in C order, as f64.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn to_f64(&self) -> Result<Vec<f64>> {
        match &self.elements {
            Elements::F32(data) => self.layout.gather(data, f64::from),
            Elements::F64(data) => self.layout.gather(data, |value| value),
            Elements::Pixels(data) => self.layout.gather(data, |byte| pixel(byte).into()),
        }
    }

    /// The values in C order, as f32: a finite value beyond f32 becomes infinite.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        match &self.elements {
            Elements::F32(data) => self.layout.gather(data, |value| value),
            Elements::F64(data) => self.layout.gather(data, |value| value as f32),
            Elements::Pixels(data) => self.layout.gather(data, pixel),
        }
    }

    /// As [`ArrayView::to_f32`]: the memory itself where it was lent and has the values so.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn to_shared_f32(&self) -> Result<Shared<f32>> {
        match &self.elements {
            Elements::F32(Memory::Lent(values)) if self.layout.is_dense() => Ok(values.clone()),
            _ => Ok(self.to_f32()?.into()),
        }
    }

    /// The same for [`ArrayView::to_f64`].
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn to_shared_f64(&self) -> Result<Shared<f64>> {
        match &self.elements {
            Elements::F64(Memory::Lent(values)) if self.layout.is_dense() => Ok(values.clone()),
            _ => Ok(self.to_f64()?.into()),
        }
    }

    /// The same for the bytes of images.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where the elements are numbers; [`Error::OutOfMemory`].
    pub fn to_shared_bytes(&self) -> Result<Shared<u8>> {
        match &self.elements {
            Elements::Pixels(Memory::Lent(bytes)) if self.layout.is_dense() => Ok(bytes.clone()),
            Elements::Pixels(bytes) => Ok(self.layout.gather(bytes, |byte| byte)?.into()),
            _ => Err(Error::InvalidArgument("the elements are numbers, not the bytes of images".into())),
        }
    }

    /// As [`ArrayView::to_f64`], without a copy where the memory has them so.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn as_f64(&self) -> Result<Cow<'_, [f64]>> {
        match &self.elements {
            Elements::F64(data) if self.layout.is_dense() => Ok(Cow::Borrowed(&data[..self.layout.elements()])),
            _ => Ok(Cow::Owned(self.to_f64()?)),
        }
    }

    /// As [`ArrayView::to_f32`], without a copy where the memory has them so.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn as_f32(&self) -> Result<Cow<'_, [f32]>> {
        match &self.elements {
            Elements::F32(data) if self.layout.is_dense() => Ok(Cow::Borrowed(&data[..self.layout.elements()])),
            _ => Ok(Cow::Owned(self.to_f32()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_major_and_reversed_arrays_read_in_c_order() {
        let column_major = [1.0, 3.0, 5.0, 2.0, 4.0, 6.0];
        let layout = Layout::new(&[3, 2], Some(&[1, 3])).unwrap();
        let view = ArrayView::new(Elements::F64((&column_major).into()), layout).unwrap();
        assert_eq!(view.to_f64().unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let layout = Layout::new(&[3], Some(&[-1])).unwrap();
        assert_eq!((layout.origin(), layout.extent()), (2, 3));
        let view = ArrayView::new(Elements::F64((&column_major[..3]).into()), layout).unwrap();
        assert_eq!(view.to_f64().unwrap(), [5.0, 3.0, 1.0]);
    }

    #[test]
    fn only_arrays_in_c_order_are_borrowed() {
        let values = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        let check = |shape: &[usize], strides: Option<&[isize]>, dense: bool, expected: &[f32]| {
            let view = ArrayView::new(Elements::F32((&values).into()), Layout::new(shape, strides).unwrap()).unwrap();
            let found = view.as_f32().unwrap();
            assert_eq!((matches!(found, Cow::Borrowed(_)), &*found), (dense, expected), "{shape:?} {strides:?}");
        };
        check(&[2, 3], None, true, &values);
        check(&[2, 1, 2], Some(&[2, 9, 1]), true, &values[..4]);
        check(&[1, 3], Some(&[9, 1]), true, &values[..3]);
        check(&[], None, true, &values[..1]);
        check(&[0, 1 << 40, 1 << 40], None, false, &[]);
        check(&[2, 2], Some(&[3, 1]), false, &[1.0, 2.0, 4.0, 5.0]);
        check(&[3, 2], Some(&[1, 3]), false, &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        check(&[2, 3], Some(&[3, -1]), false, &[3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
    }

    #[test]
    fn impossible_layouts_are_errors() {
        assert!(Layout::new(&[usize::MAX, 2], None).is_err());
        assert!(Layout::new(&[1 << 62], None).is_err());
        assert!(Layout::new(&[3, 3], Some(&[isize::MAX, 1])).is_err());
        assert!(Layout::new(&[3, 3], Some(&[1])).is_err());
        let view = ArrayView::new(Elements::F32((&[0.0; 5]).into()), Layout::new(&[2, 3], None).unwrap());
        assert!(view.unwrap_err().to_string().contains("spans 6 elements, its memory has 5"));
    }

    #[test]
    fn strides_that_lead_nowhere_may_be_any_number() {
        let layout = Layout::new(&[2, 1, 2], Some(&[2, isize::MAX, 1])).unwrap();
        let view = ArrayView::new(Elements::F64((&[1.0, 2.0, 3.0, 4.0]).into()), layout).unwrap();
        assert_eq!(view.to_f64().unwrap(), [1.0, 2.0, 3.0, 4.0]);
        let empty = Layout::new(&[0, 1 << 40, 1 << 40], None).unwrap();
        assert_eq!((empty.extent(), empty.overlaps()), (0, false));
        assert_eq!(Layout::new(&[2, 0], Some(&[isize::MAX, isize::MIN])).unwrap().extent(), 0);
    }

    #[test]
    fn layouts_know_their_overlaps_and_gaps() {
        let check = |shape: &[usize], strides: &[isize], overlaps: bool, has_gaps: bool| {
            let layout = Layout::new(shape, Some(strides)).unwrap();
            let mut positions: Vec<usize> = layout.positions().collect();
            positions.sort_unstable();
            positions.dedup();
            // The positions themselves say the same.
            assert_eq!(positions.len() < layout.elements(), overlaps, "{shape:?} {strides:?}");
            assert_eq!(positions.len() < layout.extent(), has_gaps, "{shape:?} {strides:?}");
            assert_eq!((layout.overlaps(), layout.has_gaps()), (overlaps, has_gaps), "{shape:?} {strides:?}");
        };
        check(&[2, 3], &[3, 1], false, false);
        check(&[2, 3], &[1, 2], false, false);
        check(&[2, 3], &[-1, -2], false, false);
        check(&[2, 3], &[4, 1], false, true);
        check(&[4], &[3], false, true);
        check(&[4], &[-3], false, true);
        check(&[4, 1], &[1, 9], false, false);
        check(&[2, 2], &[0, 1], true, false);
        check(&[2, 2], &[0, 2], true, true);
        check(&[2, 3], &[2, 1], true, false);
        check(&[0, 3], &[7, 7], false, false);
    }
}
