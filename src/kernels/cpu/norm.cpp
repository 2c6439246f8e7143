// BatchNorm of images in the channels-last format on the CPU, with its epilogue in the same pass: a ReLU, or the
// shortcut of a residual block and then a ReLU. libtorch's own goes pixel by pixel, whose channels may not fill a
// vector, and its backward pass has threads that sum in each other's cache lines.
//
// Here a vector continues beyond the end of a pixel, so all lanes are in use for any number of channels. How the sums
// are divided does not depend on the number of threads, so neither does any bit of the result.
//
// The derivatives are those of Ioffe and Szegedy 2015, section 3.

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/threshold_backward.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>
#include <vector>

#include "../../torch/guarded.hpp"
#include "features.hpp"
#include "parallel.hpp"

namespace {

// The loops of norm_loops.hpp, compiled for one instruction set.
struct Loops {
  void (*add_values)(const float *, int64_t, int64_t, float *);
  void (*add_squares)(const float *, int64_t, int64_t, const float *, float *);
  void (*normalize)(const float *, int64_t, int64_t, const float *, const float *, float, float *);
  void (*normalize_and_add)(const float *, const float *, int64_t, int64_t, const float *, const float *, float,
                            float *);
  void (*add_deltas)(const float *, const float *, int64_t, int64_t, const float *, const float *, const float *, float,
                     float *, float *);
  void (*backward_input)(const float *, const float *, int64_t, int64_t, const float *, const float *, const float *,
                         float, const float *, const float *, float *);
  void (*widen)(const uint16_t *, int64_t, float *);
  void (*narrow)(const float *, int64_t, uint16_t *);
};

namespace baseline {
#define BIV_WIDE
#include "norm_loops.hpp"
#undef BIV_WIDE
}  // namespace baseline

#ifdef __x86_64__
namespace avx2 {
#define BIV_WIDE __attribute__((target("avx2")))
#include "norm_loops.hpp"
#undef BIV_WIDE
}  // namespace avx2
namespace avx512 {
#define BIV_WIDE __attribute__((target("avx512f")))
#include "norm_loops.hpp"
#undef BIV_WIDE
}  // namespace avx512
#endif

const Loops &loops_for([[maybe_unused]] int64_t vectors) {
#ifdef __x86_64__
  if (vectors == kAvx512) return avx512::kLoops;
  if (vectors == kAvx2) return avx2::kLoops;
#endif
  return baseline::kLoops;
}

// So many values are whole vectors of any instruction set.
constexpr int64_t kVectorValues = 16;
// How many groups are summed in single precision.
constexpr int64_t kBlockGroups = 64;
// How many values are converted to single precision at once: they stay in a core's nearest cache.
constexpr int64_t kPieceValues = 2048;
// The most parts, which are divided among the threads.
constexpr int64_t kMostParts = 64;

// Reads a tensor's values in single precision: where they are, or converted.
class Reader {
 public:
  Reader(const Loops &loops, const at::Tensor &tensor)
      : loops_(loops), bytes_(static_cast<const char *>(tensor.const_data_ptr())) {
    is_float_ = tensor.scalar_type() == at::kFloat;
  }
  const float *operator()(int64_t start, int64_t count) {
    if (is_float_) return reinterpret_cast<const float *>(bytes_) + start;
    copy_.resize(std::max<size_t>(copy_.size(), count));
    loops_.widen(reinterpret_cast<const uint16_t *>(bytes_) + start, count, copy_.data());
    return copy_.data();
  }

 private:
  const Loops &loops_;
  const char *bytes_;
  bool is_float_;
  std::vector<float> copy_;
};

// Writes a tensor's values from single precision: directly, or converted.
class Writer {
 public:
  Writer(const Loops &loops, const at::Tensor &tensor) : loops_(loops), bytes_(static_cast<char *>(tensor.data_ptr())) {
    is_float_ = tensor.scalar_type() == at::kFloat;
  }
  // Where to write the `count` values from `start` on, until `finish`.
  float *begin(int64_t start, int64_t count) {
    if (is_float_) return reinterpret_cast<float *>(bytes_) + start;
    copy_.resize(std::max<size_t>(copy_.size(), count));
    return copy_.data();
  }
  void finish(int64_t start, int64_t count) {
    if (!is_float_) loops_.narrow(copy_.data(), count, reinterpret_cast<uint16_t *>(bytes_) + start);
  }

