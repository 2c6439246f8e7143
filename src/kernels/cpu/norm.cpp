// BatchNorm of images in the channels-last format on the CPU, with what follows it in the same pass: a ReLU, or the
// shortcut of a residual block and then a ReLU. libtorch goes from pixel to pixel, whose channels may fill no vector,
// and on its way back threads add up in each other's cache lines.
//
// Here a vector goes on over the end of a pixel: all lanes are in use for any number of channels. How the sums are
// divided does not depend on the number of threads, and so neither does a bit of the result.
//
// The derivatives are those of Ioffe and Szegedy 2015, section 3.

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/batch_norm.h>
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
#include "parallel.hpp"

// Compiled for several instruction sets, of which the processor's best is taken.
#ifdef __x86_64__
#define BIV_WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define BIV_WIDE
#endif

namespace {

// Values that fill vectors of any instruction set.
constexpr int64_t kVectors = 16;
// Groups that are summed in single precision.
constexpr int64_t kGroups = 64;
// Values that are copied to single precision at once: they stay in a core's nearest cache.
constexpr int64_t kPiece = 2048;
// Parts that threads take.
constexpr int64_t kParts = 64;

// The loops. Each goes through `count` values in groups of `period`, the last of which may be shorter; what depends on
// the channel is a list for one group.

BIV_WIDE void add_values(const float *__restrict x, int64_t count, int64_t period, float *__restrict sums) {
  for (int64_t i = 0; i < count; i += period) {
    const int64_t n = std::min(period, count - i);
    for (int64_t j = 0; j < n; ++j) sums[j] += x[i + j];
  }
}

BIV_WIDE void add_squares(const float *__restrict x, int64_t count, int64_t period, const float *__restrict means,
                          float *__restrict sums) {
  for (int64_t i = 0; i < count; i += period) {
    const int64_t n = std::min(period, count - i);
    for (int64_t j = 0; j < n; ++j) sums[j] += (x[i + j] - means[j]) * (x[i + j] - means[j]);
  }
}

// `max(scale x + shift, floor)`. NaN stays NaN.
BIV_WIDE void normalize(const float *__restrict x, int64_t count, int64_t period, const float *__restrict scale,
                        const float *__restrict shift, float floor, float *__restrict y) {
  for (int64_t i = 0; i < count; i += period) {
    const int64_t n = std::min(period, count - i);
    for (int64_t j = 0; j < n; ++j) {
      const float z = x[i + j] * scale[j] + shift[j];
      y[i + j] = z < floor ? floor : z;
    }
  }
}

// `max(scale x + shift + shortcut, floor)`.
BIV_WIDE void normalize_and_add(const float *__restrict x, const float *__restrict shortcut, int64_t count,
                                int64_t period, const float *__restrict scale, const float *__restrict shift,
                                float floor, float *__restrict y) {
  for (int64_t i = 0; i < count; i += period) {
    const int64_t n = std::min(period, count - i);
    for (int64_t j = 0; j < n; ++j) {
      const float z = x[i + j] * scale[j] + shift[j] + shortcut[i + j];
      y[i + j] = z < floor ? floor : z;
    }
  }
}

// The sums of the derivatives by what was normalised, and of those times `x - mean`.
BIV_WIDE void add_deltas(const float *__restrict x, const float *__restrict delta, int64_t count, int64_t period,
                         const float *__restrict mean, const float *__restrict scale, const float *__restrict shift,
                         float floor, float *__restrict sums, float *__restrict products) {
  for (int64_t i = 0; i < count; i += period) {
    const int64_t n = std::min(period, count - i);
    for (int64_t j = 0; j < n; ++j) {
      const float given = delta[i + j], d = x[i + j] * scale[j] + shift[j] <= floor ? 0 : given;
      sums[j] += d;
      products[j] += d * (x[i + j] - mean[j]);
    }
  }
}

BIV_WIDE void go_back(const float *__restrict x, const float *__restrict delta, int64_t count, int64_t period,
                      const float *__restrict mean, const float *__restrict scale, const float *__restrict shift,
                      float floor, const float *__restrict offset, const float *__restrict slope,
                      float *__restrict result) {
  for (int64_t i = 0; i < count; i += period) {
    const int64_t n = std::min(period, count - i);
    for (int64_t j = 0; j < n; ++j) {
      const float given = delta[i + j], d = x[i + j] * scale[j] + shift[j] <= floor ? 0 : given;
      result[i + j] = scale[j] * (d - offset[j] - (x[i + j] - mean[j]) * slope[j]);
    }
  }
}

BIV_WIDE void widen(const uint16_t *__restrict from, int64_t count, float *__restrict to) {
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = static_cast<uint32_t>(from[i]) << 16;
    std::memcpy(&to[i], &bits, sizeof bits);
  }
}

