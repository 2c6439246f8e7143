//! The one error type: what went wrong, where, and what would be right.

use super::place::{Element, Path};
use std::path::Path as File;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Every way in which a call can fail; each has a status code of its own in the C ABI.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument's value is not one that the function takes.
    #[error("{0}")]
    InvalidArgument(String),
    /// A handle is null, freed, or of another type.
    #[error("{0}")]
    InvalidHandle(String),
    /// An option in a JSON text is unknown, of the wrong type or out of range.
    #[error("{path}: {message}")]
    InvalidConfig {
        /// Where in the text: `trainer.loss.epsilon`.
        path: Path,
        /// What was found there and what is allowed.
        message: String,
    },
    /// What is wrong with one element of an array.
    #[error("{element}: {error}")]
    At {
        /// Which one.
        element: Element,
        /// What is wrong with it.
        error: Box<Error>,
    },
    /// Arrays do not fit together, or not the model.
    #[error("{0}")]
    Shape(String),
    /// A file, column or tensor that is asked for does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The operating system refused to read or write.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// The system's own error.
        source: std::io::Error,
    },
    /// A data file's content is not what its format says.
    #[error("{0}")]
    Parse(String),
    /// What is asked for is legal, but not in this state or build.
    #[error("{0}")]
    Unsupported(String),
    /// The object is in use by a call that has not returned.
    #[error("{0}")]
    Busy(String),
    /// Training was cancelled, by a callback or by another thread.
    #[error("{0}")]
    Cancelled(String),
    /// Memory ran out.
    #[error("{0}")]
    OutOfMemory(String),
    /// The device does not exist or cannot be used.
    #[error("{0}")]
    Device(String),
    /// A computation left the finite numbers.
    #[error("{0}")]
    Numerical(String),
    /// A saved file is damaged, or not one of ours.
    #[error("{0}")]
    Corrupt(String),
    /// A buffer of the caller's is too small.
    #[error("{0}")]
    BufferTooSmall(String),
    /// Processes that compute together do not: one has ended, hangs, or does something else.
    #[error("{0}")]
    Distributed(String),
    /// A defect: of this library, or of libtorch below it.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// An [`Error::InvalidConfig`].
    pub fn config(path: impl Into<Path>, message: impl Into<String>) -> Self {
        Error::InvalidConfig { path: path.into(), message: message.into() }
    }

    /// The same error, with the beginning `old` of its path replaced by `new`.
    pub(crate) fn moved(self, old: &str, new: &str) -> Self {
        match self {
            Error::InvalidConfig { path, message } => Error::config(path.moved(old, new), message),
            other => other,
        }
    }

    /// The same error, of one element of an array: `[("row", 4), ("feature", 0)]`, counted from 0.
    pub(crate) fn at<const N: usize>(self, element: [(&'static str, usize); N]) -> Self {
        let element = element.map(|(name, index)| (name, index as i64));
        Error::At { element: Element(element.into()), error: self.into() }
    }

    /// The error itself, without the place in an array that it may have.
    pub fn bare(&self) -> &Self {
        match self {
            Error::At { error, .. } => error.bare(),
            other => other,
        }
    }

    /// The error's text in a language whose arrays begin with the index `first`.
    pub fn counted_from(&self, first: usize) -> String {
        match self {
            Error::InvalidConfig { path, message } => format!("{}: {message}", path.counted_from(first)),
            Error::At { element, error } => format!("{}: {}", element.counted_from(first), error.counted_from(first)),
            other => other.to_string(),
        }
    }

    /// What the system said about `path`.
    pub fn io(path: &File, source: std::io::Error) -> Self {
        let path = path.display().to_string();
        match source.kind() {
            std::io::ErrorKind::NotFound => Error::NotFound(format!("{path}: no such file or folder")),
            std::io::ErrorKind::OutOfMemory => Error::OutOfMemory(format!("{path}: the file exceeds memory")),
            _ => Error::Io { path, source },
        }
    }

    /// What libtorch or a panic says, by what it says: that memory ran out, or that something is wrong inside.
    pub(crate) fn unforeseen(text: String) -> Self {
        let lower = text.to_lowercase();
        let exhausted = ["not enough memory", "out of memory", "can't allocate memory", "bad_alloc"];
        if exhausted.iter().any(|said| lower.contains(said)) { Error::OutOfMemory(text) } else { Error::Internal(text) }
    }
}

impl From<tch::TchError> for Error {
    /// Keeps libtorch's sentence and drops the C++ backtrace below it.
    fn from(error: tch::TchError) -> Self {
        let text = error.to_string();
        let text = text.split("\nException raised").next().unwrap_or_default();
        Error::unforeseen(text.lines().next().unwrap_or_default().trim().to_string())
    }
}

/// Names as a message lists them: the first twenty, and how many more there are.
pub(crate) fn quoted(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    const MOST: usize = 20;
    let mut names = names.into_iter();
    let mut list: Vec<String> = names.by_ref().take(MOST).map(|name| format!("'{}'", name.as_ref())).collect();
    match names.count() {
        0 => {}
        more => list.push(format!("... ({more} more)")),
    }
    list.join(", ")
}
