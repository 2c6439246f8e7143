//! Memory for large tensors on the CPU that is used again.

use crate::{Error, Result};
use std::marker::PhantomData;
use std::sync::Arc;

/// A `std::shared_ptr<Pool>`, only ever behind a pointer.
#[repr(C)]
struct SharedPool {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn biv_torch_pool_create() -> *const SharedPool;
    fn biv_torch_pool_free(pool: *const SharedPool);
    fn biv_torch_pool_enter(pool: *const SharedPool) -> *const SharedPool;
}

/// Keeps the memory of large tensors on the CPU for the next ones, until it is
/// dropped: without, the system maps and zeroes each one's pages. Other tensors
/// of the process, the host's for example, are not touched.
#[derive(Debug)]
pub(crate) struct Pool(Arc<Handle>);

#[derive(Debug)]
struct Handle(*const SharedPool);

// SAFETY: the pool behind the pointer locks itself.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Pool {
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: the function takes nothing and may be called at any time.
        let pool = unsafe { biv_torch_pool_create() };
        if pool.is_null() {
            return Err(Error::OutOfMemory("no memory for a pool of memory".into()));
        }
        Ok(Pool(Arc::new(Handle(pool))))
    }

    /// While the scope lives, large tensors that this thread makes on the CPU are in the pool. They may outlive both.
    pub(crate) fn enter(&self) -> PoolScope {
        // SAFETY: the scope keeps the pool.
        let before = unsafe { biv_torch_pool_enter(self.0.0) };
        PoolScope { _pool: self.0.clone(), before, _not_send: PhantomData }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the pool is ours, and no thread is in its scope: a scope has a share of it.
        unsafe { biv_torch_pool_free(self.0) };
    }
}

/// See [`Pool::enter`].
#[derive(Debug)]
pub(crate) struct PoolScope {
    _pool: Arc<Handle>,
    /// The pool in whose scope the thread was.
    before: *const SharedPool,
    /// It belongs to the thread that made it.
    _not_send: PhantomData<*const ()>,
}

impl Drop for PoolScope {
    fn drop(&mut self) {
        // SAFETY: `before` is null or the pool of an outer scope, which ends after this one.
        unsafe { biv_torch_pool_enter(self.before) };
    }
}
