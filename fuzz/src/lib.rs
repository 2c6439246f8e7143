//! What the fuzz targets share.

use std::ffi::{CStr, CString};
use std::path::Path;
use std::ptr::null;

pub use biv::capi::*;

/// An error must be one of the caller's or of the input: one of the library's own is a finding.
pub fn check(result: &biv::Result<()>) {
    if let Err(error) = result {
        assert!(!matches!(error, biv::Error::Internal(_)), "{error}");
        assert!(!error.to_string().is_empty());
    }
}

/// As [`check`], of a status and the message that goes with it.
pub fn check_status(status: biv_status) -> biv_status {
    let message = last_message();
    assert_eq!(status == BIV_OK, message.is_empty(), "status {status}: '{message}'");
    assert!((0..=16).contains(&status) && status != BIV_ERROR_INTERNAL, "status {status}: {message}");
    status
}

/// The message of this thread's last call.
pub fn last_message() -> String {
    // SAFETY: the message lives until this thread's next call.
    unsafe { CStr::from_ptr(biv_last_error_message()) }.to_str().expect("messages are UTF-8").into()
}

/// A call that makes a handle: with an error it is NULL, whatever was there before.
pub fn made<T>(make: impl FnOnce(*mut *mut T) -> biv_status) -> Result<*mut T, biv_status> {
    let mut handle = 8 as *mut T;
    let status = check_status(make(&mut handle));
    assert_eq!(status == BIV_OK, !handle.is_null(), "status {status}, handle {handle:?}");
    if status == BIV_OK { Ok(handle) } else { Err(status) }
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

/// A row-major array of `values`.
pub fn array(values: &[f64], shape: &[i64]) -> biv_array {
    biv_array {
        data: values.as_ptr().cast(),
        dtype: BIV_F64,
        rank: shape.len() as i32,
        shape: shape.as_ptr(),
        strides: null(),
        size: values.len() as i64,
    }
}

/// As [`array`], to be filled.
pub fn array_out(values: &mut [f64], shape: &[i64]) -> biv_array_out {
    let biv_array { dtype, rank, shape, strides, size, .. } = array(values, shape);
    biv_array_out { data: values.as_mut_ptr().cast(), dtype, rank, shape, strides, size }
}

/// A struct for the library to fill: zeros, and its size at the beginning.
pub fn sized<T: Copy>() -> T {
    // SAFETY: the library's structs hold numbers only and begin with their size.
    unsafe {
        let mut value = std::mem::zeroed::<T>();
        (&raw mut value).cast::<usize>().write(size_of::<T>());
        value
    }
}

/// Reads all of a data set: what is in it is always finite, and its variances are no less than 0.
pub fn examine(dataset: *const biv_dataset) -> biv_dataset_info {
    let mut info: biv_dataset_info = sized();
    // SAFETY: the buffers are as large as their shapes say.
    unsafe {
        assert_eq!(check_status(biv_dataset_get_info(dataset, &mut info)), BIV_OK);
        assert!(info.rows > 0 && info.features > 0 && info.outputs > 0);
        let copy = |columns: i64, read: &dyn Fn(*const biv_array_out) -> biv_status| {
            let shape = [info.rows, columns];
            let mut values = vec![f64::NAN; (info.rows * columns) as usize];
            let status = check_status(read(&array_out(&mut values, &shape)));
            assert!(status != BIV_OK || values.iter().all(|value| value.is_finite()));
            (status, values)
        };
        assert_eq!(copy(info.features, &|out| biv_dataset_copy_features(dataset, out)).0, BIV_OK);
        assert_eq!(copy(info.outputs, &|out| biv_dataset_copy_labels(dataset, out)).0, BIV_OK);
        assert_eq!(copy(info.outputs, &|out| biv_dataset_copy_clean_labels(dataset, out)).0, BIV_OK);
        let (status, variances) = copy(info.outputs, &|out| biv_dataset_copy_variances(dataset, out));
        assert_eq!(status, if info.has_variances == 1 { BIV_OK } else { BIV_ERROR_UNSUPPORTED });
        assert!(status != BIV_OK || variances.iter().all(|&variance| variance >= 0.0));
    }
    info
}

/// Describes a model and predicts two rows with it.
pub fn use_model(model: *const biv_model) {
    let mut info: biv_model_info = sized();
    // SAFETY: the buffers are as large as their sizes and shapes say.
    unsafe {
        assert_eq!(check_status(biv_model_get_info(model, &mut info)), BIV_OK);
        let mut needed = 0;
        assert_eq!(check_status(biv_model_describe(model, std::ptr::null_mut(), 0, &mut needed)), BIV_OK);
        let mut text = vec![0; needed];
        assert_eq!(check_status(biv_model_describe(model, text.as_mut_ptr(), needed, &mut needed)), BIV_OK);
        let features = vec![0.5; 2 * info.inputs as usize];
        let mut predictions = vec![0.0; 2 * info.outputs as usize];
        let (features_shape, shape) = ([2, info.inputs], [2, info.outputs]);
        let out = array_out(&mut predictions, &shape);
        check_status(biv_model_predict(model, &array(&features, &features_shape), &out));
    }
}
