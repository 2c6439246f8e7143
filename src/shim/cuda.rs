//! The safe side of `cuda.cpp`: CUDA graphs, from a library that is loaded when one is asked for.

use super::{message, torch};
use crate::{Error, Result};
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use tch::Device;

const NAME: &str = "libbiv_cuda.so";

/// A `biv_cuda_graph`, only ever behind a pointer.
#[repr(C)]
struct Recording {
    _private: [u8; 0],
}

type OnRecording = unsafe extern "C" fn(*mut Recording) -> *mut c_char;

/// The functions of the library.
#[derive(Debug)]
struct Library {
    begin: unsafe extern "C" fn(c_int, *mut *mut Recording) -> *mut c_char,
    end: OnRecording,
    replay: OnRecording,
    free: OnRecording,
}

impl Library {
    /// The library, loaded at the first call, after libtorch's CUDA libraries.
    fn get() -> Result<&'static Self> {
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
        // SAFETY: these are the functions of these names in cuda.cpp, of these types.
        unsafe {
            Ok(Library {
                begin: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(c_int, *mut *mut Recording) -> *mut c_char,
                >(symbol(c"biv_cuda_graph_begin")?),
                end: std::mem::transmute::<*mut c_void, OnRecording>(symbol(c"biv_cuda_graph_end")?),
                replay: std::mem::transmute::<*mut c_void, OnRecording>(symbol(c"biv_cuda_graph_replay")?),
                free: std::mem::transmute::<*mut c_void, OnRecording>(symbol(c"biv_cuda_graph_free")?),
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

/// Work on a GPU that was recorded, to be repeated.
#[derive(Debug)]
pub(crate) struct Graph {
    recording: *mut Recording,
    library: &'static Library,
}

// SAFETY: a CUDA graph belongs to no thread; it is repeated through &mut, by one at a time.
unsafe impl Send for Graph {}

impl Graph {
    /// An error where graphs cannot be made here.
    pub(crate) fn require() -> Result<()> {
        Library::get().map(|_| ())
    }

    /// Records what `work` does on `device`, without doing it, and gives what `work` returns: its tensors get
    /// their values when the graph is replayed. Nothing else must wait for the device meanwhile.
    pub(crate) fn record<T>(device: Device, work: impl FnOnce() -> Result<T>) -> Result<(Self, T)> {
        let library = Library::get()?;
        let Device::Cuda(index) = device else {
            return Err(Error::Internal("only the work of a GPU is recorded".into()));
        };
        let mut recording = std::ptr::null_mut();
        // SAFETY: `recording` is a place for the result.
        torch(unsafe { (library.begin)(index as c_int, &mut recording) })?;
        let graph = Graph { recording, library };
        let result = work();
        // SAFETY: this recording was begun on this thread.
        let ended = torch(unsafe { (library.end)(graph.recording) });
        let result = result?;
        ended?;
        Ok((graph, result))
    }

    /// Does what was recorded, without waiting for it.
    pub(crate) fn replay(&mut self) -> Result<()> {
        // SAFETY: the recording is complete.
        torch(unsafe { (self.library.replay)(self.recording) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: the recording is ours and is not used again.
        let freed = message(unsafe { (self.library.free)(self.recording) });
        debug_assert_eq!(freed, Ok(()), "a recording can be freed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_looked_for_beside_this_one_and_its_absence_is_told() {
        assert_eq!(folder().unwrap(), std::env::current_exe().unwrap().parent().unwrap());
        match Graph::require() {
            Ok(()) => eprintln!("SKIPPED: {NAME} is there"),
            Err(error) => assert!(error.to_string().contains("made by 'make cuda'"), "{error}"),
        }
    }
}
