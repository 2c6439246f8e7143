//! The units of work of a thread: on a tile, on a chunk of the mini-batch, or on some of the weights.

use super::MAX_CHUNKS;
use super::gemm::{EMPTY_PANEL, MAX_PAIRS, Panel, TILE, TilePair, weight_gradient};
use super::plan::{BatchSlices, NormStatistics, Parameters, Plan};
use super::tile::{Chunk, Tile};
use crate::data::Scale;
use crate::kernels::optimizer::UpdateRule;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// A tile forward through some layers, in training.
pub(super) struct Forward<'a> {
    pub plan: &'a Plan,
    pub parameters: Parameters<'a>,
    pub statistics: &'a [NormStatistics],
    pub batch: &'a BatchSlices<'a>,
    pub layers: Range<usize>,
    pub tile: &'a mut Tile,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Forward { plan, parameters, statistics, batch, layers, tile } = self;
        match layers.start.checked_sub(1) {
            None => tile.fill(plan, |at| &batch.features[batch.rows[at] * plan.widths[0]..]),
            Some(before) => {
                tile.normalize(plan, parameters, before, statistics);
                tile.activate(plan, before);
            }
        }
        for layer in layers {
            tile.linear(simd, plan, parameters, layer);
            match (plan.is_hidden(layer), plan.norm) {
                (true, true) => tile.moments(simd, plan, layer),
                (true, false) => tile.activate(plan, layer),
                (false, _) => tile.compare(plan, batch),
            }
        }
    }
}

/// A tile backward through some layers.
pub(super) struct Backward<'a> {
    pub plan: &'a Plan,
    pub parameters: Parameters<'a>,
    pub statistics: &'a [NormStatistics],
    pub sums: &'a [[f32; 2]],
    pub batch: &'a BatchSlices<'a>,
    pub layers: Range<usize>,
    pub tile: &'a mut Tile,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Backward { plan, parameters, statistics, sums, batch, layers, tile } = self;
        let last = layers.end - 1;
        if plan.norm && plan.is_hidden(last) {
            tile.denormalize(plan, parameters, last, statistics, sums, batch.rows.len());
        }
        for layer in layers.rev().filter(|&layer| layer > 0) {
            tile.backward_linear(simd, plan, parameters, layer);
            if plan.norm {
                tile.norm_gradients(simd, plan, layer - 1);
            }
        }
    }
}

/// A tile forward through the network, in evaluation.
pub(super) struct Evaluate<'a> {
    pub plan: &'a Plan,
    pub parameters: Parameters<'a>,
    pub buffers: &'a [&'a [f32]],
    pub features: &'a [f32],
    pub scales: &'a [Scale],
    pub tile: &'a mut Tile,
}

impl WithSimd for Evaluate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Evaluate { plan, parameters, buffers, features, scales, tile } = self;
        tile.fill(plan, |at| &features[at * plan.widths[0]..]);
        tile.scale(scales);
        for layer in 0..plan.layers() {
            tile.linear(simd, plan, parameters, layer);
            if plan.is_hidden(layer) {
                if plan.norm {
                    tile.evaluate_norm(plan, parameters, buffers, layer);
                }
                tile.activate(plan, layer);
            }
        }
    }
}

/// A chunk forward and backward through the network, with its gradient.
pub(super) struct ChunkPass<'a> {
    pub plan: &'a Plan,
    pub parameters: Parameters<'a>,
    pub batch: &'a BatchSlices<'a>,
    pub chunk: &'a mut Chunk,
}

impl WithSimd for ChunkPass<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let ChunkPass { plan, parameters, batch, chunk } = self;
        let Chunk { rows, tiles, gradient, loss } = chunk;
        let layers = 0..plan.layers();
        let mut panel = EMPTY_PANEL;
        *loss = 0.0;
        for start in rows.clone().step_by(tiles.len() * TILE) {
            let mut taken = 0;
            for (tile, start) in tiles.iter_mut().zip((start..rows.end).step_by(TILE)) {
                tile.set_rows(start..rows.end);
                let layers = layers.clone();
                Forward { plan, parameters, statistics: &[], batch, layers: layers.clone(), tile }.with_simd(simd);
                Backward { plan, parameters, statistics: &[], sums: &[], batch, layers, tile }.with_simd(simd);
                *loss += tile.loss;
                taken += 1;
            }
            let mut gradient = &mut gradient[..];
            for layer in layers.clone() {
                let [weight, bias, _] = plan.split_off(layer, &mut gradient);
                let (tiles, panel, fresh) = (&tiles[..taken], &mut panel, start == rows.start);
                Gradient { plan, tiles, panel, layer, first: 0, weight, bias, fresh }.with_simd(simd);
            }
        }
    }
}

