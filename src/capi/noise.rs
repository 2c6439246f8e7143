//! The noise model by itself.

use super::boundary::boundary;
use super::pointer;
use super::status::biv_status;
use crate::data::noise::VarianceDistribution;
use std::ffi::c_char;

/// Draws noise variances from a distribution, as biv_dataset_add_noise() does.
///
/// @param distribution JSON, schema "distribution": {"kind": "gamma", "alpha": 2, "beta": 0.5}.
/// @param seed determines the variances.
/// @param variances the caller's room for `count` values; may be NULL where `count` is 0.
/// @param count how many to draw.
/// @return BIV_OK, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_OUT_OF_MEMORY. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_noise_sample(
    distribution: *const c_char,
    seed: u64,
    variances: *mut f64,
    count: usize,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        let variances = pointer::slice_mut(variances, count, "variances")?;
        let law = pointer::options::<VarianceDistribution>(distribution, "noise.distribution")?.law()?;
        variances.copy_from_slice(&law.sample(count, seed)?);
        Ok(())
    })
}
