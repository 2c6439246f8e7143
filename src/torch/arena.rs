//! Arenas: memory for large tensors on the CPU that is reused.

use crate::{Error, Result};
use std::marker::PhantomData;
use std::sync::Arc;

/// A `std::shared_ptr<Arena>`, only ever behind a pointer.
#[repr(C)]
struct SharedArena {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn biv_torch_arena_create() -> *const SharedArena;
    fn biv_torch_arena_free(arena: *const SharedArena);
    fn biv_torch_arena_enter(arena: *const SharedArena) -> *const SharedArena;
}

/// Keeps the memory of large tensors on the CPU for the next ones until it is dropped. Without it the system maps and
/// zeroes new pages for each tensor. Other tensors of the process, for example the host's, are not affected.
#[derive(Debug)]
pub(crate) struct Arena(Arc<Handle>);

#[derive(Debug)]
struct Handle(*const SharedArena);

// SAFETY: the arena behind the pointer locks itself.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Arena {
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: the function takes nothing and may be called at any time.
        let arena = unsafe { biv_torch_arena_create() };
        if arena.is_null() {
            return Err(Error::OutOfMemory("no memory for an arena".into()));
        }
        Ok(Arena(Arc::new(Handle(arena))))
    }

    /// While the scope lives, large tensors that this thread makes on the CPU are in the arena. They may outlive the
    /// scope and the arena.
    pub(crate) fn enter(&self) -> ArenaScope {
        // SAFETY: the scope keeps the arena.
        let before = unsafe { biv_torch_arena_enter(self.0.0) };
        ArenaScope { _pool: self.0.clone(), before, _not_send: PhantomData }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the arena is ours, and no thread is in its scope, which would keep this handle.
        unsafe { biv_torch_arena_free(self.0) };
    }
}

/// See [`Arena::enter`].
#[derive(Debug)]
pub(crate) struct ArenaScope {
    _pool: Arc<Handle>,
    /// The arena whose scope the thread was in before.
    before: *const SharedArena,
    /// It belongs to the thread that made it.
    _not_send: PhantomData<*const ()>,
}

impl Drop for ArenaScope {
    fn drop(&mut self) {
        // SAFETY: `before` is null or the arena of an outer scope, which ends after this one.
        unsafe { biv_torch_arena_enter(self.before) };
    }
}