// To the nearest bfloat16, to an even one between two.
BIV_WIDE void narrow(const float *__restrict from, int64_t count, uint16_t *__restrict to) {
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, &from[i], sizeof bits);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    to[i] = static_cast<uint16_t>(from[i] == from[i] ? rounded : 0x7fc0);
  }
}

// A part of a tensor's values in single precision: where they are, or copied.
class Reader {
 public:
  explicit Reader(const at::Tensor &tensor) : bytes_(static_cast<const char *>(tensor.const_data_ptr())) {
    is_float_ = tensor.scalar_type() == at::kFloat;
  }
  const float *operator()(int64_t start, int64_t count) {
    if (is_float_) return reinterpret_cast<const float *>(bytes_) + start;
    copy_.resize(std::max<size_t>(copy_.size(), count));
    widen(reinterpret_cast<const uint16_t *>(bytes_) + start, count, copy_.data());
    return copy_.data();
  }

 private:
  const char *bytes_;
  bool is_float_;
  std::vector<float> copy_;
};

// The opposite.
class Writer {
 public:
  explicit Writer(const at::Tensor &tensor) : bytes_(static_cast<char *>(tensor.data_ptr())) {
    is_float_ = tensor.scalar_type() == at::kFloat;
  }
  // Where to write the `count` values from `start` on, until `finish`.
  float *begin(int64_t start, int64_t count) {
    if (is_float_) return reinterpret_cast<float *>(bytes_) + start;
    copy_.resize(std::max<size_t>(copy_.size(), count));
    return copy_.data();
  }
  void finish(int64_t start, int64_t count) {
    if (!is_float_) narrow(copy_.data(), count, reinterpret_cast<uint16_t *>(bytes_) + start);
  }

 private:
  char *bytes_;
  bool is_float_;
  std::vector<float> copy_;
};

// How a tensor of images is gone through.
struct Division {
  int64_t channels, values, pixels;
  // Values of the fewest pixels that fill vectors.
  int64_t period;
  // Values that are summed in single precision, a whole number of periods.
  int64_t block;

  explicit Division(const at::Tensor &images)
      : channels(images.size(1)), values(images.numel()), pixels(values / channels) {
    period = std::lcm(channels, kVectors);
    block = kGroups * period;
  }

  int64_t blocks() const { return (values + block - 1) / block; }
  int64_t parts() const { return std::min(blocks(), kParts); }

  // `work(part, start, count)` for each block of each part, the parts shared by threads.
  template <class MakeWork>
  void each(MakeWork make_work) const {
    share(parts(), [&](int64_t begin, int64_t end) {
      auto work = make_work();
      for (int64_t part = begin; part < end; ++part) {
        for (int64_t i = blocks() * part / parts(); i < blocks() * (part + 1) / parts(); ++i) {
          work(part, i * block, std::min(block, values - i * block));
        }
      }
    });
  }

  // `work(start, count)` for each piece of some values: whole groups, but for the last.
  template <class Work>
  void pieces(int64_t start, int64_t count, Work work) const {
    const int64_t size = std::max(kPiece / period, int64_t{1}) * period;
    for (int64_t i = 0; i < count; i += size) work(start + i, std::min(size, count - i));
  }

  // A channel's sum from those of a group's values.
  double folded(const std::vector<float> &sums, int64_t channel) const {
    double sum = 0;
    for (int64_t j = channel; j < period; j += channels) sum += sums[j];
    return sum;
  }

  // A list for one group of what `value(channel)` is.
  template <class Value>
  std::vector<float> spread(Value value) const {
    std::vector<float> list(period);
    for (int64_t j = 0; j < period; ++j) list[j] = j < channels ? value(j) : list[j - channels];
    return list;
  }
};

// A channel's mean and sum of squared deviations.
struct Moments {
  double count = 0, mean = 0, squares = 0;

  // Of both parts together (Chan, Golub, LeVeque 1983).
  void add(const Moments &other) {
    if (other.count == 0) return;
    const double difference = other.mean - mean, total = count + other.count;
    mean += difference * other.count / total;
    squares += other.squares + difference * difference * count * other.count / total;
    count = total;
  }
};

