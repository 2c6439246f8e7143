// Layers of image networks on a GPU, in bfloat16 and the channels-last format. Their time goes into passes over memory,
// so these make few: BatchNorm with its epilogue (a ReLU, a shortcut or a pooling) in the same pass, like norm.cpp on a
// CPU; the first convolution, whose few channels GPUs are slow with, in a form that they are fast with; and bytes to
// normalised images at once.
//
// As in torch/ops.cpp, every function returns NULL or a message that the caller frees. Where it does not take such
// tensors, its result is NULL.

#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "../../torch/guarded.hpp"
#include "nvrtc.hpp"

namespace {

constexpr char kSource[] =
#include "images.inc"
    ;

using Bits = uint16_t;  // A bfloat16.

// The same struct is in images.cu.
struct Sizes {
  int height, width, pooled_height, pooled_width;
};

// The kernels of images.cu, compiled for threads of WIDTH channels each. Their parameters are described there.
struct ImageKernels {
  Kernel<const Bits *, int, int, float *> add_moments;
  Kernel<const Bits *, const float *, int, int, int, const float *, const float *, float *, float *, float, float,
         float *>
      finish_moments;
  Kernel<const Bits *, const Bits *, int, int, float *, float, Bits *> normalize;
  Kernel<const Bits *, const Bits *, const Bits *, int, int, float *, float, Bits *, float *> add_deltas;
  Kernel<const float *, int, int, int, float *, float *, float *, float *> finish_deltas;
  Kernel<const Bits *, const Bits *, int, int, float *, const float *, float, Bits *> backward_input;
  Kernel<const Bits *, int, int, int, int, int, int, int, int, Bits *> gather_blocks;
  Kernel<const uint8_t *, const int64_t *, int, int, float, float, Bits *> gather_bytes;

  explicit ImageKernels(cudaLibrary_t library)
      : add_moments(library, "add_moments"),
        finish_moments(library, "finish_moments"),
        normalize(library, "normalize"),
        add_deltas(library, "add_deltas"),
        finish_deltas(library, "finish_deltas"),
        backward_input(library, "backward_input"),
        gather_blocks(library, "gather_blocks"),
        gather_bytes(library, "gather_bytes") {}

  static const ImageKernels &get(int width) { return compiled<ImageKernels>(kSource, {{"WIDTH", width}}); }
};

// The square window of a pooling, as Window in spec.rs. Its size is 0 where there is no pooling.
struct Window {
  int size, stride, padding;
};

// The kernels with a pooling, compiled for its window, too.
struct PoolKernels {
  Kernel<const Bits *, int, int, float *, Sizes, Bits *, void *> normalize_and_pool;
  Kernel<const Bits *, const Bits *, const void *, int, int, float *, Sizes, float *> add_pooled_deltas;
  Kernel<const Bits *, const Bits *, const void *, int, int, const float *, Sizes, Bits *> backward_pooled_input;

  explicit PoolKernels(cudaLibrary_t library)
      : normalize_and_pool(library, "normalize_and_pool"),
        add_pooled_deltas(library, "add_pooled_deltas"),
        backward_pooled_input(library, "backward_pooled_input") {}

  static const PoolKernels &get(int width, const Window &window) {
    return compiled<PoolKernels>(
        kSource, {{"WIDTH", width}, {"SIZE", window.size}, {"STRIDE", window.stride}, {"PADDING", window.padding}});
  }
};

constexpr int64_t kMostThreads = 256;

// How the threads of a kernel divide a tensor of images.
struct ThreadLayout {
  int channels, pixels;
  // How many channels a thread has, and how many threads a pixel.
  int width, groups;

  explicit ThreadLayout(const at::Tensor &images)
      : ThreadLayout(images.size(1), images.numel() / std::max<int64_t>(images.size(1), 1)) {}
  ThreadLayout(int64_t all_channels, int64_t all_pixels)
      : channels(static_cast<int>(all_channels)),
        pixels(static_cast<int>(all_pixels)),
        width(channels % 8 == 0   ? 8
              : channels % 4 == 0 ? 4
                                  : 2),
        groups(channels / width) {}

