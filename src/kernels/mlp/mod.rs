//! Multi-layer perceptrons on the CPU without libtorch: forward, backward and the optimiser's step by hand.
//!
//! A mini-batch is split into tiles of 64 rows, and its tiles into chunks. A thread takes a chunk forward and backward
//! through the network and sums its gradient, all in its core's cache. Then the chunks' gradients are added, and the
//! optimiser moves the weights. The partition does not depend on the number of threads, so neither does any bit of the
//! result.
//!
//! There is only one chunk where the activations of all tiles are needed to the end: for large layers, whose gradient
//! would not stay in a cache, and with BatchNorm, which needs the whole mini-batch after each layer. The threads then
//! divide the tiles among them, and after that the weights.
//!
//! The derivatives, for a layer `z = W a + b`, `a' = f(z)` and `d = dL/dz` (Rumelhart, Hinton, Williams 1986):
//! `dL/dW = sum over rows of d a^T`, `dL/db = sum d`, `dL/da = W^T d`. BatchNorm's are those of Ioffe and Szegedy 2015,
//! section 3. A ReLU is part of the matrix products; other activations are a pass of their own, which keeps `f'(z)` for
//! the way back.

mod activation;
mod gemm;
mod passes;
mod plan;
mod tile;

use crate::base::fault;
use crate::base::memory::filled;
use crate::data::Scale;
use crate::kernels::optimizer::{OptimizerStep, Rule, UpdateRule, clip_factor};
use crate::kernels::spec::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM};
use crate::kernels::team::Team;
use crate::{Error, Result};
use gemm::{EMPTY_PANEL, MAX_PAIRS, TILE};
use parking_lot::Mutex;
use passes::{Backward, ChunkPass, Evaluate, Forward, Gradient, GradientRange, GradientSum, ParameterRange, Update};
pub use plan::{BatchSlices, Plan, TrainingState};
use plan::{NormStatistics, Parameters, split_off};
use pulp::Arch;
use std::ops::Range;
use tile::{Chunk, Tile, tile_count};

/// From this many weights times rows on, a second thread saves more time than it takes to wake it.
const SHARED_WORK: usize = 1_000_000;

/// With more weights than this there is only one chunk, and one gradient.
const CHUNKED_WEIGHTS: usize = 1 << 16;

/// The fewest tiles in a chunk: with fewer, adding its gradient to the others' is not worth it.
const MIN_CHUNK_TILES: usize = 2;

/// The most chunks.
const MAX_CHUNKS: usize = 8;

/// A gradient's norm is summed in ranges of so many values, whatever the number of threads.
const NORM_RANGE: usize = 4096;

/// Trains networks of one shape. Its memory is allocated once for each size of mini-batch.
#[derive(Debug)]
pub struct Kernel {
    plan: Plan,
    arch: Arch,
    chunks: Vec<Chunk>,
    /// The mini-batch's, one for each neuron.
    statistics: Vec<NormStatistics>,
    /// The mini-batch's [`Tile::sums`].
    sums: Vec<[f32; 2]>,
}

impl Kernel {
    /// For networks of the shape `plan`.
    pub fn new(plan: &Plan) -> Self {
        Kernel::on(plan, Arch::new())
    }

    /// As [`Kernel::new`], with the instructions of `arch`.
    pub fn on(plan: &Plan, arch: Arch) -> Self {
        Kernel { plan: plan.clone(), arch, chunks: vec![], statistics: vec![], sums: vec![] }
    }

