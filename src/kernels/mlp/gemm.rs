//! Matrix products and sums, in the widest vectors that the processor has. Most of a step's time is spent here.
//!
//! Each function is generic over the instruction set, which [`pulp::Arch`] chooses at run time. A vector holds the
//! values of one neuron for several rows, so all its lanes are in use whatever the widths of the layers.

// With iterators over the blocks of sums the compiler would not keep the sums in registers.
#![allow(clippy::needless_range_loop)]

use super::plan::split_off;
use pulp::Simd;
use pulp::bytemuck::cast;

/// How many rows of a mini-batch go through the network together.
pub(super) const TILE: usize = 64;

/// Columns of a tile are processed in groups of this many: a multiple of every instruction set's vector.
pub(super) const GROUP: usize = 16;

/// The values of one feature or neuron, one for each row of a tile.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Row(pub [f32; TILE]);

impl Row {
    pub(super) const ZERO: Row = Row([0.0; TILE]);
    pub(super) const ONES: Row = Row([1.0; TILE]);
}

/// A row-major matrix with `width` values to a row, or its transpose.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub values: &'a [f32],
    pub width: usize,
    pub transposed: bool,
}

impl<'a> Matrix<'a> {
    /// Without the first `count` rows.
    #[inline(always)]
    fn skip(self, count: usize) -> Self {
        let start = if self.transposed { count } else { count * self.width };
        Matrix { values: &self.values[start..], ..self }
    }
}

/// What [`gemm`] does to its sums before it writes them.
#[derive(Clone, Copy)]
pub(super) enum GemmEpilogue<'a> {
    /// Nothing.
    Nothing,
    /// Negative sums become 0.
    Relu,
    /// Sums become 0 where these values are not positive: the derivative of a ReLU, whose output they are.
    WherePositive(&'a [Row]),
}

impl<'a> GemmEpilogue<'a> {
    /// The epilogue of the outputs from `first` on.
    #[inline(always)]
    fn skip(self, first: usize) -> Self {
        match self {
            GemmEpilogue::WherePositive(rows) => GemmEpilogue::WherePositive(&rows[first..]),
            other => other,
        }
    }

    /// Applies it to vector `at` of output `row`.
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, sums: S::f32s, row: usize, at: usize) -> S::f32s {
        let zero = simd.splat_f32s(0.0);
        match self {
            GemmEpilogue::Nothing => sums,
            // NaN stays NaN, so that it shows in the loss.
            GemmEpilogue::Relu => simd.select_f32s(simd.less_than_f32s(sums, zero), zero, sums),
            GemmEpilogue::WherePositive(rows) => {
                let values = S::as_simd_f32s(&rows[row].0).0[at];
                simd.select_f32s(simd.greater_than_f32s(values, zero), sums, zero)
            }
        }
    }
}

/// `output[r] = epilogue(start[r] + sum over k of matrix(r, k) input[k])` in the first `columns` columns. Without
/// `start` the sums begin at 0.
///
/// Blocks of 6 outputs times 4 (AVX-512) or 2 vectors of rows fill the registers.
#[inline(always)]
pub(super) fn gemm<S: Simd>(
    simd: S,
    matrix: Matrix,
    start: Option<&[f32]>,
    input: &[Row],
    output: &mut [Row],
    columns: usize,
    epilogue: GemmEpilogue,
) {
    for (index, block) in output.chunks_mut(6).enumerate() {
        let first = 6 * index;
        let matrix = matrix.skip(first);
        let start = start.map(|start| &start[first..]);
        let epilogue = epilogue.skip(first);
        match block.len() {
            1 => gemm_rows::<S, 1>(simd, matrix, start, input, block, columns, epilogue),
            2 => gemm_rows::<S, 2>(simd, matrix, start, input, block, columns, epilogue),
            3 => gemm_rows::<S, 3>(simd, matrix, start, input, block, columns, epilogue),
            4 => gemm_rows::<S, 4>(simd, matrix, start, input, block, columns, epilogue),
            5 => gemm_rows::<S, 5>(simd, matrix, start, input, block, columns, epilogue),
            _ => gemm_rows::<S, 6>(simd, matrix, start, input, block, columns, epilogue),
        }
    }
}

