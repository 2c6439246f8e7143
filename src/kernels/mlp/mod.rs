//! Multi-layer perceptrons on the CPU without libtorch: forward, backward and Adam by hand.
//!
//! A mini-batch is cut into tiles of 64 rows, and its tiles into shares. Each thread takes a share through the network
//! and back and adds up its gradient, all in its own core's cache; then the shares' gradients are added, and Adam moves
//! the weights. How a mini-batch is cut, and so the result to the last bit, does not depend on the number of threads.
//!
//! Where each tile's activations are needed to the end there is one share, and the threads divide its tiles, then the
//! weights: large layers, whose gradient would not stay in a cache, and BatchNorm, which needs the whole mini-batch
//! after each layer.
//!
//! The derivatives, for a layer `z = W a + b`, `a' = relu(z)` and `d = dL/dz` (Rumelhart, Hinton,
//! Williams 1986): `dL/dW = sum over rows of d a^T`, `dL/db = sum d`, `dL/da = W^T d`. BatchNorm's are
//! those of Ioffe and Szegedy 2015, section 3.

mod gemm;
mod passes;
mod plan;
mod tile;

use crate::Result;
use crate::base::memory::filled;
use crate::data::Scale;
use crate::kernels::adam_step::AdamStep;
use crate::kernels::spec::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM};
use crate::kernels::team::Team;
use gemm::{MOST_PAIRS, PANEL, TILE};
use parking_lot::Mutex;
use passes::{Backward, Evaluate, Forward, Gradient, Part, Pass, Update};
pub use plan::{Batch, Plan, State};
use plan::{NormStatistics, Parameters, split_off};
use pulp::Arch;
use std::ops::Range;
use tile::{Share, Tile, tile_count};

/// Weights times rows of a step from which on a second thread saves more than it takes to wake it.
const SHARED_WORK: usize = 1_000_000;

/// The most weights whose gradient each share has by itself.
const SHARED_WEIGHTS: usize = 1 << 16;

/// The least number of tiles of a share: its gradient is worth its own sums.
const SHARE: usize = 2;

/// The most shares.
const SHARES: usize = 8;

/// The memory of training, allocated once.
#[derive(Debug)]
pub struct Kernel {
    plan: Plan,
    arch: Arch,
    shares: Vec<Share>,
    /// Of the mini-batch, per neuron.
    statistics: Vec<NormStatistics>,
    /// As [`Tile::sums`], of the mini-batch.
    sums: Vec<[f32; 2]>,
}

impl Kernel {
    /// For networks of the shape `plan`.
    pub fn new(plan: &Plan) -> Self {
        Kernel::on(plan, Arch::new())
    }

    /// As [`Kernel::new`], with the instructions of `arch`.
    pub fn on(plan: &Plan, arch: Arch) -> Self {
        Kernel { plan: plan.clone(), arch, shares: vec![], statistics: vec![], sums: vec![] }
    }

    /// Forward, backward and one step of Adam, shared by `team`. Returns the loss before the step, the sum of
    /// coefficients times squared errors; where that is not finite, nothing has changed.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory): nothing has changed.
    pub fn step(&mut self, mut state: State, batch: &Batch, adam: &AdamStep, team: &Team) -> Result<f64> {
        self.cut(batch.rows.len())?;
        let work = batch.rows.len() * self.plan.parameter_count();
        let team = if work < SHARED_WORK { &Team::alone() } else { team };
        let layers = self.plan.split(state.parameters);
        let parameters = Parameters(&layers);
        match &mut self.shares[..] {
            [_] if self.plan.norm || team.size() > 1 => self.by_tiles(parameters, batch, team),
            // A share that nobody helps with goes all the way, be it the only one.
            shares => {
                let (plan, arch) = (&self.plan, self.arch);
                team.each(shares, |share| arch.dispatch(Pass { plan, parameters, batch, share }));
            }
        }
        let loss = self.shares.iter().map(|share| share.loss).sum::<f64>();
        if !loss.is_finite() {
            return Ok(loss);
        }
        self.follow_statistics(&mut state.buffers, batch.rows.len());
        self.descend(state, adam, team);
        Ok(loss)
    }

