//! Steps of several processes: each computes the gradient of its shares of the mini-batch, and takes the same step along
//! the sum.
//!
//! A rank sends one message a step: its gradient, its part of BatchNorm's running statistics, and a few numbers. These say
//! the loss, whether something went wrong on the rank, and by a digest which step on which rows it takes, so that ranks
//! that have come apart find out before they move.
//!
//! In a deterministic sum the shares are the leaves of one binary tree, for any number of ranks. A rank adds up the nodes
//! that it has all shares of and sends these; all ranks add the rest.
//!
//! Where each rank holds its own rows, these are its share, whichever places of the mini-batch they have.

use super::gradients::{Gradients, SavedStatistics};
use super::inputs::Selection;
use super::{MiniBatch, StepLoss, StepStrategy, Weights};
use crate::base::fault;
use crate::data::gather;
use crate::model::{Networks, Part};
use crate::torch::flat::Flat;
use crate::torch::tensor::to_f32;
use crate::train::distributed::{Fact, Ranks};
use crate::{Error, Result};
use std::hash::Hasher;
use std::ops::Range;
use std::sync::Arc;
use tch::Tensor;
use twox_hash::XxHash3_64;

/// The numbers of a message that are no gradient and no statistics.
const NUMBERS: usize = 6;
const LOSS: usize = 0;
/// How many ranks met an error.
const FAILED: usize = 1;
/// How many want to stop.
const STOP: usize = 2;
/// Whole numbers below [`DIGEST`]: their sums over thousands of ranks are exact.
const STEP: Range<usize> = 3..NUMBERS;
const DIGEST: u64 = 1 << 11;

/// See the file.
#[derive(Debug)]
pub(super) struct Distributed {
    gradients: Gradients,
    ranks: Arc<Ranks>,
    /// What this rank sends: a message for each node of the tree, or a single one. Their memory is there before a step,
    /// so that a rank that has no more can say so.
    messages: Vec<Flat>,
}

impl Distributed {
    /// For `networks`; gets the gradients of shares from `gradients`.
    pub(super) fn new(gradients: Gradients, networks: Networks, ranks: Arc<Ranks>) -> Result<Self> {
        let mut tensors = networks.parameters();
        tensors.extend(networks.buffers());
        tensors.push(Tensor::f_zeros([NUMBERS as i64], (tch::Kind::Float, networks.device()))?);
        let size = ranks.group.size();
        let count = if ranks.is_deterministic() {
            let nodes = (0..size).map(|rank| nodes(0..ranks.shares(), &ranks.shares_of(rank)).len());
            nodes.max().unwrap_or(1)
        } else {
            1
        };
        let messages = (0..count).map(|_| Flat::zeros(&tensors)).collect::<Result<_>>()?;
        Ok(Distributed { gradients, ranks, messages })
    }

    /// Writes what this rank's shares of `batch` give to its messages, which are 0.
    fn fill(&mut self, networks: Networks, weights: &Weights, batch: &MiniBatch, before: &[Tensor]) -> Result<()> {
        let Distributed { gradients, ranks, messages, .. } = self;
        let own = ranks.shares_of(ranks.group.rank());
        let nodes = if ranks.is_deterministic() { nodes(0..ranks.shares(), &own) } else { vec![own] };
        let mut work = Work { gradients, ranks, networks, weights, batch, before };
        nodes.into_iter().zip(messages).try_for_each(|(shares, message)| work.add_up(shares, message))
    }

    fn clear_messages(&mut self) -> Result<()> {
        for message in &mut self.messages {
            let _ = message.all.f_zero_()?;
        }
        Ok(())
    }

    /// Writes what is said beside the sums; with an error, nothing else.
    fn say(&mut self, failed: bool, digest: [u64; 3]) -> Result<()> {
        if failed {
            self.clear_messages()?;
        }
        let mut said = [0.0f32; NUMBERS];
        said[FAILED] = f32::from(u8::from(failed));
        said[STOP] = f32::from(u8::from(self.ranks.wants_stop()));
        said[STEP].iter_mut().zip(digest).for_each(|(place, number)| *place = number as f32);
        if let Some(numbers) = self.messages[0].parts.last_mut() {
            let _ = numbers.f_add_(&Tensor::f_from_slice(&said)?.f_to_device(numbers.device())?)?;
        }
        Ok(())
    }

