//! The loops where the time goes, in the widest vectors that the machine has.
//!
//! Each function is generic over the instruction set, which [`pulp::Arch`] chooses at run time. All lanes are
//! in use whatever the widths of the layers, since a vector holds one neuron's values for many rows.

// Iterators over the blocks of sums would keep the compiler from holding them in registers.
#![allow(clippy::needless_range_loop)]

use pulp::Simd;

/// How many rows of a mini-batch go through the network together.
pub(super) const TILE: usize = 64;

/// One value (of a feature, of a neuron) for each row of a tile.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Row(pub [f32; TILE]);

impl Row {
    pub(super) const ZERO: Row = Row([0.0; TILE]);
}

/// A matrix of coefficients of any orientation: `(r, k)` is `values[r * stride.0 + k * stride.1]`.
#[derive(Clone, Copy)]
pub(super) struct Coefficients<'a> {
    pub values: &'a [f32],
    pub stride: (usize, usize),
}

/// `output[r] = start[r] + sum over k of coefficients(r, k) input[k]`; without `start` from 0.
///
/// Blocks of 6 outputs times 4 (AVX-512) or 2 vectors of rows fill the registers.
#[inline(always)]
pub(super) fn product<S: Simd>(
    simd: S,
    coefficients: Coefficients,
    start: Option<&[f32]>,
    input: &[Row],
    output: &mut [Row],
) {
    for (index, block) in output.chunks_mut(6).enumerate() {
        let values = &coefficients.values[6 * index * coefficients.stride.0..];
        let coefficients = Coefficients { values, ..coefficients };
        let start = start.map(|start| &start[6 * index..]);
        match block.len() {
            1 => product_rows::<S, 1>(simd, coefficients, start, input, block),
            2 => product_rows::<S, 2>(simd, coefficients, start, input, block),
            3 => product_rows::<S, 3>(simd, coefficients, start, input, block),
            4 => product_rows::<S, 4>(simd, coefficients, start, input, block),
            5 => product_rows::<S, 5>(simd, coefficients, start, input, block),
            _ => product_rows::<S, 6>(simd, coefficients, start, input, block),
        }
    }
}

/// [`product`] for `M` outputs.
#[inline(always)]
fn product_rows<S: Simd, const M: usize>(
    simd: S,
    coefficients: Coefficients,
    start: Option<&[f32]>,
    input: &[Row],
    output: &mut [Row],
) {
    let vectors = TILE / S::F32_LANES;
    if S::REGISTER_COUNT >= 32 {
        for at in (0..vectors).step_by(4) {
            product_block::<S, M, 4>(simd, coefficients, start, input, output, at);
        }
    } else {
        for at in (0..vectors).step_by(2) {
            product_block::<S, M, 2>(simd, coefficients, start, input, output, at);
        }
    }
}

/// [`product`] for `M` outputs and the `N` vectors from `at` on.
#[inline(always)]
fn product_block<S: Simd, const M: usize, const N: usize>(
    simd: S,
    Coefficients { values, stride }: Coefficients,
    start: Option<&[f32]>,
    input: &[Row],
    output: &mut [Row],
    at: usize,
) {
    let mut sums = [[simd.splat_f32s(0.0); N]; M];
    if let Some(start) = start {
        for m in 0..M {
            sums[m] = [simd.splat_f32s(start[m]); N];
        }
    }
    for (k, row) in input.iter().enumerate() {
        let row = &S::as_simd_f32s(&row.0).0[at..at + N];
        for m in 0..M {
            let coefficient = simd.splat_f32s(values[m * stride.0 + k * stride.1]);
            for n in 0..N {
                sums[m][n] = simd.mul_add_e_f32s(coefficient, row[n], sums[m][n]);
            }
        }
    }
    for (row, sums) in output.iter_mut().zip(sums) {
        S::as_mut_simd_f32s(&mut row.0).0[at..at + N].copy_from_slice(&sums);
    }
}

/// The deltas of some outputs and the values of all inputs of a layer, for each tile of a list.
pub(super) trait Pairs: Copy {
    /// How many tiles there are.
    fn count(self) -> usize;
    /// Those of one tile.
    fn pair<'a>(self, tile: usize) -> (&'a [Row], &'a [Row])
    where
        Self: 'a;
}

