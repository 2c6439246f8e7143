//! Initial values, drawn from our own generator.

use crate::base::memory::reserve;
use crate::{Error, Result};
use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use rand_distr::StandardNormal;
use tch::Tensor;

/// Uniform in `[-bound, bound)`.
pub(super) fn uniform(shape: &[usize], bound: f64, generator: &mut ChaCha12Rng) -> Result<Tensor> {
    drawn(shape, || (2.0 * generator.random::<f64>() - 1.0) * bound)
}

/// Normal with mean 0.
pub(super) fn normal(shape: &[usize], deviation: f64, generator: &mut ChaCha12Rng) -> Result<Tensor> {
    drawn(shape, || generator.sample::<f64, _>(StandardNormal) * deviation)
}

/// How many values an array of `shape` has.
///
/// # Errors
/// [`Error::OutOfMemory`] when no memory could hold them.
pub(super) fn elements(shape: &[usize]) -> Result<usize> {
    let count = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    let count = count.filter(|&count| count < isize::MAX as usize / size_of::<f32>());
    count.ok_or_else(|| Error::OutOfMemory(format!("an array of shape {shape:?} exceeds memory")))
}

/// Row-major in the order of drawing.
fn drawn(shape: &[usize], mut draw: impl FnMut() -> f64) -> Result<Tensor> {
    let count = elements(shape)?;
    let mut values: Vec<f32> = reserve(count)?;
    values.extend((0..count).map(|_| draw() as f32));
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    Ok(Tensor::f_from_slice(&values)?.f_reshape(shape)?)
}
