//! The library as a whole: versions, messages, schemas, devices and threads.

use super::boundary::{boundary, last_message, last_message_from_one};
use super::pointer;
use super::status::biv_status;
use crate::Error;
use crate::base::log::{self, Level};
use crate::base::options::schema;
use crate::torch::device;
use crate::torch::runtime::{blas, torch_version};
use once_cell::sync::OnceCell;
use std::ffi::{CString, c_char};
use std::sync::LazyLock;

/// The ABI version of this header. It grows when programs have to be compiled again.
pub const BIV_ABI_VERSION: i32 = 1;

/// The library's version, for example "0.1.0": a static text, never to be freed. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn biv_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The library's ABI version. A program must have been compiled with the same BIV_ABI_VERSION. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn biv_abi_version() -> i32 {
    BIV_ABI_VERSION
}

/// What the library is built from and runs on, as JSON: {"version": "0.1.0", "abi_version": 1, "libtorch":
/// "2.11.0", "debug": false, "blas": "libtorch_cpu.so", "kernels": [{"name": "mlp_cpu", "in_use": true, "reason":
/// "AVX-512"}, {"name": "mlp_gpu", "in_use": false, "reason": "there is no NVIDIA GPU, or no driver for it"}, ...]}.
///
/// "blas" is the library whose matrix product libtorch calls. It is libtorch's own ("libnvpl_blas_lp64_gomp.so.0" on
/// 64-bit Arm), whatever BLAS the host brought: this library sees to it when it is loaded (docs/linking.md). Another one
/// means that the system forbade it: then results differ in their last bits and speed may differ much. It is null where
/// that cannot be told.
///
/// "kernels" are the library's own implementations: whether each is in use on this machine, with which instructions, or
/// why libtorch's operations serve instead. To find out, the first call loads libtorch's CUDA libraries if they are there.
///
/// @param out set to a static text, never to be freed; NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_build_info(out: *mut *const c_char) -> biv_status {
    static INFO: OnceCell<CString> = OnceCell::new();
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe {
        pointer::write(out, std::ptr::null(), "out")?;
        let info = INFO.get_or_try_init(|| {
            let info = serde_json::json!({
                "version": env!("CARGO_PKG_VERSION"),
                "abi_version": BIV_ABI_VERSION,
                "libtorch": torch_version(),
                "debug": cfg!(debug_assertions),
                "blas": blas().map(|blas| blas.file),
                "kernels": crate::kernels::report(),
            });
            CString::new(info.to_string()).map_err(|error| Error::Internal(error.to_string()))
        })?;
        pointer::write(out, info.as_ptr(), "out")
    })
}

/// Tells the log what the library runs on, and that a BLAS which is not libtorch's has come before it.
pub(super) fn say_what_is_in_use() {
    log::once(Level::Info, &format!("this is libbiv {} with libtorch {}", env!("CARGO_PKG_VERSION"), torch_version()));
    if let Some(blas) = blas().filter(|blas| !blas.is_own) {
        let effect = "results differ in their last bits and training may be slow (docs/linking.md)";
        log::once(Level::Warning, &format!("libtorch's matrix products are those of {}: {effect}", blas.file));
    }
}

/// What was wrong with this thread's last call, in one sentence of UTF-8; empty after a success.
///
/// Never NULL, never to be freed. It is valid until this thread calls a function that returns a status;
/// the _free functions leave it alone.
#[unsafe(no_mangle)]
pub extern "C" fn biv_last_error_message() -> *const c_char {
    last_message()
}

/// As biv_last_error_message(), with the rows, columns and indices of arrays and lists counted from 1, as Julia, MATLAB,
/// R and Fortran do: "row 5, label 1: NaN is not a number" instead of "row 4, label 0: ...". Rows of files count from 1 in
/// both.
#[unsafe(no_mangle)]
pub extern "C" fn biv_last_error_message_from_one() -> *const c_char {
    last_message_from_one()
}

/// The JSON Schema of a kind of options, with the meaning and the default of every field.
///
/// @param name "arrays", "variances", "csv", "images", "synthetic", "split", "noise", "distribution", "loss", "model",
///   "export", "import", "trainer", "load", "fit", "settings", "experiment" or "sweep".
/// @param out set to a static text, never to be freed; NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_config_schema(name: *const c_char, out: *mut *const c_char) -> biv_status {
    static SCHEMAS: LazyLock<Vec<(&str, CString)>> = LazyLock::new(|| {
        use crate::data::noise;
        use crate::train::{checkpoint, fit, loss, trainer};
        use crate::{data, experiment, model};
        let schemas = [
            ("arrays", schema::<data::ArrayOptions>()),
            ("variances", schema::<data::VarianceOptions>()),
            ("csv", schema::<data::CsvOptions>()),
            ("synthetic", schema::<data::SyntheticOptions>()),
            ("split", schema::<data::SplitOptions>()),
            ("noise", schema::<noise::NoiseOptions>()),
            ("distribution", schema::<noise::VarianceDistribution>()),
            ("loss", schema::<loss::Loss>()),
            ("model", schema::<model::ModelOptions>()),
            ("export", schema::<model::ExportOptions>()),
            ("import", schema::<model::ImportOptions>()),
            ("trainer", schema::<trainer::TrainerOptions>()),
            ("load", schema::<checkpoint::LoadOptions>()),
            ("fit", schema::<fit::FitOptions>()),
            ("images", schema::<data::ImageOptions>()),
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

/// The number of CUDA devices that can be used.
///
/// The first call loads libtorch's CUDA libraries, where they are installed.
///
/// @param out set to 0 where there is no GPU, no driver or no CUDA library; that is no error.
/// @return BIV_OK, BIV_ERROR_INVALID_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_cuda_device_count(out: *mut i32) -> biv_status {
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe { pointer::write(out, device::cuda_device_count() as i32, "out") })
}

/// How many threads libtorch uses inside one operation on the CPU. The number is the process's: a host
/// that uses libtorch itself shares it. By default there are as many as processors that the process may run
/// on or, where a cgroup limits their time (as a container's), as many as the limit has processors.
///
/// @return BIV_OK, BIV_ERROR_INVALID_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_get_num_threads(out: *mut i32) -> biv_status {
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe { pointer::write(out, device::threads() as i32, "out") })
}

/// Sets what biv_get_num_threads() gives. Results are reproducible for one
/// number of threads; with another one they may round differently.
///
/// @param threads 1 to 1024. More than there are processors makes work slower; the log says so.
/// @return BIV_OK, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_OUT_OF_MEMORY where the system does not start so many
/// threads. Any thread, while nothing is training.
#[unsafe(no_mangle)]
pub extern "C" fn biv_set_num_threads(threads: i32) -> biv_status {
    boundary(|| {
        device::set_threads(threads)?;
        if let Ok(processors) = std::thread::available_parallelism()
            && threads as usize > processors.get()
        {
            let advice = "more threads than processors make work slower";
            log::once(Level::Warning, &format!("{threads} threads on {processors} processors: {advice}"));
        }
        Ok(())
    })
}

/// Makes the n-th fault point from now panic, counted from 1; 0 for none. Returns how many were still to
/// come before. For tests of the library itself.
#[cfg(feature = "faults")]
#[unsafe(no_mangle)]
pub extern "C" fn biv_test_panic_at(number: i64) -> i64 {
    crate::base::fault::panic_at(number)
}
