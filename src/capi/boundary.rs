//! The one way in and out: no panic passes, and every error leaves its message.

use super::status::{BIV_ERROR_OUT_OF_MEMORY, BIV_OK, biv_status, status_of};
use crate::shim::{OrdinaryMode, keep_spare_messages};
use crate::threads::check_room;
use crate::{Error, Result};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// In bytes. What is beyond it is a quotation of something far too long.
const LONGEST_MESSAGE: usize = 2000;

/// What a thread's first call needs, in bytes, amply.
const FIRST_CALL: usize = 128 << 10;

/// How a thread's first call went.
#[derive(Clone, Copy, PartialEq)]
enum Start {
    None,
    Refused,
    Made,
}

thread_local! {
    static START: Cell<Start> = const { Cell::new(Start::None) };
    static MESSAGE: RefCell<CString> = RefCell::new(CString::default());
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs the body of an exported function that returns a status.
pub(super) fn boundary(body: impl FnOnce() -> Result<()>) -> biv_status {
    if !start() {
        return BIV_ERROR_OUT_OF_MEMORY;
    }
    let body = || {
        // Miri runs without libtorch.
        let _ordinary = (!cfg!(miri)).then(|| {
            keep_spare_messages();
            OrdinaryMode::new()
        });
        crate::fault::point();
        body()
    };
    let (status, message) = match contain(body) {
        Ok(()) => (BIV_OK, String::new()),
        Err(error) => (status_of(&error), error.to_string()),
    };
    // A host's text in a message may hold a NUL, or be endless.
    let mut message = message.replace('\0', "\u{fffd}");
    if message.len() > LONGEST_MESSAGE {
        message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
        message.push_str(" ...");
    }
    let message = CString::new(message).unwrap_or_default();
    // At the end of a thread, in a destructor of the host's, there is no place for it any more.
    let _ = MESSAGE.try_with(|last| last.replace(message));
    status
}

/// Makes sure, once, that this thread has what it keeps from call to call: the system ends a process that has no memory
/// for such a variable when a thread first uses it. False where there is no memory; the next call tries again.
fn start() -> bool {
    if START.get() != Start::Made {
        let room = check_room(FIRST_CALL, String::new).is_ok();
        START.set(if room { Start::Made } else { Start::Refused });
        if room {
            // There is no such variable any more in a destructor of the host's at the end of a thread.
            let _ = (MESSAGE.try_with(|_| ()), PANIC.try_with(|_| ()));
        }
    }
    START.get() == Start::Made
}

/// Runs a body and makes a panic in it an error.
pub(super) fn contain(body: impl FnOnce() -> Result<()>) -> Result<()> {
    silence_panics();
    DEPTH.set(DEPTH.get() + 1);
    // Nothing that a panic may leave half done is used again: objects are
    // behind locks that it releases, and each is valid after every statement.
    let result = catch_unwind(AssertUnwindSafe(body));
    DEPTH.set(DEPTH.get() - 1);
    result.unwrap_or_else(|payload| {
        let mut text = PANIC.try_with(RefCell::take).unwrap_or_default();
        if text.is_empty() {
            // It comes from a thread of a pool, which kept the text.
            text = payload_text(&*payload).unwrap_or("a panic without a text").to_string();
        }
        // A payload's own destructor may panic: it is leaked instead.
        std::mem::forget(payload);
        Err(Error::unforeseen(text))
    })
}

fn payload_text(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied())
}

/// The message of this thread's last call, empty after a success.
pub(super) fn last_message() -> *const c_char {
    const NONE: &CStr = c"";
    const REFUSED: &CStr = c"no memory for this thread's first call";
    match START.get() {
        Start::None => NONE.as_ptr(),
        Start::Refused => REFUSED.as_ptr(),
        Start::Made => MESSAGE.try_with(|message| message.borrow().as_ptr()).unwrap_or(NONE.as_ptr()),
    }
}

/// Keeps the standard panic message off stderr while one of our functions runs
/// and on our own threads, and keeps its text; panics elsewhere in a Rust host go where they went.
fn silence_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            let own = thread.name().is_some_and(|name| name.starts_with("biv-"));
            if own || DEPTH.try_with(|depth| depth.get() > 0).unwrap_or(false) {
                let _ = PANIC.try_with(|text| text.replace(panic.to_string().replace('\n', " ")));
            } else {
                previous(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::super::status::*;
    use super::*;

    fn message() -> String {
        // SAFETY: the pointer is to a string that lives until this thread's next call.
        unsafe { CStr::from_ptr(last_message()) }.to_string_lossy().into_owned()
    }

    #[test]
    fn a_panic_of_a_pools_thread_keeps_its_text() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "biv-test".into()).build().unwrap();
        assert_eq!(boundary(|| pool.install(|| panic!("eight of {}", 9))), BIV_ERROR_INTERNAL);
        assert_eq!(message(), "internal error: eight of 9");
    }

    #[test]
    fn a_panic_becomes_a_status_and_the_next_success_clears_the_message() {
        assert_eq!(boundary(|| panic!("seven of nine")), BIV_ERROR_INTERNAL);
        assert!(message().contains("seven of nine") && message().contains("boundary.rs"), "{}", message());
        assert_eq!(boundary(|| Err(Error::Shape("a\0b".into()))), BIV_ERROR_SHAPE);
        assert_eq!(message(), "a\u{fffd}b");
        assert_eq!(boundary(|| Err(Error::Shape("ü".repeat(10_000)))), BIV_ERROR_SHAPE);
        assert!(message().len() < 2100 && message().ends_with("ü ..."));
        assert_eq!(boundary(|| Ok(())), BIV_OK);
        assert_eq!(message(), "");
    }
}
