//! Training by several processes as if by one: each of them, a rank, has the whole network, and computes the gradient of
//! its share of each mini-batch's rows. It has all the data, or rows of its own and what the weights of the others depend
//! on. In a fit each trains whole networks instead ([`super::fit`]).
//!
//! What the weights of the rows depend on is known everywhere, so the effective batch size and epsilon are those of the
//! whole mini-batch without a message. One sum of the gradients is all that a step sends.

mod agreement;
mod options;
mod own_rows;
mod rendezvous;

pub use options::{BatchNormStatistics, DistributedOptions, HeldRows};
pub use rendezvous::{path_of_rank, rendezvous};

pub(crate) use agreement::all_or_none;
pub(super) use agreement::{Fact, facts_of_data, facts_of_options, together};
pub(super) use own_rows::facts_of_part;

use crate::Result;
use crate::base::memory::filled;
use crate::torch::process_group::{ProcessGroup, Rendezvous};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tch::{Device, Kind, Tensor};

/// The processes that train one network, and how they divide the work.
#[derive(Debug)]
pub(crate) struct Ranks {
    pub group: Arc<ProcessGroup>,
    options: DistributedOptions,
    /// Whether this rank wants training to stop.
    wants_stop: AtomicBool,
    /// Whether some rank did in a step that was taken.
    stops: AtomicBool,
}

/// A group that this process has joined, and where.
type Joined = (Rendezvous, Weak<ProcessGroup>);

impl Ranks {
    /// Meets the other processes. What this process trains at the same time and by the same options has one group.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`](crate::Error::InvalidConfig), [`Error::Distributed`](crate::Error::Distributed).
    pub fn join(options: &DistributedOptions) -> Result<Arc<Self>> {
        static JOINED: Mutex<Vec<Joined>> = Mutex::new(vec![]);
        let place = options.place()?;
        let mut joined = JOINED.lock();
        joined.retain(|(_, group)| group.upgrade().is_some_and(|group| !group.is_broken()));
        let found = joined.iter().find(|(other, _)| *other == place).and_then(|(_, group)| group.upgrade());
        let group = match found {
            Some(group) => group,
            None => {
                let group = Arc::new(ProcessGroup::join(&place)?);
                joined.push((place, Arc::downgrade(&group)));
                group
            }
        };
        let (wants_stop, stops) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Arc::new(Ranks { group, options: options.clone(), wants_stop, stops }))
    }

    /// Whether this process writes what all have in common: one of them does.
    pub fn writes(&self) -> bool {
        self.group.rank() == 0
    }

    /// Whether the sum of the gradients has the same bits for any number of ranks.
    pub fn is_deterministic(&self) -> bool {
        self.options.deterministic
    }

    /// These, where each of them holds its own rows; `None` where each has all.
    pub fn with_own_rows(&self) -> Option<&Self> {
        Some(self).filter(|_| self.options.rows == HeldRows::Own)
    }

    /// The processes whose rows a BatchNorm normalises together with this one's; `None` where each share has its own
    /// statistics.
    pub fn norm_group(&self) -> Option<&Arc<ProcessGroup>> {
        Some(&self.group).filter(|_| self.options.batch_norm == BatchNormStatistics::Synchronised)
    }

    /// In how many shares a mini-batch is divided.
    pub fn shares(&self) -> usize {
        if self.is_deterministic() { self.options.shares } else { self.group.size() }
    }

    /// The shares of rank number `rank`.
    pub fn shares_of(&self, rank: usize) -> Range<usize> {
        part(rank, self.group.size(), self.shares())
    }

    /// Which of a mini-batch's `rows` rows are share number `share`.
    pub fn rows_of(&self, share: usize, rows: usize) -> Range<usize> {
        part(share, self.shares(), rows)
    }

    /// The fewest rows that a mini-batch may have for a network that needs `alone` of them in one process.
    pub fn smallest_batch(&self, alone: usize) -> usize {
        match (alone, self.norm_group()) {
            (..2, _) => alone,
            _ if self.with_own_rows().is_some() => alone,
            (_, None) => alone * self.shares(),
            (_, Some(group)) => alone.max(group.size()),
        }
    }

    /// Has all ranks stop: the next message of a step tells them.
    pub fn ask_to_stop(&self) {
        self.wants_stop.store(true, Relaxed);
    }

    pub fn wants_stop(&self) -> bool {
        self.wants_stop.load(Relaxed)
    }

    /// Takes what a step's messages said: whether some rank wants to stop.
    pub fn hear_stop(&self, stops: bool) {
        self.stops.fetch_or(stops, Relaxed);
    }

    /// Whether all ranks are to stop now: true once, on each of them after the same step.
    pub fn stops(&self) -> bool {
        let stops = self.stops.swap(false, Relaxed);
        if stops {
            self.wants_stop.store(false, Relaxed);
        }
        stops
    }

    /// How long the ranks wait for each other.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.options.timeout_seconds)
    }

    /// Makes each of `values` the sum of what the ranks give for it. Each of them calls it, with as many.
    ///
    /// # Errors
    /// As [`Ranks::take_from_first`].
    pub fn sum(&self, values: &mut [f64]) -> Result<()> {
        let mut tensor = Tensor::f_from_slice(values)?;
        self.group.all_reduce(&mut tensor)?;
        tensor.f_copy_data(values, values.len())?;
        Ok(())
    }

    /// Makes `values` those of rank 0. Each of them calls it, with as many.
    ///
    /// # Errors
    /// [`Error::Distributed`](crate::Error::Distributed), [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn take_from_first(&self, values: &mut [f64]) -> Result<()> {
        let mut tensor = Tensor::f_from_slice(values)?;
        self.group.broadcast(&mut tensor)?;
        tensor.f_copy_data(values, values.len())?;
        Ok(())
    }

    /// The bytes that rank 0 gives, if any. Each of them calls it; what the others give does not count.
    ///
    /// # Errors
    /// As [`Ranks::take_from_first`].
    pub fn bytes_from_first(&self, own: Option<Vec<u8>>) -> Result<Option<Vec<u8>>> {
        let mut length = Tensor::f_from_slice(&[own.as_ref().map_or(-1, |bytes| bytes.len() as i64)])?;
        self.group.broadcast(&mut length)?;
        let Ok(length) = usize::try_from(length.f_int64_value(&[0])?) else { return Ok(None) };
        if self.writes() {
            self.group.broadcast(&mut Tensor::f_from_slice(own.as_deref().unwrap_or_default())?)?;
            return Ok(own);
        }
        let mut tensor = Tensor::f_zeros([length as i64], (Kind::Uint8, Device::Cpu))?;
        self.group.broadcast(&mut tensor)?;
        let mut bytes = filled(length, 0)?;
        tensor.f_copy_data(&mut bytes, length)?;
        Ok(Some(bytes))
    }

    /// Whether some rank gives true. Each of them calls it.
    ///
    /// # Errors
    /// [`Error::Distributed`](crate::Error::Distributed).
    pub fn any(&self, own: bool) -> Result<bool> {
        let mut count = Tensor::f_from_slice(&[f32::from(u8::from(own))])?;
        self.group.all_reduce(&mut count)?;
        Ok(count.f_double_value(&[0])? > 0.0)
    }
}

/// Part number `number` of `count` nearly equal parts of `whole`.
fn part(number: usize, count: usize, whole: usize) -> Range<usize> {
    number * whole / count..(number + 1) * whole / count
}