    /// Forward, backward and the optimiser's `step`, its work divided among `team`. Returns the loss before the step: the sum
    /// of coefficients times squared errors. Where that is not finite, nothing has changed.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]: nothing has changed.
    pub fn step(
        &mut self,
        mut state: TrainingState,
        batch: &BatchSlices,
        step: &OptimizerStep,
        team: &Team,
    ) -> Result<f64> {
        self.partition(batch.rows.len())?;
        let work = batch.rows.len() * self.plan.parameter_count();
        let team = if work < SHARED_WORK { &Team::alone() } else { team };
        let layers = self.plan.split(state.parameters);
        let parameters = Parameters(&layers);
        match &mut self.chunks[..] {
            [_] if self.plan.norm || team.size() > 1 => self.by_tiles(parameters, batch, team),
            // An unassisted chunk runs forward and backward in one pass.
            chunks => {
                let (plan, arch) = (&self.plan, self.arch);
                team.each(chunks, |chunk| arch.dispatch(ChunkPass { plan, parameters, batch, chunk }));
            }
        }
        let loss = self.chunks.iter().map(|chunk| chunk.loss).sum::<f64>();
        if !loss.is_finite() {
            return Ok(loss);
        }
        fault::point();
        let TrainingState { parameters, optimizer, buffers } = &mut state;
        let moved = self.move_statistics(buffers, batch.rows.len());
        fault::point();
        self.apply_step(parameters, optimizer, step, team)?;
        moved.keep();
        Ok(loss)
    }

    /// Partitions `rows` rows into chunks.
    fn partition(&mut self, rows: usize) -> Result<()> {
        if self.chunks.iter().map(|chunk| chunk.rows.len()).sum::<usize>() == rows {
            return Ok(());
        }
        let plan = &self.plan;
        if plan.norm {
            self.statistics = filled(plan.neuron_count(), NormStatistics::default())?;
            self.sums = filled(plan.neuron_count(), [0.0; 2])?;
        }
        let tiles = tile_count(rows);
        let alone = plan.norm || plan.parameter_count() > CHUNKED_WEIGHTS;
        let size = if alone { tiles } else { tiles.div_ceil(MAX_CHUNKS).max(MIN_CHUNK_TILES) };
        let in_memory = if size < tiles { size.min(MAX_PAIRS) } else { tiles };
        // Where memory runs out there are no chunks, rather than some.
        self.chunks.clear();
        let mut chunks = Vec::new();
        for start in (0..tiles).step_by(size) {
            let rows = start * TILE..rows.min((start + size) * TILE);
            let tiles = (0..in_memory.min(tile_count(rows.len()))).map(|_| Tile::new(plan, true));
            let tiles = tiles.collect::<Result<_>>()?;
            chunks.push(Chunk { rows, tiles, gradient: filled(plan.parameter_count(), 0.0)?, loss: 0.0 });
        }
        self.chunks = chunks;
        Ok(())
    }

