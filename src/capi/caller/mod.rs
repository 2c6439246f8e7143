//! The thread that called, as the host has it: what is set aside while the library runs on it, its floating-point modes
//! and a stack with too little room, and given back to the host's callbacks.

mod floats;
mod stack;

use crate::Result;
use crate::torch::ending;
use floats::Floats;
use std::cell::Cell;
use std::ffi::c_void;
use std::mem::ManuallyDrop;

/// What a callback gets back.
#[derive(Clone, Copy)]
struct Host {
    floats: Floats,
    /// Where the host's stack ends, when the library is on another one.
    stack: Option<stack::End>,
}

thread_local! {
    /// While a function of the library runs; `None` in the host's callbacks.
    static HOST: Cell<Option<Host>> = const { Cell::new(None) };
}

/// Runs a function of the library.
///
/// # Errors
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory) when the thread has too little stack and there is no memory for
/// another one; nothing has run then.
pub(super) fn in_library<T>(body: impl FnOnce() -> T) -> Result<T> {
    let floats = Floats::replace_by_ordinary();
    let before = HOST.replace(Some(Host { floats, stack: None }));
    let result = stack::with_room(|stack| {
        if stack.is_some() {
            HOST.set(Some(Host { floats, stack }));
        }
        let _at_work = ending::at_work();
        body()
    });
    HOST.replace(before).map_or(floats, |host| host.floats).set();
    result
}

/// Runs a callback of the host's: with the host's floating-point modes and on its stack, as though it had called itself.
///
/// A thread that is ended within it stays here for good: Python ends its threads so when they come back to an interpreter
/// that has gone.
pub(super) fn in_host<T>(call: impl FnOnce() -> T) -> T {
    let Some(host) = HOST.take() else { return contained(call) };
    let away = ending::away();
    host.floats.set();
    let result = stack::on(host.stack, || contained(call));
    let floats = Floats::replace_by_ordinary();
    HOST.set(Some(Host { floats, ..host }));
    drop(away);
    result
}

unsafe extern "C-unwind" {
    /// Calls `call`; an exception that leaves it ends the process, and a thread that ends in it sleeps.
    fn biv_torch_call_host(call: unsafe extern "C-unwind" fn(*mut c_void), data: *mut c_void);
}

/// Runs `call`, which nothing leaves but by returning.
fn contained<T, F: FnOnce() -> T>(call: F) -> T {
    if cfg!(miri) {
        return call();
    }
    let mut call = CallOnce { call: ManuallyDrop::new(call), result: None };
    // SAFETY: `run` gets the call that it is made for, once.
    unsafe { biv_torch_call_host(CallOnce::<T, F>::run, (&raw mut call).cast()) };
    call.result.take().expect("a call that returned has a result")
}

/// A call behind a pointer, and its result.
struct CallOnce<T, F> {
    call: ManuallyDrop<F>,
    result: Option<T>,
}

impl<T, F: FnOnce() -> T> CallOnce<T, F> {
    /// # Safety
    /// `data` is a `CallOnce<T, F>` that has not run.
    unsafe extern "C-unwind" fn run(data: *mut c_void) {
        // SAFETY: the caller's promise.
        unsafe {
            let this = &mut *data.cast::<Self>();
            this.result = Some(ManuallyDrop::take(&mut this.call)());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callbacks_have_the_hosts_floating_point_and_what_they_change_stays() {
        let ordinary = Floats::get();
        let (first, second) = (ordinary.rounding_up(), ordinary.flushing());
        first.set();
        let seen = in_library(|| {
            let own = Floats::get();
            let seen = in_host(|| {
                let seen = Floats::get();
                second.set();
                seen
            });
            (own, seen, Floats::get())
        });
        let after = Floats::get();
        ordinary.set();
        assert_eq!(seen.unwrap(), (ordinary, first, ordinary));
        assert_eq!(after, second);
    }
}
