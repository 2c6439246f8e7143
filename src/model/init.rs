//! Initial weights: PyTorch's default distributions, drawn from our own generator.

use crate::Result;
use crate::array::reserve;
use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use tch::Tensor;

/// Uniform in `[-bound, bound)`, row-major in the order of drawing.
pub(super) fn uniform(shape: &[i64], bound: f64, generator: &mut ChaCha12Rng) -> Result<Tensor> {
    let count = shape.iter().product::<i64>() as usize;
    let mut values: Vec<f32> = reserve(count)?;
    values.extend((0..count).map(|_| ((2.0 * generator.random::<f64>() - 1.0) * bound) as f32));
    Ok(Tensor::f_from_slice(&values)?.f_reshape(shape)?)
}