/// `gradient(o, i) += sum over all rows of delta[o] value[i]`; `gradient` is row-major, `inputs` to a row.
///
/// Blocks of 4 x 6 (AVX-512) or 2 x 5 sums fill the registers.
#[inline(always)]
pub(super) fn outer<S: Simd>(simd: S, pairs: impl Pairs, gradient: &mut [f32], inputs: usize) {
    if S::REGISTER_COUNT >= 32 {
        for (block, gradient) in gradient.chunks_mut(4 * inputs).enumerate() {
            match gradient.len() / inputs {
                1 => outer_rows::<S, 1, 6>(simd, pairs, 4 * block, gradient, inputs),
                2 => outer_rows::<S, 2, 6>(simd, pairs, 4 * block, gradient, inputs),
                3 => outer_rows::<S, 3, 6>(simd, pairs, 4 * block, gradient, inputs),
                _ => outer_rows::<S, 4, 6>(simd, pairs, 4 * block, gradient, inputs),
            }
        }
    } else {
        for (block, gradient) in gradient.chunks_mut(2 * inputs).enumerate() {
            match gradient.len() / inputs {
                1 => outer_rows::<S, 1, 5>(simd, pairs, 2 * block, gradient, inputs),
                _ => outer_rows::<S, 2, 5>(simd, pairs, 2 * block, gradient, inputs),
            }
        }
    }
}

/// [`outer`] for the `M` outputs from `o` on, `N` inputs at a time.
#[inline(always)]
fn outer_rows<S: Simd, const M: usize, const N: usize>(
    simd: S,
    pairs: impl Pairs,
    o: usize,
    gradient: &mut [f32],
    inputs: usize,
) {
    for i in (0..inputs).step_by(N) {
        match (inputs - i).min(N) {
            1 => outer_block::<S, M, 1>(simd, pairs, o, i, gradient, inputs),
            2 => outer_block::<S, M, 2>(simd, pairs, o, i, gradient, inputs),
            3 => outer_block::<S, M, 3>(simd, pairs, o, i, gradient, inputs),
            4 => outer_block::<S, M, 4>(simd, pairs, o, i, gradient, inputs),
            5 => outer_block::<S, M, 5>(simd, pairs, o, i, gradient, inputs),
            _ => outer_block::<S, M, 6>(simd, pairs, o, i, gradient, inputs),
        }
    }
}

/// [`outer`] for the `M` outputs from `o` on and the `N` inputs from `i` on.
#[inline(always)]
fn outer_block<S: Simd, const M: usize, const N: usize>(
    simd: S,
    pairs: impl Pairs,
    o: usize,
    i: usize,
    gradient: &mut [f32],
    inputs: usize,
) {
    let mut sums = [[simd.splat_f32s(0.0); N]; M];
    for tile in 0..pairs.count() {
        let (deltas, values) = pairs.pair(tile);
        let (deltas, values) = (&deltas[o..o + M], &values[i..i + N]);
        for at in 0..TILE / S::F32_LANES {
            let mut row = [simd.splat_f32s(0.0); N];
            for n in 0..N {
                row[n] = S::as_simd_f32s(&values[n].0).0[at];
            }
            for m in 0..M {
                let delta = S::as_simd_f32s(&deltas[m].0).0[at];
                for n in 0..N {
                    sums[m][n] = simd.mul_add_e_f32s(delta, row[n], sums[m][n]);
                }
            }
        }
    }
    for m in 0..M {
        let gradient = &mut gradient[m * inputs + i..][..N];
        for n in 0..N {
            gradient[n] += simd.reduce_sum_f32s(sums[m][n]);
        }
    }
}

/// The sum over a tile's rows of `f(value of a, value of b)`.
#[inline(always)]
pub(super) fn sum<S: Simd>(simd: S, a: &Row, b: &Row, f: impl Fn(S::f32s, S::f32s) -> S::f32s) -> f32 {
    let (a, b) = (S::as_simd_f32s(&a.0).0, S::as_simd_f32s(&b.0).0);
    let mut sum = simd.splat_f32s(0.0);
    for (&a, &b) in a.iter().zip(b) {
        sum = simd.add_f32s(sum, f(a, b));
    }
    simd.reduce_sum_f32s(sum)
}
