//! Which process may use the library, and until when.

use crate::torch::ending;
use crate::{Error, Result};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};

/// True in the process that made the first call, and false in its children; NULL before that call.
static OWNS: AtomicPtr<AtomicBool> = AtomicPtr::new(null_mut());

/// Whether this process may use the library. A child of fork has the memory of its parent but not its threads: locks that
/// they held are never released, and work is given to threads that do not exist.
///
/// # Errors
/// [`Error::Unsupported`].
pub(super) fn may_call() -> Result<()> {
    // SAFETY: a mark lives as long as the process.
    let owns = unsafe { OWNS.load(Acquire).as_ref() }.map_or_else(begin, |owns| owns.load(Relaxed));
    if !owns {
        let advice = "make what a process uses in that process: fork before the first call, or call exec in the child";
        return Err(Error::Unsupported(format!(
            "this is a child by fork of a process that has used the library, and has none of its threads; {advice}"
        )));
    }
    if !ending::may_wait_for_others() {
        let message = "the process is ending, and other threads of it were using the library";
        return Err(Error::Unsupported(message.into()));
    }
    Ok(())
}

/// Makes the library this process's, at the first call.
///
/// To compare process numbers would take a system call each time, up to a microsecond.
fn begin() -> bool {
    let mark = mark();
    if OWNS.compare_exchange(null_mut(), mark, AcqRel, Acquire).is_ok() && !cfg!(miri) {
        // SAFETY: the function may be called in a child, where it clears a mark. Without memory for it the system does.
        unsafe { libc::pthread_atfork(None, None, Some(disown)) };
    }
    true
}

/// A mark that is true here and which the system clears in children, those of its own calls included. It is never freed.
fn mark() -> *mut AtomicBool {
    #[cfg(all(target_os = "linux", not(miri)))]
    // SAFETY: a new page of zeros, which holds a mark. Where the system is too old to clear it, `disown` does.
    unsafe {
        let (read_write, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let page = libc::mmap(null_mut(), size_of::<AtomicBool>(), read_write, flags, -1, 0);
        if page != libc::MAP_FAILED {
            libc::madvise(page, size_of::<AtomicBool>(), libc::MADV_WIPEONFORK);
            let mark = page.cast::<AtomicBool>();
            (*mark).store(true, Relaxed);
            return mark;
        }
    }
    Box::into_raw(Box::new(AtomicBool::new(true)))
}

/// Clears the mark, in a child of fork.
unsafe extern "C" fn disown() {
    // SAFETY: a mark lives as long as the process.
    if let Some(owns) = unsafe { OWNS.load(Acquire).as_ref() } {
        owns.store(false, Relaxed);
    }
}
