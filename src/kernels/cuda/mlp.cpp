// Training of small multi-layer perceptrons on a GPU: many steps in one start of a kernel, see mlp.cu. As in torch/ops.cpp,
// every function returns NULL or a message that the caller frees.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>
#include <cstring>

#include "../../torch/guarded.hpp"
#include "nvrtc.hpp"

namespace {

constexpr char kSource[] =
#include "mlp.inc"
    ;

constexpr size_t kMostLayers = 16;
constexpr int64_t kThreads = 512;
// Rows that a block takes at once.
constexpr int kTile = 8;

// As in mlp.cu.
struct Network {
  int layers, parameters;
  int widths[kMostLayers + 1];
};

}  // namespace

// A mini-batch of so many rows, from the first of all on, and AdamStep's numbers.
struct biv_cuda_step {
  int32_t first, rows;
  float rate, beta1, beta2, epsilon, weight_decay, correction;
};

namespace {

struct Kernels {
  Kernel<Network, const float *, const float *, const int64_t *, const float *, const biv_cuda_step *, int, float *,
         float *, float *, float *, float *, unsigned *>
      train;
  explicit Kernels(cudaLibrary_t library) : train(library, "train") {}
};

const Kernels &kernels() { return compiled<Kernels>(kSource, {{"TILE", kTile}}); }

// The block's memory in bytes, as mlp.cu divides it.
int64_t memory(const int64_t *widths, size_t layers) {
  int64_t rows = 2 * (*std::max_element(widths + 1, widths + layers + 1) + widths[layers]), parameters = 0;
  for (size_t layer = 0; layer < layers; ++layer) {
    rows += widths[layer];
    parameters += widths[layer + 1] * ((widths[layer] | 1) + 1);
  }
  return 4 * (rows * kTile + parameters);
}

// Room on the device for several lists, which are copied there at once.
class Upload {
 public:
  // Where a list of `count` values will be, from the start.
  template <class Value>
  size_t add(const Value *values, size_t count) {
    const size_t start = (bytes_.size() + 15) / 16 * 16;
    bytes_.resize(start + count * sizeof(Value));
    std::memcpy(bytes_.data() + start, values, count * sizeof(Value));
    return start;
  }
  at::Tensor copied(const at::Device &device) const {
    const auto options = at::TensorOptions(at::kByte);
    const int64_t size = static_cast<int64_t>(bytes_.size());
    at::Tensor pinned = at::empty({size}, options.pinned_memory(true)),
               there = at::empty({size}, options.device(device));
    std::memcpy(pinned.data_ptr(), bytes_.data(), bytes_.size());
    there.copy_(pinned, /*non_blocking=*/true);
    return there;
  }

 private:
  std::vector<char> bytes_;
};

}  // namespace

extern "C" {

// Whether networks of these widths, `layers` and one more, are for the kernel on a GPU.
char *biv_cuda_mlp_fits(int device, const int64_t *widths, size_t layers, bool *fits) {
  return guarded([&] {
    *fits = layers <= kMostLayers && Nvrtc::is_there() &&
            memory(widths, layers) + 1024 <= attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device) &&
            attribute(cudaDevAttrCooperativeLaunch, device) != 0;
  });
}

// Takes `count` steps with the numbers `steps` on the rows `rows` of `features` and `labels`, whose squared errors have
// the weights `coefficients`, and waits for their losses. The parameters and Adam's moments are lists of all layers'.
char *biv_cuda_mlp_train(const at::Tensor *features, const at::Tensor *labels, at::Tensor *parameters,
                         at::Tensor *means, at::Tensor *squares, const int64_t *widths, size_t layers,
                         const biv_cuda_step *steps, size_t count, const int64_t *rows, size_t row_count,
                         const float *coefficients, float *losses) {
  return guarded([&] {
    const at::Device device = parameters->device();
    const c10::cuda::CUDAGuard on_device(device);
    Network network{static_cast<int>(layers), static_cast<int>(parameters->numel()), {}};
    std::copy_n(widths, layers + 1, network.widths);
    const unsigned met = 0;
    Upload upload;
    const size_t at_met = upload.add(&met, 1), at_steps = upload.add(steps, count),
                 at_rows = upload.add(rows, row_count);
    const size_t at_coefficients = upload.add(coefficients, row_count * widths[layers]);
    at::Tensor uploaded = upload.copied(device);
    char *start = static_cast<char *>(uploaded.data_ptr());
    int64_t most_rows = 0;
    for (size_t i = 0; i < count; ++i) most_rows = std::max<int64_t>(most_rows, steps[i].rows);
    const int64_t blocks =
        std::min<int64_t>((most_rows + kTile - 1) / kTile, attribute(cudaDevAttrMultiProcessorCount));
    at::Tensor partial = at::empty({blocks, network.parameters + 1}, parameters->options());
    at::Tensor found = at::empty({static_cast<int64_t>(count)}, parameters->options());
    Grid grid{static_cast<unsigned>(blocks), kThreads, static_cast<size_t>(memory(widths, layers))};
    grid.together = true;
    kernels().train(grid, network, features->const_data_ptr<float>(), labels->const_data_ptr<float>(),
                    reinterpret_cast<const int64_t *>(start + at_rows),
                    reinterpret_cast<const float *>(start + at_coefficients),
                    reinterpret_cast<const biv_cuda_step *>(start + at_steps), static_cast<int>(count),
                    parameters->data_ptr<float>(), means->data_ptr<float>(), squares->data_ptr<float>(),
                    partial.data_ptr<float>(), found.data_ptr<float>(), reinterpret_cast<unsigned *>(start + at_met));
    const at::Tensor read = found.cpu();
    std::copy_n(read.const_data_ptr<float>(), count, losses);
  });
}

}  // extern "C"
