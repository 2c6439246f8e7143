//! libtorch itself: its version, its libraries, and what they are good at here.

use super::ffi::{message, take};
use crate::{Error, Result};
use std::ffi::{CStr, c_char};

unsafe extern "C" {
    fn biv_torch_load_cuda() -> *mut c_char;
    fn biv_torch_blas() -> *mut c_char;
    fn biv_torch_intel() -> bool;
    fn biv_torch_torch_version() -> *const c_char;
}

/// Loads libtorch's CUDA libraries into the process, once per call that finds them missing.
pub(crate) fn load_cuda() -> Result<()> {
    // SAFETY: the function takes nothing and may be called at any time.
    message(unsafe { biv_torch_load_cuda() }).map_err(Error::Device)
}

/// The file name of the library that multiplies matrices for libtorch: its own,
/// unless a BLAS of the host's hides it. `None` where that cannot be told.
pub(crate) fn blas() -> Option<String> {
    // SAFETY: the function takes nothing and may be called at any time.
    let path = take(unsafe { biv_torch_blas() })?;
    Some(path.rsplit('/').next().unwrap_or_default().to_string())
}

/// Whether libtorch's products of large matrices come near the processor's limit: those of MKL do on Intel's.
pub(crate) fn has_fast_products() -> bool {
    // SAFETY: the function takes nothing and may be called at any time.
    unsafe { biv_torch_intel() }
}

/// The version of the libtorch that was compiled against.
pub(crate) fn torch_version() -> &'static str {
    // SAFETY: the function returns a string literal.
    unsafe { CStr::from_ptr(biv_torch_torch_version()) }.to_str().unwrap_or_default()
}
