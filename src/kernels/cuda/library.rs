//! `libbiv_cuda.so`: found and loaded when a GPU is first used. It may be missing.

use super::interface::QueuedStep;
use crate::torch::ffi::{AtTensor, message};
use crate::torch::runtime::torch_version;
use crate::{Error, Result};
use once_cell::sync::OnceCell;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::mem::transmute;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const NAME: &str = "libbiv_cuda.so";

/// The interface between the two libraries: the number in `interface.hpp`. It grows with every change of a function's
/// parameters or of a struct's layout.
const INTERFACE: u32 = 1;

/// A `biv_cuda_graph`, only ever behind a pointer.
#[repr(C)]
pub(super) struct Recording {
    _private: [u8; 0],
}

type TextFn = unsafe extern "C" fn() -> *const c_char;
type MessageFn = unsafe extern "C" fn() -> *mut c_char;
type BeginFn = unsafe extern "C" fn(c_int, *mut *mut Recording) -> *mut c_char;
type RecordingFn = unsafe extern "C" fn(*mut Recording) -> *mut c_char;
type BatchNormFn = unsafe extern "C" fn(
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
type Conv2dFn = unsafe extern "C" fn(
    input: *const AtTensor,
    weight: *const AtTensor,
    stride: i64,
    padding: i64,
    result: *mut *mut AtTensor,
) -> *mut c_char;
type GatherImagesFn = unsafe extern "C" fn(
    bytes: *const AtTensor,
    index: *const AtTensor,
    scale: f64,
    shift: f64,
    result: *mut *mut AtTensor,
) -> *mut c_char;

type MlpFitsFn = unsafe extern "C" fn(device: c_int, widths: *const i64, layers: usize, fits: *mut bool) -> *mut c_char;
type MlpTrainFn = unsafe extern "C" fn(
    features: *const AtTensor,
    labels: *const AtTensor,
    parameters: *mut AtTensor,
    means: *mut AtTensor,
    squares: *mut AtTensor,
    widths: *const i64,
    layers: usize,
    steps: *const QueuedStep,
    count: usize,
    rows: *const i64,
    row_count: usize,
    coefficients: *const f32,
    losses: *mut f32,
) -> *mut c_char;

/// The functions of the library.
#[derive(Debug)]
pub(crate) struct Library {
    pub(super) nvrtc: MessageFn,
    pub(super) graph: GraphFunctions,
    pub(super) batch_norm: BatchNormFn,
    pub(super) conv2d: Conv2dFn,
    pub(super) gather_images: GatherImagesFn,
    pub(super) mlp_fits: MlpFitsFn,
    pub(super) mlp_train: MlpTrainFn,
}

/// Those for CUDA graphs.
#[derive(Debug)]
pub(super) struct GraphFunctions {
    pub begin: BeginFn,
    pub end: RecordingFn,
    pub replay: RecordingFn,
    pub free: RecordingFn,
}

impl Library {
    /// The library, loaded at the first call that finds it. libtorch's CUDA libraries must be loaded.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where it is missing, or not made for this library.
    pub(crate) fn get() -> Result<&'static Self> {
        static LIBRARY: OnceCell<Library> = OnceCell::new();
        LIBRARY.get_or_try_init(|| Library::load(&path()?)).map_err(|cause| {
            Error::Unsupported(format!(
                "kernels and graphs on a GPU need {NAME} beside the library, made by 'make cuda': {cause}"
            ))
        })
    }

    /// The library, where its kernels can be compiled. Graphs need no compiling.
    ///
    /// # Errors
    /// As [`Library::get`], and [`Error::Unsupported`] without NVRTC.
    pub(crate) fn with_kernels() -> Result<&'static Self> {
        let library = Library::get()?;
        // SAFETY: the function takes nothing and may be called at any time.
        message(unsafe { (library.nvrtc)() }).map_err(|cause| {
            Error::Unsupported(format!("kernels on a GPU need NVRTC, which comes with libtorch: {cause}"))
        })?;
        Ok(library)
    }

    /// Loads the library at `path`, an absolute one, and makes sure that it is of this interface before anything of it
    /// is used.
    fn load(path: &Path) -> std::result::Result<Self, String> {
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: the name is NUL-terminated; loading the library runs nothing but libtorch's registrations.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            // SAFETY: dlopen has just failed, so there is a message, which lives until this thread's next failure.
            return Err(unsafe { CStr::from_ptr(libc::dlerror()) }.to_string_lossy().into_owned());
        }
        let symbol = |name: &CStr| {
            // SAFETY: the library is loaded, the name is NUL-terminated.
            let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
            if address.is_null() { Err(format!("'{}' has no {name:?}", path.display())) } else { Ok(address) }
        };
        let library = check_interface(path, symbol).and_then(|()| {
            // SAFETY: the library is of this interface: these are the functions of these names and types in graph.cpp,
            // images.cpp, mlp.cpp and interface.cpp.
            unsafe {
                Ok(Library {
                    nvrtc: transmute::<*mut c_void, MessageFn>(symbol(c"biv_cuda_nvrtc")?),
                    graph: GraphFunctions {
                        begin: transmute::<*mut c_void, BeginFn>(symbol(c"biv_cuda_graph_begin")?),
                        end: transmute::<*mut c_void, RecordingFn>(symbol(c"biv_cuda_graph_end")?),
                        replay: transmute::<*mut c_void, RecordingFn>(symbol(c"biv_cuda_graph_replay")?),
                        free: transmute::<*mut c_void, RecordingFn>(symbol(c"biv_cuda_graph_free")?),
                    },
                    batch_norm: transmute::<*mut c_void, BatchNormFn>(symbol(c"biv_cuda_batch_norm")?),
                    conv2d: transmute::<*mut c_void, Conv2dFn>(symbol(c"biv_cuda_conv2d")?),
                    gather_images: transmute::<*mut c_void, GatherImagesFn>(symbol(c"biv_cuda_gather_images")?),
                    mlp_fits: transmute::<*mut c_void, MlpFitsFn>(symbol(c"biv_cuda_mlp_fits")?),
                    mlp_train: transmute::<*mut c_void, MlpTrainFn>(symbol(c"biv_cuda_mlp_train")?),
                })
            }
        });
        if library.is_err() {
            // SAFETY: nothing of the library is used.
            unsafe { libc::dlclose(handle) };
        }
        library
    }
}

