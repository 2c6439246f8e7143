//! Processes that compute together, by c10d and gloo: each has a rank, and sums, gathers and broadcasts tensors with all
//! others.
//!
//! A rank that ends, stops or does something else leaves no other waiting: each call ends within the group's timeout,
//! with an error that names that rank. What went wrong is found through the store. Every rank says there at regular
//! times that it is alive; one whose call fails says so too, waits until all others have done the same or too much time
//! has passed, and writes its verdict. The first verdict is everybody's. From then on the group is broken, and every
//! call answers with it.

use super::ffi::{AtTensor, message, pointer};
use super::store::{Answer, Keys, Quiet, Shared, Store, c_text, spawn};
use crate::base::memory::filled;
use crate::{Error, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::ffi::c_char;
use std::fmt;
use std::net::{IpAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tch::kind::Element;
use tch::{Device, Tensor};
use twox_hash::XxHash3_64;

#[repr(C)]
struct RawGroup {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn biv_torch_group_open(
        host: *const c_char,
        port: u16,
        prefix: *const c_char,
        own: *const c_char,
        rank: i32,
        size: i32,
        timeout: i64,
        group: *mut *mut RawGroup,
    ) -> *mut c_char;
    fn biv_torch_group_close(group: *mut RawGroup);
    fn biv_torch_group_all_reduce(group: *mut RawGroup, tag: u32, sum: *const AtTensor) -> *mut c_char;
    fn biv_torch_group_all_gather(
        group: *mut RawGroup,
        tag: u32,
        own: *const AtTensor,
        all: *const *const AtTensor,
    ) -> *mut c_char;
    fn biv_torch_group_broadcast(group: *mut RawGroup, tag: u32, tensor: *const AtTensor) -> *mut c_char;
}

/// How long a rank looks for what is wrong, at most.
const LOOK: Duration = Duration::from_secs(3);
/// How often it looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Where the processes of a group meet, and which of them this one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendezvous {
    /// The name or IP address of the machine on which the store is.
    pub address: String,
    /// The store's port.
    pub port: u16,
    /// Which process this is, from 0 to `size - 1`.
    pub rank: usize,
    /// How many processes there are.
    pub size: usize,
    /// What the keys in the store begin with: the same for all ranks, and another for each start of the program where
    /// the store outlives it. The groups that a process joins one after the other are told apart by their order.
    pub prefix: String,
    /// Whether rank 0 holds the store; otherwise somebody else does, as torchrun.
    pub hosts_store: bool,
    /// How long the processes wait for each other: when they meet, and in each call. At least one second.
    pub timeout: Duration,
}

impl Rendezvous {
    /// Who holds the store, in words.
    fn host(&self) -> String {
        let Rendezvous { address, port, .. } = self;
        match self.hosts_store {
            true => format!("rank 0, which holds the store at {address}:{port},"),
            false => format!("the store at {address}:{port}"),
        }
    }

    /// How long it takes at most to find out who is to blame, and how long an answer of the store may take.
    pub(super) fn look(&self) -> Duration {
        (self.timeout / 4).min(LOOK)
    }
}

/// Why a group is broken, as it stands in the store.
#[derive(Serialize, Deserialize)]
struct Verdict {
    text: String,
    /// The ranks that will not read this.
    silent: Vec<usize>,
}

/// gloo's connections with all other ranks.
struct Gloo(*mut RawGroup);

// SAFETY: gloo's connections have threads and locks of their own; the calls come one at a time, under the group's lock.
unsafe impl Send for Gloo {}

impl Drop for Gloo {
    fn drop(&mut self) {
        // SAFETY: the group is open, and nobody uses it after this.
        unsafe { biv_torch_group_close(self.0) }
    }
}

/// What changes from call to call.
#[derive(Default)]
struct State {
    gloo: Option<Gloo>,
    /// How many collectives and agreements were begun.
    calls: u64,
    /// The collectives of which is known that all ranks want the same.
    known: HashSet<String>,
}

/// What a group of more than one process has.
struct Members {
    place: Rendezvous,
    store: Store,
    shared: Arc<Shared>,
    state: Mutex<State>,
    _quiet: Quiet,
}

/// The processes of one computation, seen by one of them.
///
/// All ranks make the same calls in the same order, with tensors of the same shapes and types. A call waits for all
/// others. Any thread may call; calls of one process wait for each other. While a group of more than one process exists,
/// libtorch logs nothing below a fatal error in this process. Dropping a group waits a few seconds at most until the
/// others have finished what this rank has.
///
/// # Errors
/// Each call: [`Error::Distributed`], which names the ranks that are to blame; the same again from each call after it.
/// Tensors that a failed call was to write have any values.
pub struct ProcessGroup {
    rank: usize,
    size: usize,
    members: Option<Members>,
}

impl fmt::Debug for ProcessGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank, self.size)
    }
}