/// The gradient of weight and bias of some neurons of a layer, from neuron `first` on.
pub(super) struct Gradient<'a> {
    pub plan: &'a Plan,
    pub tiles: &'a [Tile],
    /// Scratch memory.
    pub panel: &'a mut Panel,
    pub layer: usize,
    pub first: usize,
    pub weight: &'a mut [f32],
    pub bias: &'a mut [f32],
    /// Whether to overwrite what is there, which is of an earlier step.
    pub fresh: bool,
}

impl WithSimd for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Gradient { plan, tiles, panel, layer, first, weight, bias, fresh } = self;
        for (index, tiles) in tiles.chunks(MAX_PAIRS).enumerate() {
            let mut pairs = [TilePair::default(); MAX_PAIRS];
            for (pair, tile) in pairs.iter_mut().zip(tiles) {
                *pair = tile.pair(plan, layer, first);
            }
            weight_gradient(simd, &pairs[..tiles.len()], panel, weight, bias, fresh && index == 0);
        }
    }
}

/// The other chunks' gradients added to the first one's, for some of the parameters.
pub(super) struct GradientSum<'a, 'b> {
    pub others: &'a [Chunk],
    pub range: &'a mut GradientRange<'b>,
}

impl WithSimd for GradientSum<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        /// So many sums of squares, which the compiler makes vectors of.
        const LANES: usize = 16;
        let GradientSum { others, range: GradientRange { start, gradient, squares } } = self;
        for chunk in others {
            for (sum, value) in gradient.iter_mut().zip(&chunk.gradient[*start..]) {
                *sum += value;
            }
        }
        let mut sums = [0.0f64; LANES];
        for values in gradient.chunks(LANES) {
            for (sum, &value) in sums.iter_mut().zip(values) {
                *sum += f64::from(value) * f64::from(value);
            }
        }
        *squares = sums.iter().sum();
    }
}

/// Some of the gradient.
pub(super) struct GradientRange<'a> {
    /// The index of the first value among those of all parameters.
    pub start: usize,
    pub gradient: &'a mut [f32],
    /// The sum of the values' squares.
    pub squares: f64,
}

/// The sum of the chunks' gradients, and the step of the optimiser with `scale` times it, for some of the parameters.
pub(super) struct Update<'a, 'b, R, const N: usize> {
    pub rule: R,
    pub scale: f32,
    pub chunks: &'a [Chunk],
    pub range: &'a mut ParameterRange<'b, N>,
}

impl<R: UpdateRule<N>, const N: usize> WithSimd for Update<'_, '_, R, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Update { rule, scale, chunks, range: ParameterRange { start, values, state } } = self;
        let (scale, zero) = (simd.splat_f32s(scale), simd.splat_f32s(0.0));
        let mut gradients = [(&[][..], &[][..]); MAX_CHUNKS];
        for (gradient, chunk) in gradients.iter_mut().zip(chunks) {
            *gradient = S::as_simd_f32s(&chunk.gradient[*start..][..values.len()]);
        }
        let gradients = &gradients[..chunks.len()];
        let (values, values_left) = S::as_mut_simd_f32s(values);
        let count = values.len();
        let mut state = state.each_mut().map(|list| S::as_mut_simd_f32s(list));
        let mut lists = state.each_mut().map(|(list, _)| &mut list[..count]);
        for (at, value) in values.iter_mut().enumerate() {
            let mut sum = zero;
            for (gradient, _) in gradients {
                sum = simd.add_f32s(sum, gradient[at]);
            }
            let mut before = [zero; N];
            for (before, list) in before.iter_mut().zip(&lists) {
                *before = list[at];
            }
            let (moved, after) = rule.apply(simd, simd.mul_f32s(sum, scale), *value, before);
            *value = moved;
            for (list, after) in lists.iter_mut().zip(after) {
                list[at] = after;
            }
        }
        if values_left.is_empty() {
            return;
        }
        let mut sum = zero;
        for (_, gradient) in gradients {
            sum = simd.add_f32s(sum, simd.partial_load_f32s(gradient));
        }
        let value = simd.partial_load_f32s(values_left);
        let before = state.each_ref().map(|(_, left)| simd.partial_load_f32s(left));
        let (moved, after) = rule.apply(simd, simd.mul_f32s(sum, scale), value, before);
        simd.partial_store_f32s(values_left, moved);
        for ((_, left), after) in state.iter_mut().zip(after) {
            simd.partial_store_f32s(left, after);
        }
    }
}

/// Some of the parameters, with the `N` lists that the optimiser keeps of them.
pub(super) struct ParameterRange<'a, const N: usize> {
    /// The index of the first one among all parameters.
    pub start: usize,
    pub values: &'a mut [f32],
    pub state: [&'a mut [f32]; N],
}
