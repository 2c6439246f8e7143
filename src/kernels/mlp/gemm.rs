//! The loops where the time goes, in the widest vectors that the machine has.
//!
//! Each function is generic over the instruction set, which [`pulp::Arch`] chooses at run time. All lanes are
//! in use whatever the widths of the layers, since a vector holds one neuron's values for many rows.

// Iterators over the blocks of sums would keep the compiler from holding them in registers.
#![allow(clippy::needless_range_loop)]

use super::plan::split_off;
use pulp::Simd;
use pulp::bytemuck::cast;

/// How many rows of a mini-batch go through the network together.
pub(super) const TILE: usize = 64;

/// Columns of a tile are worked on in groups of so many: a vector of any instruction set has its part of one.
pub(super) const GROUP: usize = 16;

/// One value (of a feature, of a neuron) for each row of a tile.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Row(pub [f32; TILE]);

impl Row {
    pub(super) const ZERO: Row = Row([0.0; TILE]);
    pub(super) const ONES: Row = Row([1.0; TILE]);
}

/// A row-major matrix of coefficients, `width` to a row, or its transpose.
#[derive(Clone, Copy)]
pub(super) struct Coefficients<'a> {
    pub values: &'a [f32],
    pub width: usize,
    pub transposed: bool,
}

impl<'a> Coefficients<'a> {
    /// Without the first `count` rows.
    #[inline(always)]
    fn skip(self, count: usize) -> Self {
        let start = if self.transposed { count } else { count * self.width };
        Coefficients { values: &self.values[start..], ..self }
    }
}

/// What becomes of the sums of a [`product`].
#[derive(Clone, Copy)]
pub(super) enum Finish<'a> {
    /// They stay.
    Keep,
    /// What is negative becomes 0.
    Relu,
    /// They become 0 where these are not positive.
    WherePositive(&'a [Row]),
}

impl<'a> Finish<'a> {
    /// For the outputs from `first` on.
    #[inline(always)]
    fn skip(self, first: usize) -> Self {
        match self {
            Finish::WherePositive(rows) => Finish::WherePositive(&rows[first..]),
            other => other,
        }
    }

    /// For the vector `at` of output `row`.
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, sums: S::f32s, row: usize, at: usize) -> S::f32s {
        let zero = simd.splat_f32s(0.0);
        match self {
            Finish::Keep => sums,
            // NaN stays NaN, so that the loss shows it.
            Finish::Relu => simd.select_f32s(simd.less_than_f32s(sums, zero), zero, sums),
            Finish::WherePositive(rows) => {
                let values = S::as_simd_f32s(&rows[row].0).0[at];
                simd.select_f32s(simd.greater_than_f32s(values, zero), sums, zero)
            }
        }
    }
}

/// `output[r] = start[r] + sum over k of coefficients(r, k) input[k]`, finished, in the first `columns`; without `start`
/// from 0.
///
/// Blocks of 6 outputs times 4 (AVX-512) or 2 vectors of rows fill the registers.
#[inline(always)]
pub(super) fn product<S: Simd>(
    simd: S,
    coefficients: Coefficients,
    start: Option<&[f32]>,
    input: &[Row],
    output: &mut [Row],
    columns: usize,
    finish: Finish,
) {
    for (index, block) in output.chunks_mut(6).enumerate() {
        let first = 6 * index;
        let coefficients = coefficients.skip(first);
        let start = start.map(|start| &start[first..]);
        let finish = finish.skip(first);
        match block.len() {
            1 => product_rows::<S, 1>(simd, coefficients, start, input, block, columns, finish),
            2 => product_rows::<S, 2>(simd, coefficients, start, input, block, columns, finish),
            3 => product_rows::<S, 3>(simd, coefficients, start, input, block, columns, finish),
            4 => product_rows::<S, 4>(simd, coefficients, start, input, block, columns, finish),
            5 => product_rows::<S, 5>(simd, coefficients, start, input, block, columns, finish),
            _ => product_rows::<S, 6>(simd, coefficients, start, input, block, columns, finish),
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
    columns: usize,
    finish: Finish,
) {
    let vectors = columns / S::F32_LANES;
    match vectors {
        1 => product_block::<S, M, 1>(simd, coefficients, start, input, output, 0, finish),
        2 => product_block::<S, M, 2>(simd, coefficients, start, input, output, 0, finish),
        _ if S::REGISTER_COUNT >= 32 => {
            for at in (0..vectors).step_by(4) {
                product_block::<S, M, 4>(simd, coefficients, start, input, output, at, finish);
            }
        }
        _ => {
            for at in (0..vectors).step_by(2) {
                product_block::<S, M, 2>(simd, coefficients, start, input, output, at, finish);
            }
        }
    }
}

/// [`product`] for `M` outputs and the `N` vectors from `at` on.
#[inline(always)]
fn product_block<S: Simd, const M: usize, const N: usize>(
    simd: S,
    Coefficients { values, width, transposed }: Coefficients,
    start: Option<&[f32]>,
    input: &[Row],
    output: &mut [Row],
    at: usize,
    finish: Finish,
) {
    let mut sums = [[simd.splat_f32s(0.0); N]; M];
    if let Some(start) = start {
        for m in 0..M {
            sums[m] = [simd.splat_f32s(start[m]); N];
        }
    }
    // A loop for each orientation: what is known of the lists' lengths spares it checks.
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
            row[n] = finish.apply(simd, sums[m][n], m, at + n);
        }
    }
}