impl ProcessGroup {
    /// Meets the other processes. A group of one meets nobody: it needs no store, address or port.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a rank that is not below the size, port 0, or a timeout below a second.
    /// [`Error::Distributed`] where the store is not reached, its port is taken, or ranks are missing, there twice, or
    /// say another size.
    pub fn join(place: &Rendezvous) -> Result<Self> {
        let Rendezvous { rank, size, .. } = *place;
        if rank >= size || size > i32::MAX as usize {
            return Err(Error::InvalidArgument(format!("rank {rank} of {size} processes: ranks count from 0")));
        }
        if size == 1 {
            return Ok(ProcessGroup { rank, size, members: None });
        }
        if place.port == 0 || place.timeout < Duration::from_secs(1) {
            let text = "a group of processes needs a port of at least 1 and a timeout of at least a second";
            return Err(Error::InvalidArgument(text.into()));
        }
        static JOINED: AtomicU64 = AtomicU64::new(0);
        let number = JOINED.fetch_add(1, Ordering::Relaxed);
        let place = Rendezvous { prefix: format!("{}/{number}", place.prefix), ..place.clone() };
        let deadline = Instant::now() + place.timeout - place.look();
        let quiet = Quiet::begin();
        let listening = (place.hosts_store && rank == 0).then(|| listen(&place)).transpose()?;
        let shared = Arc::<Shared>::default();
        let store = Store::open(&place, listening, deadline, shared.clone()).map_err(|error| {
            let seconds = place.timeout.as_secs_f64();
            Error::Distributed(format!("{} is not reached within {seconds} s: {}", place.host(), sentence(&error)))
        })?;
        let members = Members { place, store, shared, state: Mutex::default(), _quiet: quiet };
        // From here on dropping it leaves the group in order.
        let group = ProcessGroup { rank, size, members: Some(members) };
        if let Some(members) = &group.members {
            let own = members.roll_call(deadline)?;
            members.connect(own)?;
        }
        Ok(group)
    }

    /// Which process this is, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many processes there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether a call has failed: then all calls after it do.
    pub fn is_broken(&self) -> bool {
        self.members.as_ref().is_some_and(|members| members.whole().is_err())
    }

    /// Fails on every rank, with the ranks and their values, unless all give the same `value` for the same `what`.
    /// It goes through the store: for short texts, not for each step.
    ///
    /// # Errors
    /// As each call.
    pub fn agree(&self, what: &str, value: &str) -> Result<()> {
        let Some(members) = &self.members else { return Ok(()) };
        let mut state = members.state.lock();
        members.whole()?;
        members.agree(&mut state, what, value)
    }

