//! The threads that a step's work is divided among.

use crate::base::log::{self, Level};
use crate::base::threads;
use crate::torch::device;
use parking_lot::Mutex;
use rayon::ThreadPool;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

/// How often a thread without work looks for some before it sleeps: for about a hundred microseconds. Waking a thread takes
/// tens of microseconds.
const PATIENCE: usize = 2000;

/// After this many looks it lets other threads of its core run: it may be waiting for one of them.
const TURN: usize = 20;

/// Help is judged after so long a time of work with it.
const TRIAL: Duration = Duration::from_millis(1);

/// A trial may cost a fifth of the caller's own time and not fail. The system may have put a helper on the caller's own
/// processor; it needs some milliseconds with both at work to find another one.
const TOLERANCE: u32 = 5;

/// The longest time without help.
const LONGEST_REST: Duration = Duration::from_secs(1);

thread_local! {
    static LIMIT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Limits the teams that this thread gathers to `count` threads, for programs that train in several threads side by side.
pub fn limit_threads(count: usize) {
    LIMIT.set(count.max(1));
}

/// How many threads this thread's work may use: as many as libtorch uses inside an operation, within the limit.
pub fn threads() -> usize {
    device::threads().min(LIMIT.get())
}

/// Runs `work` with the teams that this thread gathers limited to `count` threads.
pub fn with_threads<T>(count: usize, work: impl FnOnce() -> T) -> T {
    /// Sets the limit back when `work` is done, by a panic too.
    struct Before(usize);
    impl Drop for Before {
        fn drop(&mut self) {
            LIMIT.set(self.0);
        }
    }
    let _before = Before(LIMIT.replace(count.max(1)));
    work()
}

/// The caller's thread and some threads of the library that work together.
#[derive(Clone, Debug)]
pub struct Team(Option<Arc<Helpers>>);

/// The threads of a team other than the caller's.
#[derive(Debug)]
struct Helpers {
    pool: ThreadPool,
    /// How often they were called.
    calls: AtomicUsize,
    worth: Mutex<Worth>,
}

/// Whether help has paid of late. On processors that other programs use, too, the caller would wait for helpers that
/// wait for their turn: then it does without them for a while, and tries again.
#[derive(Debug, Default)]
struct Worth {
    /// How long the work of the present trial took.
    helped: Duration,
    /// How long the caller alone would have taken for it.
    alone: Duration,
    /// How many trials in a row have failed.
    failures: u32,
    /// Until when helpers are not called.
    rest: Option<Instant>,
}

impl Worth {
    /// Whether helpers are to be called.
    fn is_on_trial(&self, now: Instant) -> bool {
        self.rest.is_none_or(|end| now >= end)
    }

    /// Takes note of work that took the time `helped` until `now`, and would have taken `alone`. After a trial that failed
    /// comes a rest as long as the loss, then twice, four times as long: all trials together cost little.
    fn note(&mut self, helped: Duration, alone: Duration, now: Instant) {
        self.helped += helped;
        self.alone += alone;
        if self.helped < TRIAL {
            return;
        }
        if self.helped > self.alone + self.alone / TOLERANCE {
            let rest = (self.helped - self.alone) * 2u32.pow(self.failures.min(10));
            self.rest = Some(now + rest.min(LONGEST_REST));
            self.failures += 1;
        } else {
            self.failures = 0;
        }
        (self.helped, self.alone) = Default::default();
    }
}

impl Team {
    /// As many threads as libtorch uses inside an operation, within this thread's limit. Teams of one size have the same
    /// threads.
    pub fn gather() -> Self {
        Team::of(threads())
    }

    fn of(size: usize) -> Self {
        /// The helpers of each size that was asked for: teams of different sizes take turns without starting threads.
        static HELPERS: Mutex<Vec<Arc<Helpers>>> = Mutex::new(vec![]);
        let others = size.saturating_sub(1);
        if others == 0 {
            return Team::alone();
        }
        let mut all = HELPERS.lock();
        if let Some(helpers) = all.iter().find(|helpers| helpers.pool.current_num_threads() == others) {
            return Team(Some(Arc::clone(helpers)));
        }
        match threads::pool("kernel", others) {
            Ok(pool) => {
                let helpers = Arc::new(Helpers { pool, calls: AtomicUsize::new(0), worth: Mutex::default() });
                all.push(Arc::clone(&helpers));
                Team(Some(helpers))
            }
            Err(cause) => {
                log::once(Level::Warning, &format!("multi-layer perceptrons train on one thread: {cause}"));
                Team::alone()
            }
        }
    }

    /// The caller's thread only.
    pub fn alone() -> Self {
        Team(None)
    }

    /// Does `work` on each of `items`, which are of about the same size. The caller does so alone while help does not pay.
    pub(crate) fn each<T: Send>(&self, items: &mut [T], work: impl Fn(&mut T) + Sync) {
        let helpers = self.0.as_ref().filter(|_| items.len() > 1).map(|helpers| (helpers, Instant::now()));
        let helpers = helpers.filter(|(helpers, now)| helpers.worth.lock().is_on_trial(*now));
        let Some((helpers, start)) = helpers else {
            return items.iter_mut().for_each(work);
        };
        let all = items.len();
        let count = helpers.pool.current_num_threads().min(all - 1);
        let (queue, helping) = (Mutex::new(items.iter_mut()), AtomicUsize::new(count));
        let next = || queue.lock().next();
        let help = || {
            let mut done = 0;
            while let Some(item) = next() {
                work(item);
                done += 1;
            }
            done
        };
        let call = helpers.calls.fetch_add(1, Relaxed) + 1;
        let (own, own_time) = helpers.pool.in_place_scope(|scope| {
            for _ in 0..count {
                scope.spawn(|_| {
                    let helpers = Arc::clone(helpers);
                    // When its work is done, this thread waits a while for the next call, which is often near.
                    rayon::spawn(move || await_until(|| helpers.calls.load(Relaxed) != call));
                    help();
                    helping.fetch_sub(1, Release);
                });
            }
            let own = help();
            let own_time = start.elapsed();
            // The others are still at their last items.
            await_until(|| helping.load(Acquire) == 0);
            (own, own_time)
        });
        let (now, mut alone) = (Instant::now(), own_time);
        if own > 0 {
            alone = own_time.mul_f64(all as f64 / own as f64);
        }
        helpers.worth.lock().note(now - start, alone, now);
    }

    /// How many threads there are.
    pub(crate) fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |helpers| helpers.pool.current_num_threads() + 1)
    }
}