/// [`gemm`] for `M` outputs.
#[inline(always)]
fn gemm_rows<S: Simd, const M: usize>(
    simd: S,
    matrix: Matrix,
    start: Option<&[f32]>,
    input: &[Row],
    output: &mut [Row],
    columns: usize,
    epilogue: GemmEpilogue,
) {
    let vectors = columns / S::F32_LANES;
    match vectors {
        1 => gemm_block::<S, M, 1>(simd, matrix, start, input, output, 0, epilogue),
        2 => gemm_block::<S, M, 2>(simd, matrix, start, input, output, 0, epilogue),
        _ if S::REGISTER_COUNT >= 32 => {
            for at in (0..vectors).step_by(4) {
                gemm_block::<S, M, 4>(simd, matrix, start, input, output, at, epilogue);
            }
        }
        _ => {
            for at in (0..vectors).step_by(2) {
                gemm_block::<S, M, 2>(simd, matrix, start, input, output, at, epilogue);
            }
        }
    }
}

/// [`gemm`] for `M` outputs and the `N` vectors from `at` on.
#[inline(always)]
fn gemm_block<S: Simd, const M: usize, const N: usize>(
    simd: S,
    Matrix { values, width, transposed }: Matrix,
    start: Option<&[f32]>,
    input: &[Row],
    output: &mut [Row],
    at: usize,
    epilogue: GemmEpilogue,
) {
    let mut sums = [[simd.splat_f32s(0.0); N]; M];
    if let Some(start) = start {
        for m in 0..M {
            sums[m] = [simd.splat_f32s(start[m]); N];
        }
    }
    // One loop for each orientation: the compiler then knows the lists' lengths and leaves out the bounds checks.
    if transposed {
        for (coefficients, row) in values.chunks(width).zip(input) {
            let coefficients = &coefficients[..M];
            let row = &S::as_simd_f32s(&row.0).0[at..at + N];
            for m in 0..M {
                for n in 0..N {
                    sums[m][n] = simd.mul_add_e_f32s(simd.splat_f32s(coefficients[m]), row[n], sums[m][n]);
                }
            }
        }
    } else {
        let mut rows = [&values[..0]; M];
        for m in 0..M {
            rows[m] = &values[m * width..][..input.len()];
        }
        for (k, row) in input.iter().enumerate() {
            let row = &S::as_simd_f32s(&row.0).0[at..at + N];
            for m in 0..M {
                let coefficient = simd.splat_f32s(rows[m][k]);
                for n in 0..N {
                    sums[m][n] = simd.mul_add_e_f32s(coefficient, row[n], sums[m][n]);
                }
            }
        }
    }
    for m in 0..M {
        let row = &mut S::as_mut_simd_f32s(&mut output[m].0).0[at..at + N];
        for n in 0..N {
            row[n] = epilogue.apply(simd, sums[m][n], m, at + n);
        }
    }
}

/// What one tile contributes to a layer's gradient. Both lists go on for [`OVERREAD`] more rows.
#[derive(Clone, Copy, Default)]
pub(super) struct TilePair<'a> {
    /// The derivatives of the loss by some of the layer's outputs.
    pub deltas: &'a [Row],
    /// The values of all the layer's inputs, and then a row of ones: the input of the bias.
    pub values: &'a [Row],
    /// How many columns count, the first ones. The others are not read.
    pub columns: usize,
}

/// How many rows beyond the last one needed a block of the gradient may read. What it computes of them is dropped.
pub(super) const OVERREAD: usize = 16;

/// The most tiles whose gradients are summed at once.
pub(super) const MAX_PAIRS: usize = 4;

/// How many rows of a tile are in one vector of a [`Panel`].
const QUAD: usize = 4;

/// The values of some inputs in the order in which [`weight_gradient`] reads them: for every four rows of a tile, up to
/// four vectors.
pub(super) type Panel = [Row; MAX_PAIRS * TILE / QUAD];

/// An empty panel.
pub(super) const EMPTY_PANEL: Panel = [Row::ZERO; _];

/// The gradient of a layer's `weight` (row-major) and `bias`: `sum over all rows of delta[o] value[i]`, written if
/// `fresh`, else added to what is there. `pairs` are the tiles, at most [`MAX_PAIRS`].
///
/// A vector holds four rows of several inputs instead of many rows of one input: so there is little to sum over lanes
/// at the end, and the results are consecutive in memory. A block has as many inputs as a vector has lanes (the last one
/// may have half or a quarter of that), and as many outputs as fill the registers.
#[inline(always)]
pub(super) fn weight_gradient<S: Simd>(
    simd: S,
    pairs: &[TilePair],
    panel: &mut Panel,
    weight: &mut [f32],
    bias: &mut [f32],
    fresh: bool,
) {
    let inputs = weight.len() / bias.len();
    if S::F32_LANES < QUAD {
        return (0..=inputs).for_each(|i| weight_gradient_scalar(pairs, i, weight, bias, fresh));
    }
    for i in (0..=inputs).step_by(S::F32_LANES) {
        let wide = S::REGISTER_COUNT >= 32;
        match ((inputs + 1 - i) * QUAD).div_ceil(S::F32_LANES) {
            1 if wide => weight_gradient_blocks::<S, 10, 1>(simd, pairs, panel, i, weight, bias, fresh),
            1 => weight_gradient_blocks::<S, 5, 1>(simd, pairs, panel, i, weight, bias, fresh),
            2 if wide => weight_gradient_blocks::<S, 10, 2>(simd, pairs, panel, i, weight, bias, fresh),
            2 => weight_gradient_blocks::<S, 5, 2>(simd, pairs, panel, i, weight, bias, fresh),
            _ if wide => weight_gradient_blocks::<S, 5, 4>(simd, pairs, panel, i, weight, bias, fresh),
            _ => weight_gradient_blocks::<S, 2, 4>(simd, pairs, panel, i, weight, bias, fresh),
        }
    }
}

