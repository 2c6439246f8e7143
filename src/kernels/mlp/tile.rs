//! A tile: up to 64 rows of a mini-batch, and their way forward and backward through the network.

use super::activation;
use super::gemm::{GROUP, GemmEpilogue, Matrix, OVERREAD, Row, TILE, TilePair, gemm, sum};
use super::plan::{BatchSlices, NormStatistics, Parameters, Plan};
use crate::Result;
use crate::base::memory::filled;
use crate::data::Scale;
use crate::kernels::spec::{Activation, BATCH_NORM_EPSILON};
use pulp::Simd;
use std::ops::Range;

/// The memory of a tile. In each list the neurons of a layer are at [`Plan::neurons`].
#[derive(Debug)]
pub(super) struct Tile {
    /// Which rows of the mini-batch are in the tile, 1 to 64, one to a column. The columns beyond them have no effect.
    rows: Range<usize>,
    /// 1 for the columns that hold rows, 0 for the others.
    mask: Row,
    /// The features, then a row of ones.
    input: Vec<Row>,
    /// Each layer's output after its activation, then a row of ones.
    values: Vec<Row>,
    /// The derivative of the loss by each layer's output before its activation.
    deltas: Vec<Row>,
    /// The derivative of each layer's activation, where it is not a ReLU.
    slopes: Vec<Row>,
    /// BatchNorm's normalised values, before its weight and bias.
    normalized: Vec<Row>,
    /// Two numbers for each neuron that BatchNorm sums over the tiles.
    pub sums: Vec<[f32; 2]>,
    /// This tile's part of the loss.
    pub loss: f64,
}

