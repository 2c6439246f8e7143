//! Multi-layer perceptrons on the CPU without libtorch: forward, backward and Adam by hand.
//!
//! A step has two phases, each divided among the threads. In the first the mini-batch, cut into tiles of
//! 64 rows, goes through the network and back; in the second each weight's gradient is added up over the
//! tiles and Adam moves it. A weight's sums run over the rows in one order, so the result does not depend
//! on the number of threads. BatchNorm alone needs the whole mini-batch in between: it cuts the first
//! phase into segments of one layer.
//!
//! The derivatives, for a layer `z = W a + b`, `a' = relu(z)` and `d = dL/dz` (Rumelhart, Hinton,
//! Williams 1986): `dL/dW = sum over rows of d a^T`, `dL/db = sum d`, `dL/da = W^T d`. BatchNorm's are
//! those of Ioffe and Szegedy 2015, section 3.

mod simd;
mod team;
mod tile;

use crate::Result;
use crate::array::{filled, reserve};
use crate::model::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM};
use crate::optim::AdamStep;
use pulp::{Arch, Simd, WithSimd};
use simd::TILE;
use std::ops::Range;
pub use team::{Team, limit_threads};
use tile::{Tile, add_gradients, tile_count, tiles_at_once};

/// The shape of a network of Linear layers with ReLU between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The number of features, the width of each hidden layer, the number of outputs.
    pub widths: Vec<usize>,
    /// Whether a BatchNorm follows each hidden Linear.
    pub norm: bool,
}

impl Plan {
    /// The number of Linear layers.
    pub(crate) fn layers(&self) -> usize {
        self.widths.len() - 1
    }

    /// Where the neurons of `layer` are in a list of those of all layers.
    fn neurons(&self, layer: usize) -> Range<usize> {
        let start = self.widths[1..=layer].iter().sum();
        start..start + self.widths[layer + 1]
    }

    fn neuron_count(&self) -> usize {
        self.widths[1..].iter().sum()
    }

    /// The number of trainable values.
    fn parameter_count(&self) -> usize {
        let linear = self.widths.windows(2).map(|widths| (widths[0] + 1) * widths[1]).sum::<usize>();
        let hidden = self.neuron_count() - self.widths[self.layers()];
        linear + if self.norm { 2 * hidden } else { 0 }
    }

    /// Whether a ReLU follows `layer`.
    pub(crate) fn is_hidden(&self, layer: usize) -> bool {
        layer + 1 < self.layers()
    }

    /// The place of the weight of `layer` in the list of the trainable tensors; its bias and its BatchNorm's follow.
    pub(crate) fn first_parameter(&self, layer: usize) -> usize {
        layer * if self.norm { 4 } else { 2 }
    }

    /// Layers that a tile goes through without a word from the others.
    fn segments(&self) -> Vec<Range<usize>> {
        let length = if self.norm { 1 } else { self.layers() };
        (0..self.layers()).step_by(length).map(|start| start..start + length).collect()
    }
}

/// Trainable values by layer: weight (`outputs x inputs`, row-major), bias, and the BatchNorm's weight and bias.
#[derive(Clone, Copy)]
struct Parameters<'a> {
    tensors: &'a [&'a [f32]],
    per_layer: usize,
}

impl<'a> Parameters<'a> {
    fn new(plan: &Plan, tensors: &'a [&'a [f32]]) -> Self {
        Parameters { tensors, per_layer: plan.first_parameter(1) }
    }

    fn weight(&self, layer: usize) -> &'a [f32] {
        self.tensors[layer * self.per_layer]
    }

    fn bias(&self, layer: usize) -> &'a [f32] {
        self.tensors[layer * self.per_layer + 1]
    }

    fn norm(&self, layer: usize) -> (&'a [f32], &'a [f32]) {
        let first = layer * self.per_layer;
        (self.tensors[first + 2], self.tensors[first + 3])
    }
}

