//! The end of the process: libtorch's static destructors run in `exit()`, on one thread, and what they free others may be
//! using. So `exit()` first waits until those that are at work in the library have come to a place where they stay.

use parking_lot::Mutex;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::process;
use std::ptr::null_mut;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// The longest time that `exit()` waits: for a step of a network that is at work.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// How many threads are at work and, added to that, [`ENDING`] once the process ends.
static STATE: AtomicUsize = AtomicUsize::new(0);
const ENDING: usize = 1 << (usize::BITS - 1);

/// The number of the process that uses libtorch.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Whether threads had to be waited for: they stay with locks that they hold.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// How many [`AtWork`] this thread has.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// Whether this thread ends the process: it goes on.
    static ENDS_PROCESS: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread takes the hook out to put it in again.
    static MOVING: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, this thread may use libtorch.
pub(crate) struct AtWork {
    /// It belongs to the thread that made it.
    _not_send: PhantomData<*const ()>,
}

/// Begins work, or a part of it. Where the process ends, the thread stays here.
pub(crate) fn at_work() -> AtWork {
    match DEPTH.get() {
        0 => enter(),
        _ if STATE.load(Relaxed) >= ENDING && !ENDS_PROCESS.get() => {
            STATE.fetch_sub(1, SeqCst);
            stay();
        }
        _ => {}
    }
    DEPTH.set(DEPTH.get() + 1);
    AtWork { _not_send: PhantomData }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        if DEPTH.get() == 0 {
            STATE.fetch_sub(1, SeqCst);
        }
    }
}

/// While it lives, this thread is not at work but in the host, or waits for other threads, which may be; with an
/// [`AtWork`] of its own it is again.
pub(crate) struct Away {
    depth: usize,
    /// It belongs to the thread that made it.
    _not_send: PhantomData<*const ()>,
}

/// Leaves work for a while.
pub(crate) fn away() -> Away {
    let depth = DEPTH.replace(0);
    if depth > 0 {
        STATE.fetch_sub(1, SeqCst);
    }
    Away { depth, _not_send: PhantomData }
}

impl Drop for Away {
    fn drop(&mut self) {
        if self.depth > 0 {
            enter();
        }
        DEPTH.set(self.depth);
    }
}

/// Whether this is the process that began to use libtorch: a child of it by fork has none of the threads.
fn is_own_process() -> bool {
    PROCESS.load(Relaxed) == process::id()
}

fn enter() {
    static BEGUN: Once = Once::new();
    if !cfg!(miri) {
        BEGUN.call_once(|| {
            PROCESS.store(process::id(), Relaxed);
            // SAFETY: the function is called once.
            unsafe { biv_torch_hear_of_destructors(come_first) };
            come_first();
        });
    }
    if STATE.fetch_add(1, SeqCst) >= ENDING && !ENDS_PROCESS.get() {
        STATE.fetch_sub(1, SeqCst);
        stay();
    }
}

/// Where a thread stays while the process ends.
fn stay() -> ! {
    loop {
        std::thread::sleep(Duration::MAX);
    }
}

/// Whether this thread may use what others hold: not while it ends the process and they have been interrupted.
pub(crate) fn may_wait_for_others() -> bool {
    !ENDS_PROCESS.get() || !INTERRUPTED.load(Relaxed)
}

unsafe extern "C" {
    fn biv_torch_hear_of_destructors(told: extern "C" fn());
    fn __cxa_atexit(hook: unsafe extern "C" fn(*mut c_void), argument: *mut c_void, owner: *mut c_void) -> c_int;
    fn __cxa_finalize(owner: *mut c_void);
}

/// Makes the hook the first of the functions that `exit()` calls, which calls the last first. libtorch tells this of each
/// destructor that it registers, when it first uses a static; to be called after what uses other libraries in a new way.
pub(crate) extern "C" fn come_first() {
    // A child of fork may have inherited the lock as another thread held it.
    if !is_own_process() {
        return;
    }
    /// Their addresses are the hook's owners in turn, and nobody else's.
    static OWNERS: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];
    static LAST: Mutex<usize> = Mutex::new(0);
    let owner = |index: usize| (&raw const OWNERS[index]).cast_mut().cast();
    let mut last = LAST.lock();
    let next = 1 - *last;
    // The new one comes before the old one goes: the process may be ending.
    // SAFETY: the library is never unloaded.
    if unsafe { __cxa_atexit(hook, null_mut(), owner(next)) } != 0 {
        return; // no memory
    }
    MOVING.set(true);
    // SAFETY: of all functions that are registered only the old hook has this owner. It does nothing now.
    unsafe { __cxa_finalize(owner(*last)) };
    MOVING.set(false);
    *last = next;
}

/// Lets the threads at work come to a place where they stay.
unsafe extern "C" fn hook(_: *mut c_void) {
    if MOVING.get() || !is_own_process() {
        return;
    }
    ENDS_PROCESS.set(true);
    let start = Instant::now();
    let mut before = STATE.fetch_or(ENDING, SeqCst);
    while before & !ENDING > 0 && start.elapsed() < LONGEST_WAIT {
        INTERRUPTED.store(true, Relaxed);
        std::thread::sleep(Duration::from_millis(1));
        before = STATE.load(SeqCst);
    }
}