    /// The gradient of the only chunk: the team divides its tiles, then its weights.
    fn by_tiles(&mut self, parameters: Parameters, batch: &BatchSlices, team: &Team) {
        self.forward_and_backward(parameters, batch, team);
        let Kernel { plan, arch, chunks, .. } = self;
        let [Chunk { tiles, gradient, .. }] = &mut chunks[..] else { return };
        let (plan, tiles, arch) = (&*plan, &tiles[..], *arch);
        let mut gradient = &mut gradient[..];
        let mut pieces = Vec::new();
        for layer in 0..plan.layers() {
            let [mut weight, mut bias, _] = plan.split_off(layer, &mut gradient);
            // A few pieces for each thread, each of whole blocks of outputs.
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
            let (layer, first, panel) = (*layer, *first, &mut EMPTY_PANEL.clone());
            arch.dispatch(Gradient { plan, tiles, panel, layer, first, weight, bias, fresh: true });
        });
    }

    /// All tiles of the only chunk, forward and backward. The last segment does both: its backward pass needs nothing of
    /// other tiles.
    fn forward_and_backward(&mut self, parameters: Parameters, batch: &BatchSlices, team: &Team) {
        let segments = self.plan.segments();
        let Kernel { plan, arch, chunks, statistics, sums } = self;
        let [Chunk { tiles, loss, rows, .. }] = &mut chunks[..] else { return };
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

    /// Moves BatchNorm's running statistics towards those of the mini-batch, of `count` rows.
    fn move_statistics<'a, 'b>(&self, buffers: &'a mut [&'b mut [f32]], count: usize) -> MovedStatistics<'a, 'b> {
        let before = buffers.concat();
        let mut pairs = buffers.chunks_mut(2);
        for layer in 0..self.plan.layers() {
            let (true, Some([mean, variance])) = (self.plan.is_hidden(layer), pairs.next()) else { break };
            let neurons = self.statistics[self.plan.neurons(layer)].iter();
            for ((mean, variance), statistics) in mean.iter_mut().zip(variance.iter_mut()).zip(neurons) {
                let momentum = BATCH_NORM_MOMENTUM as f32;
                let unbiased = statistics.variance * (count as f32 / (count as f32 - 1.0));
                *mean += momentum * (statistics.mean - *mean);
                *variance += momentum * (unbiased - *variance);
            }
        }
        MovedStatistics { buffers, before }
    }

    /// Takes the optimiser's `step` along the sum of the chunks' gradients, for the parameters and its own lists, `state`.
    fn apply_step(
        &mut self,
        parameters: &mut [f32],
        state: &mut [&mut [f32]],
        step: &OptimizerStep,
        team: &Team,
    ) -> Result<()> {
        if let (true, [chunk]) = (self.plan.norm, &mut self.chunks[..]) {
            let mut gradient = &mut chunk.gradient[..];
            for layer in 0..self.plan.layers() {
                let [_, _, norm] = self.plan.split_off(layer, &mut gradient);
                let (weight, bias) = norm.split_at_mut(norm.len() / 2);
                for ((weight, bias), sums) in weight.iter_mut().zip(bias).zip(&self.sums[self.plan.neurons(layer)]) {
                    [*bias, *weight] = *sums;
                }
            }
        }
        let (scale, chunks) = match step.clip_norm {
            // The first chunk's gradient is the sum then.
            Some(clip_norm) => (clip_factor(self.add_gradients(team), clip_norm) as f32, &self.chunks[..1]),
            None => (1.0, &self.chunks[..]),
        };
        match (step.rule, state) {
            (Rule::Adam(rule), [mean, square]) => self.update(rule, scale, chunks, parameters, [mean, square], team),
            (Rule::Adamw(rule), [mean, square]) => self.update(rule, scale, chunks, parameters, [mean, square], team),
            (Rule::Sgd(rule), [momentum]) => self.update(rule, scale, chunks, parameters, [momentum], team),
            _ => return Err(Error::Internal("the optimiser's lists are not those of its step".into())),
        }
        Ok(())
    }

    /// Adds the other chunks' gradients to the first one's. Returns the norm of the sum.
    fn add_gradients(&mut self, team: &Team) -> f64 {
        let [first, others @ ..] = &mut self.chunks[..] else { return 0.0 };
        let (others, arch) = (&*others, self.arch);
        let ranges = first.gradient.chunks_mut(NORM_RANGE).enumerate();
        let range = |(index, gradient)| GradientRange { start: index * NORM_RANGE, gradient, squares: 0.0 };
        let mut ranges: Vec<GradientRange> = ranges.map(range).collect();
        team.each(&mut ranges, |range| arch.dispatch(GradientSum { others, range }));
        ranges.iter().map(|range| range.squares).sum::<f64>().sqrt()
    }

    /// Moves the parameters and the optimiser's lists, `state`, by `rule`, with `scale` times the sum of the gradients of
    /// `chunks`.
    fn update<R: UpdateRule<N>, const N: usize>(
        &self,
        rule: R,
        scale: f32,
        chunks: &[Chunk],
        parameters: &mut [f32],
        state: [&mut [f32]; N],
        team: &Team,
    ) {
        // The ranges are the same in each step: a thread may find its own in its core's cache.
        let length = self.plan.parameter_count().div_ceil(team.size());
        let mut state = state.map(|list| list.chunks_mut(length));
        let ranges = parameters.chunks_mut(length).enumerate().map(|(index, values)| {
            let state = state.each_mut().map(|list| list.next().unwrap_or_default());
            ParameterRange { start: index * length, values, state }
        });
        let arch = self.arch;
        team.each(&mut ranges.collect::<Vec<_>>(), |range| arch.dispatch(Update { rule, scale, chunks, range }));
    }
}