    /// The values of each rank, in the order of ranks; there may be more of one than of another. Of any type that tensors
    /// have, bytes among them.
    ///
    /// # Errors
    /// As each call; [`Error::OutOfMemory`].
    pub fn all_gather_values<T: Element + Copy + Default>(&self, own: &[T]) -> Result<Vec<Vec<T>>> {
        if self.members.is_none() {
            return Ok(vec![own.to_vec()]);
        }
        let lengths = self.all_gather(&Tensor::f_from_slice(&[own.len() as i64])?)?;
        let lengths =
            lengths.iter().map(|length| Ok(length.f_int64_value(&[0])? as usize)).collect::<Result<Vec<_>>>()?;
        let most = lengths.iter().copied().max().unwrap_or_default();
        if most == 0 {
            return Ok(vec![vec![]; self.size]);
        }
        let padded = Tensor::f_zeros([most as i64], (T::KIND, Device::Cpu))?;
        padded.f_narrow(0, 0, own.len() as i64)?.f_copy_(&Tensor::f_from_slice(own)?)?;
        let all = self.all_gather(&padded)?;
        let cut = all.iter().zip(lengths).map(|(values, length)| {
            let mut own = filled(length, T::default())?;
            values.f_copy_data(&mut own, length)?;
            Ok(own)
        });
        cut.collect()
    }

    /// Makes `sum` the sum of all ranks' tensors. All ranks get the same bits; these depend on the number of ranks.
    ///
    /// # Errors
    /// As each call; [`Error::OutOfMemory`].
    pub fn all_reduce(&self, sum: &mut Tensor) -> Result<()> {
        let Some(members) = &self.members else { return Ok(()) };
        let dense = dense(sum)?;
        members.collective("all-reduce", &dense, |gloo, tag| {
            // SAFETY: both handles are live for the call.
            unsafe { biv_torch_group_all_reduce(gloo.0, tag, pointer(&dense)) }
        })?;
        copy_back(sum, &dense)
    }

    /// The tensors of all ranks, in the order of ranks, on the device of `own`.
    ///
    /// # Errors
    /// As each call; [`Error::OutOfMemory`].
    pub fn all_gather(&self, own: &Tensor) -> Result<Vec<Tensor>> {
        let Some(members) = &self.members else { return Ok(vec![own.f_detach_copy()?]) };
        let sent = dense(own)?;
        let all = (0..self.size).map(|_| Ok(sent.f_empty_like()?)).collect::<Result<Vec<_>>>()?;
        let handles: Vec<_> = all.iter().map(pointer).collect();
        members.collective("all-gather", &sent, |gloo, tag| {
            // SAFETY: all handles are live for the call; there is one tensor for each rank.
            unsafe { biv_torch_group_all_gather(gloo.0, tag, pointer(&sent), handles.as_ptr()) }
        })?;
        all.into_iter().map(|tensor| Ok(tensor.f_to(own.device())?)).collect()
    }

    /// Makes `tensor` that of rank 0.
    ///
    /// # Errors
    /// As each call; [`Error::OutOfMemory`].
    pub fn broadcast(&self, tensor: &mut Tensor) -> Result<()> {
        let Some(members) = &self.members else { return Ok(()) };
        let dense = dense(tensor)?;
        members.collective("broadcast", &dense, |gloo, tag| {
            // SAFETY: both handles are live for the call.
            unsafe { biv_torch_group_broadcast(gloo.0, tag, pointer(&dense)) }
        })?;
        copy_back(tensor, &dense)
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(members) = &self.members {
            members.leave();
        }
    }
}

/// The socket of the store that this process holds: at the address itself where that is a number, else at all of this
/// machine's.
fn listen(place: &Rendezvous) -> Result<TcpListener> {
    let address = place.address.parse().unwrap_or(IpAddr::from([0; 4]));
    TcpListener::bind((address, place.port)).map_err(|error| {
        let text = match error.kind() {
            std::io::ErrorKind::AddrInUse => "another process uses this port".to_string(),
            std::io::ErrorKind::AddrNotAvailable => "rank 0 must be on the machine that has this address".to_string(),
            _ => error.to_string(),
        };
        Error::Distributed(format!("rank 0 cannot hold the store at {}:{}: {text}", place.address, place.port))
    })
}

