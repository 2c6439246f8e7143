//! `libbiv_cuda.so`: found and loaded when a GPU is first asked for; it may be missing.

use super::mlp;
use crate::torch::ffi::AtTensor;
use crate::{Error, Result};
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

const NAME: &str = "libbiv_cuda.so";

/// A `biv_cuda_graph`, only ever behind a pointer.
#[repr(C)]
pub(super) struct Recording {
    _private: [u8; 0],
}

type Begin = unsafe extern "C" fn(c_int, *mut *mut Recording) -> *mut c_char;
type OnRecording = unsafe extern "C" fn(*mut Recording) -> *mut c_char;
type BatchNorm = unsafe extern "C" fn(
    input: *const AtTensor,
    weight: *const AtTensor,
    bias: *const AtTensor,
    running_mean: *const AtTensor,
    running_var: *const AtTensor,
    shortcut: *const AtTensor,
    momentum: f64,
    epsilon: f64,
    relu: bool,
    pool_size: c_int,
    pool_stride: c_int,
    pool_padding: c_int,
    result: *mut *mut AtTensor,
) -> *mut c_char;
type Conv2d = unsafe extern "C" fn(
    input: *const AtTensor,
    weight: *const AtTensor,
    stride: i64,
    padding: i64,
    result: *mut *mut AtTensor,
) -> *mut c_char;
type GatherImages = unsafe extern "C" fn(
    bytes: *const AtTensor,
    index: *const AtTensor,
    scale: f64,
    shift: f64,
    result: *mut *mut AtTensor,
) -> *mut c_char;

type MlpFits = unsafe extern "C" fn(device: c_int, widths: *const i64, layers: usize, fits: *mut bool) -> *mut c_char;
type MlpTrain = unsafe extern "C" fn(
    features: *const AtTensor,
    labels: *const AtTensor,
    parameters: *mut AtTensor,
    means: *mut AtTensor,
    squares: *mut AtTensor,
    widths: *const i64,
    layers: usize,
    steps: *const mlp::Step,
    count: usize,
    rows: *const i64,
    row_count: usize,
    coefficients: *const f32,
    losses: *mut f32,
) -> *mut c_char;

/// The functions of the library.
#[derive(Debug)]
pub(super) struct Library {
    pub begin: Begin,
    pub end: OnRecording,
    pub replay: OnRecording,
    pub free: OnRecording,
    pub batch_norm: BatchNorm,
    pub conv2d: Conv2d,
    pub gather_images: GatherImages,
    pub mlp_fits: MlpFits,
    pub mlp_train: MlpTrain,
}

impl Library {
    /// The library, loaded at the first call, after libtorch's CUDA libraries.
    pub(super) fn get() -> Result<&'static Self> {
        static LIBRARY: OnceLock<std::result::Result<Library, String>> = OnceLock::new();
        LIBRARY.get_or_init(Library::load).as_ref().map_err(|cause| {
            Error::Unsupported(format!(
                "CUDA graphs need {NAME} beside the library, made by 'make cuda': it could not be loaded ({cause})"
            ))
        })
    }

    fn load() -> std::result::Result<Self, String> {
        let beside = folder().map(|folder| folder.join(NAME)).filter(|path| path.is_file());
        let path = beside.as_deref().unwrap_or(Path::new(NAME));
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: the path is NUL-terminated; loading the library runs nothing of its own.
        let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if library.is_null() {
            // SAFETY: dlopen has just failed, so there is a message, which lives until this thread's next failure.
            return Err(unsafe { CStr::from_ptr(libc::dlerror()) }.to_string_lossy().into_owned());
        }
        let symbol = |name: &CStr| {
            // SAFETY: the library stays loaded for ever, the name is NUL-terminated.
            let address = unsafe { libc::dlsym(library, name.as_ptr()) };
            if address.is_null() { Err(format!("it has no {name:?}")) } else { Ok(address) }
        };
        // SAFETY: these are the functions of these names in graph.cpp, images.cpp and mlp.cpp, of these types.
        unsafe {
            Ok(Library {
                begin: std::mem::transmute::<*mut c_void, Begin>(symbol(c"biv_cuda_graph_begin")?),
                end: std::mem::transmute::<*mut c_void, OnRecording>(symbol(c"biv_cuda_graph_end")?),
                replay: std::mem::transmute::<*mut c_void, OnRecording>(symbol(c"biv_cuda_graph_replay")?),
                free: std::mem::transmute::<*mut c_void, OnRecording>(symbol(c"biv_cuda_graph_free")?),
                batch_norm: std::mem::transmute::<*mut c_void, BatchNorm>(symbol(c"biv_cuda_batch_norm")?),
                conv2d: std::mem::transmute::<*mut c_void, Conv2d>(symbol(c"biv_cuda_conv2d")?),
                gather_images: std::mem::transmute::<*mut c_void, GatherImages>(symbol(c"biv_cuda_gather_images")?),
                mlp_fits: std::mem::transmute::<*mut c_void, MlpFits>(symbol(c"biv_cuda_mlp_fits")?),
                mlp_train: std::mem::transmute::<*mut c_void, MlpTrain>(symbol(c"biv_cuda_mlp_train")?),
            })
        }
    }
}

/// Where the library or the program is that this code is in.
fn folder() -> Option<&'static Path> {
    // SAFETY: all of a Dl_info's fields may be 0; dladdr takes any address, here a function's of ours.
    let info = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        (libc::dladdr(folder as *const c_void, &mut info) != 0 && !info.dli_fname.is_null()).then_some(info)?
    };
    // SAFETY: the name of a loaded object, which this code's stays.
    let name: &'static CStr = unsafe { CStr::from_ptr(info.dli_fname) };
    Path::new(OsStr::from_bytes(name.to_bytes())).parent()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_looked_for_beside_this_one_and_its_absence_is_told() {
        assert_eq!(folder().unwrap(), std::env::current_exe().unwrap().parent().unwrap());
        match Library::get().map(|_| ()) {
            Ok(()) => eprintln!("SKIPPED: {NAME} is there"),
            Err(error) => assert!(error.to_string().contains("made by 'make cuda'"), "{error}"),
        }
    }
}
