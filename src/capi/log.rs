//! The log.

use super::boundary::boundary;
use super::caller::in_host;
use super::runtime::say_what_is_in_use;
use super::status::biv_status;
use crate::Error;
use crate::base::log::{self, Level};
use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;

/// The callback hears nothing.
pub const BIV_LOG_SILENT: i32 = 0;
/// The callback hears what makes work slow and what was not expected.
pub const BIV_LOG_WARNING: i32 = 1;
/// The callback also hears what is in use.
pub const BIV_LOG_INFO: i32 = 2;

/// Hears a message of the library's; see biv_set_log().
///
/// It may call every function of the library, on any handle, biv_set_log() included. It must return
/// normally: a C++ exception or longjmp that leaves it is undefined behaviour.
///
/// @param user what biv_set_log() was given.
/// @param level BIV_LOG_WARNING or BIV_LOG_INFO.
/// @param message one sentence of UTF-8, valid during the call.
pub type biv_log_callback = Option<unsafe extern "C-unwind" fn(user: *mut c_void, level: i32, message: *const c_char)>;

/// A callback of the host's with its argument.
struct Host(unsafe extern "C-unwind" fn(*mut c_void, i32, *const c_char), *mut c_void);

// SAFETY: the header says that the callback may be called on any thread that calls the library.
unsafe impl Send for Host {}
// SAFETY: as above; it is called by one thread at a time.
unsafe impl Sync for Host {}

impl Host {
    fn hear(&self, level: Level, message: &str) {
        let message = CString::new(message.replace('\0', "\u{fffd}")).unwrap_or_default();
        // SAFETY: the header's contract for a callback; the message outlives the call.
        in_host(|| unsafe { self.0(self.1, level as i32, message.as_ptr()) })
    }
}

/// Sets who hears what the library says beside errors. By default nobody does.
///
/// Each message is heard once in a process: for example that there are more threads than processors, or
/// which kernels are in use. A new callback first hears, during this call, what was said before and
/// nobody has heard. The callback and its level replace those before them.
///
/// Threads. The callback is called on a thread that is in a function of the library, when that holds
/// no lock: at its end, after each epoch of biv_trainer_fit() and after each mini-batch of
/// biv_experiment_run() and biv_sweep_run(). Never on a thread of the library's own, and never on two
/// threads at the same time, so a message may be heard on another thread than where it arose.
///
/// When this function returns, the callback that was there before is not running and is never called
/// again, so that its `user` may be freed. It waits for a call that is running on another thread: the
/// caller must hold no lock that the callback takes. Called from within the callback it does not wait.
///
/// @param level BIV_LOG_SILENT, BIV_LOG_WARNING or BIV_LOG_INFO.
/// @param callback NULL for nobody.
/// @param user passed to the callback; the library never uses it otherwise.
/// @return BIV_OK, or BIV_ERROR_INVALID_ARGUMENT: then nothing has changed. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_set_log(level: i32, callback: biv_log_callback, user: *mut c_void) -> biv_status {
    boundary(|| {
        let level = match level {
            BIV_LOG_SILENT => Level::Silent,
            BIV_LOG_WARNING => Level::Warning,
            BIV_LOG_INFO => Level::Info,
            _ => {
                let levels = "BIV_LOG_SILENT (0), BIV_LOG_WARNING (1) or BIV_LOG_INFO (2)";
                return Err(Error::InvalidArgument(format!("level is {level}, must be {levels}")));
            }
        };
        say_what_is_in_use();
        log::set(
            level,
            callback.map(|callback| {
                let host = Host(callback, user);
                Arc::new(move |level, message: &str| host.hear(level, message)) as log::Listener
            }),
        );
        Ok(())
    })
}