std::vector<Moments> moments(const at::Tensor &input) {
  const Division division(input);
  const int64_t channels = division.channels;
  std::vector<Moments> parts(division.parts() * channels);
  division.each([&] {
    return [&, read = Reader(input), sums = std::vector<float>(division.period)](int64_t part, int64_t start,
                                                                                 int64_t count) mutable {
      const double pixels = static_cast<double>(count / channels);
      std::fill(sums.begin(), sums.end(), 0.0f);
      division.pieces(start, count,
                      [&](int64_t i, int64_t n) { add_values(read(i, n), n, division.period, sums.data()); });
      const std::vector<float> means =
          division.spread([&](int64_t c) { return static_cast<float>(division.folded(sums, c) / pixels); });
      std::fill(sums.begin(), sums.end(), 0.0f);
      division.pieces(start, count, [&](int64_t i, int64_t n) {
        add_squares(read(i, n), n, division.period, means.data(), sums.data());
      });
      for (int64_t c = 0; c < channels; ++c) {
        parts[part * channels + c].add({pixels, means[c], division.folded(sums, c)});
      }
    };
  });
  std::vector<Moments> result(channels);
  for (size_t i = 0; i < parts.size(); ++i) result[i % channels].add(parts[i]);
  return result;
}

// What a pass forward does to each channel.
struct Scaling {
  std::vector<float> mean, scale, shift;

  Scaling(const Division &division, const float *means, const float *inverse_stds, const at::Tensor &weight,
          const at::Tensor &bias) {
    const float *w = weight.const_data_ptr<float>(), *b = bias.const_data_ptr<float>();
    mean = division.spread([&](int64_t c) { return means[c]; });
    scale = division.spread([&](int64_t c) { return w[c] * inverse_stds[c]; });
    shift = division.spread([&](int64_t c) { return b[c] - means[c] * (w[c] * inverse_stds[c]); });
  }
};

float floor_of(bool relu) { return relu ? 0 : -std::numeric_limits<float>::infinity(); }

// `shortcut` is added if it is defined.
at::Tensor scaled(const at::Tensor &input, const Scaling &scaling, const at::Tensor &shortcut, bool relu) {
  const Division division(input);
  const float *scale = scaling.scale.data(), *shift = scaling.shift.data(), floor = floor_of(relu);
  at::Tensor output = at::empty_like(input, at::MemoryFormat::ChannelsLast);
  division.each([&] {
    return [&, read = Reader(input), read_shortcut = Reader(shortcut.defined() ? shortcut : input),
            write = Writer(output)](int64_t, int64_t start, int64_t count) mutable {
      division.pieces(start, count, [&](int64_t i, int64_t n) {
        if (shortcut.defined()) {
          normalize_and_add(read(i, n), read_shortcut(i, n), n, division.period, scale, shift, floor,
                            write.begin(i, n));
        } else {
          normalize(read(i, n), n, division.period, scale, shift, floor, write.begin(i, n));
        }
        write.finish(i, n);
      });
    };
  });
  return output;
}

struct BatchNorm : torch::autograd::Function<BatchNorm> {
  static at::Tensor forward(torch::autograd::AutogradContext *context, const at::Tensor &input,
                            const at::Tensor &weight, const at::Tensor &bias, const at::Tensor &running_mean,
                            const at::Tensor &running_var, const std::optional<at::Tensor> &given_shortcut,
                            double momentum, double epsilon, bool relu) {
    const Division division(input);
    const at::Tensor shortcut = given_shortcut.value_or(at::Tensor());
    at::Tensor mean = at::empty({division.channels}, at::kFloat), inverse_std = at::empty_like(mean);
    float *means = mean.data_ptr<float>(), *inverse_stds = inverse_std.data_ptr<float>();
    float *running_means = running_mean.data_ptr<float>(), *running_vars = running_var.data_ptr<float>();
    const std::vector<Moments> found = moments(input);
    for (int64_t c = 0; c < division.channels; ++c) {
      const Moments &channel = found[c];
      means[c] = static_cast<float>(channel.mean);
      inverse_stds[c] = static_cast<float>(1 / std::sqrt(channel.squares / channel.count + epsilon));
      const double unbiased = channel.squares / (channel.count - 1);
      running_means[c] += static_cast<float>(momentum * (channel.mean - running_means[c]));
      running_vars[c] += static_cast<float>(momentum * (unbiased - running_vars[c]));
    }
    context->saved_data["relu"] = relu;
    at::Tensor output = scaled(input, Scaling(division, means, inverse_stds, weight, bias), shortcut, relu);
    // Where the ReLU lets through is seen in the input, but for a shortcut.
    context->save_for_backward({input, weight, bias, mean, inverse_std, shortcut.defined() ? output : at::Tensor()});
    return output;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *context,
                                                 torch::autograd::variable_list deltas) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &input = saved[0], &output = saved[5];
    bool relu = context->saved_data["relu"].toBool();
    at::Tensor delta = deltas[0].contiguous(at::MemoryFormat::ChannelsLast), by_shortcut;
    if (output.defined()) {
      by_shortcut = delta = relu ? at::threshold_backward(delta, output, 0) : delta;
      relu = false;
    }
    const float floor = floor_of(relu);
    const float *means = saved[3].const_data_ptr<float>(), *inverse_stds = saved[4].const_data_ptr<float>();
    const Division division(input);
    const int64_t channels = division.channels, period = division.period;
    const Scaling scaling(division, means, inverse_stds, saved[1], saved[2]);
    const float *mean = scaling.mean.data(), *scale = scaling.scale.data(), *shift = scaling.shift.data();