    /// Makes the first message the sum of all ranks'.
    fn exchange(&mut self) -> Result<()> {
        let Ranks { group, .. } = &*self.ranks;
        if !self.ranks.is_deterministic() {
            return group.all_reduce(&mut self.messages[0].all);
        }
        let mut sent =
            self.messages.iter().map(|message| group.all_gather(&message.all)).collect::<Result<Vec<_>>>()?;
        // Each rank's messages are in the order of its nodes, which is that of the tree.
        let mut queues: Vec<_> = (0..group.size())
            .map(|rank| sent.iter_mut().map(|round| round[rank].shallow_clone()).collect::<Vec<_>>().into_iter())
            .collect();
        let total = self.total(0..self.ranks.shares(), &mut queues)?;
        self.messages[0].all.f_copy_(&total)?;
        Ok(())
    }

    /// The sum of `shares`, of which each rank's nodes are in `queues`.
    fn total(&self, shares: Range<usize>, queues: &mut [std::vec::IntoIter<Tensor>]) -> Result<Tensor> {
        for (rank, queue) in queues.iter_mut().enumerate() {
            let own = self.ranks.shares_of(rank);
            if own.start <= shares.start && shares.end <= own.end {
                return queue.next().ok_or_else(|| Error::Internal("a rank sent too few messages".into()));
            }
        }
        let [left, right] = halves(&shares);
        let (mut left, right) = (self.total(left, queues)?, self.total(right, queues)?);
        Ok(left.f_add_(&right)?)
    }

    /// The loss, from what all ranks said together; `failed` is this rank's own error.
    fn judge(&self, numbers: &[f32], failed: Option<Error>, step: &Step) -> Result<f64> {
        let size = self.ranks.group.size() as f32;
        if numbers[FAILED] > 0.0 {
            self.ranks.agree(failed.map_or(Ok(vec![]), Err))?;
            return Err(Error::Internal("a rank has failed, and all say that they have not".into()));
        }
        if numbers[STEP].iter().zip(step.digest()).any(|(&sum, own)| sum != size * own as f32) {
            self.ranks.agree(Ok(step.facts()))?;
            return Err(Error::Internal("the ranks' steps differ, and all say the same of them".into()));
        }
        self.ranks.hear_stop(numbers[STOP] > 0.0);
        Ok(f64::from(numbers[LOSS]))
    }
}

impl StepStrategy for Distributed {
    fn name(&self) -> &'static str {
        self.gradients.name()
    }

    fn step(
        &mut self,
        networks: Networks,
        weights: &mut Weights,
        batch: &MiniBatch,
        learning_rate: f64,
    ) -> Result<StepLoss> {
        let step = Step::new(weights.optimizer.steps(), batch, learning_rate);
        self.clear_messages()?;
        let filled = SavedStatistics::of(&weights.buffers).and_then(|saved| {
            self.fill(networks, weights, batch, saved.before())?;
            Ok(saved)
        });
        let (saved, failed) = match filled {
            Ok(saved) => (Some(saved), None),
            Err(error) => (None, Some(error)),
        };
        self.say(failed.is_some(), step.digest())?;
        if let Err(broken) = self.exchange() {
            // A sum that failed within libtorch's backward pass is an internal error: the group knows more.
            return Err(failed.filter(|error| !matches!(error, Error::Internal(_))).unwrap_or(broken));
        }
        let numbers = self.messages[0].parts.last().map(to_f32).transpose()?.unwrap_or_default();
        let loss = self.judge(&numbers, failed, &step)?;
        if loss.is_finite() {
            let (gradients, rest) = self.messages[0].parts.split_at(weights.parameters.len());
            weights.optimizer.step(&weights.parameters, gradients, learning_rate)?;
            for (buffer, moved) in weights.buffers.iter_mut().zip(rest) {
                tch::no_grad(|| buffer.f_copy_(moved))?;
            }
            if let Some(saved) = saved {
                saved.forget();
            }
        }
        Ok(StepLoss::Known(loss))
    }

    fn clear(&mut self, _: &Weights) -> Result<()> {
        self.gradients.clear();
        Ok(())
    }
}

/// What a rank's part of a step is made of.
struct Work<'a> {
    gradients: &'a mut Gradients,
    ranks: &'a Ranks,
    networks: Networks<'a>,
    weights: &'a Weights,
    batch: &'a MiniBatch<'a>,
    /// The running statistics before the step.
    before: &'a [Tensor],
}