/// [`weight_gradient`] for the inputs of `N` vectors, from input `i` on, in blocks of `M` outputs.
#[inline(always)]
fn weight_gradient_blocks<S: Simd, const M: usize, const N: usize>(
    simd: S,
    pairs: &[TilePair],
    panel: &mut Panel,
    i: usize,
    weight: &mut [f32],
    bias: &mut [f32],
    fresh: bool,
) {
    let inputs = weight.len() / bias.len();
    pack::<S, N>(simd, pairs, panel, i);
    let mut rows = weight;
    for (block, biases) in bias.chunks_mut(M).enumerate() {
        let sums = weight_gradient_block::<S, M, N>(simd, pairs, panel, M * block);
        for (bias, &sums) in biases.iter_mut().zip(&sums) {
            let row = split_off(&mut rows, inputs);
            store_gradient::<S, N>(simd, sums, &mut row[i..], bias, fresh);
        }
    }
}

/// [`weight_gradient`] for input `i`, without vectors.
#[inline(always)]
fn weight_gradient_scalar(pairs: &[TilePair], i: usize, weight: &mut [f32], bias: &mut [f32], fresh: bool) {
    let inputs = weight.len() / bias.len();
    for (o, bias) in bias.iter_mut().enumerate() {
        let rows = |pair: &TilePair| pair.deltas[o].0.into_iter().zip(pair.values[i].0).take(pair.columns);
        let products = pairs.iter().flat_map(rows);
        let sum = products.map(|(delta, value)| delta * value).sum::<f32>();
        let gradient = if i < inputs { &mut weight[o * inputs + i] } else { bias };
        *gradient = if fresh { sum } else { *gradient + sum };
    }
}

/// Fills `panel` with the inputs from `i` on. Vector `n` of four rows holds those rows of input `N g + n` in its lanes
/// `4 g` to `4 g + 3`.
#[inline(always)]
fn pack<S: Simd, const N: usize>(simd: S, pairs: &[TilePair], panel: &mut Panel, i: usize) {
    for (TilePair { values, columns, .. }, panel) in pairs.iter().zip(panel.chunks_mut(TILE / QUAD)) {
        let panel = &mut panel[..columns / QUAD];
        let values = &values[i..][..N * S::F32_LANES / QUAD];
        for n in 0..N {
            if S::F32_LANES == 16 {
                for (at, steps) in panel.chunks_exact_mut(4).enumerate() {
                    let mut quads = [simd.splat_f32s(0.0); 4];
                    for g in 0..4 {
                        quads[g] = S::as_simd_f32s(&values[N * g + n].0).0[at];
                    }
                    quads = transpose_quads(simd, quads);
                    for g in 0..4 {
                        S::as_mut_simd_f32s(&mut steps[g].0).0[n] = quads[g];
                    }
                }
                continue;
            }
            for g in 0..S::F32_LANES / QUAD {
                let place = n * S::F32_LANES / QUAD + g;
                for (step, quad) in panel.iter_mut().zip(values[N * g + n].0.as_chunks::<QUAD>().0) {
                    step.0.as_chunks_mut::<QUAD>().0[place] = *quad;
                }
            }
        }
    }
}

/// Transposes four vectors of four quads: quad `g` of vector `s` becomes quad `s` of vector `g`.
#[inline(always)]
fn transpose_quads<S: Simd>(simd: S, mut vectors: [S::f32s; 4]) -> [S::f32s; 4] {
    // A quad is handled as one complex number of double precision. Rotated first, the quads that go to one vector are
    // at different places.
    for x in 1..4 {
        vectors[x] = cast(simd.rotate_right_c64s(cast(vectors[x]), x));
    }
    let [a, b, c, d] = vectors;
    let pairs = [blend(simd, a, b, 4).0, blend(simd, b, c, 4).0, blend(simd, c, d, 4).0, blend(simd, d, a, 4).0];
    for x in 0..4 {
        let from = (4 - x) % 4;
        let quads = blend(simd, pairs[from], pairs[(from + 2) % 4], 8).0;
        vectors[x] = cast(simd.rotate_right_c64s(cast(quads), from));
    }
    vectors
}

