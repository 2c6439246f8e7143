//! libtorch itself: its version, its libraries, and what they are fast at on this machine.

use super::ffi::{message, take};
use crate::{Error, Result};
use std::ffi::{CStr, c_char};

unsafe extern "C" {
    fn biv_torch_load(name: *const c_char) -> *mut c_char;
    fn biv_torch_blas(is_own: *mut bool) -> *mut c_char;
    fn biv_torch_intel() -> bool;
    fn biv_torch_torch_version() -> *const c_char;
}

/// Loads libtorch's CUDA libraries into the process, once per call that finds them missing.
pub(crate) fn load_cuda() -> Result<()> {
    load(c"libtorch_cuda.so").map_err(Error::Device)
}

fn load(name: &CStr) -> std::result::Result<(), String> {
    // SAFETY: the name is NUL-terminated; what is loaded only registers itself with libtorch.
    message(unsafe { biv_torch_load(name.as_ptr()) })
}

/// The library that multiplies matrices for libtorch.
pub(crate) struct Blas {
    /// Its file's name.
    pub file: String,
    /// Whether it is libtorch itself, or one that it comes with.
    pub is_own: bool,
}

/// Whose matrix product libtorch calls. `None` where that cannot be told.
pub(crate) fn blas() -> Option<Blas> {
    let mut is_own = false;
    // SAFETY: the function writes to the flag alone and may be called at any time.
    let path = take(unsafe { biv_torch_blas(&mut is_own) })?;
    Some(Blas { file: path.rsplit('/').next().unwrap_or_default().to_string(), is_own })
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::process::Command;

    #[test]
    fn symbols_of_what_is_loaded_are_not_global() {
        let folder = tempfile::tempdir().unwrap();
        let [source, library] = ["fake.c", "fake.so"].map(|name| folder.path().join(name));
        std::fs::write(&source, "int biv_test_of_a_local_symbol;\n").unwrap();
        assert!(Command::new("cc").args(["-shared", "-o"]).args([&library, &source]).status().unwrap().success());
        let name = CString::new(library.to_str().unwrap()).unwrap();
        load(&name).unwrap();
        // SAFETY: the names are NUL-terminated.
        let [loaded, global] = unsafe {
            [libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD), libc::RTLD_DEFAULT]
                .map(|from| libc::dlsym(from, c"biv_test_of_a_local_symbol".as_ptr()))
        };
        assert!(!loaded.is_null() && global.is_null());
    }
}