/// BatchNorm's running statistics, moved by a step that is not finished. Dropped without [`keep`](Self::keep), by a
/// panic, it puts them back: they never move without the weights.
struct MovedStatistics<'a, 'b> {
    buffers: &'a mut [&'b mut [f32]],
    /// Their values before the step, one buffer after the other.
    before: Vec<f32>,
}

impl MovedStatistics<'_, '_> {
    /// Lets them stay as they are.
    fn keep(mut self) {
        self.buffers = &mut [];
    }
}

impl Drop for MovedStatistics<'_, '_> {
    fn drop(&mut self) {
        let mut before = &self.before[..];
        for buffer in self.buffers.iter_mut() {
            let (values, rest) = before.split_at(buffer.len());
            buffer.copy_from_slice(values);
            before = rest;
        }
    }
}

/// The network's outputs, row-major, for rows of features, which `scales` convert to normalised units. `buffers` are each
/// BatchNorm's running mean and variance, which replace a mini-batch's. The work is divided among `team`.
///
/// # Errors
/// [`Error::OutOfMemory`].
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
    // A forward pass is a third of a step's work.
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

/// Merges the tiles' means and variances of each neuron into those of the mini-batch (Chan, Golub, LeVeque 1983).
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

/// Adds up the tiles' sums of each neuron.
fn merge_sums(neurons: Range<usize>, tiles: &[Tile], sums: &mut [[f32; 2]]) {
    for neuron in neurons {
        sums[neuron] = [0, 1].map(|which| tiles.iter().map(|tile| tile.sums[neuron][which]).sum());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::adam_step::AdamOptions;
    use crate::kernels::optimizer::OptimizerOptions;
    use crate::kernels::spec::Activation;

    #[test]
    fn a_panic_within_a_step_leaves_everything_as_it_was() {
        let plan = Plan { widths: vec![3, 4, 2], norm: true, activation: Activation::Relu };
        let parameters: Vec<f32> = (0..plan.parameter_count()).map(|at| (at as f32).sin()).collect();
        let (zeros, running) = (vec![0.0; parameters.len()], [vec![0.5; 4], vec![2.0; 4]]);
        let features: Vec<f32> = (0..30).map(|at| (at as f32).cos()).collect();
        let (labels, coefficients, rows) = ([1.0; 20], [0.1; 20], (0..10).collect::<Vec<_>>());
        let batch = BatchSlices { features: &features, labels: &labels, rows: &rows, coefficients: &coefficients };
        let adam = OptimizerStep::new(&OptimizerOptions::Adam(AdamOptions::default()), 1, 0.1, Some(1.0));
        let mut points = 0;
        for number in 1.. {
            let (mut values, mut means, mut squares) = (parameters.clone(), zeros.clone(), zeros.clone());
            let mut statistics = running.clone();
            let mut kernel = Kernel::new(&plan);
            fault::panic_at(number);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let buffers = statistics.iter_mut().map(|list| &mut list[..]).collect();
                let optimizer = vec![&mut means[..], &mut squares[..]];
                let state = TrainingState { parameters: &mut values, optimizer, buffers };
                kernel.step(state, &batch, &adam, &Team::alone())
            }));
            if fault::panic_at(0) > 0 {
                assert!(result.unwrap().unwrap().is_finite());
                assert!(statistics != running && values != parameters, "a whole step moves everything");
                break;
            }
            assert!(result.is_err());
            assert_eq!(
                (statistics, values, means, squares),
                (running.clone(), parameters.clone(), zeros.clone(), zeros.clone())
            );
            points += 1;
        }
        assert_eq!(points, 2, "one before the statistics move, one between them and the weights");
    }
}