/// The sums for the `M` outputs from `o` on. Lane `4 g + n` belongs to input `N g + n`.
#[inline(always)]
fn weight_gradient_block<S: Simd, const M: usize, const N: usize>(
    simd: S,
    pairs: &[TilePair],
    panel: &Panel,
    o: usize,
) -> [S::f32s; M] {
    let mut sums = [[simd.splat_f32s(0.0); N]; M];
    for (TilePair { deltas, columns, .. }, panel) in pairs.iter().zip(panel.chunks(TILE / QUAD)) {
        let (deltas, panel) = (&deltas[o..][..M], &panel[..columns / QUAD]);
        let mut quads = [&[][..]; M];
        for m in 0..M {
            quads[m] = &deltas[m].0.as_chunks::<QUAD>().0[..panel.len()];
        }
        for (at, step) in panel.iter().enumerate() {
            let values = &S::as_simd_f32s(&step.0).0[..N];
            for m in 0..M {
                let delta = [quads[m][at]; 16 / QUAD];
                let delta = S::as_simd_f32s(delta.as_flattened()).0[0];
                for n in 0..N {
                    sums[m][n] = simd.mul_add_e_f32s(delta, values[n], sums[m][n]);
                }
            }
        }
    }
    let mut totals = [simd.splat_f32s(0.0); M];
    for m in 0..M {
        let [a, b, c, d] = [sums[m][0], sums[m][1 % N], sums[m][2 % N], sums[m][3 % N]];
        totals[m] = merge_pairs(simd, merge_lanes(simd, a, b), merge_lanes(simd, c, d));
    }
    totals
}

/// Sums of two neighbouring lanes: those of `a` in the even lanes, those of `b` in the odd ones.
#[inline(always)]
fn merge_lanes<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
    let (own, other) = blend(simd, a, b, 1);
    // A pair of lanes is handled as one complex number.
    simd.add_f32s(own, cast(simd.swap_re_im_c32s(cast(other))))
}

/// As [`merge_lanes`], with pairs of lanes in place of lanes.
#[inline(always)]
fn merge_pairs<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
    let (own, other) = blend(simd, a, b, 2);
    simd.add_f32s(own, cast(simd.swap_re_im_c64s(cast(other))))
}

/// Two blends of `a` and `b`: the first takes the lanes whose number lacks `bit` from `a` and the others from `b`, the
/// second the opposite.
#[inline(always)]
fn blend<S: Simd>(simd: S, a: S::f32s, b: S::f32s, bit: u32) -> (S::f32s, S::f32s) {
    const LANES: [u32; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    let lanes = S::as_simd_u32s(&LANES).0[0];
    let first = simd.equal_u32s(simd.and_u32s(lanes, simd.splat_u32s(bit)), simd.splat_u32s(0));
    (simd.select_f32s(first, a, b), simd.select_f32s(first, b, a))
}

/// Writes or adds the `sums` of [`weight_gradient_block`] for one output to the rest of its row of weights and to its
/// bias.
#[inline(always)]
fn store_gradient<S: Simd, const N: usize>(simd: S, sums: S::f32s, row: &mut [f32], bias: &mut f32, fresh: bool) {
    if let (QUAD, ([gradient, ..], _)) = (N, S::as_mut_simd_f32s(row)) {
        *gradient = if fresh { sums } else { simd.add_f32s(*gradient, sums) };
        return;
    }
    let mut lanes = [0.0; 16];
    S::as_mut_simd_f32s(&mut lanes).0[0] = sums;
    let sums = lanes.as_chunks::<QUAD>().0.iter().flat_map(|lanes| &lanes[..N]);
    for (gradient, sum) in row.iter_mut().chain(std::iter::once(bias)).zip(sums) {
        *gradient = if fresh { *sum } else { *gradient + sum };
    }
}

/// The sum over the first `columns` of `f(value of a, value of b)`.
#[inline(always)]
pub(super) fn sum<S: Simd>(simd: S, a: &Row, b: &Row, columns: usize, f: impl Fn(S::f32s, S::f32s) -> S::f32s) -> f32 {
    let (a, b) = (S::as_simd_f32s(&a.0[..columns]).0, S::as_simd_f32s(&b.0[..columns]).0);
    let mut sum = simd.splat_f32s(0.0);
    for (&a, &b) in a.iter().zip(b) {
        sum = simd.add_f32s(sum, f(a, b));
    }
    simd.reduce_sum_f32s(sum)
}