/// The values of `tensor` in gloo's form: side by side, in the host's memory, apart from autograd. The tensor itself where
/// it is like that.
fn dense(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.f_detach()?.f_to(Device::Cpu)?.f_contiguous()?)
}

/// Writes to `tensor` what [`dense`] had made another of.
fn copy_back(tensor: &mut Tensor, dense: &Tensor) -> Result<()> {
    if tensor.device() != Device::Cpu || tensor.data_ptr() != dense.data_ptr() {
        tensor.f_detach()?.f_copy_(dense)?;
    }
    Ok(())
}

/// What the ranks have said, `said` in their order: each value once, with the ranks that gave it, in the order of the
/// first of them.
pub(crate) fn sides<'a>(said: impl IntoIterator<Item = &'a str>) -> Vec<(&'a str, Vec<usize>)> {
    let mut sides = BTreeMap::<&str, Vec<usize>>::new();
    for (rank, value) in said.into_iter().enumerate() {
        sides.entry(value).or_default().push(rank);
    }
    let mut sides: Vec<_> = sides.into_iter().collect();
    sides.sort_by_key(|(_, ranks)| ranks[0]);
    sides
}

/// The ranks as a sentence begins: "rank 2", "ranks 0, 3".
pub(crate) fn ranks(which: &[usize]) -> String {
    let list: Vec<String> = which.iter().map(usize::to_string).collect();
    format!("rank{} {}", if which.len() == 1 { "" } else { "s" }, list.join(", "))
}

/// One rank, as another sees it in the store.
#[derive(Clone, Default)]
struct Seen {
    /// What it said last about being alive, and how many collectives it had finished.
    alive: Option<String>,
    /// The call that failed on it.
    failed: Option<String>,
    left: bool,
    heard: bool,
}

impl Seen {
    fn finished(&self) -> u64 {
        self.alive.as_deref().and_then(|text| text.split(' ').nth(1)?.parse().ok()).unwrap_or(0)
    }
}

fn look_at(keys: &Keys, size: usize) -> Answer<Vec<Seen>> {
    let see = |rank| {
        Ok(Seen {
            alive: keys.get(&format!("alive/{rank}"))?,
            failed: keys.get(&format!("failed/{rank}"))?,
            left: keys.get(&format!("left/{rank}"))?.is_some(),
            heard: keys.get(&format!("heard/{rank}"))?.is_some(),
        })
    };
    (0..size).map(see).collect()
}

impl Members {
    /// An error where the group is broken.
    fn whole(&self) -> Result<()> {
        self.shared.verdict.get().map_or(Ok(()), |verdict| Err(judged(verdict)))
    }

    /// Breaks the group, unless it is broken: the first verdict holds on every rank.
    fn condemn(&self, text: String, silent: Vec<usize>) -> Error {
        let rank = self.place.rank;
        let is_rank = self.shared.seated.load(Ordering::Acquire) || silent.contains(&rank);
        let own = serde_json::to_string(&Verdict { text, silent }).unwrap_or_default();
        let sent = own.clone();
        let first = self.store.ask(move |keys| {
            let first = keys.first("verdict", &sent)?;
            if is_rank {
                keys.set(&format!("heard/{rank}"), "")?;
            }
            Ok(first)
        });
        judged(self.shared.verdict.get_or_init(|| first.unwrap_or(own)))
    }

    /// The store is gone, and with it the way to find out more.
    fn lost(&self, answer: &str) -> Error {
        let text = format!("{} does not answer ({})", self.place.host(), sentence(answer));
        let silent = if self.place.hosts_store { vec![0] } else { vec![] };
        let own = serde_json::to_string(&Verdict { text, silent }).unwrap_or_default();
        judged(self.shared.verdict.get_or_init(|| own))
    }