/// What the gradient of a layer is made of, in one tile. Epilogue both lists are [`BEYOND`] rows more.
#[derive(Clone, Copy, Default)]
pub(super) struct Pair<'a> {
    /// The deltas of some outputs.
    pub deltas: &'a [Row],
    /// The values of all inputs and then ones, the input of the bias.
    pub values: &'a [Row],
    /// The columns that may have an effect are the first.
    pub columns: usize,
}

/// How far blocks of a gradient reach beyond the last row that they need. What comes of the others is not kept.
pub(super) const BEYOND: usize = 16;

/// The most tiles whose gradients are summed at once.
pub(super) const MOST_PAIRS: usize = 4;

/// How many rows of a tile are in one vector of a [`Panel`].
const QUAD: usize = 4;

/// The values of some inputs in the order in which [`outer`] takes them: for each four rows up to four vectors.
pub(super) type Panel = [Row; MOST_PAIRS * TILE / QUAD];

/// One to begin with.
pub(super) const PANEL: Panel = [Row::ZERO; _];

/// The gradient by `weight` (row-major) and `bias`, `sum over all rows of delta[o] value[i]`, added to what is there
/// unless it is to be `fresh`. `pairs` are the tiles, at most [`MOST_PAIRS`].
///
/// A vector has four rows of some inputs, not many rows of one: so there is little to sum over lanes in the end, and
/// what comes out is consecutive in memory. Blocks are of as many inputs as a vector has lanes, at the end of half or a
/// quarter of that, and of as many outputs as fill the registers.
#[inline(always)]
pub(super) fn outer<S: Simd>(
    simd: S,
    pairs: &[Pair],
    panel: &mut Panel,
    weight: &mut [f32],
    bias: &mut [f32],
    fresh: bool,
) {
    let inputs = weight.len() / bias.len();
    if S::F32_LANES < QUAD {
        return (0..=inputs).for_each(|i| outer_lane(pairs, i, weight, bias, fresh));
    }
    for i in (0..=inputs).step_by(S::F32_LANES) {
        let wide = S::REGISTER_COUNT >= 32;
        match ((inputs + 1 - i) * QUAD).div_ceil(S::F32_LANES) {
            1 if wide => outer_blocks::<S, 10, 1>(simd, pairs, panel, i, weight, bias, fresh),
            1 => outer_blocks::<S, 5, 1>(simd, pairs, panel, i, weight, bias, fresh),
            2 if wide => outer_blocks::<S, 10, 2>(simd, pairs, panel, i, weight, bias, fresh),
            2 => outer_blocks::<S, 5, 2>(simd, pairs, panel, i, weight, bias, fresh),
            _ if wide => outer_blocks::<S, 5, 4>(simd, pairs, panel, i, weight, bias, fresh),
            _ => outer_blocks::<S, 2, 4>(simd, pairs, panel, i, weight, bias, fresh),
        }
    }
}

/// [`outer`] for the inputs of `N` vectors, from `i` on, by blocks of `M` outputs.
#[inline(always)]
fn outer_blocks<S: Simd, const M: usize, const N: usize>(
    simd: S,
    pairs: &[Pair],
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
        let sums = outer_block::<S, M, N>(simd, pairs, panel, M * block);
        for (bias, &sums) in biases.iter_mut().zip(&sums) {
            let row = split_off(&mut rows, inputs);
            put::<S, N>(simd, sums, &mut row[i..], bias, fresh);
        }
    }
}

