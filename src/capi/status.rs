//! Status codes: stable numbers, one for each kind of error.

use crate::Error;
use std::ffi::{CStr, c_char};

/// What a call returns: BIV_OK or one of the BIV_ERROR_ codes. Numbers never change and new ones may be
/// added: treat one that you do not know as an error.
pub type biv_status = i32;

/// The call succeeded.
pub const BIV_OK: biv_status = 0;
/// An argument has a value that the function does not accept.
pub const BIV_ERROR_INVALID_ARGUMENT: biv_status = 1;
/// A handle is NULL, was freed, or is of another type.
pub const BIV_ERROR_INVALID_HANDLE: biv_status = 2;
/// A field of the JSON options is unknown, missing, of the wrong type or out of range. The message names it.
pub const BIV_ERROR_INVALID_CONFIG: biv_status = 3;
/// The shapes of arrays do not fit each other, the data set or the model.
pub const BIV_ERROR_SHAPE: biv_status = 4;
/// A file, column or tensor does not exist.
pub const BIV_ERROR_NOT_FOUND: biv_status = 5;
/// The system refused to read or write, for example because of permissions or a full disk. A file that was to
/// be replaced is still there.
pub const BIV_ERROR_IO: biv_status = 6;
/// The content of a data file is not what its format requires. The message names the row and the column.
pub const BIV_ERROR_PARSE: biv_status = 7;
/// This object, or this build of the library, cannot do what was asked for.
pub const BIV_ERROR_UNSUPPORTED: biv_status = 8;
/// The object is in use by a call that has not returned: call again later.
pub const BIV_ERROR_BUSY: biv_status = 9;
/// A callback or biv_trainer_cancel() stopped the training. It can be continued.
pub const BIV_ERROR_CANCELLED: biv_status = 10;
/// There is no memory for a large buffer, in the host's memory or on the device. Where small amounts run
/// out too, the process may end.
pub const BIV_ERROR_OUT_OF_MEMORY: biv_status = 11;
/// The device does not exist, or it failed.
pub const BIV_ERROR_DEVICE: biv_status = 12;
/// A result is infinite or NaN.
pub const BIV_ERROR_NUMERICAL: biv_status = 13;
/// A saved file is damaged, was written by a later version, or is not libbiv's.
pub const BIV_ERROR_CORRUPT: biv_status = 14;
/// A defect in libbiv or libtorch. Please report the message.
pub const BIV_ERROR_INTERNAL: biv_status = 15;
/// The caller's buffer is too small. The function has said how large it must be.
pub const BIV_ERROR_BUFFER_TOO_SMALL: biv_status = 16;
/// Processes that train together do not: one has ended, hangs, or was given other options or data. The message
/// names it. The other processes get this status too.
pub const BIV_ERROR_DISTRIBUTED: biv_status = 17;

pub(super) fn status_of(error: &Error) -> biv_status {
    match error {
        Error::InvalidArgument(_) => BIV_ERROR_INVALID_ARGUMENT,
        Error::InvalidHandle(_) => BIV_ERROR_INVALID_HANDLE,
        Error::InvalidConfig { .. } => BIV_ERROR_INVALID_CONFIG,
        Error::At { error, .. } => status_of(error),
        Error::Shape(_) => BIV_ERROR_SHAPE,
        Error::NotFound(_) => BIV_ERROR_NOT_FOUND,
        Error::Io { .. } => BIV_ERROR_IO,
        Error::Parse(_) => BIV_ERROR_PARSE,
        Error::Unsupported(_) => BIV_ERROR_UNSUPPORTED,
        Error::Busy(_) => BIV_ERROR_BUSY,
        Error::Cancelled(_) => BIV_ERROR_CANCELLED,
        Error::OutOfMemory(_) => BIV_ERROR_OUT_OF_MEMORY,
        Error::Device(_) => BIV_ERROR_DEVICE,
        Error::Numerical(_) => BIV_ERROR_NUMERICAL,
        Error::Corrupt(_) => BIV_ERROR_CORRUPT,
        Error::Internal(_) => BIV_ERROR_INTERNAL,
        Error::BufferTooSmall(_) => BIV_ERROR_BUFFER_TOO_SMALL,
        Error::Distributed(_) => BIV_ERROR_DISTRIBUTED,
    }
}

/// The name of a status, for example "BIV_ERROR_SHAPE", or "BIV_ERROR_UNKNOWN" for any other number: a static
/// text, never NULL, never to be freed. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn biv_status_name(status: biv_status) -> *const c_char {
    let name: &CStr = match status {
        BIV_OK => c"BIV_OK",
        BIV_ERROR_INVALID_ARGUMENT => c"BIV_ERROR_INVALID_ARGUMENT",
        BIV_ERROR_INVALID_HANDLE => c"BIV_ERROR_INVALID_HANDLE",
        BIV_ERROR_INVALID_CONFIG => c"BIV_ERROR_INVALID_CONFIG",
        BIV_ERROR_SHAPE => c"BIV_ERROR_SHAPE",
        BIV_ERROR_NOT_FOUND => c"BIV_ERROR_NOT_FOUND",
        BIV_ERROR_IO => c"BIV_ERROR_IO",
        BIV_ERROR_PARSE => c"BIV_ERROR_PARSE",
        BIV_ERROR_UNSUPPORTED => c"BIV_ERROR_UNSUPPORTED",
        BIV_ERROR_BUSY => c"BIV_ERROR_BUSY",
        BIV_ERROR_CANCELLED => c"BIV_ERROR_CANCELLED",
        BIV_ERROR_OUT_OF_MEMORY => c"BIV_ERROR_OUT_OF_MEMORY",
        BIV_ERROR_DEVICE => c"BIV_ERROR_DEVICE",
        BIV_ERROR_NUMERICAL => c"BIV_ERROR_NUMERICAL",
        BIV_ERROR_CORRUPT => c"BIV_ERROR_CORRUPT",
        BIV_ERROR_INTERNAL => c"BIV_ERROR_INTERNAL",
        BIV_ERROR_BUFFER_TOO_SMALL => c"BIV_ERROR_BUFFER_TOO_SMALL",
        BIV_ERROR_DISTRIBUTED => c"BIV_ERROR_DISTRIBUTED",
        _ => c"BIV_ERROR_UNKNOWN",
    };
    name.as_ptr()
}
