// What libtorch has and tch does not bind. Every function is noexcept towards
// Rust: it returns NULL, or a message made with strdup that the caller frees.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adam.h>
#include <dlfcn.h>
#include <torch/headeronly/version.h>

#include <cstring>
#include <exception>
#include <stdexcept>
#include <vector>

namespace {

template <class Body>
char *guarded(Body body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const std::exception &error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("an unknown C++ exception");
  }
}

std::vector<at::Tensor> list(at::Tensor *const *tensors, size_t count) {
  std::vector<at::Tensor> result;
  result.reserve(count);
  for (size_t i = 0; i < count; ++i) result.push_back(*tensors[i]);
  return result;
}

}  // namespace

extern "C" {

// One step of Adam on all the parameters by libtorch's fused kernel. The five
// lists have `count` tensors each; `steps` are the step counts, one per tensor.
char *biv_shim_fused_adam(at::Tensor *const *parameters, at::Tensor *const *gradients, at::Tensor *const *means,
                          at::Tensor *const *squares, at::Tensor *const *steps, size_t count, double learning_rate,
                          double beta1, double beta2, double weight_decay, double epsilon) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    at::_fused_adam_(list(parameters, count), list(gradients, count), list(means, count), list(squares, count),
                     /*max_exp_avg_sqs=*/{}, list(steps, count), learning_rate, beta1, beta2, weight_decay, epsilon,
                     /*amsgrad=*/false, /*maximize=*/false);
  });
}

// Makes libtorch's CUDA part known to the process. The linker leaves it out
// (nothing refers to it by name), so that one binary runs with and without it.
char *biv_shim_load_cuda() {
  return guarded([] {
    if (!dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL)) throw std::runtime_error(dlerror());
  });
}

// The version of the headers, a literal.
const char *biv_shim_torch_version() { return TORCH_VERSION; }

}  // extern "C"
