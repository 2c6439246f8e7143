// What a step over libtorch's operations needs and tch does not bind. As in
// shim.cpp, every function returns NULL or a message that the caller frees.

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_addmm_activation.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/native_batch_norm_backward.h>

#include "guarded.hpp"

extern "C" {

// One step of Adam whose learning rate and step count are tensors on the
// parameters' device, and which changes nothing where `failed` is 1.
char *biv_shim_guarded_adam(at::Tensor *const *parameters, at::Tensor *const *gradients, at::Tensor *const *means,
                            at::Tensor *const *squares, size_t count, const at::Tensor *steps,
                            const at::Tensor *learning_rate, const at::Tensor *failed, double beta1, double beta2,
                            double weight_decay, double epsilon) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    at::_fused_adam_(list(parameters, count), list(gradients, count), list(means, count), list(squares, count),
                     /*max_exp_avg_sqs=*/{}, std::vector<at::Tensor>(count, *steps), *learning_rate, beta1, beta2,
                     weight_decay, epsilon, /*amsgrad=*/false, /*maximize=*/false, /*grad_scale=*/{}, *failed);
  });
}

// Writes relu(input weight^T + bias) to `output`. (tch's binding of the operation leaves the bias out.)
char *biv_shim_linear_relu(at::Tensor *output, const at::Tensor *bias, const at::Tensor *input,
                           const at::Tensor *weight) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    at::_addmm_activation_out(*output, *bias, *input, weight->t());
  });
}

// The derivatives of a BatchNorm in training for its input, weight and bias: three new tensors.
char *biv_shim_batch_norm_backward(const at::Tensor *delta, const at::Tensor *input, const at::Tensor *weight,
                                   const at::Tensor *mean, const at::Tensor *inverse_std, double epsilon,
                                   at::Tensor **results) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto [input_gradient, weight_gradient, bias_gradient] =
        at::native_batch_norm_backward(*delta, *input, *weight, /*running_mean=*/{}, /*running_var=*/{}, *mean,
                                       *inverse_std, /*train=*/true, epsilon, {true, true, true});
    results[0] = new at::Tensor(std::move(input_gradient));
    results[1] = new at::Tensor(std::move(weight_gradient));
    results[2] = new at::Tensor(std::move(bias_gradient));
  });
}

// Copies `source`, in the host's memory, into `target` without waiting for the device: by way of pinned
// memory, which libtorch does not use again before the device has read it.
char *biv_shim_upload(at::Tensor *target, const at::Tensor *source) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    target->copy_(target->is_cuda() ? source->pin_memory() : *source, /*non_blocking=*/true);
  });
}

// Sets one of libtorch's switches, which are the whole process's: TF32 in products of matrices (0) and in
// convolutions (1), trying out which algorithm for a convolution is the fastest (2). `before` is what it was.
char *biv_shim_switch(int which, bool on, bool *before) {
  return guarded([&] {
    at::Context &context = at::globalContext();
    switch (which) {
      case 0:
        *before = context.allowTF32CuBLAS();
        context.setAllowTF32CuBLAS(on);
        break;
      case 1:
        *before = context.allowTF32CuDNN();
        context.setAllowTF32CuDNN(on);
        break;
      default:
        *before = context.benchmarkCuDNN();
        context.setBenchmarkCuDNN(on);
    }
  });
}

}  // extern "C"
