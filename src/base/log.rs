//! What the library says beside errors: each message once, to the listener that the host has set; by default to nobody.
//!
//! A message is kept where it arises and told later, by [`deliver`], where the library holds no lock: so a listener may
//! call the library. It is called by one thread at a time.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// How much somebody wants to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    Silent = 0,
    /// What makes work slow or was not expected.
    Warning = 1,
    /// What is in use, too.
    Info = 2,
}

/// Hears a message and its level, [`Level::Warning`] or [`Level::Info`].
pub type Listener = Arc<dyn Fn(Level, &str) + Send + Sync>;

struct Message {
    level: Level,
    text: String,
    heard: bool,
}

struct State {
    level: Level,
    listener: Option<Listener>,
    /// Everything that was said: what is said again is no new message.
    messages: Vec<Message>,
    /// The number of the call of a listener that is running.
    running: Option<u64>,
    calls: u64,
}

struct Log {
    state: Mutex<State>,
    /// The running call has returned.
    returned: Condvar,
    /// There may be something to deliver.
    pending: AtomicBool,
}

thread_local! {
    /// Whether this thread is in a listener.
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

static LOG: Log = Log::new();

/// From the next [`deliver`] on, `listener` hears every message up to `level`, those included that were said before and
/// that nobody has heard. When this returns, the listener before it is not running and never runs again, except where
/// that is who calls.
pub fn set(level: Level, listener: Option<Listener>) {
    LOG.set(level, listener);
}

/// Says `message`, unless it was said before.
pub(crate) fn once(level: Level, message: &str) {
    LOG.once(level, message);
}

/// Tells the listener what it is to hear. The C functions do so at their end and wherever they call back; the caller
/// holds no lock that a listener may want.
pub fn deliver() {
    LOG.deliver();
}

impl Log {
    const fn new() -> Self {
        let state = State { level: Level::Silent, listener: None, messages: Vec::new(), running: None, calls: 0 };
        Log { state: Mutex::new(state), returned: Condvar::new(), pending: AtomicBool::new(false) }
    }

    fn set(&self, level: Level, listener: Option<Listener>) {
        let mut state = self.state.lock();
        state.level = level;
        let replaced = std::mem::replace(&mut state.listener, listener);
        self.pending.store(true, Relaxed);
        let running = state.running;
        while running.is_some() && state.running == running && !LISTENING.get() {
            self.returned.wait(&mut state);
        }
        // What it owns is the host's, and may call the library when it is dropped.
        drop(state);
        drop(replaced);
    }

    fn once(&self, level: Level, message: &str) {
        let mut state = self.state.lock();
        if !state.messages.iter().any(|known| known.text == message) {
            state.messages.push(Message { level, text: message.to_string(), heard: false });
            self.pending.store(true, Relaxed);
        }
    }

    fn deliver(&self) {
        if !self.pending.load(Relaxed) {
            return;
        }
        let mut state = self.state.lock();
        // The thread that is in a listener goes on with what has come since.
        while state.running.is_none()
            && let Some((listener, level, text)) = state.next()
        {
            state.calls += 1;
            state.running = Some(state.calls);
            LISTENING.set(true);
            let told = MutexGuard::unlocked(&mut state, || {
                let told = catch_unwind(AssertUnwindSafe(|| listener(level, &text)));
                drop(listener);
                told
            });
            LISTENING.set(false);
            state.running = None;
            self.returned.notify_all();
            if let Err(panic) = told {
                drop(state);
                resume_unwind(panic);
            }
        }
        if state.running.is_none() {
            self.pending.store(false, Relaxed);
        }
    }
}

impl State {
    /// What the listener is to hear next; it counts as heard.
    fn next(&mut self) -> Option<(Listener, Level, String)> {
        let listener = self.listener.clone()?;
        let message = self.messages.iter_mut().find(|message| !message.heard && message.level <= self.level)?;
        message.heard = true;
        Some((listener, message.level, message.text.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    /// A listener and what it has heard.
    fn listener() -> (Listener, Receiver<String>) {
        let (sender, receiver) = channel();
        (Arc::new(move |_, text: &str| sender.send(text.to_string()).unwrap()), receiver)
    }

    #[test]
    fn each_message_is_heard_once_at_its_level_by_who_listens_then() {
        let log = Log::new();
        log.once(Level::Warning, "early");
        log.once(Level::Info, "detail");
        log.deliver();
        let ((first, heard), (second, heard_later)) = (listener(), listener());
        log.set(Level::Warning, Some(first));
        log.deliver();
        log.once(Level::Warning, "early");
        log.once(Level::Warning, "late");
        log.deliver();
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["early", "late"]);
        log.set(Level::Info, Some(second));
        log.deliver();
        log.set(Level::Silent, None);
        log.once(Level::Warning, "to nobody");
        log.deliver();
        assert_eq!(heard_later.try_iter().collect::<Vec<_>>(), ["detail"]);
        assert_eq!(heard.try_iter().count(), 0);
    }

    #[test]
    fn a_listener_may_log_and_set_another() {
        static OWN: Log = Log::new();
        let (second, heard) = listener();
        OWN.once(Level::Warning, "first");
        OWN.set(
            Level::Warning,
            Some(Arc::new(move |_, text| {
                OWN.once(Level::Warning, &format!("after {text}"));
                OWN.set(Level::Warning, Some(second.clone()));
                OWN.deliver();
            })),
        );
        OWN.deliver();
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["after first"]);
    }

    #[test]
    fn a_listener_that_was_replaced_has_returned() {
        let log = Log::new();
        let ((entered, inside), left) = (channel(), Arc::new(AtomicBool::new(false)));
        let leaving = left.clone();
        let slow = move |_: Level, _: &str| {
            entered.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(100));
            leaving.store(true, Relaxed);
        };
        log.set(Level::Warning, Some(Arc::new(slow)));
        log.once(Level::Warning, "a message");
        std::thread::scope(|scope| {
            scope.spawn(|| log.deliver());
            inside.recv().unwrap();
            log.set(Level::Silent, None);
            assert!(left.load(Relaxed));
        });
    }

    #[test]
    fn a_panic_of_a_listener_is_its_callers_and_ends_the_call() {
        let log = Log::new();
        log.once(Level::Warning, "a message");
        log.set(Level::Warning, Some(Arc::new(|_, _| std::panic::resume_unwind(Box::new("a panic")))));
        assert!(catch_unwind(AssertUnwindSafe(|| log.deliver())).is_err());
        let (calm, heard) = listener();
        log.once(Level::Warning, "another");
        log.set(Level::Warning, Some(calm));
        log.deliver();
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["another"]);
    }
}