    /// Divides `rows` rows among shares.
    fn cut(&mut self, rows: usize) -> Result<()> {
        if self.shares.iter().map(|share| share.rows.len()).sum::<usize>() == rows {
            return Ok(());
        }
        let plan = &self.plan;
        if plan.norm {
            self.statistics = filled(plan.neuron_count(), NormStatistics::default())?;
            self.sums = filled(plan.neuron_count(), [0.0; 2])?;
        }
        let tiles = tile_count(rows);
        let alone = plan.norm || plan.parameter_count() > SHARED_WEIGHTS;
        let size = if alone { tiles } else { tiles.div_ceil(SHARES).max(SHARE) };
        let in_memory = if size < tiles { size.min(MOST_PAIRS) } else { tiles };
        // None rather than some where memory runs out.
        self.shares.clear();
        let mut shares = Vec::new();
        for start in (0..tiles).step_by(size) {
            let rows = start * TILE..rows.min((start + size) * TILE);
            let tiles = (0..in_memory.min(tile_count(rows.len()))).map(|_| Tile::new(plan, true));
            let tiles = tiles.collect::<Result<_>>()?;
            shares.push(Share { rows, tiles, gradient: filled(plan.parameter_count(), 0.0)?, loss: 0.0 });
        }
        self.shares = shares;
        Ok(())
    }

    /// The gradient of the only share: the team divides its tiles, then its weights.
    fn by_tiles(&mut self, parameters: Parameters, batch: &Batch, team: &Team) {
        self.forward_and_back(parameters, batch, team);
        let Kernel { plan, arch, shares, .. } = self;
        let [Share { tiles, gradient, .. }] = &mut shares[..] else { return };
        let (plan, tiles, arch) = (&*plan, &tiles[..], *arch);
        let mut gradient = &mut gradient[..];
        let mut pieces = Vec::new();
        for layer in 0..plan.layers() {
            let [mut weight, mut bias, _] = plan.split_off(layer, &mut gradient);
            // A few pieces for each thread, of whole blocks of outputs.
            let (inputs, outputs) = (plan.widths[layer], plan.widths[layer + 1]);
            let piece = match team.size() {
                1 => outputs,
                threads => outputs.div_ceil(2 * threads).next_multiple_of(10),
            };
            for first in (0..outputs).step_by(piece) {
                let outputs = piece.min(outputs - first);
                let (weight, bias) = (split_off(&mut weight, outputs * inputs), split_off(&mut bias, outputs));
                pieces.push((layer, first, weight, bias));
            }
        }
        team.each(&mut pieces, |(layer, first, weight, bias)| {
            let (layer, first, panel) = (*layer, *first, &mut PANEL.clone());
            arch.dispatch(Gradient { plan, tiles, panel, layer, first, weight, bias, fresh: true });
        });
    }

    /// All of the only share's tiles forward and back. It ends backward where it ended forward, so the last segment does
    /// both.
    fn forward_and_back(&mut self, parameters: Parameters, batch: &Batch, team: &Team) {
        let segments = self.plan.segments();
        let Kernel { plan, arch, shares, statistics, sums } = self;
        let [Share { tiles, loss, rows, .. }] = &mut shares[..] else { return };
        for (tile, start) in tiles.iter_mut().zip(rows.clone().step_by(TILE)) {
            tile.set_rows(start..rows.end);
        }
        for layers in &segments {
            let last = layers.end == plan.layers();
            team.each(tiles, |tile| {
                arch.dispatch(Forward { plan, parameters, statistics, batch, layers: layers.clone(), tile });
                if last {
                    arch.dispatch(Backward { plan, parameters, statistics, sums, batch, layers: layers.clone(), tile });
                }
            });
            if !last {
                merge_moments(plan.neurons(layers.start), tiles, statistics);
            }
        }
        for layers in segments.iter().rev().skip(1) {
            merge_sums(plan.neurons(layers.start), tiles, sums);
            team.each(tiles, |tile| {
                arch.dispatch(Backward { plan, parameters, statistics, sums, batch, layers: layers.clone(), tile });
            });
        }
        *loss = tiles.iter().map(|tile| tile.loss).sum();
    }

    /// Moves BatchNorm's running statistics towards the mini-batch's.
    fn follow_statistics(&self, buffers: &mut [&mut [f32]], count: usize) {
        let mut buffers = buffers.chunks_mut(2);
        for layer in 0..self.plan.layers() {
            let (true, Some([mean, variance])) = (self.plan.is_hidden(layer), buffers.next()) else { return };
            let neurons = self.statistics[self.plan.neurons(layer)].iter();
            for ((mean, variance), statistics) in mean.iter_mut().zip(variance.iter_mut()).zip(neurons) {
                let momentum = BATCH_NORM_MOMENTUM as f32;
                let unbiased = statistics.variance * (count as f32 / (count as f32 - 1.0));
                *mean += momentum * (statistics.mean - *mean);
                *variance += momentum * (unbiased - *variance);
            }
        }
    }

