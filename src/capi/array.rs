//! Arrays of the caller's: any rank, f32 or f64, any strides. Memory between an array's elements may be another
//! thread's at the same time: it is neither touched nor referred to.

use super::pointer;
use crate::base::memory::reserve;
use crate::data::Shared;
use crate::data::array::{ArrayView, Elements, Layout, Memory};
use crate::{Error, Result};
use std::any::Any;
use std::ffi::c_void;
use std::sync::Arc;

/// The elements are `float`.
pub const BIV_F32: i32 = 1;
/// The elements are `double`.
pub const BIV_F64: i32 = 2;

/// An array that a function reads. It is copied before the function returns.
///
/// Row-major (C) memory needs no strides. A column-major matrix of n rows and d columns has shape {n, d} and
/// strides {1, n}. Memory between the elements is not touched: another thread may write there meanwhile.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct biv_array {
    /// The element whose indices are all 0. NULL only in an array of no elements.
    pub data: *const c_void,
    /// BIV_F32 or BIV_F64.
    pub dtype: i32,
    /// The number of dimensions, 1 to 8.
    pub rank: i32,
    /// The size of each dimension: `rank` numbers.
    pub shape: *const i64,
    /// The distance from one index to the next, for each dimension, in elements; it may be negative or 0. NULL
    /// for row-major memory.
    pub strides: *const i64,
    /// How many elements the buffer has from `data` on, for a check that the array lies in it; 0 for no check.
    pub size: i64,
}

/// An array that a function fills. Different indices must be different elements. On failure nothing is written.
///
/// Memory between the elements is not touched: two threads may fill two columns of one matrix at once.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct biv_array_out {
    /// The element whose indices are all 0.
    pub data: *mut c_void,
    /// BIV_F32 or BIV_F64.
    pub dtype: i32,
    /// The number of dimensions, 1 to 8.
    pub rank: i32,
    /// The size of each dimension: `rank` numbers.
    pub shape: *const i64,
    /// The distance from one index to the next, for each dimension, in elements; it may be negative. NULL for
    /// row-major memory.
    pub strides: *const i64,
    /// How many elements the buffer has from `data` on, for a check that the array lies in it; 0 for no check.
    pub size: i64,
}

/// The most dimensions that an array may have.
const MAX_RANK: i32 = 8;

/// Where the elements lie, and the lowest of them.
///
/// # Safety
/// `array` follows the description of [`biv_array`].
pub(super) unsafe fn layout<T>(array: &biv_array, name: &str) -> Result<(Layout, *const T)> {
    if !(1..=MAX_RANK).contains(&array.rank) {
        return Err(Error::Shape(format!("{name}.rank is {}, must be 1 to {MAX_RANK}", array.rank)));
    }
    let rank = array.rank as usize;
    // SAFETY: the description says that there are `rank` sizes and, where not NULL, strides.
    let (shape, strides) = unsafe {
        let shape = pointer::slice(array.shape, rank, &format!("{name}.shape"))?;
        let strides = (!array.strides.is_null())
            .then(|| pointer::slice(array.strides, rank, &format!("{name}.strides")))
            .transpose()?;
        (shape, strides)
    };
    if let Some(size) = shape.iter().find(|&&size| size < 0) {
        return Err(Error::Shape(format!("{name}.shape has the size {size}, which is negative")));
    }
    let shape: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
    let strides: Option<Vec<isize>> = strides.map(|strides| strides.iter().map(|&stride| stride as isize).collect());
    let layout = Layout::new(&shape, strides.as_deref()).map_err(|error| Error::Shape(format!("{name}: {error}")))?;
    if array.size != 0 {
        let (before, after) = (layout.origin(), layout.extent().saturating_sub(layout.origin()));
        if before > 0 || array.size < 0 || after > array.size as usize {
            return Err(Error::Shape(format!(
                "{name} reaches {before} elements before data and {after} from there, its size is {}",
                array.size
            )));
        }
    }
    if layout.extent() > 0 {
        if array.data.is_null() {
            return Err(Error::InvalidArgument(format!("{name}.data is NULL")));
        }
        if !array.data.cast::<T>().is_aligned() {
            return Err(Error::InvalidArgument(format!("{name}.data is not aligned to its elements' size")));
        }
    }
    let origin = layout.origin();
    Ok((layout, array.data.cast::<T>().wrapping_sub(origin)))
}

fn unknown_type(name: &str, dtype: i32) -> Error {
    Error::InvalidArgument(format!("{name}.dtype is {dtype}, must be BIV_F32 (1) or BIV_F64 (2)"))
}

/// A view of a caller's array.
///
/// # Safety
/// `array` is NULL or follows the description of [`biv_array`] as long as the view lives.
pub(super) unsafe fn view<'a>(array: *const biv_array, name: &str) -> Result<ArrayView<'a>> {
    // SAFETY: the caller's promise.
    unsafe { view_of(pointer::read(array, name)?, name, None) }
}

