//! Files that are at every moment whole: the old content or the new.

use crate::base::log::{self, Level};
use crate::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a file to read it. A pipe or a device is refused: it might never end, or never begin.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Io`].
pub fn open(path: &Path) -> Result<File> {
    let io = |error| Error::io(path, error);
    // The flag opens a pipe without waiting for its writer, and means nothing to a regular file.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(io)?;
    let kind = file.metadata().map_err(io)?.file_type();
    // Reading a folder fails with the system's own words.
    match kind.is_file() || kind.is_dir() {
        true => Ok(file),
        false => Err(io(std::io::Error::other("a pipe or a device, not a file"))),
    }
}

/// All bytes of a file.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    open(path)?.read_to_end(&mut bytes).map_err(|error| Error::io(path, error))?;
    Ok(bytes)
}

/// Writes a temporary file beside `path`, waits until the disk has it, and
/// renames it: at every moment `path` is the old file or the new, complete.
/// Where the system cannot put the renaming itself on disk, a power failure may bring back the old file.
///
/// # Errors
/// [`Error::Io`] or [`Error::NotFound`]; what was at `path` is then still there.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_and(path, bytes, |folder| std::fs::File::open(folder)?.sync_all())
}

/// As [`replace`], where `sync` puts a folder on disk.
fn replace_and(path: &Path, bytes: &[u8], sync: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    // A link stays a link: what it points to is replaced.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    if std::fs::metadata(path).is_ok_and(|existing| !existing.is_file()) {
        return Err(Error::InvalidArgument(format!("{}: not a regular file, nothing was saved", path.display())));
    }
    let io = |error| Error::io(path, error);
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.prefix(".biv-").suffix(".tmp").tempfile_in(folder).map_err(io)?;
    file.write_all(bytes).map_err(io)?;
    crate::base::fault::point();
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    // The rename itself is on disk only when the folder is. Whether or not that succeeds, the new file is there.
    if let Err(error) = sync(folder) {
        let message = format!("{}: the system does not sync this folder: {error}", folder.display());
        log::once(Level::Warning, &message);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_does_not_sync_has_the_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (content, outcome) in [("old", Ok(())), ("new", Err(std::io::ErrorKind::InvalidInput.into()))] {
            replace_and(&path, content.as_bytes(), |_| outcome).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
    }
}