impl Tile {
    /// Allocates the memory of a pass forward and, for `training`, of one backward.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub(super) fn new(plan: &Plan, training: bool) -> Result<Self> {
        let rows = |wanted: bool, count: usize| filled(if wanted { count } else { 0 }, Row::ZERO);
        let neurons = plan.neuron_count() + OVERREAD;
        let norm = training && plan.norm;
        let mut input = rows(true, plan.widths[0] + 1 + OVERREAD)?;
        input[plan.widths[0]] = Row::ONES;
        let mut values = rows(true, neurons)?;
        for layer in 0..plan.layers() {
            values[plan.neurons(layer).end] = Row::ONES;
        }
        Ok(Tile {
            rows: 0..0,
            mask: Row::ZERO,
            input,
            values,
            deltas: rows(training, neurons)?,
            slopes: rows(training && !plan.activation.is_relu(), neurons)?,
            normalized: rows(norm, neurons)?,
            sums: filled(if norm { neurons } else { 0 }, [0.0; 2])?,
            loss: 0.0,
        })
    }

    /// How many rows of the mini-batch are in the tile.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// How many columns are computed: those that hold rows, and a few that repeat the last row.
    #[inline(always)]
    fn columns(&self) -> usize {
        self.rows.len().next_multiple_of(GROUP)
    }

    /// Assigns the first rows of `rows`, at most [`TILE`], to the tile.
    pub(super) fn set_rows(&mut self, rows: Range<usize>) {
        let rows = rows.start..rows.end.min(rows.start + TILE);
        if rows.len() != self.rows.len() {
            for (column, mask) in self.mask.0.iter_mut().enumerate() {
                *mask = if column < rows.len() { 1.0 } else { 0.0 };
            }
        }
        self.rows = rows;
    }

    /// Copies the features in: those of row `at` of the mini-batch are `row(at)`.
    // Not inlined: with AVX-512 the compiler would use scatter instructions, which are no faster and take up registers.
    #[inline(never)]
    pub(super) fn fill<'a>(&mut self, plan: &Plan, row: impl Fn(usize) -> &'a [f32]) {
        /// How many columns are written at once.
        const WIDE: usize = 4;
        let inputs = plan.widths[0];
        for start in (0..self.columns()).step_by(WIDE) {
            let mut rows = [&[][..]; WIDE];
            for (column, features) in rows.iter_mut().enumerate() {
                *features = &row((self.rows.start + start + column).min(self.rows.end - 1))[..inputs];
            }
            for (feature, input) in self.input[..inputs].iter_mut().enumerate() {
                input.0[start..start + WIDE].copy_from_slice(&rows.map(|row| row[feature]));
            }
        }
    }

    /// Converts the features to normalised units.
    #[inline(always)]
    pub(super) fn scale(&mut self, scales: &[Scale]) {
        let columns = self.columns();
        for (input, scale) in self.input.iter_mut().zip(scales) {
            for value in &mut input.0[..columns] {
                *value = scale.apply(*value);
            }
        }
    }

    /// What this tile contributes to the gradient of `layer`, from output `first` on.
    #[inline(always)]
    pub(super) fn pair(&self, plan: &Plan, layer: usize, first: usize) -> TilePair<'_> {
        let values = layer.checked_sub(1).map_or(&self.input[..], |before| &self.values[plan.neurons(before).start..]);
        TilePair { deltas: &self.deltas[plan.neurons(layer).start + first..], values, columns: self.columns() }
    }

    /// The Linear of `layer`, and a ReLU after it unless a BatchNorm comes between them.
    #[inline(always)]
    pub(super) fn linear<S: Simd>(&mut self, simd: S, plan: &Plan, parameters: Parameters, layer: usize) {
        let relu = plan.is_hidden(layer) && !plan.norm && plan.activation.is_relu();
        let epilogue = if relu { GemmEpilogue::Relu } else { GemmEpilogue::Nothing };
        let (neurons, columns) = (plan.neurons(layer), self.columns());
        let (before, output) = self.values.split_at_mut(neurons.start);
        let input = if layer == 0 { &self.input[..plan.widths[0]] } else { &before[plan.neurons(layer - 1)] };
        let (values, bias) = parameters.linear(layer);
        let matrix = Matrix { values, width: plan.widths[layer], transposed: false };
        gemm(simd, matrix, Some(bias), input, &mut output[..neurons.len()], columns, epilogue);
    }

    /// Mean and sum of squared deviations of each neuron of `layer`, for BatchNorm.
    #[inline(always)]
    pub(super) fn moments<S: Simd>(&mut self, simd: S, plan: &Plan, layer: usize) {
        let (count, columns) = (self.rows.len() as f32, self.columns());
        for neuron in plan.neurons(layer) {
            let row = &self.values[neuron];
            let mean = sum(
                simd,
                row,
                &self.mask,
                columns,
                #[inline(always)]
                |value, mask| simd.mul_f32s(value, mask),
            ) / count;
            let centre = simd.splat_f32s(mean);
            let squares = sum(
                simd,
                row,
                &self.mask,
                columns,
                #[inline(always)]
                |value, mask| {
                    let deviation = simd.sub_f32s(value, centre);
                    simd.mul_f32s(mask, simd.mul_f32s(deviation, deviation))
                },
            );
            self.sums[neuron] = [mean, squares];
        }
    }

    /// The activation of `layer`, unless it is a ReLU: that is part of what comes before it. In training its derivative is
    /// kept.
    #[inline(always)]
    pub(super) fn activate(&mut self, plan: &Plan, layer: usize) {
        let (neurons, columns) = (plan.neurons(layer), self.columns());
        let values = &mut self.values[neurons.clone()];
        let slopes = if self.slopes.is_empty() { &mut [][..] } else { &mut self.slopes[neurons] };
        match plan.activation {
            Activation::Relu => {}
            Activation::LeakyRelu => each(values, slopes, columns, activation::leaky_relu),
            Activation::Tanh => each(values, slopes, columns, activation::tanh),
            Activation::Sigmoid => each(values, slopes, columns, activation::sigmoid),
            Activation::Silu => each(values, slopes, columns, activation::silu),
            Activation::Gelu => each(values, slopes, columns, activation::gelu),
            Activation::Softplus => each(values, slopes, columns, activation::softplus),
        }
    }

    /// The BatchNorm of `layer` with the mini-batch's statistics, and a ReLU after it.
    #[inline(always)]
    pub(super) fn normalize(
        &mut self,
        plan: &Plan,
        parameters: Parameters,
        layer: usize,
        statistics: &[NormStatistics],
    ) {
        let (weight, bias) = parameters.norm(layer);
        let (columns, lowest) = (self.columns(), lowest(plan));
        for (at, neuron) in plan.neurons(layer).enumerate() {
            let NormStatistics { mean, inverse_std, .. } = statistics[neuron];
            let (weight, bias) = (weight[at], bias[at]);
            let values = self.values[neuron].0[..columns].iter_mut().zip(&mut self.normalized[neuron].0);
            for (value, normalized) in values {
                *normalized = (*value - mean) * inverse_std;
                *value = at_least(*normalized * weight + bias, lowest);
            }
        }
    }

    /// The tile's part of the loss, and its derivative by the network's outputs.
    #[inline(always)]
    pub(super) fn compare(&mut self, plan: &Plan, batch: &BatchSlices) {
        let neurons = plan.neurons(plan.layers() - 1);
        let (outputs, columns) = (neurons.len(), self.columns());
        self.loss = 0.0;
        for (output, neuron) in neurons.enumerate() {
            let delta = &mut self.deltas[neuron].0;
            for (column, at) in self.rows.clone().enumerate() {
                let error = self.values[neuron].0[column] - batch.labels[batch.rows[at] * outputs + output];
                let weighted = batch.coefficients[at * outputs + output] * error;
                self.loss += f64::from(weighted * error);
                delta[column] = 2.0 * weighted;
            }
            delta[self.rows.len()..columns].fill(0.0);
        }
    }

    /// From the derivative by the outputs of `layer` to that by the outputs of the layer before it, through its
    /// activation.
    #[inline(always)]
    pub(super) fn backward_linear<S: Simd>(&mut self, simd: S, plan: &Plan, parameters: Parameters, layer: usize) {
        let (neurons, columns) = (plan.neurons(layer), self.columns());
        let before = plan.neurons(layer - 1);
        let (deltas, outputs) = self.deltas.split_at_mut(neurons.start);
        let (values, _) = parameters.linear(layer);
        let matrix = Matrix { values, width: plan.widths[layer], transposed: true };
        let relu = plan.activation.is_relu();
        let epilogue =
            if relu { GemmEpilogue::WherePositive(&self.values[before.clone()]) } else { GemmEpilogue::Nothing };
        let deltas = &mut deltas[before.clone()];
        gemm(simd, matrix, None, &outputs[..neurons.len()], deltas, columns, epilogue);
        if !relu {
            for (delta, slope) in deltas.iter_mut().zip(&self.slopes[before]) {
                delta.0[..columns].iter_mut().zip(&slope.0).for_each(|(delta, slope)| *delta *= slope);
            }
        }
    }

    /// The derivatives of the loss by bias and weight of each neuron's BatchNorm in `layer`.
    #[inline(always)]
    pub(super) fn norm_gradients<S: Simd>(&mut self, simd: S, plan: &Plan, layer: usize) {
        let columns = self.columns();
        for neuron in plan.neurons(layer) {
            let (delta, normalized) = (&self.deltas[neuron], &self.normalized[neuron]);
            self.sums[neuron] = [
                sum(
                    simd,
                    delta,
                    &self.mask,
                    columns,
                    #[inline(always)]
                    |delta, mask| simd.mul_f32s(delta, mask),
                ),
                sum(
                    simd,
                    delta,
                    normalized,
                    columns,
                    #[inline(always)]
                    |delta, normalized| simd.mul_f32s(delta, normalized),
                ),
            ];
        }
    }

    /// From the derivative by the outputs of the BatchNorm of `layer` to that by its inputs. `sums` are
    /// the [`Tile::norm_gradients`] of the whole mini-batch, of `count` rows.
    #[inline(always)]
    pub(super) fn denormalize(
        &mut self,
        plan: &Plan,
        parameters: Parameters,
        layer: usize,
        statistics: &[NormStatistics],
        sums: &[[f32; 2]],
        count: usize,
    ) {
        let (weight, _) = parameters.norm(layer);
        let columns = self.columns();
        for (at, neuron) in plan.neurons(layer).enumerate() {
            let scale = weight[at] * statistics[neuron].inverse_std;
            let [bias, weight] = sums[neuron].map(|sum| sum / count as f32);
            let deltas = self.deltas[neuron].0[..columns].iter_mut().zip(&self.normalized[neuron].0).zip(&self.mask.0);
            for ((delta, normalized), mask) in deltas {
                *delta = mask * scale * (*delta - bias - normalized * weight);
            }
        }
    }

    /// The BatchNorm of `layer` with the running statistics, and a ReLU after it.
    #[inline(always)]
    pub(super) fn evaluate_norm(&mut self, plan: &Plan, parameters: Parameters, buffers: &[&[f32]], layer: usize) {
        let (weight, bias) = parameters.norm(layer);
        let (columns, lowest) = (self.columns(), lowest(plan));
        let (mean, variance) = (buffers[2 * layer], buffers[2 * layer + 1]);
        for (at, row) in self.values[plan.neurons(layer)].iter_mut().enumerate() {
            let scale = weight[at] / (variance[at] + BATCH_NORM_EPSILON as f32).sqrt();
            for value in &mut row.0[..columns] {
                *value = at_least((*value - mean[at]) * scale + bias[at], lowest);
            }
        }
    }

    /// The network's outputs, row-major.
    pub(super) fn outputs(&self, plan: &Plan, predictions: &mut [f64]) {
        let outputs = &self.values[plan.neurons(plan.layers() - 1)];
        for (column, row) in predictions.chunks_mut(outputs.len()).enumerate() {
            for (prediction, output) in row.iter_mut().zip(outputs) {
                *prediction = f64::from(output.0[column]);
            }
        }
    }
}

