// Training of small multi-layer perceptrons on a GPU: one launch of the kernel in mlp.cu takes many steps. As in
// torch/ops.cpp, every function returns NULL or a message that the caller frees.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>
#include <cstring>

#include "../../torch/guarded.hpp"
#include "interface.hpp"
#include "nvrtc.hpp"

namespace {

constexpr char kSource[] =
#include "mlp.inc"
    ;

constexpr size_t kMostLayers = 16;
constexpr int64_t kThreads = 512;
// How many rows a block takes at once.
constexpr int kTile = 8;

// The same struct is in mlp.cu.
struct Network {
  int layers, parameters;
  int widths[kMostLayers + 1];
};

struct MlpKernels {
  Kernel<Network, const float *, const float *, const int64_t *, const float *, const biv_cuda_queued_step *, int,
         float *, float *, float *, float *, float *, unsigned *>
      train;
  explicit MlpKernels(cudaLibrary_t library) : train(library, "train") {}
};

const MlpKernels &kernels() { return compiled<MlpKernels>(kSource, {{"TILE", kTile}}); }

// How many bytes of shared memory a block needs, as mlp.cu divides it.
int64_t memory(const int64_t *widths, size_t layers) {
  int64_t rows = 2 * (*std::max_element(widths + 1, widths + layers + 1) + widths[layers]), parameters = 0;
  for (size_t layer = 0; layer < layers; ++layer) {
    rows += widths[layer];
    parameters += widths[layer + 1] * ((widths[layer] | 1) + 1);
  }
  return 4 * (rows * kTile + parameters);
}

// Several lists that are copied to the device at once.
class Upload {
 public:
  // Adds a list of `count` values. Returns the offset at which it will be.
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

// Whether the kernel takes networks of these `layers + 1` widths on a GPU.
char *biv_cuda_mlp_fits(int device, const int64_t *widths, size_t layers, bool *fits) {
  return guarded([&] {
    *fits = layers <= kMostLayers && Nvrtc::is_there() &&
            memory(widths, layers) + 1024 <= attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device) &&
            attribute(cudaDevAttrCooperativeLaunch, device) != 0;
  });
}

// Takes `count` steps and waits for their losses. `rows` are the rows of `features` and `labels` in all mini-batches,
// `coefficients` the weights of their squared errors. The parameters and Adam's moments are lists of all layers'
// values.
char *biv_cuda_mlp_train(const at::Tensor *features, const at::Tensor *labels, at::Tensor *parameters,
                         at::Tensor *means, at::Tensor *squares, const int64_t *widths, size_t layers,
                         const biv_cuda_queued_step *steps, size_t count, const int64_t *rows, size_t row_count,
                         const float *coefficients, float *losses) {
  return guarded([&] {
    const at::Device device = parameters->device();
    const c10::cuda::CUDAGuard on_device(device);
    Network network{static_cast<int>(layers), static_cast<int>(parameters->numel()), {}};
    std::copy_n(widths, layers + 1, network.widths);
    const unsigned arrived = 0;
    Upload upload;
    const size_t at_arrived = upload.add(&arrived, 1), at_steps = upload.add(steps, count),
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
    kernels().train(
        grid, network, features->const_data_ptr<float>(), labels->const_data_ptr<float>(),
        reinterpret_cast<const int64_t *>(start + at_rows), reinterpret_cast<const float *>(start + at_coefficients),
        reinterpret_cast<const biv_cuda_queued_step *>(start + at_steps), static_cast<int>(count),
        parameters->data_ptr<float>(), means->data_ptr<float>(), squares->data_ptr<float>(), partial.data_ptr<float>(),
        found.data_ptr<float>(), reinterpret_cast<unsigned *>(start + at_arrived));
    const at::Tensor read = found.cpu();
    std::copy_n(read.const_data_ptr<float>(), count, losses);
  });
}

}  // extern "C"
