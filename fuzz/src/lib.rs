//! What the fuzz targets share.

use std::ffi::{CStr, CString};
use std::path::Path;

pub use biv::capi::*;

/// An error must be one of the caller's or of the input: one of the library's own is a finding.
pub fn check(result: &biv::Result<()>) {
    if let Err(error) = result {
        assert!(!matches!(error, biv::Error::Internal(_)), "{error}");
        assert!(!error.to_string().is_empty());
    }
}

/// As [`check`], of a status and the message that goes with it.
pub fn check_status(status: biv_status) {
    // SAFETY: the message lives until this thread's next call.
    let message = unsafe { CStr::from_ptr(biv_last_error_message()) }.to_str().expect("messages are UTF-8");
    assert_eq!(status == BIV_OK, message.is_empty(), "status {status}: '{message}'");
    assert!((0..=16).contains(&status) && status != BIV_ERROR_INTERNAL, "status {status}: {message}");
}

/// A C string of any bytes up to the first NUL.
pub fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes.split(|&byte| byte == 0).next().unwrap_or_default()).unwrap_or_default()
}

/// Calls `read` with a file of `bytes` called `name`, in memory where the system has such a folder.
pub fn with_file(name: &str, bytes: &[u8], read: impl FnOnce(&Path)) {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.expect("a temporary folder");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("a temporary file");
    read(&path);
}
