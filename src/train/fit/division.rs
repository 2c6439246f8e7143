//! How the processes of a fit divide its networks, and what they tell each other.
//!
//! Each process trains whole networks, every network on one process: a small one loses by a sum of gradients a step. What
//! follows from all networks' residuals is computed everywhere, from the same numbers.

use super::members::{Crew, Member, Tick};
use crate::train::distributed::{DistributedOptions, Fact, Ranks, all_or_none, together};
use crate::{Error, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The processes train for so long, at most, before they tell each other how far they are: so none waits for long, and
/// all hear soon of one that ends or wants to stop.
const ROUND: Duration = Duration::from_secs(1);

/// The processes of a fit.
#[derive(Debug)]
pub(super) struct Division {
    /// None where one process trains all networks.
    ranks: Option<Arc<Ranks>>,
    round: Duration,
}

impl Division {
    /// Meets the other processes, where there are any.
    ///
    /// # Errors
    /// As [`Ranks::join`].
    pub fn new(options: Option<&DistributedOptions>) -> Result<Self> {
        let ranks = options.map(Ranks::join).transpose().map_err(|error| error.moved("trainer", "fit"))?;
        let round = ranks.as_ref().map_or(ROUND, |ranks| ROUND.min(ranks.timeout() / 4));
        Ok(Division { ranks, round })
    }

    /// The numbers of this process's networks among `count`: process r of n has r, r + n, r + 2 n and so on.
    pub fn own(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        let (rank, size) = self.ranks.as_ref().map_or((0, 1), |ranks| (ranks.group.rank(), ranks.group.size()));
        (rank..count).step_by(size)
    }

    /// Whether this process writes what all have in common.
    pub fn writes(&self) -> bool {
        self.ranks.as_ref().is_none_or(|ranks| ranks.writes())
    }

    /// What `make` makes where it succeeds on all processes, and they agree on its facts.
    ///
    /// # Errors
    /// As [`together`].
    pub fn together<T>(&self, make: impl FnOnce() -> Result<(T, Vec<Fact>)>) -> Result<T> {
        together(self.ranks.as_deref(), make)
    }

    /// What `make` makes where it succeeds on all processes.
    ///
    /// # Errors
    /// As [`together`].
    pub fn all_or_none<T>(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        all_or_none(self.ranks.as_deref(), make)
    }

    /// Makes each of `values` the sum of what the processes give for it. All call it, with as many.
    ///
    /// # Errors
    /// As [`Ranks::sum`].
    pub fn sum(&self, values: &mut [f64]) -> Result<()> {
        self.ranks.as_ref().map_or(Ok(()), |ranks| ranks.sum(values))
    }

    /// Whether some process gives true. All call it.
    ///
    /// # Errors
    /// As [`Ranks::any`].
    pub fn any(&self, own: bool) -> Result<bool> {
        self.ranks.as_ref().map_or(Ok(own), |ranks| ranks.any(own))
    }

    /// The bytes that the first process reads, if it finds any. All call it.
    ///
    /// # Errors
    /// Those of `read`, on all of them; as [`Ranks::bytes_from_first`].
    pub fn bytes_of_first(&self, read: impl FnOnce() -> Result<Option<Vec<u8>>>) -> Result<Option<Vec<u8>>> {
        let Some(ranks) = &self.ranks else { return read() };
        let own = self.all_or_none(|| if ranks.writes() { read() } else { Ok(None) })?;
        ranks.bytes_from_first(own)
    }

    /// What belongs to each of `count` networks, in their order: of this process's as it is in `own`, of the others' through
    /// bytes. All call it.
    ///
    /// # Errors
    /// Those of `write` and `read`; [`Error::Distributed`], [`Error::OutOfMemory`].
    pub fn gather<T>(
        &self,
        own: Vec<T>,
        count: usize,
        write: impl Fn(&T) -> Result<Vec<u8>>,
        read: impl Fn(&[u8]) -> Result<T>,
    ) -> Result<Vec<T>> {
        let Some(ranks) = &self.ranks else { return Ok(own) };
        let mut own = own.into_iter();
        let mut all = vec![];
        // One of each process at a time: as few bytes as possible are on their way.
        while all.len() < count {
            let mut next = own.next();
            let sent = self.all_or_none(|| Ok(next.as_ref().map(&write).transpose()?.unwrap_or_default()))?;
            let received = ranks.group.all_gather_values(&sent)?;
            for (rank, bytes) in received.iter().enumerate().take(count - all.len()) {
                let kept = if rank == ranks.group.rank() { next.take() } else { None };
                all.push(kept.map_or_else(|| read(bytes), Ok)?);
            }
        }
        Ok(all)
    }

    /// As [`Crew::train`], until the networks of all processes have completed `epoch`. These have `batches` mini-batches in
    /// an epoch together.
    ///
    /// # Errors
    /// As [`Crew::train`], on all processes: where it is another process's error, as [`Error::Distributed`]. All are told
    /// to stop where one is.
    pub fn train(&self, crew: &Crew, members: &mut [Member], epoch: u64, batches: u64, tick: Tick) -> Result<()> {
        let Some(ranks) = &self.ranks else { return crew.train(members, epoch, None, tick) };
        let stopped = || Error::Cancelled(format!("the fit was stopped in epoch {epoch}"));
        // Mini-batches left to the others, as far as is known.
        let mut elsewhere =
            batches - members.iter().map(|member| member.trainer.batches_per_epoch() as u64).sum::<u64>();
        let mut wants_stop = false;
        loop {
            let trained = match wants_stop {
                true => Err(stopped()),
                false => {
                    let until = Some(Instant::now() + self.round);
                    crew.train(members, epoch, until, &mut |left| tick(left + elsewhere))
                }
            };
            let own = members.iter().map(|member| member.remaining(epoch)).sum::<u64>();
            let behind = members.iter().filter(|member| member.is_behind(epoch)).count();
            let (error, stops) = match trained {
                Ok(()) => (None, false),
                Err(Error::Cancelled(_)) => (None, true),
                Err(error) => (Some(error), false),
            };
            let mut said =
                [own as f64, behind as f64, f64::from(u8::from(stops)), f64::from(u8::from(error.is_some()))];
            ranks.sum(&mut said)?;
            let [left, behind, stops, failures] = said;
            if failures > 0.0 {
                self.all_or_none(|| error.map_or(Ok(()), Err))?;
            }
            if stops > 0.0 {
                return Err(stopped());
            }
            if behind == 0.0 {
                return Ok(());
            }
            elsewhere = left as u64 - own;
            wants_stop = tick(left as u64).is_break();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, LabelStatistics, Normalization, SyntheticOptions};
    use crate::model::ModelOptions;
    use crate::train::loss::Loss;
    use crate::train::trainer::TrainerOptions;
    use std::ops::ControlFlow;

    fn members() -> Vec<Member> {
        let data = Dataset::synthetic(&SyntheticOptions { rows: 2000, features: 5, outputs: 1, seed: 1 }).unwrap();
        let normalization = Normalization::fit(&data, LabelStatistics::Labels);
        let options = TrainerOptions { batch_size: 8, loss: Loss::Mse {}, ..TrainerOptions::default() };
        let network = ModelOptions::mlp(5, &[100, 50], 1, false, 0);
        let held = data.subset(&(0..30).collect::<Vec<_>>()).unwrap();
        let member = |number| {
            let places = (0..30).collect();
            Member::new(number, &network, &normalization, &data, Some(held.clone()), places, &options).unwrap()
        };
        (0..3).map(member).collect()
    }

    fn found(members: Vec<Member>) -> impl PartialEq {
        let found = |member: Member| {
            let model = member.trainer.model().lock().to_bytes().unwrap();
            (member.squares, member.losses, model)
        };
        members.into_iter().map(found).collect::<Vec<_>>()
    }

    #[test]
    fn rounds_and_stops_between_them_change_no_bit() {
        let mut expected = members();
        let crew = Crew::new(&expected).unwrap();
        crew.train(&mut expected, 1, None, &mut |_| ControlFlow::Continue(())).unwrap();
        let alone = DistributedOptions { rank: Some(0), world_size: Some(1), ..DistributedOptions::default() };
        let division = Division { round: Duration::from_millis(1), ..Division::new(Some(&alone)).unwrap() };
        let (mut members, mut heard) = (members(), vec![]);
        let error = division.train(&crew, &mut members, 1, 750, &mut |left| {
            heard.push(left);
            ControlFlow::Break(())
        });
        assert_eq!(error.unwrap_err().to_string(), "the fit was stopped in epoch 1");
        assert!(heard.len() == 1 && heard[0] > 0, "{heard:?}");
        let tick = &mut |left| {
            heard.push(left);
            ControlFlow::Continue(())
        };
        division.train(&crew, &mut members, 1, 750, tick).unwrap();
        assert!(heard.is_sorted_by(|before, after| before >= after), "{heard:?}");
        assert!(found(members) == found(expected));
    }

    #[test]
    fn the_networks_are_shared_out() {
        let alone = Division::new(None).unwrap();
        assert_eq!(alone.own(3).collect::<Vec<_>>(), [0, 1, 2]);
        let text = Division::new(Some(&DistributedOptions { rank: Some(1), ..DistributedOptions::default() }));
        assert_eq!(text.unwrap_err().to_string(), "fit.distributed.world_size: is missing beside 'rank'");
    }
}
