//! A stack of the library's own, for threads that have little left of theirs. The thread stays the same, and so do its
//! thread-local variables; callbacks go back to the host's stack, which some hosts' runtimes look at.

use super::{Entry, call_by};
use crate::{Error, Result};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};

/// The least room that calls have, in bytes.
const ROOM: usize = 256 << 10;

/// The size of a stack of ours, in bytes: that of Rust's threads.
const SIZE: usize = 2 << 20;

/// Below a stack, so that nothing is written beyond it. A multiple of every system's page.
const GUARD: usize = 64 << 10;

/// Where a stack ends at present: below it all is free.
pub(super) type End = NonNull<c_void>;

thread_local! {
    /// The lowest address of the thread's own stack, and the one above it; 0 before they are known.
    static BOUNDS: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    /// A stack of ours that is not in use.
    static SPARE: Cell<Option<Stack>> = const { Cell::new(None) };
}

/// Runs `body` where there is room. It gets the end of the stack that was left, if that has not enough.
///
/// # Errors
/// [`Error::OutOfMemory`] when there is no memory for another stack.
pub(super) fn with_room<T>(body: impl FnOnce(Option<End>) -> T) -> Result<T> {
    if cfg!(miri) || has_room() {
        return Ok(body(None));
    }
    // A thread that ends keeps none any more.
    let stack = match SPARE.try_with(Cell::take).ok().flatten() {
        Some(spare) => spare,
        None => Stack::new()?,
    };
    let result = switch(stack.top(), |left| body(Some(left)));
    let _ = SPARE.try_with(|spare| spare.set(Some(stack)));
    Ok(result)
}

/// Runs `body` on the stack that ends at `end`, or on this one.
pub(super) fn on<T>(end: Option<End>, body: impl FnOnce() -> T) -> T {
    match end {
        Some(end) => switch(end, |_| body()),
        None => body(),
    }
}

/// Whether the thread is on its own stack and has enough of it left.
fn has_room() -> bool {
    let marker = 0u8;
    let here = (&raw const marker).addr();
    let (low, high) = match BOUNDS.get() {
        (_, 0) => {
            let bounds = bounds().unwrap_or((0, usize::MAX));
            BOUNDS.set(bounds);
            bounds
        }
        known => known,
    };
    here < high && here.checked_sub(low).is_some_and(|left| left >= ROOM)
}

/// The bounds of the thread's own stack, where the system tells.
#[cfg(not(target_os = "linux"))]
fn bounds() -> Option<(usize, usize)> {
    None
}

#[cfg(target_os = "linux")]
fn bounds() -> Option<(usize, usize)> {
    // SAFETY: the attributes are made before they are read, and destroyed once; all places are of the right types.
    unsafe {
        let mut attributes = std::mem::zeroed();
        if libc::pthread_getattr_np(libc::pthread_self(), &mut attributes) != 0 {
            return None;
        }
        let (mut low, mut size) = (null_mut(), 0);
        let found = libc::pthread_attr_getstack(&attributes, &mut low, &mut size) == 0;
        libc::pthread_attr_destroy(&mut attributes);
        found.then(|| (low.addr(), low.addr() + size))
    }
}

/// Memory for a stack, with a guard below.
struct Stack(NonNull<c_void>);

impl Stack {
    fn new() -> Result<Self> {
        let no_memory =
            || Error::OutOfMemory(format!("no memory for a stack of {SIZE} bytes on a thread with a small one"));
        // SAFETY: new memory, of which the first part is made inaccessible.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let memory = libc::mmap(null_mut(), GUARD + SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            if memory == libc::MAP_FAILED {
                return Err(no_memory());
            }
            let stack = Stack(NonNull::new(memory).ok_or_else(no_memory)?);
            match libc::mprotect(memory, GUARD, libc::PROT_NONE) {
                0 => Ok(stack),
                _ => Err(no_memory()),
            }
        }
    }

    fn top(&self) -> End {
        // SAFETY: the end of the memory.
        unsafe { self.0.byte_add(GUARD + SIZE) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: `new` made the memory, and nothing runs on it.
        unsafe { libc::munmap(self.0.as_ptr(), GUARD + SIZE) };
    }
}

/// Calls `entry` with `data` and the end of the present stack, on the stack that ends at `end`. A frame pointer leads back
/// to the stack before, for the processor and for who unwinds.
///
/// # Safety
/// The memory below `end` is free as long as `entry` runs, and `data` is what it takes.
#[unsafe(naked)]
unsafe extern "C-unwind" fn switch_stack(entry: Entry, data: *mut c_void, end: *mut c_void) {
    #[cfg(target_arch = "x86_64")]
    std::arch::naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "mov rax, rdi",
        "mov rdi, rsi",
        "mov rsi, rsp",
        "mov rsp, rdx",
        "call rax",
        "mov rsp, rbp",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
    );
    #[cfg(target_arch = "aarch64")]
    std::arch::naked_asm!(
        ".cfi_startproc",
        "stp x29, x30, [sp, #-16]!",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset x29, -16",
        ".cfi_offset x30, -8",
        "mov x29, sp",
        ".cfi_def_cfa x29, 16",
        "mov x9, x0",
        "mov x0, x1",
        "mov x1, sp",
        "mov sp, x2",
        "blr x9",
        "mov sp, x29",
        ".cfi_def_cfa sp, 16",
        "ldp x29, x30, [sp], #16",
        ".cfi_def_cfa_offset 0",
        "ret",
        ".cfi_endproc",
    );
}

/// Runs `body` on the stack that ends at `end`. It gets the end of the one that was left.
fn switch<T>(end: End, body: impl FnOnce(End) -> T) -> T {
    // SAFETY: the end of a stack is no null pointer.
    let body = |left| body(unsafe { End::new_unchecked(left) });
    // SAFETY: the function calls its first argument once, with the second. The memory below `end` is free as long as it
    // runs: it is a new stack's, or what the host's has below its frames, in which this thread is waiting.
    call_by(body, |entry, data| unsafe { switch_stack(entry, data, end.as_ptr()) })
}