/// A mini-batch, in normalised units.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Row-major, of the whole data set.
    pub features: &'a [f32],
    /// As the features.
    pub labels: &'a [f32],
    /// Which rows of the data set are the mini-batch.
    pub rows: &'a [usize],
    /// What the mini-batch's squared errors are weighed with, row-major.
    pub coefficients: &'a [f32],
}

/// What a step changes, each list in the order of the layers.
#[derive(Debug)]
pub struct State<'a> {
    /// The trainable tensors.
    pub parameters: Vec<&'a mut [f32]>,
    /// Each BatchNorm's running mean and variance.
    pub buffers: Vec<&'a mut [f32]>,
    /// Adam's mean of the gradients, as the parameters.
    pub means: Vec<&'a mut [f32]>,
    /// Adam's mean of their squares, as the parameters.
    pub squares: Vec<&'a mut [f32]>,
}

/// Weights times rows from which on a second thread saves more than it takes to wake it.
const SHARED_WORK: usize = 1_000_000;

/// A neuron's statistics over a mini-batch.
#[derive(Clone, Copy, Debug, Default)]
struct NormStatistics {
    mean: f32,
    /// The population's.
    variance: f32,
    /// With BatchNorm's epsilon.
    inverse_std: f32,
}

/// The memory of training, allocated once.
#[derive(Debug)]
pub struct Kernel {
    plan: Plan,
    arch: Arch,
    tiles: Vec<Tile>,
    /// Of the mini-batch, per neuron.
    statistics: Vec<NormStatistics>,
    /// As [`Tile::sums`], of the mini-batch.
    sums: Vec<[f32; 2]>,
    gradient: Vec<f32>,
}

impl Kernel {
    /// For networks of the shape `plan`.
    pub fn new(plan: &Plan) -> Self {
        Kernel::on(plan, Arch::new())
    }

    /// As [`Kernel::new`], with the instructions of `arch`.
    pub fn on(plan: &Plan, arch: Arch) -> Self {
        Kernel { plan: plan.clone(), arch, tiles: vec![], statistics: vec![], sums: vec![], gradient: vec![] }
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
        let tensors: Vec<&[f32]> = state.parameters.iter().map(|tensor| &**tensor).collect();
        let parameters = Parameters::new(&self.plan, &tensors);
        self.forward_and_back(parameters, batch, team);
        let loss = self.tiles.iter().map(|tile| tile.loss).sum::<f64>();
        if !loss.is_finite() {
            return Ok(loss);
        }
        self.follow_statistics(&mut state.buffers, batch.rows.len());
        self.descend(state, adam, team);
        Ok(loss)
    }

    /// Divides `rows` rows among tiles.
    fn cut(&mut self, rows: usize) -> Result<()> {
        let plan = &self.plan;
        self.tiles.truncate(tile_count(rows));
        while self.tiles.len() < tile_count(rows) {
            self.tiles.push(Tile::new(plan, true)?);
        }
        for (index, tile) in self.tiles.iter_mut().enumerate() {
            tile.set_rows(index * TILE..rows.min((index + 1) * TILE));
        }
        if self.gradient.is_empty() {
            self.gradient = filled(plan.parameter_count(), 0.0)?;
            if plan.norm {
                self.statistics = filled(plan.neuron_count(), NormStatistics::default())?;
                self.sums = filled(plan.neuron_count(), [0.0; 2])?;
            }
        }
        Ok(())
    }

