//! CUDA graphs: work on a GPU that is recorded once and then repeated by one call.

use super::library::{Library, Recording};
use crate::torch::ffi::{message, torch};
use crate::{Error, Result};
use std::ffi::c_int;
use tch::Device;

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
