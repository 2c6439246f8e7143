//! A store of keys and values that several processes share: c10d's TCPStore. A thread of its own talks to it, so that a
//! store that no longer answers holds nobody up; the same thread says at regular times that this rank is alive.

use super::ffi::{message, take};
use super::process_group::Rendezvous;
use std::ffi::{CString, c_char};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

#[repr(C)]
struct RawStore {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn biv_torch_quiet(on: bool);
    fn biv_torch_store_open(
        host: *const c_char,
        port: u16,
        listening: i32,
        timeout: i64,
        store: *mut *mut RawStore,
    ) -> *mut c_char;
    fn biv_torch_store_close(store: *mut RawStore);
    fn biv_torch_store_set(store: *mut RawStore, key: *const c_char, value: *const c_char) -> *mut c_char;
    fn biv_torch_store_get(store: *mut RawStore, key: *const c_char, value: *mut *mut c_char) -> *mut c_char;
    fn biv_torch_store_count(store: *mut RawStore, key: *const c_char, sum: *mut i64) -> *mut c_char;
    fn biv_torch_store_first(
        store: *mut RawStore,
        key: *const c_char,
        value: *const c_char,
        first: *mut *mut c_char,
    ) -> *mut c_char;
}

/// While one of these exists, libtorch logs nothing but fatal errors. c10d logs what becomes an error of ours, from
/// threads of its own; the level is the whole process's, so the host's libtorch is quiet too.
pub(super) struct Quiet(());

impl Quiet {
    pub fn begin() -> Self {
        // SAFETY: the function counts its calls under a lock.
        unsafe { biv_torch_quiet(true) };
        Quiet(())
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // SAFETY: as many calls with false as with true.
        unsafe { biv_torch_quiet(false) };
    }
}

/// A text for C. A NUL ends it, as it would there.
pub(super) fn c_text(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

/// Runs `work` in a thread in which all signals are blocked, as in those that it starts: the host's handlers run in the
/// host's threads, and writing to a connection that was closed is an error, not a SIGPIPE.
pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let body = move || {
        // SAFETY: the set is filled before it is read; only this thread's mask changes.
        unsafe {
            let mut all = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
        }
        let _quiet = Quiet::begin();
        work();
    };
    thread::Builder::new().name(format!("biv-{name}")).spawn(body).map(drop)
}

/// The keys of one group in the store, seen by the thread that owns the connection.
pub(super) struct Keys {
    raw: *mut RawStore,
    prefix: String,
}

impl Keys {
    fn connect(address: SocketAddr, listening: Option<TcpListener>, timeout: Duration, prefix: &str) -> Answer<Self> {
        let listening = listening.map_or(-1, TcpListener::into_raw_fd);
        let host = c_text(&address.ip().to_string());
        let mut raw = std::ptr::null_mut();
        // SAFETY: the text outlives the call; the socket is handed over.
        message(unsafe {
            biv_torch_store_open(host.as_ptr(), address.port(), listening, timeout.as_millis() as i64, &mut raw)
        })?;
        Ok(Keys { raw, prefix: prefix.to_string() })
    }

    fn key(&self, key: &str) -> CString {
        c_text(&format!("{}/{key}", self.prefix))
    }

    pub fn set(&self, key: &str, value: &str) -> Answer<()> {
        let (key, value) = (self.key(key), c_text(value));
        // SAFETY: the store is open and this thread's; the texts outlive the call.
        message(unsafe { biv_torch_store_set(self.raw, key.as_ptr(), value.as_ptr()) })
    }

    pub fn get(&self, key: &str) -> Answer<Option<String>> {
        let (key, mut value) = (self.key(key), std::ptr::null_mut());
        // SAFETY: as for set.
        message(unsafe { biv_torch_store_get(self.raw, key.as_ptr(), &mut value) })?;
        Ok(take(value))
    }

    /// Adds 1 to the number at a key and returns the sum.
    pub fn count(&self, key: &str) -> Answer<i64> {
        let (key, mut sum) = (self.key(key), 0);
        // SAFETY: as for set.
        message(unsafe { biv_torch_store_count(self.raw, key.as_ptr(), &mut sum) })?;
        Ok(sum)
    }

    /// Sets a key that nobody has set. Returns the value that it has then.
    pub fn first(&self, key: &str, value: &str) -> Answer<String> {
        let (key, value, mut first) = (self.key(key), c_text(value), std::ptr::null_mut());
        // SAFETY: as for set.
        message(unsafe { biv_torch_store_first(self.raw, key.as_ptr(), value.as_ptr(), &mut first) })?;
        Ok(take(first).unwrap_or_default())
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // SAFETY: the store is open, and nobody uses it after this.
        unsafe { biv_torch_store_close(self.raw) }
    }
}

/// What the store answers, or what it says is wrong.
pub(super) type Answer<T> = Result<T, String>;

/// What the store's thread and the group's caller both know.
#[derive(Default)]
pub(super) struct Shared {
    /// Whether this rank has its place in the group, and so says that it is alive.
    pub seated: AtomicBool,
    /// How many collectives this rank has finished.
    pub finished: AtomicU64,
    /// Why the group is broken: the first value of the key `verdict`.
    pub verdict: OnceLock<String>,
}

type Job = Box<dyn FnOnce(&Keys) + Send>;

/// A connection with the store.
pub(super) struct Store {
    jobs: Sender<Job>,
    patience: Duration,
    /// Where the store is.
    pub address: SocketAddr,
    /// This machine's address on the way to the store.
    pub own: IpAddr,
}

