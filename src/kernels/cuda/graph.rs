//! CUDA graphs: work on a GPU that is captured once and then repeated by one call.

use super::library::{GraphFunctions, Library, Recording};
use crate::torch::ffi::{message, torch};
use crate::{Error, Result};
use std::ffi::c_int;
use tch::Device;

/// Captured work on a GPU, to be repeated.
#[derive(Debug)]
pub(crate) struct Graph {
    recording: *mut Recording,
    functions: &'static GraphFunctions,
}

// SAFETY: a CUDA graph belongs to no thread; it is repeated through &mut, by one at a time.
unsafe impl Send for Graph {}

impl Graph {
    /// An error where graphs cannot be made here.
    pub(crate) fn require() -> Result<()> {
        Library::get().map(|_| ())
    }

    /// Captures what `work` does on `device`, without doing it, and gives what `work` returns: its tensors get their
    /// values when the graph is replayed. Nothing else may wait for the device meanwhile.
    pub(crate) fn record<T>(device: Device, work: impl FnOnce() -> Result<T>) -> Result<(Self, T)> {
        let Device::Cuda(index) = device else {
            return Err(Error::Internal("only the work of a GPU is captured".into()));
        };
        Graph::record_by(&Library::get()?.graph, index, work)
    }

    fn record_by<T>(
        functions: &'static GraphFunctions,
        device: usize,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<(Self, T)> {
        let mut recording = std::ptr::null_mut();
        // SAFETY: `recording` is a place for the result.
        torch(unsafe { (functions.begin)(device as c_int, &mut recording) })?;
        let graph = Graph { recording, functions };
        let capture = Capture(&graph);
        let result = work();
        let ended = capture.end();
        let result = result?;
        ended?;
        Ok((graph, result))
    }

    /// Does the captured work, without waiting for it.
    pub(crate) fn replay(&mut self) -> Result<()> {
        // SAFETY: the recording is complete.
        torch(unsafe { (self.functions.replay)(self.recording) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: the recording is ours and is not used again.
        let freed = message(unsafe { (self.functions.free)(self.recording) });
        debug_assert_eq!(freed, Ok(()), "a recording can be freed");
    }
}

/// A capture that is under way on this thread. It ends when this is dropped, by a panic too: the thread would otherwise
/// go on capturing whatever it does.
struct Capture<'a>(&'a Graph);

impl Capture<'_> {
    fn end(self) -> Result<()> {
        let graph = self.0;
        std::mem::forget(self);
        // SAFETY: the capture was begun on this thread, and ends once.
        torch(unsafe { (graph.functions.end)(graph.recording) })
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        // What was captured is not used, so its errors do not matter.
        // SAFETY: as in `end`.
        let _ = message(unsafe { (self.0.functions.end)(self.0.recording) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::ffi::c_char;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    thread_local! {
        static CALLS: RefCell<Vec<&'static str>> = const { RefCell::new(vec![]) };
    }

    /// Functions that only note that they were called.
    static FUNCTIONS: GraphFunctions = GraphFunctions { begin, end, replay, free };

    fn note(call: &'static str) -> *mut c_char {
        CALLS.with_borrow_mut(|calls| calls.push(call));
        std::ptr::null_mut()
    }

    unsafe extern "C" fn begin(_: c_int, _: *mut *mut Recording) -> *mut c_char {
        note("begin")
    }

    unsafe extern "C" fn end(_: *mut Recording) -> *mut c_char {
        note("end")
    }

    unsafe extern "C" fn replay(_: *mut Recording) -> *mut c_char {
        note("replay")
    }

    unsafe extern "C" fn free(_: *mut Recording) -> *mut c_char {
        note("free")
    }

    #[test]
    fn a_capture_ends_however_its_work_does() {
        let calls = || CALLS.take();
        let (mut graph, value) = Graph::record_by(&FUNCTIONS, 0, || Ok(7)).unwrap();
        graph.replay().unwrap();
        drop(graph);
        assert_eq!((value, calls()), (7, vec!["begin", "end", "replay", "free"]));

        let failed = Graph::record_by(&FUNCTIONS, 0, || Err::<(), _>(Error::Internal("no".into())));
        assert!(failed.is_err());
        assert_eq!(calls(), ["begin", "end", "free"]);

        let panicked =
            catch_unwind(AssertUnwindSafe(|| Graph::record_by(&FUNCTIONS, 0, || -> Result<()> { panic!() })));
        assert!(panicked.is_err());
        assert_eq!(calls(), ["begin", "end", "free"]);
    }
}
