// Operations on tensors that tch does not bind as a training step needs them. Each function returns NULL, or a message
// made with strdup that the caller frees.

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_addmm_activation.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/native_batch_norm_backward.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "guarded.hpp"

extern "C" {

// Finds where the values of a contiguous f32 tensor in the host's memory are, and how many there are. False for other
// tensors.
bool biv_torch_memory(const at::Tensor *tensor, void **start, size_t *count) noexcept {
  try {
    if (!tensor->is_cpu() || tensor->scalar_type() != at::kFloat || !tensor->is_contiguous()) return false;
    *count = static_cast<size_t>(tensor->numel());
    *start = tensor->data_ptr();
    return true;
  } catch (...) {
    return false;
  }
}

// One step of Adam on all parameters by libtorch's fused kernel, or of AdamW where the weight decay is `decoupled`. The
// five lists have `count` tensors each. `steps` are the numbers of the step, one for each tensor.
char *biv_torch_fused_adam(at::Tensor *const *parameters, at::Tensor *const *gradients, at::Tensor *const *means,
                           at::Tensor *const *squares, at::Tensor *const *steps, size_t count, double learning_rate,
                           double beta1, double beta2, double weight_decay, double epsilon, bool decoupled) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto step = [&](auto kernel) {
      kernel(list(parameters, count), list(gradients, count), list(means, count), list(squares, count),
             /*max_exp_avg_sqs=*/at::TensorList{}, list(steps, count), learning_rate, beta1, beta2, weight_decay,
             epsilon,
             /*amsgrad=*/false, /*maximize=*/false);
    };
    decoupled ? step([](auto &&...given) { at::_fused_adamw_(given...); })
              : step([](auto &&...given) { at::_fused_adam_(given...); });
  });
}

// As biv_torch_fused_adam, with a learning rate and a step count that are tensors on the parameters' device. Changes
// nothing where `found_inf` is 1.
char *biv_torch_guarded_adam(at::Tensor *const *parameters, at::Tensor *const *gradients, at::Tensor *const *means,
                             at::Tensor *const *squares, size_t count, const at::Tensor *steps,
                             const at::Tensor *learning_rate, const at::Tensor *found_inf, double beta1, double beta2,
                             double weight_decay, double epsilon, bool decoupled) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto step = [&](auto kernel) {
      kernel(list(parameters, count), list(gradients, count), list(means, count), list(squares, count),
             /*max_exp_avg_sqs=*/at::TensorList{}, std::vector<at::Tensor>(count, *steps), *learning_rate, beta1, beta2,
             weight_decay, epsilon, /*amsgrad=*/false, /*maximize=*/false, /*grad_scale=*/std::nullopt, *found_inf);
    };
    decoupled ? step([](auto &&...given) { at::_fused_adamw_(given...); })
              : step([](auto &&...given) { at::_fused_adam_(given...); });
  });
}

// One step of gradient descent on all parameters by libtorch's fused kernel. The three lists have `count` tensors each.
// `device_learning_rate`, a tensor on the parameters' device, replaces `learning_rate` unless it is NULL. Changes
// nothing where `found_inf` is 1, unless it is NULL.
char *biv_torch_fused_sgd(at::Tensor *const *parameters, at::Tensor *const *gradients, at::Tensor *const *momenta,
                          size_t count, double learning_rate, const at::Tensor *device_learning_rate,
                          const at::Tensor *found_inf, double momentum, double dampening, double weight_decay,
                          bool nesterov, bool is_first) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    // The kernel takes none where there is no momentum.
    auto buffers = list(momenta, momentum == 0 ? 0 : count);
    auto guard = found_inf ? std::optional<at::Tensor>(*found_inf) : std::nullopt;
    auto step = [&](const auto &rate) {
      at::_fused_sgd_(list(parameters, count), list(gradients, count), buffers, weight_decay, momentum, rate, dampening,
                      nesterov, /*maximize=*/false, is_first, /*grad_scale=*/std::nullopt, guard);
    };
    device_learning_rate ? step(*device_learning_rate) : step(learning_rate);
  });
}

// Writes relu(input weight^T + bias) to `output`. (tch's binding of the operation leaves the bias out.)
char *biv_torch_linear_relu(at::Tensor *output, const at::Tensor *bias, const at::Tensor *input,
                            const at::Tensor *weight) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    at::_addmm_activation_out(*output, *bias, *input, weight->t());
  });
}

// The derivatives of a BatchNorm in training for its input, weight and bias: three new tensors.
char *biv_torch_batch_norm_backward(const at::Tensor *delta, const at::Tensor *input, const at::Tensor *weight,
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

// Copies `source`, in the host's memory, into `target` without waiting for the device. The copy goes through pinned
// memory, which libtorch does not reuse before the device has read it.
char *biv_torch_upload(at::Tensor *target, const at::Tensor *source) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    target->copy_(target->is_cuda() ? source->pin_memory() : *source, /*non_blocking=*/true);
  });
}

// Copies the elements of an array on a device, of `size` bytes each, to the host's memory `dense`, where they lie in C
// order, or from there where `to_device`. The device is CUDA's of number `device`, or the host for -1. Where `wait`,
// all work that the device has been given is done first. What is copied is there when the function returns.
char *biv_torch_transfer(void *start, int device, size_t size, const int64_t *shape, const int64_t *strides,
                         size_t rank, void *dense, bool to_device, bool wait) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    at::Device place = device < 0 ? at::kCPU : at::Device(at::kCUDA, static_cast<at::DeviceIndex>(device));
    auto finish = [&] {
      if (place.is_cuda()) c10::impl::getDeviceGuardImpl(place.type())->synchronizeDevice(place.index());
    };
    if (wait) finish();
    // Bits are copied, whatever they mean.
    at::ScalarType type = size == 1 ? at::kByte : size == 2 ? at::kShort : size == 4 ? at::kInt : at::kLong;
    at::IntArrayRef sizes(shape, rank);
    // libtorch refuses memory that is not the device's.
    at::Tensor array = at::from_blob(start, sizes, at::IntArrayRef(strides, rank), at::device(place).dtype(type));
    at::Tensor host = at::from_blob(dense, sizes, at::dtype(type));
    if (to_device) {
      array.copy_(host);
      finish();
    } else {
      host.copy_(array);
    }
  });
}

}  // extern "C"