/// [`outer`] for input `i` without vectors.
#[inline(always)]
fn outer_lane(pairs: &[Pair], i: usize, weight: &mut [f32], bias: &mut [f32], fresh: bool) {
    let inputs = weight.len() / bias.len();
    for (o, bias) in bias.iter_mut().enumerate() {
        let rows = |pair: &Pair| pair.deltas[o].0.into_iter().zip(pair.values[i].0).take(pair.columns);
        let products = pairs.iter().flat_map(rows);
        let sum = products.map(|(delta, value)| delta * value).sum::<f32>();
        let gradient = if i < inputs { &mut weight[o * inputs + i] } else { bias };
        *gradient = if fresh { sum } else { *gradient + sum };
    }
}

/// Fills `panel` with the inputs from `i` on: vector `n` of four rows has, in lanes `4 g` to `4 g + 3`, those of input
/// `N g + n`.
#[inline(always)]
fn pack<S: Simd, const N: usize>(simd: S, pairs: &[Pair], panel: &mut Panel, i: usize) {
    for (Pair { values, columns, .. }, panel) in pairs.iter().zip(panel.chunks_mut(TILE / QUAD)) {
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

/// Four vectors of four quads, so that quad `g` of vector `s` becomes quad `s` of vector `g`.
#[inline(always)]
fn transpose_quads<S: Simd>(simd: S, mut vectors: [S::f32s; 4]) -> [S::f32s; 4] {
    // A complex number of double precision is a quad. Quads that go to one vector come to different places.
    for x in 1..4 {
        vectors[x] = cast(simd.rotate_right_c64s(cast(vectors[x]), x));
    }
    let [a, b, c, d] = vectors;
    let pairs = [mixed(simd, a, b, 4).0, mixed(simd, b, c, 4).0, mixed(simd, c, d, 4).0, mixed(simd, d, a, 4).0];
    for x in 0..4 {
        let from = (4 - x) % 4;
        let quads = mixed(simd, pairs[from], pairs[(from + 2) % 4], 8).0;
        vectors[x] = cast(simd.rotate_right_c64s(cast(quads), from));
    }
    vectors
}

/// The sums of the `M` outputs from `o` on. Lane `4 g + n` is that of input `N g + n`.
#[inline(always)]
fn outer_block<S: Simd, const M: usize, const N: usize>(
    simd: S,
    pairs: &[Pair],
    panel: &Panel,
    o: usize,
) -> [S::f32s; M] {
    let mut sums = [[simd.splat_f32s(0.0); N]; M];
    for (Pair { deltas, columns, .. }, panel) in pairs.iter().zip(panel.chunks(TILE / QUAD)) {
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

/// In even lanes the sum of that lane of `a` and its neighbour, in odd ones that of `b`.
#[inline(always)]
fn merge_lanes<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
    let (own, other) = mixed(simd, a, b, 1);
    // A complex number is two lanes.
    simd.add_f32s(own, cast(simd.swap_re_im_c32s(cast(other))))
}

/// As [`merge_lanes`] with pairs of lanes for lanes.
#[inline(always)]
fn merge_pairs<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
    let (own, other) = mixed(simd, a, b, 2);
    simd.add_f32s(own, cast(simd.swap_re_im_c64s(cast(other))))
}

/// The lanes without `bit` in their number of `a` and the others of `b`, and the opposite.
#[inline(always)]
fn mixed<S: Simd>(simd: S, a: S::f32s, b: S::f32s, bit: u32) -> (S::f32s, S::f32s) {
    const LANES: [u32; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    let lanes = S::as_simd_u32s(&LANES).0[0];
    let first = simd.equal_u32s(simd.and_u32s(lanes, simd.splat_u32s(bit)), simd.splat_u32s(0));
    (simd.select_f32s(first, a, b), simd.select_f32s(first, b, a))
}

/// Writes the `sums` of [`outer_block`] for one output to the rest of its row of weights, and to its bias.
#[inline(always)]
fn put<S: Simd, const N: usize>(simd: S, sums: S::f32s, row: &mut [f32], bias: &mut f32, fresh: bool) {
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