    // For each part and channel.
    std::vector<std::array<double, 2>> parts(division.parts() * channels);
    division.each([&] {
      return [&, read = Reader(input), read_delta = Reader(delta), sums = std::vector<float>(period),
              products = std::vector<float>(period)](int64_t part, int64_t start, int64_t count) mutable {
        std::fill(sums.begin(), sums.end(), 0.0f);
        std::fill(products.begin(), products.end(), 0.0f);
        division.pieces(start, count, [&](int64_t i, int64_t n) {
          add_deltas(read(i, n), read_delta(i, n), n, period, mean, scale, shift, floor, sums.data(), products.data());
        });
        for (int64_t c = 0; c < channels; ++c) {
          parts[part * channels + c][0] += division.folded(sums, c);
          parts[part * channels + c][1] += division.folded(products, c);
        }
      };
    });
    std::vector<std::array<double, 2>> total(channels);
    for (size_t i = 0; i < parts.size(); ++i) {
      for (int which : {0, 1}) total[i % channels][which] += parts[i][which];
    }

    at::Tensor by_weight = at::empty_like(saved[1]), by_bias = at::empty_like(saved[2]);
    for (int64_t c = 0; c < channels; ++c) {
      by_bias.data_ptr<float>()[c] = static_cast<float>(total[c][0]);
      by_weight.data_ptr<float>()[c] = static_cast<float>(total[c][1] * inverse_stds[c]);
    }
    const double pixels = static_cast<double>(division.pixels);
    const auto offset = division.spread([&](int64_t c) { return static_cast<float>(total[c][0] / pixels); });
    const auto slope = division.spread(
        [&](int64_t c) { return static_cast<float>(total[c][1] / pixels * inverse_stds[c] * inverse_stds[c]); });
    at::Tensor by_input = at::empty_like(input, at::MemoryFormat::ChannelsLast);
    division.each([&] {
      return [&, read = Reader(input), read_delta = Reader(delta), write = Writer(by_input)](int64_t, int64_t start,
                                                                                             int64_t count) mutable {
        division.pieces(start, count, [&](int64_t i, int64_t n) {
          go_back(read(i, n), read_delta(i, n), n, period, mean, scale, shift, floor, offset.data(), slope.data(),
                  write.begin(i, n));
          write.finish(i, n);
        });
      };
    });
    return {by_input, by_weight, by_bias, {}, {}, by_shortcut, {}, {}, {}};
  }
};

// Whether it is for the code here.
bool is_ours(const at::Tensor &input) {
  return input.is_cpu() && input.dim() == 4 && input.numel() > 0 &&
         (input.scalar_type() == at::kFloat || input.scalar_type() == at::kBFloat16) &&
         input.is_contiguous(at::MemoryFormat::ChannelsLast);
}

}  // namespace

// BatchNorm, plus `shortcut` unless that is NULL, followed by a ReLU if `relu`: a new tensor. In training it moves the
// running statistics, else it takes them.
extern "C" char *biv_cpu_batch_norm(const at::Tensor *input, const at::Tensor *weight, const at::Tensor *bias,
                                     const at::Tensor *running_mean, const at::Tensor *running_var,
                                     const at::Tensor *shortcut, bool training, double momentum, double epsilon,
                                     bool relu, at::Tensor **result) {
  return guarded([&] {
    at::Tensor output, addend;
    if (shortcut) addend = shortcut->to(input->scalar_type());
    const bool ours = is_ours(*input);
    if (shortcut && ours) addend = addend.contiguous(at::MemoryFormat::ChannelsLast);
    if (!ours) {
      output = at::batch_norm(*input, *weight, *bias, *running_mean, *running_var, training, momentum, epsilon,
                              /*cudnn_enabled=*/false);
      if (shortcut) output.add_(addend);
      if (relu) output.relu_();
    } else if (training) {
      output = BatchNorm::apply(*input, *weight, *bias, *running_mean, *running_var, std::optional(addend), momentum,
                                epsilon, relu);
    } else {
      const at::Tensor inverse_std = (*running_var + epsilon).rsqrt();
      output = scaled(*input,
                      Scaling(Division(*input), running_mean->const_data_ptr<float>(),
                              inverse_std.const_data_ptr<float>(), *weight, *bias),
                      addend, relu);
    }
    *result = new at::Tensor(std::move(output));
  });
}
