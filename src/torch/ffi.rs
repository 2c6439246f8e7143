//! What crosses between Rust and C++: pointers to tensors, and messages.

use crate::{Error, Result};
use std::ffi::{CStr, c_char};
use tch::{TchError, Tensor};

/// An `at::Tensor`, only ever behind a pointer.
#[repr(C)]
pub(crate) struct AtTensor {
    _private: [u8; 0],
}

/// The tensor behind tch's handle.
pub(crate) fn pointer(tensor: &Tensor) -> *const AtTensor {
    tensor.as_ptr().cast()
}

/// Takes a message of libtorch's, NULL meaning success, as the matching error.
pub(crate) fn torch(text: *mut c_char) -> Result<()> {
    message(text).map_err(|text| Error::from(TchError::Torch(text)))
}

/// Takes a message of C++, NULL meaning success.
pub(crate) fn message(text: *mut c_char) -> std::result::Result<(), String> {
    take(text).map_or(Ok(()), Err)
}

/// Takes a text of C++; `None` for NULL.
pub(crate) fn take(text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: C++ returns NULL or a NUL-terminated string from strdup, which is ours to free.
    unsafe {
        let owned = CStr::from_ptr(text).to_string_lossy().into_owned();
        libc::free(text.cast());
        Some(owned)
    }
}