 private:
  const Loops &loops_;
  char *bytes_;
  bool is_float_;
  std::vector<float> copy_;
};

// How the values of a tensor of images are partitioned: into parts for the threads, a part into blocks, a block into
// pieces, a piece into groups.
struct ImagePartition {
  int64_t channels, values, pixels;
  // The values of a group: the fewest whole pixels that are whole vectors.
  int64_t period;
  // The values of a block, which are summed in single precision: whole groups.
  int64_t block;

  explicit ImagePartition(const at::Tensor &images)
      : channels(images.size(1)), values(images.numel()), pixels(values / channels) {
    period = std::lcm(channels, kVectorValues);
    block = kBlockGroups * period;
  }

  int64_t blocks() const { return (values + block - 1) / block; }
  int64_t parts() const { return std::min(blocks(), kMostParts); }

  // Calls `work(part, start, count)` for each block of each part, with one `work` made for each thread.
  template <class MakeWork>
  void for_each_block(MakeWork make_work) const {
    parallel_for(parts(), [&](int64_t begin, int64_t end) {
      auto work = make_work();
      for (int64_t part = begin; part < end; ++part) {
        for (int64_t i = blocks() * part / parts(); i < blocks() * (part + 1) / parts(); ++i) {
          work(part, i * block, std::min(block, values - i * block));
        }
      }
    });
  }

  // Calls `work(start, count)` for each piece of some values. All pieces but the last are whole groups.
  template <class Work>
  void for_each_piece(int64_t start, int64_t count, Work work) const {
    const int64_t size = std::max(kPieceValues / period, int64_t{1}) * period;
    for (int64_t i = 0; i < count; i += size) work(start + i, std::min(size, count - i));
  }

  // A channel's sum, from the sums of a group's values.
  double channel_sum(const std::vector<float> &sums, int64_t channel) const {
    double sum = 0;
    for (int64_t j = channel; j < period; j += channels) sum += sums[j];
    return sum;
  }

  // `value(channel)` for each value of a group.
  template <class Value>
  std::vector<float> per_value(Value value) const {
    std::vector<float> list(period);
    for (int64_t j = 0; j < period; ++j) list[j] = j < channels ? value(j) : list[j - channels];
    return list;
  }
};

// A channel's mean and sum of squared deviations.
struct Moments {
  double count = 0, mean = 0, squares = 0;

  // Merges those of other values (Chan, Golub, LeVeque 1983).
  void add(const Moments &other) {
    if (other.count == 0) return;
    const double difference = other.mean - mean, total = count + other.count;
    mean += difference * other.count / total;
    squares += other.squares + difference * difference * count * other.count / total;
    count = total;
  }
};

std::vector<Moments> moments(const Loops &loops, const at::Tensor &input) {
  const ImagePartition partition(input);
  const int64_t channels = partition.channels;
  std::vector<Moments> parts(partition.parts() * channels);
  partition.for_each_block([&] {
    return [&, read = Reader(loops, input), sums = std::vector<float>(partition.period)](int64_t part, int64_t start,
                                                                                         int64_t count) mutable {
      const double pixels = static_cast<double>(count / channels);
      std::fill(sums.begin(), sums.end(), 0.0f);
      partition.for_each_piece(
          start, count, [&](int64_t i, int64_t n) { loops.add_values(read(i, n), n, partition.period, sums.data()); });
      const std::vector<float> means =
          partition.per_value([&](int64_t c) { return static_cast<float>(partition.channel_sum(sums, c) / pixels); });
      std::fill(sums.begin(), sums.end(), 0.0f);
      partition.for_each_piece(start, count, [&](int64_t i, int64_t n) {
        loops.add_squares(read(i, n), n, partition.period, means.data(), sums.data());
      });
      for (int64_t c = 0; c < channels; ++c) {
        parts[part * channels + c].add({pixels, means[c], partition.channel_sum(sums, c)});
      }
    };
  });
  std::vector<Moments> result(channels);
  for (size_t i = 0; i < parts.size(); ++i) result[i % channels].add(parts[i]);
  return result;
}

// How a forward pass scales and shifts each channel.
struct Scaling {
  std::vector<float> mean, scale, shift;