    /// The first phase. It ends backward where it ended forward, so the last segment does both.
    fn forward_and_back(&mut self, parameters: Parameters, batch: &Batch, team: &Team) {
        let segments = self.plan.segments();
        let Kernel { plan, arch, tiles, statistics, sums, .. } = self;
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

    /// The second phase.
    fn descend(&mut self, state: State, adam: &AdamStep, team: &Team) {
        let Kernel { plan, arch, tiles, sums, gradient, .. } = self;
        let mut gradient = gradient.as_mut_slice();
        let moments = state.means.into_iter().zip(state.squares);
        let mut slots = state.parameters.into_iter().zip(moments).map(|(values, (means, squares))| {
            let (gradients, rest) = std::mem::take(&mut gradient).split_at_mut(values.len());
            gradient = rest;
            Slot { values, gradients, means, squares }
        });
        let mut updates = Vec::new();
        for layer in 0..plan.layers() {
            let (Some(mut weight), Some(mut bias)) = (slots.next(), slots.next()) else { return };
            // A few pieces for each thread, of whole blocks of outputs.
            let (inputs, outputs) = (plan.widths[layer], plan.widths[layer + 1]);
            let piece = match team.size() {
                1 => outputs,
                threads => outputs.div_ceil(2 * threads).next_multiple_of(4),
            };
            for start in (0..outputs).step_by(piece) {
                let outputs = start..outputs.min(start + piece);
                let pieces = (weight.take(outputs.len() * inputs), bias.take(outputs.len()));
                updates.push(Update { plan, tiles, adam, layer, outputs, weight: pieces.0, bias: pieces.1 });
            }
            if plan.norm && plan.is_hidden(layer) {
                for (which, mut slot) in [1, 0].into_iter().zip(slots.by_ref().take(2)) {
                    for (gradient, sums) in slot.gradients.iter_mut().zip(&sums[plan.neurons(layer)]) {
                        *gradient = sums[which];
                    }
                    slot.step(adam);
                }
            }
        }
        team.each(&mut updates, |update| arch.dispatch(update));
    }
}

/// The network's outputs, row-major, for rows of normalised features, shared by `team`. `buffers`
/// are each BatchNorm's running mean and variance, which take the place of a mini-batch's.
///
/// # Errors
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
pub fn predict(
    plan: &Plan,
    parameters: &[&[f32]],
    buffers: &[&[f32]],
    features: &[f32],
    predictions: &mut [f32],
    team: &Team,
) -> Result<()> {
    /// Rows that share a tile's memory, one after the other.
    const ROWS: usize = 8 * TILE;
    let arch = Arch::new();
    let parameters = Parameters::new(plan, parameters);
    let (inputs, outputs) = (plan.widths[0], plan.widths[plan.layers()]);
    let pieces = features.chunks(ROWS * inputs).zip(predictions.chunks_mut(ROWS * outputs));
    let mut results = reserve(pieces.len())?;
    results.extend(pieces.map(|piece| (piece, Ok(()))));
    team.each(&mut results, |((features, predictions), result)| {
        let mut tile = match Tile::new(plan, false) {
            Ok(tile) => tile,
            Err(error) => return *result = Err(error),
        };
        for (features, predictions) in features.chunks(TILE * inputs).zip(predictions.chunks_mut(TILE * outputs)) {
            tile.set_rows(0..features.len() / inputs);
            arch.dispatch(Evaluate { plan, parameters, buffers, features, tile: &mut tile });
            tile.outputs(plan, predictions);
        }
    });
    results.into_iter().try_for_each(|(_, result)| result)
}

/// A parameter tensor or a part of one, with its gradient and Adam's state.
struct Slot<'a> {
    values: &'a mut [f32],
    gradients: &'a mut [f32],
    means: &'a mut [f32],
    squares: &'a mut [f32],
}

impl<'a> Slot<'a> {
    /// Cuts off the first `count` values.
    fn take(&mut self, count: usize) -> Slot<'a> {
        let mut lists = [&mut self.values, &mut self.gradients, &mut self.means, &mut self.squares].into_iter();
        let mut cut = || lists.next().map(|list| split_off(list, count)).unwrap_or_default();
        Slot { values: cut(), gradients: cut(), means: cut(), squares: cut() }
    }

    #[inline(always)]
    fn step(&mut self, adam: &AdamStep) {
        let moments = self.means.iter_mut().zip(&mut *self.squares);
        for ((value, &mut gradient), (mean, square)) in self.values.iter_mut().zip(&mut *self.gradients).zip(moments) {
            adam.apply(value, gradient, mean, square);
        }
    }
}