/// Compares the interface of the library at `path` with ours.
fn check_interface(
    path: &Path,
    symbol: impl Fn(&CStr) -> std::result::Result<*mut c_void, String>,
) -> std::result::Result<(), String> {
    // SAFETY: since the first interface this function takes nothing and gives a string literal.
    let found = unsafe {
        let interface = transmute::<*mut c_void, TextFn>(symbol(c"biv_cuda_interface")?);
        CStr::from_ptr(interface()).to_string_lossy().into_owned()
    };
    let wanted = format!("{INTERFACE} for libtorch {}", torch_version());
    if found == wanted {
        return Ok(());
    }
    Err(format!("'{}' has interface {found}, this library needs interface {wanted}", path.display()))
}

/// Where `libbiv_cuda.so` is: in the folder of the library or program that this code is in, or in `../lib` for a program
/// in `bin`. It is looked for nowhere else.
fn path() -> std::result::Result<PathBuf, String> {
    let folder = folder().ok_or("the library's own folder cannot be told")?;
    let candidates = [folder.join(NAME), folder.join("../lib").join(NAME)];
    candidates.into_iter().find(|path| path.is_file()).ok_or(format!("there is no '{}'", folder.join(NAME).display()))
}

/// The folder of the library or program that this code is in.
fn folder() -> Option<PathBuf> {
    // SAFETY: all of a Dl_info's fields may be 0; dladdr takes any address, here a function's of ours.
    let info = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        (libc::dladdr(folder as *const c_void, &mut info) != 0 && !info.dli_fname.is_null()).then_some(info)?
    };
    // SAFETY: the name of a loaded object; the one of this code stays loaded.
    let name = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(info.dli_fname) }.to_bytes()));
    // A program that was found by PATH has its bare name here.
    let file = if name.parent() == Some(Path::new("")) { std::env::current_exe().ok()? } else { name.to_path_buf() };
    Some(std::path::absolute(file).ok()?.parent()?.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Compiles `source`, in C, to a library in `folder`.
    fn compile(folder: &Path, source: &str) -> PathBuf {
        let (file, library) = (folder.join("fake.c"), folder.join(NAME));
        std::fs::write(&file, source).unwrap();
        let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &file]).status().unwrap();
        assert!(compiled.success());
        library
    }

    fn failure(source: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        Library::load(&compile(folder.path(), source)).unwrap_err()
    }

    #[test]
    fn a_library_of_another_interface_is_not_used() {
        let interface = |text: &str| format!("const char *biv_cuda_interface(void) {{ return \"{text}\"; }}\n");
        let (ours, torch) = (INTERFACE, torch_version());
        for other in [format!("{} for libtorch {torch}", ours + 1), format!("{ours} for libtorch 1.0.0")] {
            let message = failure(&interface(&other));
            let expected = format!("has interface {other}, this library needs interface {ours} for libtorch {torch}");
            assert!(message.ends_with(&expected), "{message}");
        }
        let message = failure("void biv_cuda_graph_begin(void) {}\n");
        assert!(message.ends_with("has no \"biv_cuda_interface\""), "{message}");
        let message = failure(&interface(&format!("{ours} for libtorch {torch}")));
        assert!(message.ends_with("has no \"biv_cuda_nvrtc\""), "ours is used: {message}");
    }

    #[test]
    fn both_sides_have_the_same_interface() {
        assert!(include_str!("interface.hpp").contains(&format!("#define BIV_CUDA_INTERFACE {INTERFACE}\n")));
    }

    #[test]
    fn the_library_is_looked_for_beside_this_one_and_its_absence_is_told() {
        let folder = folder().unwrap();
        assert_eq!(folder, std::env::current_exe().unwrap().parent().unwrap());
        match Library::get().map(|_| ()) {
            Ok(()) => assert!(folder.join(NAME).is_file()),
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("made by 'make cuda'"), "{error}");
                assert!(
                    path().is_ok() || error.contains(&format!("there is no '{}'", folder.join(NAME).display())),
                    "{error}"
                );
            }
        }
    }
}
