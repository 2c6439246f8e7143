//! The one way in and out: no panic passes, and every error leaves its message.

use super::caller::in_library;
use super::process::may_call;
use super::status::{BIV_OK, biv_status, status_of};
use crate::base::log;
use crate::torch::scopes::OrdinaryMode;
use crate::{Error, Result};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// In bytes. What is beyond it is a quotation of something far too long.
const LONGEST_MESSAGE: usize = 2000;

/// The end of a message that was cut.
const CUT: &str = " ...";

/// A text in a thread's own memory. It has no destructor, so that it can still be read while the thread ends.
struct Text([u8; LONGEST_MESSAGE + CUT.len() + 1]);

impl Text {
    const EMPTY: Text = Text([0; LONGEST_MESSAGE + CUT.len() + 1]);

    fn set(&mut self, text: &str) {
        // A host's text in a message may hold a NUL, or be endless.
        let mut text = text.replace('\0', "\u{fffd}");
        if text.len() > LONGEST_MESSAGE {
            text.truncate(text.floor_char_boundary(LONGEST_MESSAGE));
            text.push_str(CUT);
        }
        self.0[..text.len()].copy_from_slice(text.as_bytes());
        self.0[text.len()] = 0;
    }

    fn get(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

thread_local! {
    static MESSAGE: RefCell<Text> = const { RefCell::new(Text::EMPTY) };
    static MESSAGE_FROM_ONE: RefCell<Text> = const { RefCell::new(Text::EMPTY) };
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static WAITING: RefCell<Vec<Box<dyn FnOnce()>>> = const { RefCell::new(vec![]) };
    static PANIC: RefCell<Text> = const { RefCell::new(Text::EMPTY) };
}

/// Runs the body of an exported function that returns a status, then tells the log's listener what is new.
pub(super) fn boundary(body: impl FnOnce() -> Result<()>) -> biv_status {
    let body = || {
        // Miri runs without libtorch.
        let _ordinary = (!cfg!(miri)).then(OrdinaryMode::new);
        crate::base::fault::point();
        body()
    };
    let call = || {
        let result = contain(body);
        let _ = contain(|| {
            log::deliver();
            Ok(())
        });
        result
    };
    let (status, messages) = match may_call().and_then(|()| in_library(call)?) {
        Ok(()) => (BIV_OK, [const { String::new() }; 2]),
        Err(error) => (status_of(&error), [0, 1].map(|first| error.counted_from(first))),
    };
    // The last: the listener may have called the library.
    for (last, message) in [&MESSAGE, &MESSAGE_FROM_ONE].into_iter().zip(&messages) {
        last.with_borrow_mut(|last| last.set(message));
    }
    status
}

/// Runs a body and makes a panic in it an error.
pub(super) fn contain(body: impl FnOnce() -> Result<()>) -> Result<()> {
    silence_panics();
    DEPTH.set(DEPTH.get() + 1);
    // Nothing that a panic may leave half done is used again: objects are
    // behind locks that it releases, and each is valid after every statement.
    let result = catch_unwind(AssertUnwindSafe(body));
    DEPTH.set(DEPTH.get() - 1);
    // One at a time: a call may come back into the library.
    while let Ok(Some(call)) = WAITING.try_with(|waiting| waiting.borrow_mut().pop()) {
        call();
    }
    result.unwrap_or_else(|payload| {
        let mut text = PANIC.replace(Text::EMPTY).get().to_string_lossy().into_owned();
        if text.is_empty() {
            // It comes from a thread of a pool, which kept the text.
            text = payload_text(&*payload).unwrap_or("a panic without a text").to_string();
        }
        // A payload's own destructor may panic: it is leaked instead.
        std::mem::forget(payload);
        Err(Error::unforeseen(text))
    })
}

/// Calls `call` into the host: in a function of the library when it has let go of its locks, else at once.
pub(super) fn without_locks(call: impl FnOnce() + 'static) {
    let mut call = Some(call);
    if DEPTH.get() > 0 {
        // A thread that ends has no list any more.
        let _ = WAITING.try_with(|waiting| {
            waiting.borrow_mut().extend(call.take().map(|call| Box::new(call) as Box<dyn FnOnce()>));
        });
    }
    if let Some(call) = call {
        call();
    }
}

fn payload_text(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied())
}

/// The message of this thread's last call, empty after a success.
pub(super) fn last_message() -> *const c_char {
    MESSAGE.with_borrow(|message| message.get().as_ptr())
}

/// The same, with indices counted from 1.
pub(super) fn last_message_from_one() -> *const c_char {
    MESSAGE_FROM_ONE.with_borrow(|message| message.get().as_ptr())
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
            if own || DEPTH.get() > 0 {
                PANIC.with_borrow_mut(|text| text.set(&panic.to_string().replace('\n', " ")));
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
    use parking_lot::Mutex;
    use std::sync::Arc;
    use std::time::Duration;

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
    fn the_log_is_told_when_the_bodys_locks_are_free() {
        static LOCK: Mutex<()> = Mutex::new(());
        let (sender, heard) = std::sync::mpsc::channel();
        let listener = move |_, text: &str| {
            let free = LOCK.try_lock_for(Duration::from_secs(5)).is_some();
            sender.send((text.to_string(), free)).unwrap();
        };
        log::set(log::Level::Warning, Some(Arc::new(listener)));
        let status = boundary(|| {
            let _locked = LOCK.lock();
            log::once(log::Level::Warning, "said under a lock");
            Err(Error::Shape("the call's own".into()))
        });
        assert_eq!((status, &*message()), (BIV_ERROR_SHAPE, "the call's own"));
        // Other tests may log, too.
        let mut told = std::iter::from_fn(|| heard.recv_timeout(Duration::from_secs(10)).ok());
        assert_eq!(told.find(|(text, _)| text == "said under a lock").map(|(_, free)| free), Some(true));
        log::set(log::Level::Silent, None);
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
