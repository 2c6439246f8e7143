//! What the library has to say beside errors: each thing once, to whom the host has named; by default to nobody.

use parking_lot::Mutex;
use std::sync::Arc;

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

type Sink = Arc<dyn Fn(Level, &str) + Send + Sync>;

struct State {
    level: Level,
    sink: Option<Sink>,
    /// What was said, and whether somebody has heard it.
    messages: Vec<(Level, String, bool)>,
}

static STATE: Mutex<State> = Mutex::new(State { level: Level::Silent, sink: None, messages: Vec::new() });

/// Says everything up to `level`, once, to `sink` from now on: what was said before and nobody heard, at once. `None`
/// hears nothing.
pub fn set(level: Level, sink: Option<Sink>) {
    let mut state = STATE.lock();
    (state.level, state.sink) = (level, sink);
    drop(state);
    deliver();
}

/// Says `message`, unless it was said before.
pub(crate) fn once(level: Level, message: &str) {
    let mut state = STATE.lock();
    if state.messages.iter().any(|(_, said, _)| said == message) {
        return;
    }
    state.messages.push((level, message.to_string(), false));
    drop(state);
    deliver();
}

/// Gives the sink what it is to hear. It runs without the lock, so it may call the library, [`set`] too.
fn deliver() {
    loop {
        let mut state = STATE.lock();
        let (Some(sink), level) = (state.sink.clone(), state.level) else { return };
        let next = state.messages.iter_mut().find(|(of, _, heard)| !*heard && *of <= level);
        let Some((of, message, heard)) = next else { return };
        *heard = true;
        let (of, message) = (*of, message.clone());
        drop(state);
        sink(of, &message);
    }
}
