//! BatchNorm in training by the statistics of a mini-batch whose rows are divided among processes.

use super::ops::finished;
use super::spec::{BatchNormSpec, Epilogue};
use crate::Result;
use crate::torch::process_group::ProcessGroup;
use crate::torch::rank_sum::sum_over_ranks;
use std::sync::Arc;
use tch::{Kind, Tensor};

/// As [`batch_norm`](super::ops::batch_norm) in training, over the rows that all processes of `group` have. Each of them
/// calls it, with one row at least. It sends two messages of a number per channel, and two on the way back.
///
/// # Errors
/// [`Error::Distributed`](crate::Error::Distributed).
pub(crate) fn batch_norm_of_all_ranks(
    group: &Arc<ProcessGroup>,
    input: &Tensor,
    state: [&Tensor; 4],
    spec: BatchNormSpec,
    epilogue: Epilogue,
) -> Result<Tensor> {
    let [weight, bias, running_mean, running_var] = state;
    let x = input.f_to_kind(Kind::Float)?;
    let channels = running_mean.size()[0];
    let others: Vec<i64> = (0..x.dim() as i64).filter(|&dimension| dimension != 1).collect();
    // A number per channel, so that it fits `x`.
    let wide = |list: &Tensor| {
        let mut shape = vec![1; x.dim()];
        shape[1] = channels;
        list.f_view(shape.as_slice())
    };
    let sum = |values: &Tensor| values.f_sum_dim_intlist(others.as_slice(), false, Kind::Float);
    let own_count = Tensor::f_full([1], x.numel() as f64 / channels as f64, (Kind::Float, x.device()))?;
    let sums = sum_over_ranks(group, &Tensor::f_cat(&[sum(&x)?, own_count], 0)?)?;
    let count = sums.f_double_value(&[channels])?;
    let mean = sums.f_narrow(0, 0, channels)?.f_div_scalar(count)?;
    // From the mean: the squares themselves would cancel where it is large.
    let centred = x.f_sub(&wide(&mean)?)?;
    let variance = sum_over_ranks(group, &sum(&centred.f_square()?)?)?.f_div_scalar(count)?;
    let scale = variance.f_add_scalar(spec.epsilon)?.f_rsqrt()?.f_mul(weight)?;
    let output = centred.f_mul(&wide(&scale)?)?.f_add(&wide(bias)?)?.f_to_kind(input.kind())?;
    tch::no_grad(|| -> Result<()> {
        let unbiased = variance.f_mul_scalar(count / (count - 1.0))?;
        for (running, present) in [(running_mean, &mean), (running_var, &unbiased)] {
            let kept = running.f_mul_scalar(1.0 - spec.momentum)?;
            running.shallow_clone().f_copy_(&kept.f_add(&present.f_mul_scalar(spec.momentum)?)?)?;
        }
        Ok(())
    })?;
    finished(output, epilogue)
}
