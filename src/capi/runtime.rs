//! The library as a whole: versions, messages, schemas, devices and threads.

use super::boundary::{boundary, last_message};
use super::pointer;
use super::status::biv_status;
use crate::Error;
use crate::base::options::schema;
use crate::torch::device;
use std::ffi::{CString, c_char};
use std::sync::LazyLock;

/// The ABI's version: it grows when a program has to be compiled again. biv_abi_version() is the library's.
pub const BIV_ABI_VERSION: i32 = 1;

/// The library's version, for example "0.1.0". Static, never to be freed. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn biv_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The library's ABI version: a program must have been compiled with the same BIV_ABI_VERSION. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn biv_abi_version() -> i32 {
    BIV_ABI_VERSION
}

/// What the library was built from and runs on, as JSON: version, libtorch, debug or
/// release, and "blas", the library whose matrix product libtorch calls. That is
/// "libtorch_cpu.so", unless a BLAS of the host's comes before it: then results differ
/// in their last bits, and speed by as much as the libraries do (docs/linking.md).
/// Static, never to be freed. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn biv_build_info() -> *const c_char {
    static INFO: LazyLock<CString> = LazyLock::new(|| {
        let info = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "abi_version": BIV_ABI_VERSION,
            "libtorch": crate::torch::runtime::torch_version(),
            "debug": cfg!(debug_assertions),
            "blas": crate::torch::runtime::blas(),
        });
        CString::new(info.to_string()).unwrap_or_default()
    });
    INFO.as_ptr()
}

/// What was wrong with this thread's last call, in one sentence of UTF-8; empty
/// after a success. Never NULL, valid until this thread's next call that returns a status
/// (the _free functions leave it alone), never to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn biv_last_error_message() -> *const c_char {
    last_message()
}

/// The JSON Schema of the options called `name`: "csv", "synthetic", "split",
/// "noise", "distribution", "loss", "model", "trainer", "images", "faces", "settings", "experiment" or "sweep".
///
/// @param out set to a static string, never to be freed.
/// @return BIV_OK or BIV_ERROR_INVALID_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_config_schema(name: *const c_char, out: *mut *const c_char) -> biv_status {
    static SCHEMAS: LazyLock<Vec<(&str, CString)>> = LazyLock::new(|| {
        use crate::data::noise;
        use crate::train::{loss, trainer};
        use crate::{data, experiment, model};
        let schemas = [
            ("csv", schema::<data::CsvOptions>()),
            ("synthetic", schema::<data::SyntheticOptions>()),
            ("split", schema::<data::SplitOptions>()),
            ("noise", schema::<noise::NoiseOptions>()),
            ("distribution", schema::<noise::VarianceDistribution>()),
            ("loss", schema::<loss::Loss>()),
            ("model", schema::<model::ModelOptions>()),
            ("trainer", schema::<trainer::TrainerOptions>()),
            ("images", schema::<data::ImageOptions>()),
            ("faces", schema::<data::FaceOptions>()),
            ("settings", schema::<experiment::Settings>()),
            ("experiment", schema::<experiment::Config>()),
            ("sweep", schema::<experiment::SweepOptions>()),
        ];
        schemas.map(|(name, text)| (name, CString::new(text).unwrap_or_default())).into()
    });
    // SAFETY: the header's contract for both pointers.
    boundary(|| unsafe {
        pointer::write(out, std::ptr::null(), "out")?;
        let name = pointer::text(name, "name")?;
        let (_, text) = SCHEMAS.iter().find(|(known, _)| *known == name).ok_or_else(|| {
            let known: Vec<&str> = SCHEMAS.iter().map(|(name, _)| *name).collect();
            Error::InvalidArgument(format!("there are no options '{name}', only '{}'", known.join("', '")))
        })?;
        pointer::write(out, text.as_ptr(), "out")
    })
}

/// The number of CUDA devices that can be used. 0 is no error: no GPU, no driver
/// or no CUDA libraries. The first call loads them. Any thread.
///
/// @return BIV_OK or BIV_ERROR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_cuda_device_count(out: *mut i32) -> biv_status {
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe { pointer::write(out, device::cuda_device_count() as i32, "out") })
}

/// How many threads libtorch uses inside one operation on the CPU. It is a
/// property of the process, shared with a host that uses libtorch itself.
///
/// @return BIV_OK or BIV_ERROR_INVALID_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_get_num_threads(out: *mut i32) -> biv_status {
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe { pointer::write(out, tch::get_num_threads(), "out") })
}

/// Sets what biv_get_num_threads gives, at least 1. libbiv never does so by
/// itself. Results are reproducible for one number of threads; another one may
/// round differently.
///
/// @return BIV_OK or BIV_ERROR_INVALID_CONFIG. Call it while nothing is training.
#[unsafe(no_mangle)]
pub extern "C" fn biv_set_num_threads(threads: i32) -> biv_status {
    boundary(|| device::set_threads(threads))
}

/// Lets the `number`th point of panic from now on panic, counted from 1; 0 for none. Returns
/// how many were still to come before. For tests of the library itself.
#[cfg(feature = "faults")]
#[unsafe(no_mangle)]
pub extern "C" fn biv_test_panic_at(number: i64) -> i64 {
    crate::base::fault::panic_at(number)
}
