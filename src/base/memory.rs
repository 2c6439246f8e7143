//! Large buffers: where there is no memory for one, that is an error and not the end of the process.

use crate::{Error, Result};
use bytemuck::allocation::try_zeroed_slice_box;

/// An empty vector with room for `length` values, or an error instead of an abort.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn reserve<T>(length: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(length).map_err(|_| no_memory::<T>(length))?;
    Ok(values)
}

/// Room for `count` more values, or an error instead of an abort.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn make_room<T>(values: &mut Vec<T>, count: usize) -> Result<()> {
    values.try_reserve(count).map_err(|_| no_memory::<T>(values.len().saturating_add(count)))
}

#[cold]
fn no_memory<T>(length: usize) -> Error {
    Error::OutOfMemory(format!("no memory for {length} values of {} bytes", size_of::<T>()))
}

/// `length` times `value`, or an error instead of an abort.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn filled<T: Clone>(length: usize, value: T) -> Result<Vec<T>> {
    let mut values = reserve(length)?;
    values.resize(length, value);
    Ok(values)
}

/// `length` zeros that take memory only once they are touched, or an error instead of an abort.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn zeroed(length: usize) -> Result<Vec<u8>> {
    let zeros =
        try_zeroed_slice_box(length).map_err(|()| Error::OutOfMemory(format!("no memory for {length} bytes")))?;
    let zeros = zeros.into_vec();
    #[cfg(target_os = "linux")]
    prefer_large_pages(&zeros);
    Ok(zeros)
}

/// The values of an iterator in a vector, or an error instead of an abort.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn collect<T>(values: impl ExactSizeIterator<Item = T>) -> Result<Vec<T>> {
    let mut collected = reserve(values.len())?;
    collected.extend(values);
    Ok(collected)
}

/// Asks the system for large pages where `memory` has not been touched: its first use is faster then.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn prefer_large_pages(memory: &[u8]) {
    const PAGE: usize = 2 << 20;
    let start = memory.as_ptr().align_offset(PAGE).min(memory.len());
    let pages = &memory[start..];
    // SAFETY: whole pages of memory that is borrowed; the advice changes none of their values, and may be refused.
    unsafe { libc::madvise(pages.as_ptr().cast_mut().cast(), pages.len() / PAGE * PAGE, libc::MADV_HUGEPAGE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_zeros_and_more_than_there_is_room_for_are_an_error() {
        // Some large pages and parts of others.
        assert!(zeroed((9 << 20) + 5).unwrap().iter().all(|&byte| byte == 0));
        assert!(zeroed(0).unwrap().is_empty());
        assert!(matches!(zeroed(usize::MAX), Err(Error::OutOfMemory(_))));
    }
}
