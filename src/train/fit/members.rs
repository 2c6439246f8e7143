//! The networks of a fit, trained side by side on the cores.

use crate::base::threads;
use crate::data::{Dataset, Normalization};
use crate::kernels::team;
use crate::model::{Model, ModelOptions};
use crate::torch::ending;
use crate::train::trainer::{StepReport, Trainer, TrainerOptions};
use crate::{Error, Result};
use parking_lot::Mutex;
use rayon::ThreadPool;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tch::Tensor;

/// How long a network is trained at a time before another one may take its core, at most.
const SLICE: Duration = Duration::from_millis(20);

/// In so many slices, at least, is an epoch of a network taken: then the cores share five networks evenly.
const SLICES: u64 = 4;

/// How often the caller hears how far the networks have come.
const TICK: Duration = Duration::from_millis(100);

/// A network in training, and the rows that it does not see.
#[derive(Debug)]
pub(super) struct Member {
    /// Which of the fit's networks it is, from 0.
    pub number: usize,
    pub trainer: Trainer,
    /// The held-out rows; none where the network is trained on all.
    held: Option<Dataset>,
    /// Which labels of all that are held out theirs are.
    pub places: Vec<usize>,
    /// The sum of the losses of the present epoch's steps, and how many these are.
    pub losses: (f64, u64),
    /// The squared residuals of its rows after the epoch that was completed last.
    pub squares: Vec<f64>,
    /// The weights of the stop.
    pub kept: Vec<Tensor>,
}

impl Member {
    /// Network number `number`, like `network` but for its seed. It is trained on `data` and judged on `held`.
    pub fn new(
        number: usize,
        network: &ModelOptions,
        normalization: &Normalization,
        data: &Dataset,
        held: Option<Dataset>,
        places: Vec<usize>,
        options: &TrainerOptions,
    ) -> Result<Self> {
        let mut model = Model::new(&network.reseeded(number as u64))?;
        model.set_normalization(normalization.clone());
        let trainer = Trainer::new(Arc::new(parking_lot::Mutex::new(model)), Some(data), options)?;
        Ok(Member { number, trainer, held, places, losses: (0.0, 0), squares: vec![], kept: vec![] })
    }

    /// Mini-batches left of the epochs before `epoch` and of that.
    pub fn remaining(&self, epoch: u64) -> u64 {
        let position = self.trainer.position();
        let per_epoch = self.trainer.batches_per_epoch() as u64;
        (epoch * per_epoch).saturating_sub(position.epoch * per_epoch + position.batch as u64)
    }

    /// Whether `epoch` is not complete, or the held-out rows were not predicted after it.
    pub fn is_behind(&self, epoch: u64) -> bool {
        self.remaining(epoch) > 0 || self.held.is_some() && self.squares.is_empty()
    }

    /// Trains until `epoch` epochs are complete, or for a slice of time that ends at `until`.
    fn advance(&mut self, epoch: u64, until: Option<Instant>) -> Result<()> {
        let most = (self.trainer.batches_per_epoch() as u64).div_ceil(SLICES);
        let end = Instant::now() + SLICE;
        let end = until.map_or(end, |until| until.min(end));
        // A fit that was stopped may go on where the epoch is complete, and its rows were not predicted.
        let is_complete = self.remaining(epoch) == 0;
        let (losses, mut steps) = (&mut self.losses, 0);
        let watch = |_: &Trainer, step: &StepReport| {
            steps += 1;
            if step.samples_used > 0 {
                losses.0 += step.loss;
                losses.1 += 1;
            }
            let is_over = steps >= most || Instant::now() >= end;
            if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        if !is_complete
            && let Err(error) = self.trainer.epoch(watch)
            && !matches!(error, Error::Cancelled(_))
        {
            return Err(error);
        }
        if self.remaining(epoch) == 0
            && let Some(held) = &self.held
        {
            self.squares = self.trainer.squared_residuals(held)?;
        }
        Ok(())
    }
}

/// How the networks stand, for those who wait: mini-batches left of the present epoch. Breaks to stop.
pub(super) type Tick<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

/// The threads that train the networks.
pub(super) struct Crew {
    /// The threads beside the caller's; none for networks that are trained one after the other.
    helpers: Option<ThreadPool>,
    /// How many threads the work of one network may use.
    threads: usize,
}

/// What [`Crew::train`] shares among its threads.
struct Queue<'a> {
    /// Networks that no thread is at work on.
    idle: Vec<&'a mut Member>,
    /// Mini-batches left of those that some thread is at work on, when it began.
    busy: u64,
    /// Why all threads are to end.
    end: Option<Error>,
}