/// Cuts the first `count` values off `list`.
fn split_off<'a>(list: &mut &'a mut [f32], count: usize) -> &'a mut [f32] {
    let (first, rest) = std::mem::take(list).split_at_mut(count);
    *list = rest;
    first
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

/// A tile's way through some layers in training.
struct Forward<'a> {
    plan: &'a Plan,
    parameters: Parameters<'a>,
    statistics: &'a [NormStatistics],
    batch: &'a Batch<'a>,
    layers: Range<usize>,
    tile: &'a mut Tile,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Forward { plan, parameters, statistics, batch, layers, tile } = self;
        match layers.start.checked_sub(1) {
            None => tile.fill(
                plan,
                #[inline(always)]
                |at| &batch.features[batch.rows[at] * plan.widths[0]..],
            ),
            Some(before) => tile.normalize(plan, &parameters, before, statistics),
        }
        for layer in layers {
            tile.linear(simd, plan, &parameters, layer);
            match (plan.is_hidden(layer), plan.norm) {
                (true, true) => tile.moments(simd, plan, layer),
                (true, false) => tile.relu(plan, layer),
                (false, _) => tile.compare(plan, batch),
            }
        }
    }
}

/// A tile's way back.
struct Backward<'a> {
    plan: &'a Plan,
    parameters: Parameters<'a>,
    statistics: &'a [NormStatistics],
    sums: &'a [[f32; 2]],
    batch: &'a Batch<'a>,
    layers: Range<usize>,
    tile: &'a mut Tile,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Backward { plan, parameters, statistics, sums, batch, layers, tile } = self;
        let last = layers.end - 1;
        if plan.norm && plan.is_hidden(last) {
            tile.denormalize(plan, &parameters, last, statistics, sums, batch.rows.len());
        }
        for layer in layers.rev().filter(|&layer| layer > 0) {
            tile.back(simd, plan, &parameters, layer);
            if plan.norm {
                tile.norm_gradients(simd, plan, layer - 1);
            }
        }
    }
}

/// A tile's way through the network in evaluation.
struct Evaluate<'a> {
    plan: &'a Plan,
    parameters: Parameters<'a>,
    buffers: &'a [&'a [f32]],
    features: &'a [f32],
    tile: &'a mut Tile,
}

impl WithSimd for Evaluate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Evaluate { plan, parameters, buffers, features, tile } = self;
        tile.fill(
            plan,
            #[inline(always)]
            |at| &features[at * plan.widths[0]..],
        );
        for layer in 0..plan.layers() {
            tile.linear(simd, plan, &parameters, layer);
            match (plan.is_hidden(layer), plan.norm) {
                (true, true) => tile.evaluate_norm(plan, &parameters, buffers, layer),
                (true, false) => tile.relu(plan, layer),
                (false, _) => {}
            }
        }
    }
}

/// The gradient and the step of Adam for some neurons of a layer.
struct Update<'a> {
    plan: &'a Plan,
    tiles: &'a [Tile],
    adam: &'a AdamStep,
    layer: usize,
    outputs: Range<usize>,
    weight: Slot<'a>,
    bias: Slot<'a>,
}

impl WithSimd for &mut Update<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let &mut Update { plan, tiles, adam, layer, ref outputs, ref mut weight, ref mut bias } = self;
        weight.gradients.fill(0.0);
        bias.gradients.fill(0.0);
        for tiles in tiles.chunks(tiles_at_once(plan, layer)) {
            add_gradients(simd, plan, tiles, layer, outputs.clone(), weight.gradients, bias.gradients);
        }
        weight.step(adam);
        bias.step(adam);
    }
}
