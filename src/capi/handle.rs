//! Handles: what a C program holds is a key into a table, never an address.
//!
//! A key names a slot and the slot's generation, so a freed handle, one of
//! another type or a random number is found out and never followed.

use super::boundary::contain;
use super::caller::in_library;
use super::pointer;
use super::process::may_call;
use crate::{Error, Result};
use parking_lot::RwLock;
use slotmap::{DefaultKey, Key, KeyData, SlotMap};
use std::any::Any;
use std::sync::{Arc, LazyLock};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("a handle needs a pointer of 64 bits");

/// A type of handle: ties the opaque C type to what is behind it.
pub(super) trait Handle {
    /// What the table holds.
    type Target: Any + Send + Sync;
    /// The C name.
    const NAME: &'static str;

    /// Called when the handle is freed, with what calls in progress may still hold.
    fn freed(_target: &Self::Target) {}
}

/// What a handle stands for.
struct Object {
    /// The C name of the handle's type.
    name: &'static str,
    target: Arc<dyn Any + Send + Sync>,
}

static TABLE: LazyLock<RwLock<SlotMap<DefaultKey, Object>>> = LazyLock::new(Default::default);

/// The key that a handle is; `None` for numbers that no key has.
fn key<H>(handle: *const H) -> Option<DefaultKey> {
    let key = KeyData::from_ffi(handle as u64);
    (key.as_ffi() == handle as u64).then(|| key.into())
}

/// Runs `make` and hands its object to the caller as a handle; on error the caller gets NULL.
///
/// # Safety
/// `out` is NULL or points to a handle to be written.
pub(super) unsafe fn create<H: Handle>(out: *mut *mut H, make: impl FnOnce() -> Result<Arc<H::Target>>) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe { pointer::write(out, std::ptr::null_mut(), "the handle's place (out)")? };
    let object = Object { name: H::NAME, target: make()? };
    let key = {
        let mut table = TABLE.write();
        crate::base::fault::point();
        table.insert(object)
    };
    // SAFETY: as above.
    unsafe { pointer::write(out, key.data().as_ffi() as usize as *mut H, "the handle's place (out)") }
}

/// The object behind `handle`: a reference of the caller's own, so that the object outlives a concurrent free.
pub(super) fn get<H: Handle>(handle: *const H) -> Result<Arc<H::Target>> {
    let name = H::NAME;
    if handle.is_null() {
        return Err(Error::InvalidHandle(format!("the {name} handle is NULL")));
    }
    let table = TABLE.read();
    crate::base::fault::point();
    let object = key(handle).and_then(|key| table.get(key)).ok_or_else(|| {
        Error::InvalidHandle(format!("the {name} handle {handle:p} was freed, or never was a handle"))
    })?;
    let target = if object.name == name { object.target.clone().downcast().ok() } else { None };
    target.ok_or_else(|| Error::InvalidHandle(format!("a {name} handle was expected, this is a {}", object.name)))
}

/// As [`get`], with NULL meaning none.
pub(super) fn get_optional<H: Handle>(handle: *const H) -> Result<Option<Arc<H::Target>>> {
    if handle.is_null() { Ok(None) } else { get(handle).map(Some) }
}

/// Forgets `handle`; NULL, freed handles and those of another type are left alone, and so is the last message.
pub(super) fn free<H: Handle>(handle: *const H) {
    let Some(key) = key(handle).filter(|_| may_call().is_ok()) else { return };
    let remove = || {
        let mut table = TABLE.write();
        let ours = table.get(key).is_some_and(|object| object.name == H::NAME);
        let removed = if ours { table.remove(key) } else { None };
        // The object is dropped when the table is no longer locked.
        drop(table);
        if let Some(target) = removed.and_then(|object| object.target.downcast().ok()) {
            H::freed(&target);
        }
        Ok(())
    };
    // A destructor that panics leaves nothing to report to.
    let _ = in_library(|| contain(remove));
}