  Scaling(const ImagePartition &partition, const float *means, const float *inverse_stds, const at::Tensor &weight,
          const at::Tensor &bias) {
    const float *w = weight.const_data_ptr<float>(), *b = bias.const_data_ptr<float>();
    mean = partition.per_value([&](int64_t c) { return means[c]; });
    scale = partition.per_value([&](int64_t c) { return w[c] * inverse_stds[c]; });
    shift = partition.per_value([&](int64_t c) { return b[c] - means[c] * (w[c] * inverse_stds[c]); });
  }
};

float floor_of(bool relu) { return relu ? 0 : -std::numeric_limits<float>::infinity(); }

// Normalises `input`. `shortcut` is added if it is defined.
at::Tensor scaled(const Loops &loops, const at::Tensor &input, const Scaling &scaling, const at::Tensor &shortcut,
                  bool relu) {
  const ImagePartition partition(input);
  const float *scale = scaling.scale.data(), *shift = scaling.shift.data(), floor = floor_of(relu);
  at::Tensor output = at::empty_like(input, at::MemoryFormat::ChannelsLast);
  partition.for_each_block([&] {
    return [&, read = Reader(loops, input), read_shortcut = Reader(loops, shortcut.defined() ? shortcut : input),
            write = Writer(loops, output)](int64_t, int64_t start, int64_t count) mutable {
      partition.for_each_piece(start, count, [&](int64_t i, int64_t n) {
        if (shortcut.defined()) {
          loops.normalize_and_add(read(i, n), read_shortcut(i, n), n, partition.period, scale, shift, floor,
                                  write.begin(i, n));
        } else {
          loops.normalize(read(i, n), n, partition.period, scale, shift, floor, write.begin(i, n));
        }
        write.finish(i, n);
      });
    };
  });
  return output;
}

struct BatchNormFunction : torch::autograd::Function<BatchNormFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext *context, int64_t vectors, const at::Tensor &input,
                            const at::Tensor &weight, const at::Tensor &bias, const at::Tensor &running_mean,
                            const at::Tensor &running_var, const std::optional<at::Tensor> &given_shortcut,
                            double momentum, double epsilon, bool relu) {
    const Loops &loops = loops_for(vectors);
    const ImagePartition partition(input);
    const at::Tensor shortcut = given_shortcut.value_or(at::Tensor());
    at::Tensor mean = at::empty({partition.channels}, at::kFloat), inverse_std = at::empty_like(mean);
    float *means = mean.data_ptr<float>(), *inverse_stds = inverse_std.data_ptr<float>();
    float *running_means = running_mean.data_ptr<float>(), *running_vars = running_var.data_ptr<float>();
    const std::vector<Moments> found = moments(loops, input);
    for (int64_t c = 0; c < partition.channels; ++c) {
      const Moments &channel = found[c];
      means[c] = static_cast<float>(channel.mean);
      inverse_stds[c] = static_cast<float>(1 / std::sqrt(channel.squares / channel.count + epsilon));
      const double unbiased = channel.squares / (channel.count - 1);
      running_means[c] += static_cast<float>(momentum * (channel.mean - running_means[c]));
      running_vars[c] += static_cast<float>(momentum * (unbiased - running_vars[c]));
    }
    context->saved_data["vectors"] = vectors;
    context->saved_data["relu"] = relu;
    at::Tensor output = scaled(loops, input, Scaling(partition, means, inverse_stds, weight, bias), shortcut, relu);
    // Where the ReLU passes values on is computed from the input again; with a shortcut, from the output.
    context->save_for_backward({input, weight, bias, mean, inverse_std, shortcut.defined() ? output : at::Tensor()});
    return output;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *context,
                                                 torch::autograd::variable_list deltas) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &input = saved[0], &output = saved[5];
    const Loops &loops = loops_for(context->saved_data["vectors"].toInt());
    bool relu = context->saved_data["relu"].toBool();
    at::Tensor delta = deltas[0].contiguous(at::MemoryFormat::ChannelsLast), grad_shortcut;
    if (output.defined()) {
      grad_shortcut = delta = relu ? at::threshold_backward(delta, output, 0) : delta;
      relu = false;
    }
    const float floor = floor_of(relu);
    const float *means = saved[3].const_data_ptr<float>(), *inverse_stds = saved[4].const_data_ptr<float>();
    const ImagePartition partition(input);
    const int64_t channels = partition.channels, period = partition.period;
    const Scaling scaling(partition, means, inverse_stds, saved[1], saved[2]);
    const float *mean = scaling.mean.data(), *scale = scaling.scale.data(), *shift = scaling.shift.data();

    // Two sums for each part and channel.
    std::vector<std::array<double, 2>> parts(partition.parts() * channels);
    partition.for_each_block([&] {
      return [&, read = Reader(loops, input), read_delta = Reader(loops, delta), sums = std::vector<float>(period),
              products = std::vector<float>(period)](int64_t part, int64_t start, int64_t count) mutable {
        std::fill(sums.begin(), sums.end(), 0.0f);
        std::fill(products.begin(), products.end(), 0.0f);
        partition.for_each_piece(start, count, [&](int64_t i, int64_t n) {
          loops.add_deltas(read(i, n), read_delta(i, n), n, period, mean, scale, shift, floor, sums.data(),
                           products.data());
        });
        for (int64_t c = 0; c < channels; ++c) {
          parts[part * channels + c][0] += partition.channel_sum(sums, c);
          parts[part * channels + c][1] += partition.channel_sum(products, c);
        }
      };
    });
    std::vector<std::array<double, 2>> total(channels);
    for (size_t i = 0; i < parts.size(); ++i) {
      for (int which : {0, 1}) total[i % channels][which] += parts[i][which];
    }

    at::Tensor grad_weight = at::empty_like(saved[1]), grad_bias = at::empty_like(saved[2]);
    for (int64_t c = 0; c < channels; ++c) {
      grad_bias.data_ptr<float>()[c] = static_cast<float>(total[c][0]);
      grad_weight.data_ptr<float>()[c] = static_cast<float>(total[c][1] * inverse_stds[c]);
    }
    const double pixels = static_cast<double>(partition.pixels);
    const auto offset = partition.per_value([&](int64_t c) { return static_cast<float>(total[c][0] / pixels); });
    const auto slope = partition.per_value(
        [&](int64_t c) { return static_cast<float>(total[c][1] / pixels * inverse_stds[c] * inverse_stds[c]); });
    at::Tensor grad_input = at::empty_like(input, at::MemoryFormat::ChannelsLast);
    partition.for_each_block([&] {
      return [&, read = Reader(loops, input), read_delta = Reader(loops, delta), write = Writer(loops, grad_input)](
                 int64_t, int64_t start, int64_t count) mutable {
        partition.for_each_piece(start, count, [&](int64_t i, int64_t n) {
          loops.backward_input(read(i, n), read_delta(i, n), n, period, mean, scale, shift, floor, offset.data(),
                               slope.data(), write.begin(i, n));
          write.finish(i, n);
        });
      };
    });
    return {{}, grad_input, grad_weight, grad_bias, {}, {}, grad_shortcut, {}, {}, {}};
  }
};