    /// Adds the shares' gradients and moves the weights.
    fn descend(&mut self, state: State, adam: &AdamStep, team: &Team) {
        if let (true, [share]) = (self.plan.norm, &mut self.shares[..]) {
            let mut gradient = &mut share.gradient[..];
            for layer in 0..self.plan.layers() {
                let [_, _, norm] = self.plan.split_off(layer, &mut gradient);
                let (weight, bias) = norm.split_at_mut(norm.len() / 2);
                for ((weight, bias), sums) in weight.iter_mut().zip(bias).zip(&self.sums[self.plan.neurons(layer)]) {
                    [*bias, *weight] = *sums;
                }
            }
        }
        // In each step a thread has the same part, which is still in its core's cache.
        let part = self.plan.parameter_count().div_ceil(team.size());
        let moments = state.means.chunks_mut(part).zip(state.squares.chunks_mut(part));
        let parts = state.parameters.chunks_mut(part).zip(moments).enumerate();
        let parts = parts.map(|(at, (values, (means, squares)))| Part { start: at * part, values, means, squares });
        let (arch, shares) = (self.arch, &self.shares[..]);
        team.each(&mut parts.collect::<Vec<_>>(), |part| arch.dispatch(Update { adam, shares, part }));
    }
}

/// The network's outputs, row-major, for rows of features that `scales` bring to normalised units, shared by `team`.
/// `buffers` are each BatchNorm's running mean and variance, which take the place of a mini-batch's.
///
/// # Errors
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
pub fn predict(
    plan: &Plan,
    parameters: &[f32],
    buffers: &[&[f32]],
    features: &[f32],
    scales: &[Scale],
    team: &Team,
) -> Result<Vec<f64>> {
    let arch = Arch::new();
    let layers = plan.split(parameters);
    let parameters = Parameters(&layers);
    let (inputs, outputs) = (plan.widths[0], plan.widths[plan.layers()]);
    let rows = features.len() / inputs;
    let mut predictions = filled(rows * outputs, 0.0)?;
    let pieces = Mutex::new(features.chunks(TILE * inputs).zip(predictions.chunks_mut(TILE * outputs)));
    let next = || pieces.lock().next();
    // A pass forward is a third of a step.
    let team = if rows * plan.parameter_count() < 3 * SHARED_WORK { &Team::alone() } else { team };
    let tiles = (0..team.size().min(tile_count(rows))).map(|_| Tile::new(plan, false));
    team.each(&mut tiles.collect::<Result<Vec<_>>>()?, |tile| {
        while let Some((features, predictions)) = next() {
            tile.set_rows(0..features.len() / inputs);
            arch.dispatch(Evaluate { plan, parameters, buffers, features, scales, tile });
            tile.outputs(plan, predictions);
        }
    });
    Ok(predictions)
}

/// Each neuron's mean and variance over the mini-batch from those over the tiles (Chan, Golub, LeVeque 1983).
fn merge_moments(neurons: Range<usize>, tiles: &[Tile], statistics: &mut [NormStatistics]) {
    for neuron in neurons {
        let (mut count, mut mean, mut squares) = (0.0f64, 0.0f64, 0.0f64);
        for tile in tiles {
            let [tile_mean, tile_squares] = tile.sums[neuron].map(f64::from);
            let rows = tile.len() as f64;
            let difference = tile_mean - mean;
            mean += difference * rows / (count + rows);
            squares += tile_squares + difference * difference * count * rows / (count + rows);
            count += rows;
        }
        let variance = squares / count;
        let inverse_std = (variance + BATCH_NORM_EPSILON).sqrt().recip() as f32;
        statistics[neuron] = NormStatistics { mean: mean as f32, variance: variance as f32, inverse_std };
    }
}

fn merge_sums(neurons: Range<usize>, tiles: &[Tile], sums: &mut [[f32; 2]]) {
    for neuron in neurons {
        sums[neuron] = [0, 1].map(|which| tiles.iter().map(|tile| tile.sums[neuron][which]).sum());
    }
}
