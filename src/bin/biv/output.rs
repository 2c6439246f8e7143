//! What the program says, and to whom. No stream that is closed, full or broken ends the work.

use biv::{Error, Result};
use std::fmt::Display;
use std::io::{ErrorKind, Write, stderr, stdout};
use std::path::Path;

/// What was asked for, on stdout. A reader that has gone has seen enough of it.
///
/// # Errors
/// [`Error::Io`] where it cannot be written: the disk is full.
pub fn result(text: impl Display) -> Result<()> {
    let mut out = stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::io(Path::new("stdout"), error)),
        _ => Ok(()),
    }
}

/// A summary on stdout of what is in files already: whether anyone reads it does not matter.
pub fn summary(text: impl Display) {
    let _ = result(text);
}

/// A line on stderr: progress, or what went wrong. Nothing else can be done where nobody reads it.
pub fn note(text: impl Display) {
    let _ = writeln!(stderr(), "{text}");
}