impl Store {
    /// Connects to the store of `place`, at once or as soon as it is there. Where `listening` is given this process holds
    /// the store, on that socket. This rank says six times in the time of [`Rendezvous::look`] that it is alive.
    pub fn open(
        place: &Rendezvous,
        listening: Option<TcpListener>,
        deadline: Instant,
        shared: Arc<Shared>,
    ) -> Answer<Self> {
        let (patience, rank, place) = (place.look(), place.rank, place.clone());
        let (ready, opened) = mpsc::channel();
        let (jobs, work) = mpsc::channel::<Job>();
        let body = move || {
            let (keys, address, own) = match connect(&place, listening, deadline) {
                Ok(connection) => connection,
                Err(error) => return drop(ready.send(Err(error))),
            };
            drop(ready.send(Ok((address, own))));
            let mut next = Instant::now();
            loop {
                match work.recv_timeout(next.saturating_duration_since(Instant::now())) {
                    Ok(job) => job(&keys),
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {
                        // A store that is gone is found by the next who asks it something.
                        let _ = alive(&keys, rank, &shared);
                        next = Instant::now() + patience / 6;
                    }
                }
            }
        };
        spawn("store", body).map_err(|error| error.to_string())?;
        let left = deadline.saturating_duration_since(Instant::now());
        match opened.recv_timeout(left) {
            Ok(opened) => opened.map(|(address, own)| Store { jobs, patience, address, own }),
            Err(_) => Err("what listens there does not answer as a store does".into()),
        }
    }

    /// Asks the store; an error where it is gone or does not answer in time.
    pub fn ask<T: Send + 'static>(&self, work: impl FnOnce(&Keys) -> Answer<T> + Send + 'static) -> Answer<T> {
        let (reply, answer) = mpsc::channel();
        let job = Box::new(move |keys: &Keys| drop(reply.send(work(keys))));
        self.jobs.send(job).map_err(|_| "its thread has ended".to_string())?;
        answer.recv_timeout(self.patience).unwrap_or_else(|_| Err("no answer in time".into()))
    }
}

/// Says that `rank` is alive and how far it is, and looks whether the group is broken.
fn alive(keys: &Keys, rank: usize, shared: &Shared) -> Answer<()> {
    if shared.seated.load(Ordering::Acquire) {
        let beat = keys.count(&format!("beats/{rank}"))?;
        keys.set(&format!("alive/{rank}"), &format!("{beat} {}", shared.finished.load(Ordering::Acquire)))?;
    }
    if shared.verdict.get().is_none()
        && let Some(verdict) = keys.get("verdict")?
    {
        let _ = shared.verdict.set(verdict);
        if shared.seated.load(Ordering::Acquire) {
            keys.set(&format!("heard/{rank}"), "")?;
        }
    }
    Ok(())
}

/// Connects, again and again until `deadline`. Returns the store's address and this machine's on the way to it.
fn connect(
    place: &Rendezvous,
    listening: Option<TcpListener>,
    deadline: Instant,
) -> Answer<(Keys, SocketAddr, IpAddr)> {
    const PAUSE: Duration = Duration::from_millis(50);
    const HELD: &str = "held";
    let left = || deadline.saturating_duration_since(Instant::now()).max(PAUSE);
    if let Some(socket) = listening {
        let mut address = socket.local_addr().map_err(|error| error.to_string())?;
        if address.ip().is_unspecified() {
            address = resolve(place)?.first().copied().unwrap_or(address);
        }
        let keys = Keys::connect(address, Some(socket), left(), &place.prefix)?;
        keys.set(HELD, "")?;
        return Ok((keys, address, address.ip()));
    }
    loop {
        let attempt = reach(place, left()).and_then(|(address, own)| {
            let keys = Keys::connect(address, None, left(), &place.prefix)?;
            match place.hosts_store && keys.get(HELD)?.is_none() {
                true => Err("the store of another group is there".to_string()),
                false => Ok((keys, address, own)),
            }
        });
        match attempt {
            Err(error) if Instant::now() + PAUSE >= deadline => return Err(error),
            Err(_) => thread::sleep(PAUSE),
            done => return done,
        }
    }
}

fn resolve(place: &Rendezvous) -> Answer<Vec<SocketAddr>> {
    let found = (place.address.as_str(), place.port).to_socket_addrs();
    Ok(found.map_err(|error| format!("'{}': {error}", place.address))?.collect())
}

/// The first address of `place` that takes a connection, and this machine's on the way there.
fn reach(place: &Rendezvous, limit: Duration) -> Answer<(SocketAddr, IpAddr)> {
    let mut error = format!("'{}' has no address", place.address);
    for address in resolve(place)? {
        match TcpStream::connect_timeout(&address, limit).and_then(|stream| stream.local_addr()) {
            Ok(own) => return Ok((address, own.ip())),
            Err(refused) => error = refused.to_string(),
        }
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" {
        static mut FLAGS_caffe2_log_level: i32;
    }

    #[test]
    fn libtorch_is_quiet_until_the_last_group_is_gone() {
        // SAFETY: only this test reads the level while others may set it.
        let level = || unsafe { (&raw const FLAGS_caffe2_log_level).read_volatile() };
        let before = level();
        let first = Quiet::begin();
        let second = Quiet::begin();
        drop(first);
        assert_eq!(level(), 3);
        drop(second);
        assert!(before < 3 && level() == before);
    }
}
