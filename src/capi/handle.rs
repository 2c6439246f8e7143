//! Handles: what a C program holds is a key into a table, never an address.
//!
//! A key names a slot and the slot's generation, so a freed handle, one of
//! another type or a random number is found out and never followed.

use super::boundary::contain;
use super::dataset::biv_dataset;
use super::experiment::biv_text;
use super::model::biv_model;
use super::pointer;
use super::trainer::biv_trainer;
use crate::data::Dataset;
use crate::train::session::Session;
use crate::train::trainer::SharedModel;
use crate::{Error, Result};
use parking_lot::RwLock;
use slotmap::{DefaultKey, Key, KeyData, SlotMap};
use std::ffi::CString;
use std::sync::{Arc, LazyLock};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("a handle needs a pointer of 64 bits");

/// An object that a handle may stand for.
pub(super) enum Object {
    Dataset(Arc<Dataset>),
    Model(SharedModel),
    Trainer(Arc<Session>),
    Text(Arc<CString>),
}

static TABLE: LazyLock<RwLock<SlotMap<DefaultKey, Object>>> = LazyLock::new(Default::default);

/// A type of handle: ties the opaque C type to what is behind it.
pub(super) trait Handle {
    /// What the table holds.
    type Target;
    /// The C name.
    const NAME: &'static str;
    fn wrap(target: Self::Target) -> Object;
    /// A reference of the caller's own, so that the object outlives a concurrent free.
    fn unwrap(object: &Object) -> Option<Self::Target>;
}

macro_rules! handle {
    ($c:ident, $variant:ident, $target:ty) => {
        impl Handle for $c {
            type Target = $target;
            const NAME: &'static str = stringify!($c);

            fn wrap(target: Self::Target) -> Object {
                Object::$variant(target)
            }

            fn unwrap(object: &Object) -> Option<Self::Target> {
                if let Object::$variant(target) = object { Some(target.clone()) } else { None }
            }
        }
    };
}

handle!(biv_dataset, Dataset, Arc<Dataset>);
handle!(biv_model, Model, SharedModel);
handle!(biv_trainer, Trainer, Arc<Session>);
handle!(biv_text, Text, Arc<CString>);

fn name(object: &Object) -> &'static str {
    match object {
        Object::Dataset(_) => biv_dataset::NAME,
        Object::Model(_) => biv_model::NAME,
        Object::Trainer(_) => biv_trainer::NAME,
        Object::Text(_) => biv_text::NAME,
    }
}

/// The key that a handle is; `None` for numbers that no key has.
fn key<H>(handle: *const H) -> Option<DefaultKey> {
    let key = KeyData::from_ffi(handle as u64);
    (key.as_ffi() == handle as u64).then(|| key.into())
}

/// Runs `make` and hands its object to the caller as a handle; on error the caller gets NULL.
///
/// # Safety
/// `out` is NULL or points to a handle to be written.
pub(super) unsafe fn create<H: Handle>(out: *mut *mut H, make: impl FnOnce() -> Result<H::Target>) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe { pointer::write(out, std::ptr::null_mut(), "the handle's place (out)")? };
    let object = H::wrap(make()?);
    let key = {
        let mut table = TABLE.write();
        crate::base::fault::point();
        table.insert(object)
    };
    // SAFETY: as above.
    unsafe { pointer::write(out, key.data().as_ffi() as usize as *mut H, "the handle's place (out)") }
}

/// The object behind `handle`.
pub(super) fn get<H: Handle>(handle: *const H) -> Result<H::Target> {
    if handle.is_null() {
        return Err(Error::InvalidHandle(format!("the {} handle is NULL", H::NAME)));
    }
    let table = TABLE.read();
    crate::base::fault::point();
    let object = key(handle).and_then(|key| table.get(key)).ok_or_else(|| {
        Error::InvalidHandle(format!("the {} handle {handle:p} was freed, or never was a handle", H::NAME))
    })?;
    H::unwrap(object)
        .ok_or_else(|| Error::InvalidHandle(format!("a {} handle was expected, this is a {}", H::NAME, name(object))))
}

/// As [`get`], with NULL meaning none.
pub(super) fn get_optional<H: Handle>(handle: *const H) -> Result<Option<H::Target>> {
    if handle.is_null() { Ok(None) } else { get(handle).map(Some) }
}

/// Forgets `handle`; NULL, freed handles and those of another type are left alone, and so is the last message.
pub(super) fn free<H: Handle>(handle: *const H) {
    // A destructor that panics leaves nothing to report to.
    let _ = contain(|| {
        let Some(key) = key(handle) else { return Ok(()) };
        let mut table = TABLE.write();
        let ours = table.get(key).is_some_and(|object| name(object) == H::NAME);
        let removed = if ours { table.remove(key) } else { None };
        // The object is dropped when the table is no longer locked.
        drop(table);
        drop(removed);
        Ok(())
    });
}
