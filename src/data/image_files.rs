//! The files of a folder of images: those that are to be read, and those that are passed over.

use crate::{Error, Result};
use std::collections::{HashSet, VecDeque};
use std::fs::{self, DirEntry, FileType};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// How the names of images end, in small letters.
const ENDINGS: [&str; 6] = ["jpg", "jpeg", "jpe", "jfif", "png", "webp"];

/// The same for a message.
pub(super) const LISTED_ENDINGS: &str = ".jpg, .jpeg, .jpe, .jfif, .png or .webp";

/// A file or folder, and what is to be said of it.
pub(super) type Remark = (PathBuf, String);

/// What is in a folder, in no order.
#[derive(Default)]
pub(super) struct Listing {
    /// The files that are named like images.
    pub images: Vec<PathBuf>,
    /// What is named like an image and cannot be read as a file, and folders that cannot be read.
    pub unusable: Vec<Remark>,
    /// All else.
    pub passed_over: Vec<Remark>,
}

/// What is in `folder`, and in the folders below it if they count.
///
/// # Errors
/// [`Error::NotFound`] and [`Error::Io`] for `folder` itself.
pub(super) fn list(folder: &Path, subfolders: bool) -> Result<Listing> {
    let mut listing = Listing::default();
    let whole = fs::canonicalize(folder).map_err(|error| Error::io(folder, error))?;
    let mut entered = HashSet::from([whole.clone()]);
    // Links come last: a folder that has a place of its own below `folder` is known by that one.
    let mut open = VecDeque::from([(folder.to_path_buf(), whole.clone())]);
    while let Some((inner, place)) = open.pop_front() {
        if inner != folder && !entered.insert(place.clone()) {
            listing.passed_over.push((inner, "a link to a folder that is read already".into()));
            continue;
        }
        let entries = fs::read_dir(&inner).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let entries = match entries {
            Err(error) if inner == folder => return Err(Error::io(folder, error)),
            Err(error) => {
                listing.unusable.push((inner, error.to_string()));
                continue;
            }
            Ok(entries) => entries,
        };
        let mut entries: Vec<(PathBuf, &DirEntry)> = entries.iter().map(|entry| (entry.path(), entry)).collect();
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (path, entry) in entries {
            let own = entry.file_type();
            let is_link = own.as_ref().is_ok_and(FileType::is_symlink);
            // What a link leads to counts.
            let kind = if is_link { fs::metadata(&path).map(|target| target.file_type()) } else { own };
            match examine(&path, kind, subfolders) {
                Entry::Image => listing.images.push(path),
                Entry::Unusable(reason) => listing.unusable.push((path, reason)),
                Entry::PassedOver(reason) => listing.passed_over.push((path, reason)),
                Entry::Folder => match fs::canonicalize(&path) {
                    Err(error) => listing.unusable.push((path, error.to_string())),
                    Ok(place) if whole.starts_with(&place) => {
                        listing.passed_over.push((path, "a link to the folder that it is in, or to one above".into()));
                    }
                    Ok(place) if is_link => open.push_back((path, place)),
                    Ok(place) => open.push_front((path, place)),
                },
            }
        }
    }
    Ok(listing)
}

/// What there is at a path.
enum Entry {
    Image,
    /// A folder that is to be entered.
    Folder,
    Unusable(String),
    PassedOver(String),
}

/// What there is at `path`, of which the system says `kind`. Nothing is opened: a pipe would wait for its writer, and a
/// device may do anything.
fn examine(path: &Path, kind: std::io::Result<FileType>, subfolders: bool) -> Entry {
    if path.file_name().unwrap_or_default().as_encoded_bytes().starts_with(b".") {
        return Entry::PassedOver("hidden, its name begins with a '.'".into());
    }
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let is_image = ENDINGS.contains(&ending.as_str());
    let reason = match kind {
        Ok(kind) if kind.is_dir() && subfolders => return Entry::Folder,
        Ok(kind) if kind.is_dir() => {
            return Entry::PassedOver("a folder; \"subfolders\": true in images enters it".into());
        }
        Ok(kind) if kind.is_file() && is_image => return Entry::Image,
        Ok(kind) if kind.is_file() => format!("its name does not end in {LISTED_ENDINGS}"),
        Ok(_) => "a pipe, a socket or a device, not a file".into(),
        Err(error) if error.kind() == ErrorKind::NotFound => "a link to what does not exist".into(),
        Err(error) => error.to_string(),
    };
    if is_image { Entry::Unusable(reason) } else { Entry::PassedOver(reason) }
}