impl Work<'_> {
    /// Writes the sum of `shares` to `sum`, which is 0: in the order of the tree.
    fn add_up(&mut self, shares: Range<usize>, sum: &mut Flat) -> Result<()> {
        if shares.len() == 1 {
            let places = self.places(shares.start);
            // In a BatchNorm over all ranks each of them takes part.
            let has_norms = self.ranks.norm_group().is_some() && !self.weights.buffers.is_empty();
            let takes_part = !places.is_empty() || has_norms;
            return if takes_part { self.compute(&places, sum) } else { Ok(()) };
        }
        let [left, right] = halves(&shares);
        let mut other = Flat::zeros(&sum.parts)?;
        self.add_up(left, sum)?;
        self.add_up(right, &mut other)?;
        let _ = sum.all.f_add_(&other.all)?;
        Ok(())
    }

    /// The places in the mini-batch of the rows of share number `share`, which is this rank's.
    fn places(&self, share: usize) -> Vec<usize> {
        let rows = self.batch.rows;
        match self.batch.held {
            Some(held) => (0..rows.len()).filter(|&place| held.place(rows[place]).is_some()).collect(),
            None => self.ranks.rows_of(share, rows.len()).collect(),
        }
    }

    /// Writes the loss of the rows at these `places` of the mini-batch, its gradient and their part of the running
    /// statistics to `message`.
    fn compute(&mut self, places: &[usize], message: &mut Flat) -> Result<()> {
        let Work { networks, weights, batch, .. } = *self;
        let outputs = batch.coefficients.len() / batch.rows.len();
        let rows = places.iter().map(|&place| batch.rows[place]);
        let rows: Vec<usize> = match batch.held {
            Some(held) => rows.filter_map(|row| held.place(row)).collect(),
            None => rows.collect(),
        };
        let coefficients = gather(batch.coefficients, outputs, places)?;
        let variances = batch.variances.map(|variances| gather(variances, outputs, places)).transpose()?;
        let share = MiniBatch {
            rows: &rows,
            coefficients: &coefficients,
            variances: variances.as_deref(),
            held: None,
            ..*batch
        };
        let part = Part { places: Some(places), others: self.ranks.norm_group() };
        let selection = Selection::new(&share, networks.device())?;
        let (loss, gradients) = self.gradients.compute_part(networks, weights, &share, &selection, part)?;
        fault::point();
        tch::no_grad(|| {
            let (parameters, rest) = message.parts.split_at_mut(weights.parameters.len());
            let (buffers, numbers) = rest.split_at_mut(weights.buffers.len());
            for (place, gradient) in parameters.iter_mut().zip(&gradients) {
                place.f_copy_(gradient)?;
            }
            let portion = places.len() as f64 / batch.rows.len() as f64;
            for ((place, moved), before) in buffers.iter_mut().zip(&weights.buffers).zip(self.before) {
                place.f_copy_(&moved.f_mul_scalar(portion)?)?;
                // Every share starts where the step did.
                moved.shallow_clone().f_copy_(before)?;
            }
            numbers[0].f_get(LOSS as i64)?.f_copy_(&loss)?;
            Ok(())
        })
    }
}

/// What all ranks must have in common in a step.
struct Step {
    number: u64,
    learning_rate: f64,
    /// Of the rows' numbers.
    rows: u64,
    coefficients: u64,
}

impl Step {
    fn new(number: u64, batch: &MiniBatch, learning_rate: f64) -> Self {
        let rows = XxHash3_64::oneshot(bytemuck::cast_slice(batch.rows));
        Step {
            number,
            learning_rate,
            rows,
            coefficients: XxHash3_64::oneshot(bytemuck::cast_slice(batch.coefficients)),
        }
    }

    fn digest(&self) -> [u64; 3] {
        let mut hasher = XxHash3_64::new();
        for number in [self.number, self.learning_rate.to_bits(), self.rows, self.coefficients] {
            hasher.write_u64(number);
        }
        let hash = hasher.finish();
        [hash % DIGEST, hash / DIGEST % DIGEST, hash / DIGEST / DIGEST % DIGEST]
    }

    fn facts(&self) -> Vec<Fact> {
        vec![
            Fact::new("the number of steps taken", self.number),
            Fact::new("the learning rate", self.learning_rate),
            Fact::new("the mini-batch's rows", format!("{:016x}", self.rows)),
            Fact::new("the weights of its labels", format!("{:016x}", self.coefficients)),
        ]
    }
}

/// Both subtrees of the node over `shares`.
fn halves(shares: &Range<usize>) -> [Range<usize>; 2] {
    let middle = shares.start + shares.len() / 2;
    [shares.start..middle, middle..shares.end]
}

/// The nodes below that over `all` that a rank with the shares `own` has all shares of, from left to right; the highest.
fn nodes(all: Range<usize>, own: &Range<usize>) -> Vec<Range<usize>> {
    if own.end <= all.start || all.end <= own.start {
        return vec![];
    }
    if own.start <= all.start && all.end <= own.end {
        return vec![all];
    }
    halves(&all).into_iter().flat_map(|half| nodes(half, own)).collect()
}
