//! The thread that called, as the host has it: what is set aside while the library runs on it, its floating-point modes
//! and a stack with too little room, and given back to the host's callbacks.

mod floats;
mod stack;

use crate::Result;
use crate::torch::ending;
use floats::Floats;
use std::cell::Cell;
use std::ffi::c_void;

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
    fn biv_torch_call_host(call: Entry, data: *mut c_void);
}

/// Runs `call`, which nothing leaves but by returning.
fn contained<T>(call: impl FnOnce() -> T) -> T {
    if cfg!(miri) {
        return call();
    }
    // SAFETY: the function calls its first argument once, with the second.
    call_by(|_| call(), |entry, data| unsafe { biv_torch_call_host(entry, data) })
}

/// How code that is not Rust calls: with what it was given, and with an argument of its own.
type Entry = unsafe extern "C-unwind" fn(data: *mut c_void, argument: *mut c_void);

/// Runs `body` by `caller`, which calls the function that it gets once, with the pointer that it gets.
fn call_by<T, F: FnOnce(*mut c_void) -> T>(body: F, caller: impl FnOnce(Entry, *mut c_void)) -> T {
    struct Call<T, F> {
        body: Option<F>,
        result: Option<T>,
    }

    /// # Safety
    /// `data` is a `Call<T, F>`.
    unsafe extern "C-unwind" fn run<T, F: FnOnce(*mut c_void) -> T>(data: *mut c_void, argument: *mut c_void) {
        // SAFETY: the caller's promise.
        let call = unsafe { &mut *data.cast::<Call<T, F>>() };
        call.result = call.body.take().map(|body| body(argument));
    }

    let mut call = Call { body: Some(body), result: None };
    caller(run::<T, F>, (&raw mut call).cast());
    call.result.expect("a call that returned has a result")
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