  const ImageKernels &kernels() const { return ImageKernels::get(width); }
  int rows() const { return std::max<int>(kMostThreads / groups, 1); }
  // At most `most` blocks.
  Grid grid(int64_t most) const {
    const int64_t blocks = std::min<int64_t>((pixels + rows() - 1) / rows(), most);
    return {static_cast<unsigned>(blocks), static_cast<unsigned>(rows() * groups)};
  }
  // About as many threads as the GPU runs at once.
  Grid each() const { return grid(8 * attribute(cudaDevAttrMultiProcessorCount)); }
  // For sums: each block has memory to add up two numbers for each channel.
  Grid sums() const {
    Grid grid = this->grid(512);
    grid.shared = 2 * sizeof(float) * rows() * channels;
    return grid;
  }
  // For adding up the blocks' sums: one warp for each channel.
  Grid finish() const { return {static_cast<unsigned>((channels + 7) / 8), 256}; }
};

const Bits *bits(const at::Tensor &tensor) {
  return tensor.defined() ? static_cast<const Bits *>(tensor.const_data_ptr()) : nullptr;
}
Bits *bits(at::Tensor &tensor) { return tensor.defined() ? static_cast<Bits *>(tensor.data_ptr()) : nullptr; }

float floor_of(bool relu) { return relu ? 0 : -std::numeric_limits<float>::infinity(); }

// Whether the kernels can run on `device`: a GPU with instructions for bfloat16.
bool has_kernels(const at::Device &device) {
  return device.is_cuda() && attribute(cudaDevAttrComputeCapabilityMajor, device.index()) >= 8 && Nvrtc::is_there();
}

// Whether the kernels take such images.
bool is_supported(const at::Tensor &images) {
  return has_kernels(images.device()) && images.dim() == 4 && images.numel() > 0 && images.numel() <= INT32_MAX &&
         images.scalar_type() == at::kBFloat16 && images.is_contiguous(at::MemoryFormat::ChannelsLast) &&
         images.storage_offset() == 0 && images.size(1) % 2 == 0 && ThreadLayout(images).groups <= kMostThreads;
}

// What is computed from a BatchNorm's output in the same pass, as Epilogue in spec.rs; a shortcut is a tensor beside
// it.
struct Epilogue {
  bool relu;
  Window window;
};

Sizes pooled(const at::Tensor &input, const Window &window) {
  const auto count = [&](int size) { return (size + 2 * window.padding - window.size) / window.stride + 1; };
  const int height = static_cast<int>(input.size(2)), width = static_cast<int>(input.size(3));
  return {height, width, count(height), count(width)};
}

struct BatchNormFunction : torch::autograd::Function<BatchNormFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext *context, const at::Tensor &input,
                            const at::Tensor &weight, const at::Tensor &bias, const at::Tensor &running_mean,
                            const at::Tensor &running_var, const std::optional<at::Tensor> &given_shortcut,
                            double momentum, double epsilon, const Epilogue &epilogue) {
    const c10::cuda::CUDAGuard on_device(input.device());
    const at::Tensor shortcut = given_shortcut.value_or(at::Tensor());
    const ThreadLayout layout(input);
    const ImageKernels &kernels = layout.kernels();
    const int pixels = layout.pixels, channels = layout.channels, groups = layout.groups;
    const Grid grid = layout.sums();
    at::Tensor sums = at::empty({2, channels, grid.blocks}, weight.options());
    at::Tensor statistics = at::empty({4, channels}, weight.options());
    float *lists = statistics.data_ptr<float>();
    kernels.add_moments(grid, bits(input), pixels, groups, sums.data_ptr<float>());
    kernels.finish_moments(layout.finish(), bits(input), sums.data_ptr<float>(), grid.blocks, pixels, channels,
                           weight.const_data_ptr<float>(), bias.const_data_ptr<float>(), running_mean.data_ptr<float>(),
                           running_var.data_ptr<float>(), static_cast<float>(momentum), static_cast<float>(epsilon),
                           lists);
    at::Tensor output, marks;
    const Window &window = epilogue.window;
    if (window.size > 0) {
      const Sizes sizes = pooled(input, window);
      const std::vector<int64_t> shape = {input.size(0), channels, sizes.pooled_height, sizes.pooled_width};
      output = at::empty(shape, input.options(), at::MemoryFormat::ChannelsLast);
      marks = at::empty(shape, input.options().dtype(at::kByte), at::MemoryFormat::ChannelsLast);
      const ThreadLayout pooled_layout(output);
      PoolKernels::get(layout.width, window)
          .normalize_and_pool(pooled_layout.each(), bits(input), pooled_layout.pixels, groups, lists, sizes,
                              bits(output), marks.data_ptr());
    } else {
      output = at::empty_like(input, at::MemoryFormat::ChannelsLast);
      kernels.normalize(layout.each(), bits(input), bits(shortcut), pixels, groups, lists, floor_of(epilogue.relu),
                        bits(output));
    }
    context->saved_data["relu"] = epilogue.relu;
    context->saved_data["window"] = std::vector<int64_t>{window.size, window.stride, window.padding};
    // Where the ReLU passes values on is computed from the input again; with a shortcut, from the output.
    context->save_for_backward({input, statistics, shortcut.defined() ? output : at::Tensor(), marks});
    return output;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *context,
                                                 torch::autograd::variable_list deltas) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &input = saved[0], &output = saved[2], &marks = saved[3];
    at::Tensor statistics = saved[1];
    const c10::cuda::CUDAGuard on_device(input.device());
    const at::Tensor delta = deltas[0].contiguous(at::MemoryFormat::ChannelsLast);
    const ThreadLayout layout(input);
    const ImageKernels &kernels = layout.kernels();
    const int pixels = layout.pixels, channels = layout.channels, groups = layout.groups;
    const float floor = floor_of(context->saved_data["relu"].toBool());
    float *lists = statistics.data_ptr<float>();
    at::Tensor grad_weight = at::empty({channels}, statistics.options()), grad_bias = at::empty_like(grad_weight);
    at::Tensor line = at::empty({3, channels}, statistics.options());
    at::Tensor grad_input = at::empty_like(input, at::MemoryFormat::ChannelsLast), grad_shortcut;
    const auto finish = [&](const at::Tensor &sums) {
      kernels.finish_deltas(layout.finish(), sums.const_data_ptr<float>(), static_cast<int>(sums.size(2)), pixels,
                            channels, lists, grad_weight.data_ptr<float>(), grad_bias.data_ptr<float>(),
                            line.data_ptr<float>());
    };
    if (marks.defined()) {
      const auto numbers = context->saved_data["window"].toIntVector();
      const Window window{static_cast<int>(numbers[0]), static_cast<int>(numbers[1]), static_cast<int>(numbers[2])};
      const Sizes sizes = pooled(input, window);
      const PoolKernels &pool_kernels = PoolKernels::get(layout.width, window);
      const ThreadLayout pooled_layout(marks);
      const Grid grid = pooled_layout.sums();
      at::Tensor sums = at::empty({2, channels, grid.blocks}, statistics.options());
      pool_kernels.add_pooled_deltas(grid, bits(input), bits(delta), marks.const_data_ptr(), pooled_layout.pixels,
                                     groups, lists, sizes, sums.data_ptr<float>());
      finish(sums);
      pool_kernels.backward_pooled_input(layout.each(), bits(input), bits(delta), marks.const_data_ptr(), pixels,
                                         groups, line.const_data_ptr<float>(), sizes, bits(grad_input));
    } else {
      const Grid grid = layout.sums();
      at::Tensor sums = at::empty({2, channels, grid.blocks}, statistics.options());
      if (output.defined()) grad_shortcut = at::empty_like(grad_input);
      kernels.add_deltas(grid, bits(input), bits(delta), bits(output), pixels, groups, lists, floor,
                         bits(grad_shortcut), sums.data_ptr<float>());
      finish(sums);
      // With a shortcut, add_deltas has already applied the derivative of the ReLU.
      kernels.backward_input(layout.each(), bits(input), bits(output.defined() ? std::as_const(grad_shortcut) : delta),
                             pixels, groups, lists, line.const_data_ptr<float>(),
                             output.defined() ? floor_of(false) : floor, bits(grad_input));
    }
    return {grad_input, grad_weight, grad_bias, {}, {}, grad_shortcut, {}, {}, {}};
  }
};