// Whether the code here takes such an input.
bool is_supported(const at::Tensor &input) {
  return input.is_cpu() && input.dim() == 4 && input.numel() > 0 &&
         (input.scalar_type() == at::kFloat || input.scalar_type() == at::kBFloat16) &&
         input.is_contiguous(at::MemoryFormat::ChannelsLast);
}

}  // namespace

// BatchNorm by the loops for `vectors`, plus `shortcut` unless that is NULL, followed by a ReLU if `relu`: a new
// tensor; NULL where the code here does not take such an input. Training uses the mini-batch's statistics and moves the
// running ones; otherwise the running ones are used.
extern "C" char *biv_cpu_batch_norm(int vectors, const at::Tensor *input, const at::Tensor *weight,
                                    const at::Tensor *bias, const at::Tensor *running_mean,
                                    const at::Tensor *running_var, const at::Tensor *shortcut, bool training,
                                    double momentum, double epsilon, bool relu, at::Tensor **result) {
  return guarded([&] {
    *result = nullptr;
    if (!is_supported(*input)) return;
    at::Tensor output, addend;
    if (shortcut) addend = shortcut->to(input->scalar_type()).contiguous(at::MemoryFormat::ChannelsLast);
    if (training) {
      output = BatchNormFunction::apply(vectors, *input, *weight, *bias, *running_mean, *running_var,
                                        std::optional(addend), momentum, epsilon, relu);
    } else {
      const at::Tensor inverse_std = (*running_var + epsilon).rsqrt();
      output = scaled(loops_for(vectors), *input,
                      Scaling(ImagePartition(*input), running_mean->const_data_ptr<float>(),
                              inverse_std.const_data_ptr<float>(), *weight, *bias),
                      addend, relu);
    }
    *result = new at::Tensor(std::move(output));
  });
}