    fn ask<T: Send + 'static>(&self, work: impl FnOnce(&Keys) -> Answer<T> + Send + 'static) -> Result<T> {
        self.store.ask(work).map_err(|answer| self.lost(&answer))
    }

    /// Waits until all ranks are there. Returns this machine's address for the others.
    fn roll_call(&self, deadline: Instant) -> Result<String> {
        let Rendezvous { rank, size, .. } = self.place;
        let reached = self.store.address.ip().to_string();
        let (before, first, complete) = self.ask(move |keys| {
            let first = keys.first("size", &format!("{size} {rank}"))?;
            let complete = keys.get("complete")?.is_some();
            let agrees = first.split(' ').next() == Some(&size.to_string());
            let before = if agrees { keys.count(&format!("places/{rank}"))? - 1 } else { 0 };
            if agrees && before == 0 {
                keys.set(&format!("present/{rank}"), &reached)?;
            }
            Ok((before, first, complete))
        })?;
        let (other_size, other_rank) = first.split_once(' ').unwrap_or((&first, "?"));
        let wrong = if before > 0 {
            format!("rank {rank} is there twice: two processes were given this rank")
        } else if other_size != size.to_string() {
            format!("rank {other_rank} says that there are {other_size} processes, and rank {rank} says {size}")
        } else {
            String::new()
        };
        if !wrong.is_empty() {
            // This rank reads the verdict here; where its rank is another's, that one has to read it too.
            let newcomer = if before > 0 { vec![] } else { vec![rank] };
            // A group that is complete has nothing to do with somebody who comes later.
            return Err(if complete { Error::Distributed(wrong) } else { self.condemn(wrong, newcomer) });
        }
        self.shared.seated.store(true, Ordering::Release);
        loop {
            let present = self.ask(move |keys| {
                (0..size).map(|rank| keys.get(&format!("present/{rank}"))).collect::<Answer<Vec<_>>>()
            })?;
            self.whole()?;
            let missing: Vec<usize> = (0..size).filter(|&rank| present[rank].is_none()).collect();
            if missing.is_empty() {
                if rank == 0 {
                    self.ask(|keys| keys.set("complete", ""))?;
                }
                // A process on the store's machine may see it by an address that leads nowhere from other machines.
                let mut addresses = present.into_iter().flatten().filter_map(|ip| ip.parse::<IpAddr>().ok());
                let outside = addresses.find(|ip| !ip.is_loopback()).filter(|_| self.store.own.is_loopback());
                return Ok(outside.unwrap_or(self.store.own).to_string());
            }
            if Instant::now() >= deadline {
                let are = if missing.len() == 1 { "is" } else { "are" };
                let seconds = self.place.timeout.as_secs_f64();
                let text = format!("{} of {size} {are} missing after {seconds} s", ranks(&missing));
                return Err(self.condemn(text, missing));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Connects with all ranks, which are there, over `own`, this machine's address.
    fn connect(&self, own: String) -> Result<()> {
        let Rendezvous { rank, size, .. } = self.place;
        let limit = self.place.timeout - self.place.look();
        let (address, prefix) = (self.store.address, format!("{}/gloo", self.place.prefix));
        let (done, opened) = mpsc::channel();
        let body = move || {
            let [host, prefix, own] = [&address.ip().to_string(), &prefix, &own].map(|text| c_text(text));
            let mut group = std::ptr::null_mut();
            // SAFETY: the texts outlive the call; the number of ranks was checked to fit.
            let failure = unsafe {
                biv_torch_group_open(
                    host.as_ptr(),
                    address.port(),
                    prefix.as_ptr(),
                    own.as_ptr(),
                    rank as i32,
                    size as i32,
                    limit.as_millis() as i64,
                    &mut group,
                )
            };
            drop(done.send(message(failure).map(|()| Gloo(group))));
        };
        spawn("join", body).map_err(|error| Error::OutOfMemory(format!("a thread does not start: {error}")))?;
        let mut state = self.state.lock();
        match opened.recv_timeout(limit).unwrap_or_else(|_| Err("no answer".into())) {
            Ok(gloo) => state.gloo = Some(gloo),
            Err(cause) => return Err(self.failed(&mut state, "connecting", &cause)),
        }
        Ok(())
    }

    fn agree(&self, state: &mut State, what: &str, value: &str) -> Result<()> {
        let Rendezvous { rank, size, .. } = self.place;
        state.calls += 1;
        let number = state.calls;
        let deadline = Instant::now() + self.place.timeout - self.place.look();
        let own = format!("{what}\n{value}");
        self.ask(move |keys| keys.set(&format!("agree/{number}/{rank}"), &own))?;
        let mut lives = vec![(None, Instant::now()); size];
        let said: Vec<String> = loop {
            let (said, alive) = self.ask(move |keys| {
                let all = |name: String| {
                    (0..size).map(|rank| keys.get(&format!("{name}/{rank}"))).collect::<Answer<Vec<_>>>()
                };
                Ok((all(format!("agree/{number}"))?, all("alive".into())?))
            })?;
            self.whole()?;
            let now = Instant::now();
            for (life, alive) in lives.iter_mut().zip(alive) {
                if life.0 != alive {
                    *life = (alive, now);
                }
            }
            let dead = |rank: usize| said[rank].is_none() && now - lives[rank].1 > self.place.look();
            if now >= deadline || (0..size).any(dead) {
                return Err(self.failed(state, &format!("agreeing on {what}"), "no answer in time"));
            }
            match said.into_iter().collect() {
                Some(said) => break said,
                None => thread::sleep(PAUSE),
            }
        };
        let sides = sides(said.iter().map(String::as_str));
        if sides.len() == 1 {
            self.shared.finished.store(state.calls, Ordering::Release);
            return Ok(());
        }
        let same = sides.iter().all(|(said, _)| said.split('\n').next() == Some(what));
        let sides = sides.iter().map(|(said, which)| {
            let (other, value) = said.split_once('\n').unwrap_or((said, ""));
            let value = value.chars().take(200).collect::<String>();
            format!("{}: {}{value}", ranks(which), if same { String::new() } else { format!("{other} ") })
        });
        let text = format!("the ranks differ in {what}: {}", sides.collect::<Vec<_>>().join("; "));
        Err(self.condemn(text, Vec::new()))
    }

    /// Runs a collective over `tensor`. The first of its kind and shape is agreed upon; later ones take gloo's number
    /// from the kind, the shape and the position, so that different ones never meet.
    fn collective(&self, kind: &str, tensor: &Tensor, run: impl FnOnce(&Gloo, u32) -> *mut c_char) -> Result<()> {
        let mut state = self.state.lock();
        self.whole()?;
        let what = format!("{kind} of {:?} values of type {:?}", tensor.size(), tensor.kind());
        if !state.known.contains(&what) {
            self.agree(&mut state, "the collective", &what)?;
            state.known.insert(what.clone());
        }
        if tensor.numel() == 0 {
            return Ok(());
        }
        state.calls += 1;
        let tag = XxHash3_64::oneshot_with_seed(state.calls, what.as_bytes()) as u32;
        let result = match &state.gloo {
            Some(gloo) => message(run(gloo, tag)),
            None => Err("the ranks are not connected".into()),
        };
        match result {
            Ok(()) => self.shared.finished.store(state.calls, Ordering::Release),
            Err(cause) => return Err(self.failed(&mut state, &what, &cause)),
        }
        Ok(())
    }

    /// Finds out why `call` failed on this rank, and breaks the group.
    fn failed(&self, state: &mut State, call: &str, cause: &str) -> Error {
        // Whoever waits for this rank gets an error now.
        state.gloo = None;
        let Rendezvous { rank, size, .. } = self.place;
        let end = Instant::now() + self.place.look();
        let own = call.to_string();
        let asked = self.ask(move |keys| {
            keys.set(&format!("failed/{rank}"), &own)?;
            look_at(keys, size)
        });
        let before = match asked {
            Ok(seen) => seen,
            Err(error) => return error,
        };
        let mut seen = before.clone();
        loop {
            if let Some(verdict) = self.shared.verdict.get() {
                return judged(verdict);
            }
            let settled = |(other, seen): (usize, &Seen)| other == rank || seen.failed.is_some() || seen.left;
            if seen.iter().enumerate().all(settled) || Instant::now() >= end {
                break;
            }
            thread::sleep(PAUSE);
            seen = match self.ask(move |keys| look_at(keys, size)) {
                Ok(seen) => seen,
                Err(error) => return error,
            };
        }
        let others = || (0..size).filter(|&other| other != rank);
        let open = |other: &usize| seen[*other].failed.is_none() && !seen[*other].left;
        let silent: Vec<usize> =
            others().filter(open).filter(|&other| seen[other].alive == before[other].alive).collect();
        let left: Vec<usize> = others().filter(|&other| seen[other].left && seen[other].failed.is_none()).collect();
        let late: Vec<usize> = others()
            .filter(open)
            .filter(|&other| !silent.contains(&other) && seen[other].finished() < state.calls)
            .collect();
        let different = others().find(|&other| seen[other].failed.as_deref().is_some_and(|other| other != call));
        let text = if !silent.is_empty() {
            let (has, is) =
                if silent.len() == 1 { ("does", "it has ended or is") } else { ("do", "they have ended or are") };
            format!("{call}: {} {has} not answer: {is} stopped", ranks(&silent))
        } else if !left.is_empty() {
            format!("{call}: {} left the group before", ranks(&left))
        } else if !late.is_empty() {
            let seconds = self.place.timeout.as_secs_f64();
            format!("{call}: {} did not come to it within {seconds} s, though alive", ranks(&late))
        } else if let Some(other) = different {
            let theirs = seen[other].failed.as_deref().unwrap_or_default();
            format!("the ranks do different things: rank {rank} {call}, rank {other} {theirs}")
        } else {
            format!("{call}: {}", sentence(cause))
        };
        self.condemn(text, silent)
    }

    /// Says goodbye, and waits a while for those who still need this rank: its messages, or the store that it holds.
    fn leave(&self) {
        let Rendezvous { rank, size, hosts_store, .. } = self.place;
        let holds_store = hosts_store && rank == 0;
        if !holds_store && !self.shared.seated.load(Ordering::Acquire) {
            return;
        }
        let end = Instant::now() + 2 * self.place.look();
        let broken = self.shared.verdict.get().and_then(|verdict| serde_json::from_str::<Verdict>(verdict).ok());
        if hosts_store && rank != 0 && broken.as_ref().is_some_and(|verdict| verdict.silent.contains(&0)) {
            // The store is not there any more.
            return;
        }
        let finished = self.shared.finished.load(Ordering::Acquire);
        let mut seen = self.store.ask(move |keys| {
            keys.set(&format!("left/{rank}"), "")?;
            look_at(keys, size)
        });
        while let Ok(all) = &seen {
            let done = |(other, seen): (usize, &Seen)| match &broken {
                _ if other == rank || seen.left => true,
                None => seen.finished() >= finished,
                Some(verdict) => !holds_store || seen.heard || verdict.silent.contains(&other),
            };
            if all.iter().enumerate().all(done) || Instant::now() >= end {
                break;
            }
            thread::sleep(PAUSE);
            seen = self.store.ask(move |keys| look_at(keys, size));
        }
    }
}

/// The error of a broken group.
fn judged(verdict: &str) -> Error {
    let text = serde_json::from_str(verdict).map_or_else(|_| verdict.to_string(), |verdict: Verdict| verdict.text);
    Error::Distributed(text)
}

/// The first line of what C++ says.
fn sentence(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim()
}