/// Replaces the first `columns` of `values` by their function, and writes its derivative to `slopes` where those are.
#[inline(always)]
fn each(values: &mut [Row], slopes: &mut [Row], columns: usize, function: impl Fn(f32) -> (f32, f32)) {
    for (row, values) in values.iter_mut().enumerate() {
        let values = &mut values.0[..columns];
        match slopes.get_mut(row) {
            Some(slopes) => {
                values.iter_mut().zip(&mut slopes.0).for_each(|(value, slope)| (*value, *slope) = function(*value));
            }
            None => values.iter_mut().for_each(|value| *value = function(*value).0),
        }
    }
}

/// The least value that passes what stands before an activation: 0 where that is a ReLU.
#[inline(always)]
fn lowest(plan: &Plan) -> f32 {
    if plan.activation.is_relu() { 0.0 } else { f32::NEG_INFINITY }
}

/// `max(value, lowest)`, but NaN stays NaN.
#[inline(always)]
fn at_least(value: f32, lowest: f32) -> f32 {
    if value < lowest { lowest } else { value }
}

/// How many tiles hold `rows` rows.
pub(super) fn tile_count(rows: usize) -> usize {
    rows.div_ceil(TILE)
}

/// Consecutive rows of a mini-batch, with their part of the gradient.
#[derive(Debug)]
pub(super) struct Chunk {
    pub rows: Range<usize>,
    /// Where there are several chunks, each has a few tiles, which it uses again and again. An only chunk has a tile for
    /// every 64 rows.
    pub tiles: Vec<Tile>,
    /// Of its rows, in the order of the parameters.
    pub gradient: Vec<f32>,
    pub loss: f64,
}