/// The same, of memory that `lender` lends, if any.
///
/// # Safety
/// As [`view`]. Until the last clone of `lender` is dropped, the elements are there and do not change.
pub(super) unsafe fn view_of<'a>(array: &biv_array, name: &str, lender: Option<&Lender>) -> Result<ArrayView<'a>> {
    // SAFETY: the caller's promise.
    let (elements, layout) = unsafe {
        match array.dtype {
            BIV_F32 => elements(array, name, lender).map(|(values, layout)| (Elements::F32(values), layout))?,
            BIV_F64 => elements(array, name, lender).map(|(values, layout)| (Elements::F64(values), layout))?,
            other => return Err(unknown_type(name, other)),
        }
    };
    ArrayView::new(elements, layout)
}

/// What gives lent memory back to its owner when it is dropped.
pub(super) type Lender = Arc<dyn Any + Send + Sync>;

/// Values of a host's, kept by their lender.
struct Lent<T> {
    values: *const [T],
    _lender: Lender,
}

// SAFETY: the values do not change, and a lender may be dropped on any thread.
unsafe impl<T: Sync> Send for Lent<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Lent<T> {}

impl<T> AsRef<[T]> for Lent<T> {
    fn as_ref(&self) -> &[T] {
        // SAFETY: the lender keeps the values while it lives: the promise of `view_of`.
        unsafe { &*self.values }
    }
}

/// The elements of a caller's array and how they lie: in place, unless they have gaps between them.
///
/// # Safety
/// As [`view_of`], with elements of type `T`.
pub(super) unsafe fn elements<'a, T: Copy + Send + Sync + 'static>(
    array: &biv_array,
    name: &str,
    lender: Option<&Lender>,
) -> Result<(Memory<'a, T>, Layout)> {
    // SAFETY: the caller's promise: from the lowest element on, each of the layout's positions is an element.
    unsafe {
        let (layout, lowest) = layout::<T>(array, name)?;
        if layout.has_gaps() {
            let mut values = reserve(layout.elements())?;
            values.extend(layout.positions().map(|at| lowest.add(at).read()));
            return Ok((values.into(), Layout::new(layout.shape(), None)?));
        }
        let values: &[T] = pointer::slice(lowest, layout.extent(), name)?;
        let values = match lender {
            Some(lender) => Memory::Lent(Shared::lent(Arc::new(Lent { values, _lender: lender.clone() }))),
            None => values.into(),
        };
        Ok((values, layout))
    }
}

/// As [`view`], with NULL meaning none.
///
/// # Safety
/// As [`view`].
pub(super) unsafe fn view_optional<'a>(array: *const biv_array, name: &str) -> Result<Option<ArrayView<'a>>> {
    if array.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { view(array, name) }.map(Some)
}

/// An error where [`fill`] would refuse the array; nothing is written.
///
/// # Safety
/// As [`fill`].
pub(super) unsafe fn check_room(array: *const biv_array_out, name: &str, shape: &[usize]) -> Result<()> {
    // SAFETY: the caller's promise. Without values there is nothing to write.
    unsafe { fill(array, name, shape, &[]) }
}

/// Fills a caller's array with row-major `values` of `shape`.
///
/// # Safety
/// `array` is NULL or follows the description of [`biv_array_out`], and nothing else uses its elements.
pub(super) unsafe fn fill(array: *const biv_array_out, name: &str, shape: &[usize], values: &[f64]) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let biv_array_out { data, dtype, rank, shape: sizes, strides, size } = *pointer::read(array, name)?;
        let array = biv_array { data, dtype, rank, shape: sizes, strides, size };
        match dtype {
            BIV_F32 => write(&array, name, shape, values, |value| value as f32),
            BIV_F64 => write(&array, name, shape, values, |value| value),
            other => Err(unknown_type(name, other)),
        }
    }
}

/// Writes `values`, of `shape`, to the elements of an array of type `T`.
///
/// # Safety
/// As [`fill`].
unsafe fn write<T>(
    array: &biv_array,
    name: &str,
    shape: &[usize],
    values: &[f64],
    convert: impl Fn(f64) -> T,
) -> Result<()> {
    // SAFETY: the caller's promise.
    let (layout, lowest) = unsafe { layout::<T>(array, name)? };
    if layout.overlaps() {
        return Err(Error::Shape(format!("{name}: the strides make elements overlap")));
    }
    if without_one(layout.shape()) != without_one(shape) {
        let given = layout.shape();
        return Err(Error::Shape(format!("{name}: the array has shape {given:?}, the result has shape {shape:?}")));
    }
    // SAFETY: the caller's promise: from the lowest element on, each of the layout's positions is an element.
    let write = |(at, &value)| unsafe { lowest.cast_mut().add(at).write(convert(value)) };
    if layout.is_dense() {
        values.iter().enumerate().for_each(write);
    } else {
        layout.positions().zip(values).for_each(write);
    }
    Ok(())
}

/// A shape without a last dimension of 1, which may be left out.
fn without_one(shape: &[usize]) -> &[usize] {
    if let [rest @ .., 1] = shape
        && !rest.is_empty()
    {
        rest
    } else {
        shape
    }
}