/// Waits until `done` without sleeping, but not for long.
fn await_until(done: impl Fn() -> bool) {
    for look in 1..=PATIENCE {
        if done() {
            break;
        }
        if look % TURN == 0 {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teams_of_different_sizes_take_turns_without_new_threads() {
        let threads = |size| {
            let team = Team::of(size);
            assert_eq!(team.size(), size);
            team.0.map_or(vec![], |helpers| helpers.pool.broadcast(|_| std::thread::current().id()))
        };
        let first = [1, 2, 3].map(threads);
        assert_eq!(first.each_ref().map(Vec::len), [0, 1, 2]);
        assert_eq!([1, 2, 3].map(threads), first);
    }

    #[test]
    fn help_that_does_not_pay_is_done_without_and_tried_again() {
        let millis = Duration::from_millis;
        let (start, mut worth) = (Instant::now(), Worth::default());
        let now = |at| start + millis(at);
        // On an idle machine two threads take little more than half the time.
        for at in 0..100 {
            worth.note(millis(6), millis(10), now(at));
            assert!(worth.is_on_trial(now(at)));
        }
        // Then the caller waits 4 ms for its helper each time: rests are of 4, 8, 16 ms and so on.
        let mut at = 100;
        for failures in 0..12 {
            worth.note(millis(5), millis(1), now(at));
            let rest = (4 << failures).min(1000);
            assert!(!worth.is_on_trial(now(at + rest - 1)) && worth.is_on_trial(now(at + rest)));
            at += rest;
        }
        // A trial that goes well ends it, and the next rest is a short one again.
        worth.note(millis(6), millis(10), now(at));
        assert!(worth.is_on_trial(now(at)));
        worth.note(millis(5), millis(1), now(at));
        assert!(worth.is_on_trial(now(at + 4)));
    }

    #[test]
    fn a_hiccup_within_a_trial_is_forgiven() {
        let micros = Duration::from_micros;
        let (now, mut worth) = (Instant::now(), Worth::default());
        // Nine calls that save 40 us each, and one that waits for 300.
        for call in 0..10 {
            worth.note(if call == 8 { micros(400) } else { micros(70) }, micros(100), now);
        }
        assert!(worth.is_on_trial(now));
    }
}
