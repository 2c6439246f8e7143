//! Reading and writing through a caller's pointers, each checked for NULL and alignment.

use crate::{Error, Result};
use std::ffi::{CStr, c_char, c_void};

/// The largest struct that a later header could have: more is not a size but garbage.
const LARGEST_STRUCT: usize = 4096;

fn check<T>(pointer: *const T, name: &str) -> Result<()> {
    if pointer.is_null() {
        return Err(Error::InvalidArgument(format!("{name} is NULL")));
    }
    if !pointer.is_aligned() {
        return Err(Error::InvalidArgument(format!("{name} is not aligned to {} bytes", align_of::<T>())));
    }
    Ok(())
}

/// Writes to an out-parameter.
///
/// # Safety
/// `out` is NULL or points to memory for a `T`.
pub(super) unsafe fn write<T>(out: *mut T, value: T, name: &str) -> Result<()> {
    check(out, name)?;
    // SAFETY: not NULL and aligned; the caller's promise for the rest.
    unsafe { out.write(value) };
    Ok(())
}

/// Reads a struct of the caller's.
///
/// # Safety
/// `pointer` is NULL or points to a `T` that lives as long as the result.
pub(super) unsafe fn read<'a, T>(pointer: *const T, name: &str) -> Result<&'a T> {
    check(pointer, name)?;
    // SAFETY: not NULL and aligned; the caller's promise for the rest.
    Ok(unsafe { &*pointer })
}

/// `count` values of the caller's; NULL is legal when there are none.
///
/// # Safety
/// `values` is NULL or points to `count` values that live as long as the result.
pub(super) unsafe fn slice<'a, T>(values: *const T, count: usize, name: &str) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    check(values, name)?;
    check_length::<T>(count, name)?;
    // SAFETY: not NULL, aligned and of a possible size; the caller's promise for the rest.
    Ok(unsafe { std::slice::from_raw_parts(values, count) })
}

/// As [`slice`], to be written to.
///
/// # Safety
/// As [`slice`]; nothing else refers to the values meanwhile.
pub(super) unsafe fn slice_mut<'a, T>(values: *mut T, count: usize, name: &str) -> Result<&'a mut [T]> {
    if count == 0 {
        return Ok(&mut []);
    }
    check(values, name)?;
    check_length::<T>(count, name)?;
    // SAFETY: not NULL, aligned and of a possible size; the caller's promise for the rest.
    Ok(unsafe { std::slice::from_raw_parts_mut(values, count) })
}

fn check_length<T>(count: usize, name: &str) -> Result<()> {
    if count > isize::MAX as usize / size_of::<T>() {
        return Err(Error::InvalidArgument(format!("{name}: {count} values are more than memory holds")));
    }
    Ok(())
}

/// A string of the caller's.
///
/// # Safety
/// `text` is NULL or points to a NUL-terminated string that lives as long as the result.
pub(super) unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str> {
    check(text, name)?;
    // SAFETY: not NULL; the caller's promise for the rest.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|error| Error::InvalidArgument(format!("{name} is not UTF-8: {error}")))
}

/// JSON options of the caller's; NULL means all the defaults.
///
/// # Safety
/// As [`text`].
pub(super) unsafe fn options<T: serde::de::DeserializeOwned + schemars::JsonSchema + 'static>(
    json: *const c_char,
    name: &str,
) -> Result<T> {
    // SAFETY: the caller's promise.
    let json = if json.is_null() { "{}" } else { unsafe { text(json, name)? } };
    crate::base::options::parse(name, json)
}

/// Copies `value` and a NUL into the caller's buffer.
///
/// # Safety
/// As [`copy_bytes`].
pub(super) unsafe fn copy_text(value: &str, buffer: *mut c_char, capacity: usize, needed: *mut usize) -> Result<()> {
    // SAFETY: the caller's promise; where there is room, it is for the text and the NUL.
    unsafe {
        if has_room("the text", value.len() + 1, buffer.cast(), capacity, needed)? {
            std::ptr::copy_nonoverlapping(value.as_ptr().cast(), buffer, value.len());
            buffer.add(value.len()).write(0);
        }
    }
    Ok(())
}

/// Copies `value` into the caller's buffer.
///
/// # Safety
/// `buffer` is NULL or has room for `capacity` bytes; `needed` is NULL or points to a number.
pub(super) unsafe fn copy_bytes(value: &[u8], buffer: *mut c_void, capacity: usize, needed: *mut usize) -> Result<()> {
    // SAFETY: the caller's promise; where there is room, it is for all bytes.
    unsafe {
        if has_room("the content", value.len(), buffer, capacity, needed)? {
            std::ptr::copy_nonoverlapping(value.as_ptr(), buffer.cast(), value.len());
        }
    }
    Ok(())
}

/// Whether the caller wants `size` bytes in the buffer, which then has room for them, or only to know their number.
///
/// # Safety
/// As [`copy_bytes`].
unsafe fn has_room(what: &str, size: usize, buffer: *mut c_void, capacity: usize, needed: *mut usize) -> Result<bool> {
    if !needed.is_null() {
        // SAFETY: the caller's promise.
        unsafe { write(needed, size, "needed")? };
    }
    if buffer.is_null() && capacity == 0 && !needed.is_null() {
        return Ok(false);
    }
    check(buffer, "buffer")?;
    if capacity < size {
        return Err(Error::BufferTooSmall(format!("{what} needs {size} bytes, the buffer has {capacity}")));
    }
    Ok(true)
}

/// A result that begins with its own size in bytes, `size_t struct_size`.
///
/// # Safety
/// The type is `repr(C)`, made of integers, floats and pointers, and begins with that `usize`.
pub(super) unsafe trait SizedStruct: Copy {
    const NAME: &'static str;
}

/// The size of the caller's struct.
///
/// # Safety
/// `out` is NULL or points to a struct whose `struct_size` is its size.
pub(super) unsafe fn check_sized<T: SizedStruct>(out: *const T) -> Result<usize> {
    check(out, T::NAME)?;
    // SAFETY: the struct begins with its size; the caller's promise.
    let size = unsafe { out.cast::<usize>().read() };
    if size < 2 * size_of::<usize>() || size > LARGEST_STRUCT {
        let name = T::NAME;
        return Err(Error::InvalidArgument(format!("struct_size is {size}: set it to sizeof({name}) before the call")));
    }
    Ok(size)
}

/// Writes as much of `value` as the caller's struct, of an older or a later header, holds;
/// what a later one has beyond it becomes 0.
///
/// # Safety
/// As [`check_sized`].
pub(super) unsafe fn write_sized<T: SizedStruct>(out: *mut T, value: T) -> Result<()> {
    // SAFETY: the caller's promise.
    let size = unsafe { check_sized(out)? };
    let (known, size_of_size) = (size.min(size_of::<T>()), size_of::<usize>());
    // SAFETY: the caller's struct has `size` bytes, `value` at least `known`; the first ones stay the size.
    unsafe {
        let (out, value) = (out.cast::<u8>(), (&raw const value).cast::<u8>());
        std::ptr::copy_nonoverlapping(value.add(size_of_size), out.add(size_of_size), known - size_of_size);
        std::ptr::write_bytes(out.add(known), 0, size - known);
    }
    Ok(())
}
