// BatchNorm of images in the channels-last format. libtorch's way back adds up each channel's sums in a place for each
// thread, side by side: where a thread's sums are no whole cache lines, threads take lines from each other at each
// pixel, and two are several times as slow as one.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/ops/native_batch_norm.h>
#include <ATen/ops/native_batch_norm_backward.h>
#include <torch/csrc/autograd/custom_function.h>

#include "guarded.hpp"

// libtorch's OpenMP; NULL in a libtorch without.
extern "C" __attribute__((weak)) void omp_set_num_threads(int);

namespace {

constexpr int64_t kLine = 64 / sizeof(float);

// Lets this thread's operations have one thread, in its lifetime.
class OneThread {
 public:
  OneThread() : before_(at::get_num_threads()) { set(1); }
  ~OneThread() { set(before_); }
  OneThread(const OneThread &) = delete;
  OneThread &operator=(const OneThread &) = delete;

 private:
  static void set(int count) {
    if (omp_set_num_threads) omp_set_num_threads(count);
  }
  int before_;
};

// In training, with one thread on the way back.
struct NarrowBatchNorm : torch::autograd::Function<NarrowBatchNorm> {
  static at::Tensor forward(torch::autograd::AutogradContext *context, const at::Tensor &input,
                            const at::Tensor &weight, const at::Tensor &bias, const at::Tensor &running_mean,
                            const at::Tensor &running_var, double momentum, double epsilon) {
    auto [output, mean, inverse_std] =
        at::native_batch_norm(input, weight, bias, running_mean, running_var, /*training=*/true, momentum, epsilon);
    context->save_for_backward({input, weight, mean, inverse_std});
    context->saved_data["epsilon"] = epsilon;
    return output;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *context,
                                                 torch::autograd::variable_list deltas) {
    auto saved = context->get_saved_variables();
    OneThread one;
    auto [input, weight, bias] = at::native_batch_norm_backward(
        deltas[0].contiguous(at::MemoryFormat::ChannelsLast), saved[0], saved[1], /*running_mean=*/{},
        /*running_var=*/{}, saved[2], saved[3], /*train=*/true, context->saved_data["epsilon"].toDouble(),
        {true, true, true});
    return {input, weight, bias, {}, {}, {}, {}};
  }
};

// Whether threads would take cache lines from each other.
bool is_narrow(const at::Tensor &input) {
  return input.is_cpu() && input.dim() == 4 && input.size(1) < 4 * kLine && input.size(1) % kLine != 0 &&
         !input.is_contiguous() && input.is_contiguous(at::MemoryFormat::ChannelsLast) && at::get_num_threads() > 1;
}

}  // namespace

// BatchNorm in training: a new tensor.
extern "C" char *biv_shim_batch_norm(const at::Tensor *input, const at::Tensor *weight, const at::Tensor *bias,
                                     const at::Tensor *running_mean, const at::Tensor *running_var, double momentum,
                                     double epsilon, at::Tensor **result) {
  return guarded([&] {
    at::Tensor output =
        is_narrow(*input)
            ? NarrowBatchNorm::apply(*input, *weight, *bias, *running_mean, *running_var, momentum, epsilon)
            : at::batch_norm(*input, *weight, *bias, *running_mean, *running_var, /*training=*/true, momentum, epsilon,
                             /*cudnn_enabled=*/false);
    *result = new at::Tensor(std::move(output));
  });
}