impl Crew {
    /// As many threads as there are cores for `members`; one where libtorch divides the work of each network itself.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the system does not start them.
    pub fn new(members: &[Member]) -> Result<Self> {
        let side_by_side = members.iter().all(|member| member.trainer.runs_on_one_thread());
        let cores = team::threads();
        let workers = if side_by_side { cores.min(members.len()).max(1) } else { 1 };
        let helpers = if workers > 1 { Some(threads::pool("fit", workers - 1)?) } else { None };
        Ok(Crew { helpers, threads: cores / workers })
    }

    /// Trains each of `members` until `epoch` epochs are complete, or for as long as until `until`. `tick` is called now and
    /// then, on the caller's thread.
    ///
    /// The network with the most left to do goes first, and gives way after a slice: with five networks on two cores,
    /// neither core is idle before the last slice. What a network computes does not depend on that.
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::Cancelled`] when `tick` breaks: the next call goes on.
    pub fn train(&self, members: &mut [Member], epoch: u64, until: Option<Instant>, tick: Tick) -> Result<()> {
        let idle = members.iter_mut().filter(|member| member.is_behind(epoch));
        let queue = Mutex::new(Queue { idle: idle.collect(), busy: 0, end: None });
        let work = |tick: Tick| team::with_threads(self.threads, || drain(&queue, epoch, until, tick));
        let _away = ending::away();
        match &self.helpers {
            None => work(tick),
            Some(helpers) => helpers.in_place_scope(|scope| {
                for _ in 0..helpers.current_num_threads() {
                    scope.spawn(|_| work(&mut |_| ControlFlow::Continue(())));
                }
                work(tick);
            }),
        }
        queue.into_inner().end.map_or(Ok(()), Err)
    }
}

/// Trains networks of the queue until none is left that no other thread is at work on, or until `until`.
fn drain(queue: &Mutex<Queue>, epoch: u64, until: Option<Instant>, tick: Tick) {
    let mut told = Instant::now();
    loop {
        let (member, remaining) = {
            let mut queue = queue.lock();
            if queue.end.is_some() || until.is_some_and(|until| Instant::now() >= until) {
                return;
            }
            let most = (0..queue.idle.len()).max_by_key(|&at| queue.idle[at].remaining(epoch));
            let Some(most) = most else { return };
            let member = queue.idle.swap_remove(most);
            let remaining = member.remaining(epoch);
            queue.busy += remaining;
            (member, remaining)
        };
        let done = member.advance(epoch, until);
        let left = {
            let mut queue = queue.lock();
            queue.busy -= remaining;
            match done {
                Err(error) => queue.end = Some(error),
                Ok(()) if member.is_behind(epoch) => queue.idle.push(member),
                Ok(()) => {}
            }
            queue.busy + queue.idle.iter().map(|member| member.remaining(epoch)).sum::<u64>()
        };
        if told.elapsed() >= TICK {
            told = Instant::now();
            if tick(left).is_break() {
                queue.lock().end.get_or_insert(Error::Cancelled(format!("the fit was stopped in epoch {epoch}")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{LabelStatistics, SyntheticOptions};

    #[test]
    fn a_network_whose_rows_were_not_predicted_after_its_epoch_takes_no_step_before() {
        let data = Dataset::synthetic(&SyntheticOptions { rows: 90, features: 5, outputs: 1, seed: 1 }).unwrap();
        let normalization = Normalization::fit(&data, LabelStatistics::Labels);
        let options =
            TrainerOptions { batch_size: 8, loss: crate::train::loss::Loss::Mse {}, ..TrainerOptions::default() };
        let network = ModelOptions::mlp(5, &[4], 1, false, 0);
        let held = Some(data.subset(&(0..30).collect::<Vec<_>>()).unwrap());
        let member = Member::new(0, &network, &normalization, &data, held, (0..30).collect(), &options).unwrap();
        let mut members = [member];
        let train = |members: &mut [Member]| {
            Crew::new(members).unwrap().train(members, 1, None, &mut |_| ControlFlow::Continue(())).unwrap();
            (members[0].trainer.steps(), std::mem::take(&mut members[0].squares))
        };
        let (steps, squares) = train(&mut members);
        assert_eq!((steps, squares.len()), (11, 30));
        // As after a stop while other networks were still in this epoch: its file has no predictions.
        assert_eq!(train(&mut members), (steps, squares));
    }
}
