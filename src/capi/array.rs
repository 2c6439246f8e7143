//! Arrays of the caller's: any rank, f32 or f64, any strides.

use super::pointer;
use crate::data::array::{ArrayView, ArrayViewMut, Elements, ElementsMut, Layout};
use crate::{Error, Result};
use std::ffi::c_void;

/// The elements are `float`.
pub const BIV_F32: i32 = 1;
/// The elements are `double`.
pub const BIV_F64: i32 = 2;

/// An array that a function reads. The function copies what it needs: the memory
/// is the caller's again when the call returns.
///
/// Row-major (C) memory needs no strides. For a column-major matrix of n rows
/// and d columns: shape {n, d}, strides {1, n}.
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
    /// From one index to the next, for each dimension, in elements, negative or 0 too; NULL for row-major.
    pub strides: *const i64,
    /// How many elements the buffer has from `data` on, to be checked against; 0 when not stated.
    pub size: i64,
}

/// An array that a function fills, described like biv_array. Different indices
/// must be different elements. Nothing is written unless the call succeeds.
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
    /// From one index to the next, for each dimension, in elements; NULL for row-major.
    pub strides: *const i64,
    /// How many elements the buffer has from `data` on, to be checked against; 0 when not stated.
    pub size: i64,
}

/// The most dimensions that an array may have.
const MAX_RANK: i32 = 8;

/// Where the elements lie, and the lowest of them.
///
/// # Safety
/// `array` follows the description of [`biv_array`].
unsafe fn layout<T>(array: &biv_array, name: &str) -> Result<(Layout, *const T)> {
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

/// Does `$body` with `$element` as the element type of the array's dtype.
macro_rules! with_dtype {
    ($dtype:expr, $name:expr, f32 => $f32:expr, f64 => $f64:expr) => {
        match $dtype {
            BIV_F32 => $f32,
            BIV_F64 => $f64,
            other => {
                Err(Error::InvalidArgument(format!("{}.dtype is {other}, must be BIV_F32 (1) or BIV_F64 (2)", $name)))
            }
        }
    };
}

/// A view of a caller's array.
///
/// # Safety
/// `array` is NULL or follows the description of [`biv_array`] as long as the view lives.
pub(super) unsafe fn view<'a>(array: *const biv_array, name: &str) -> Result<ArrayView<'a>> {
    // SAFETY: the caller's promise; the layout says how many elements there are from the lowest on.
    unsafe {
        let array = pointer::read(array, name)?;
        with_dtype!(array.dtype, name,
            f32 => {
                let (layout, lowest) = layout::<f32>(array, name)?;
                ArrayView::new(Elements::F32(pointer::slice(lowest, layout.extent(), name)?), layout)
            },
            f64 => {
                let (layout, lowest) = layout::<f64>(array, name)?;
                ArrayView::new(Elements::F64(pointer::slice(lowest, layout.extent(), name)?), layout)
            }
        )
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

/// Fills a caller's array with row-major `values` of `shape`.
///
/// # Safety
/// `array` is NULL or follows the description of [`biv_array_out`], and nothing else uses its memory.
pub(super) unsafe fn fill(array: *const biv_array_out, name: &str, shape: &[usize], values: &[f64]) -> Result<()> {
    // SAFETY: the caller's promise; the layout says how many elements there are from the lowest on.
    unsafe {
        let biv_array_out { data, dtype, rank, shape: sizes, strides, size } = *pointer::read(array, name)?;
        let array = biv_array { data, dtype, rank, shape: sizes, strides, size };
        let mut view = with_dtype!(dtype, name,
            f32 => {
                let (layout, lowest) = layout::<f32>(&array, name)?;
                let elements = pointer::slice_mut(lowest.cast_mut(), layout.extent(), name)?;
                ArrayViewMut::new(ElementsMut::F32(elements), layout)
            },
            f64 => {
                let (layout, lowest) = layout::<f64>(&array, name)?;
                let elements = pointer::slice_mut(lowest.cast_mut(), layout.extent(), name)?;
                ArrayViewMut::new(ElementsMut::F64(elements), layout)
            }
        )?;
        view.fill(shape, values).map_err(|error| Error::Shape(format!("{name}: {error}")))
    }
}
