//! The noise model by itself.

use super::boundary::boundary;
use super::pointer;
use super::status::biv_status;
use crate::data::noise::VarianceDistribution;
use std::ffi::c_char;

/// Draws noise variances, as biv_dataset_add_noise() does.
///
/// @param distribution JSON, schema "distribution": {"kind": "gamma", "alpha": 2, "beta": 0.5}.
/// @param seed the same seed gives the same variances.
/// @param variances room for `count` values.
/// @return BIV_OK, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_INVALID_ARGUMENT. Any thread.
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