// Turns the filters of a convolution with stride 2 into those of one with stride 1 over blocks of 2 x 2 pixels. The
// channels of a block are those of its pixels, and zeros up to `channels`.
at::Tensor filters_of_blocks(const at::Tensor &weight, int64_t channels) {
  const int64_t outputs = weight.size(0), inputs = weight.size(1), size = weight.size(2), blocks = (size + 1) / 2;
  const int64_t odd = size % 2;
  const at::Tensor even = at::constant_pad_nd(weight, {0, odd, 0, odd}, 0);
  const at::Tensor split = even.view({outputs, inputs, blocks, 2, blocks, 2}).permute({0, 3, 5, 1, 2, 4});
  const at::Tensor merged = split.reshape({outputs, 4 * inputs, blocks, blocks});
  return at::constant_pad_nd(merged, {0, 0, 0, 0, 0, channels - 4 * inputs}, 0);
}

}  // namespace

extern "C" {

// BatchNorm in training, plus `shortcut` unless that is NULL, followed by a ReLU if `relu`, and by the largest value of
// each window if `pool_size` is not 0 (only with a ReLU): a new tensor. Moves the running statistics.
char *biv_cuda_batch_norm(const at::Tensor *input, const at::Tensor *weight, const at::Tensor *bias,
                          const at::Tensor *running_mean, const at::Tensor *running_var, const at::Tensor *shortcut,
                          double momentum, double epsilon, bool relu, int pool_size, int pool_stride, int pool_padding,
                          at::Tensor **result) {
  return guarded([&] {
    *result = nullptr;
    if (!is_supported(*input) || pool_size > 15) return;
    at::Tensor addend;
    if (shortcut) {
      addend = shortcut->to(at::kBFloat16).contiguous(at::MemoryFormat::ChannelsLast);
      if (!is_supported(addend) || addend.sizes() != input->sizes()) return;
    }
    *result = new at::Tensor(BatchNormFunction::apply(
        *input, *weight, *bias, *running_mean, *running_var, shortcut ? std::optional(addend) : std::nullopt, momentum,
        epsilon, Epilogue{relu, Window{pool_size, pool_stride, pool_padding}}));
  });
}

// A convolution with stride 2 over images of few channels, with which GPUs are slow, as one with stride 1 over blocks
// of pixels. Only under autocast, and where no derivative by the input is needed.
char *biv_cuda_conv2d(const at::Tensor *input, const at::Tensor *weight, int64_t stride, int64_t padding,
                      at::Tensor **result) {
  return guarded([&] {
    *result = nullptr;
    if (stride != 2 || !has_kernels(input->device()) || input->dim() != 4 || input->size(1) > 4 ||
        input->requires_grad() || weight->size(2) <= stride || !at::autocast::is_autocast_enabled(at::kCUDA) ||
        at::autocast::get_autocast_dtype(at::kCUDA) != at::kBFloat16) {
      return;
    }
    const at::Tensor images = input->to(at::kBFloat16).contiguous(at::MemoryFormat::ChannelsLast);
    const int64_t count = images.size(0), channels = (4 * images.size(1) + 7) / 8 * 8;
    const int64_t height = images.size(2), width = images.size(3), size = weight->size(2);
    const auto blocks = [&](int64_t pixels) { return (pixels + 2 * padding - size) / 2 + (size + 1) / 2; };
    const at::Tensor filters = filters_of_blocks(*weight, channels);
    at::Tensor gathered =
        at::empty({count, channels, blocks(height), blocks(width)}, images.options(), at::MemoryFormat::ChannelsLast);
    if (!is_supported(gathered) || images.numel() > INT32_MAX || images.storage_offset() != 0) return;
    {
      const c10::cuda::CUDAGuard on_device(input->device());
      const ThreadLayout layout(gathered);
      layout.kernels().gather_blocks(layout.each(), bits(images), static_cast<int>(height), static_cast<int>(width),
                                     static_cast<int>(images.size(1)), static_cast<int>(padding),
                                     static_cast<int>(gathered.size(2)), static_cast<int>(gathered.size(3)),
                                     layout.groups, layout.pixels, bits(gathered));
    }
    *result = new at::Tensor(at::conv2d(gathered, filters));
  });
}

// The images `index` of `bytes`, `[rows, channels, height, width]`, as `scale * byte + shift` in bfloat16 and the
// channels-last format: a new tensor.
char *biv_cuda_gather_images(const at::Tensor *bytes, const at::Tensor *index, double scale, double shift,
                             at::Tensor **result) {
  return guarded([&] {
    *result = nullptr;
    const int64_t count = index->numel(), channels = bytes->size(1), size = bytes->size(2) * bytes->size(3);
    if (!has_kernels(bytes->device()) || bytes->scalar_type() != at::kByte || bytes->dim() != 4 ||
        !bytes->is_contiguous() || !index->is_contiguous() || count == 0 || count > UINT16_MAX || size == 0 ||
        size * channels > INT32_MAX) {
      return;
    }
    const c10::cuda::CUDAGuard on_device(bytes->device());
    at::Tensor images = at::empty({count, channels, bytes->size(2), bytes->size(3)},
                                  bytes->options().dtype(at::kBFloat16), at::MemoryFormat::ChannelsLast);
    const Grid grid{static_cast<unsigned>((size + kMostThreads - 1) / kMostThreads), kMostThreads, 0,
                    static_cast<unsigned>(count)};
    ImageKernels::get(8).gather_bytes(grid, bytes->const_data_ptr<uint8_t>(), index->const_data_ptr<int64_t>(),
                                      static_cast<int>(size), static_cast<int>(channels), static_cast<float>(scale),
                                      static_cast<float>(shift), bits(images));
    *result = new at::Tensor(std::move(images));
  });
}

}  // extern "C"
