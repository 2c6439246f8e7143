// Convolutions of 3 x 3 with stride 1 for images in the channels-last format on the CPU, by Winograd's minimal
// filtering (Winograd 1980; Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", F(4 x 4, 3 x 3)):
// a tile of 4 x 4 pixels of the output needs 36 multiplications for each pair of channels instead of 144.
//
//   Y = A^T [(G g G^T) * (B^T d B)] A
//
// for a filter g and the 6 x 6 pixels d of the input around the tile, * being elementwise: summed over the channels, a
// product of matrices for each of the 36 points. Its derivatives are those of its linear maps, and go the same way.
//
// What is summed and in which order does not depend on the number of threads, and so neither does a bit of the result.

#include <ATen/core/Tensor.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "guarded.hpp"
#include "share.hpp"

#ifdef __x86_64__
#include <immintrin.h>

namespace {

#define BIV_AVX512 __attribute__((target("avx512f")))
#define BIV_INLINE __attribute__((target("avx512f"), always_inline)) inline

// Values of 16 channels.
using Lanes = __m512;
constexpr int64_t kLanes = 16;
// A panel is this wide: two vectors.
constexpr int64_t kPanel = 2 * kLanes;
// Pixels of the output in a row of a tile, of the filter, and of the input that they take.
constexpr int kTile = 4, kFilter = 3, kInput = 6;
constexpr int kPoints = kInput * kInput, kTaps = kFilter * kFilter;
// Rows of a product whose sums are in registers at once.
constexpr int kRows = 14;
// Fewer take longer than a direct convolution.
constexpr int64_t kFewestTiles = 4;
// Values of a mini-batch's tiles that are worked on at once: they stay in the processor's cache.
constexpr int64_t kChunk = 1 << 20;

BIV_INLINE Lanes load(const float *from) { return _mm512_loadu_ps(from); }
BIV_INLINE void store(float *to, Lanes value) { _mm512_storeu_ps(to, value); }
BIV_INLINE Lanes times(float factor, Lanes value) { return _mm512_mul_ps(_mm512_set1_ps(factor), value); }
// factor a + b
BIV_INLINE Lanes times_plus(float factor, Lanes a, Lanes b) { return _mm512_fmadd_ps(_mm512_set1_ps(factor), a, b); }

// The maps in one dimension.

struct InputMap {  // B^T
  static constexpr int kFrom = kInput, kTo = kInput;
  BIV_INLINE static void apply(const Lanes (&d)[kFrom], Lanes (&v)[kTo]) {
    const Lanes even = times_plus(-4, d[2], d[4]), odd = times_plus(-4, d[1], d[3]);
    const Lanes small = d[4] - d[2], step = times(2, d[3] - d[1]);
    v[0] = times_plus(4, d[0] - d[2], small);
    v[1] = even + odd;
    v[2] = even - odd;
    v[3] = small + step;
    v[4] = small - step;
    v[5] = times_plus(4, d[1] - d[3], d[5] - d[3]);
  }
};

struct OutputMap {  // A^T
  static constexpr int kFrom = kInput, kTo = kTile;
  BIV_INLINE static void apply(const Lanes (&m)[kFrom], Lanes (&y)[kTo]) {
    const Lanes sum1 = m[1] + m[2], sum2 = m[3] + m[4], difference1 = m[1] - m[2], difference2 = m[3] - m[4];
    y[0] = m[0] + sum1 + sum2;
    y[1] = times_plus(2, difference2, difference1);
    y[2] = times_plus(4, sum2, sum1);
    y[3] = times_plus(8, difference2, difference1) + m[5];
  }
};

struct DeltaMap {  // A
  static constexpr int kFrom = kTile, kTo = kInput;
  BIV_INLINE static void apply(const Lanes (&y)[kFrom], Lanes (&m)[kTo]) {
    const Lanes even1 = y[0] + y[2], odd1 = y[1] + y[3];
    const Lanes even2 = times_plus(4, y[2], y[0]), odd2 = times_plus(8, y[3], times(2, y[1]));
    m[0] = y[0];
    m[1] = even1 + odd1;
    m[2] = even1 - odd1;
    m[3] = even2 + odd2;
    m[4] = even2 - odd2;
    m[5] = y[3];
  }
};

struct FilterMap {  // G
  static constexpr int kFrom = kFilter, kTo = kInput;
  BIV_INLINE static void apply(const Lanes (&g)[kFrom], Lanes (&u)[kTo]) {
    const Lanes even1 = times(-1.0f / 6, g[0] + g[2]), odd1 = times(1.0f / 6, g[1]);
    const Lanes even2 = times_plus(1.0f / 24, g[0], times(1.0f / 6, g[2])), odd2 = times(1.0f / 12, g[1]);
    u[0] = times(0.25f, g[0]);
    u[1] = even1 - odd1;
    u[2] = even1 + odd1;
    u[3] = even2 + odd2;
    u[4] = even2 - odd2;
    u[5] = g[2];
  }
};

struct GradientMap {  // G^T
  static constexpr int kFrom = kInput, kTo = kFilter;
  BIV_INLINE static void apply(const Lanes (&u)[kFrom], Lanes (&g)[kTo]) {
    const Lanes sum1 = times(-1.0f / 6, u[1] + u[2]), sum2 = u[3] + u[4];
    g[0] = times_plus(0.25f, u[0], times_plus(1.0f / 24, sum2, sum1));
    g[1] = times_plus(1.0f / 6, u[2] - u[1], times(1.0f / 12, u[3] - u[4]));
    g[2] = times_plus(1.0f / 6, sum2, sum1) + u[5];
  }
};

// The map of both dimensions.
template <class Map>
BIV_INLINE void map(const Lanes (&from)[Map::kFrom][Map::kFrom], Lanes (&to)[Map::kTo][Map::kTo]) {
  Lanes between[Map::kTo][Map::kFrom];
#pragma GCC unroll 6
  for (int j = 0; j < Map::kFrom; ++j) {
    Lanes column[Map::kFrom], result[Map::kTo];
#pragma GCC unroll 6
    for (int i = 0; i < Map::kFrom; ++i) column[i] = from[i][j];
    Map::apply(column, result);
#pragma GCC unroll 6
    for (int i = 0; i < Map::kTo; ++i) between[i][j] = result[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < Map::kTo; ++i) Map::apply(between[i], to[i]);
}

// `rows` (ROWS at most) x 32 sums over `depth`: c = a b, plus what c was if `add`. Element (i, d) of a is at `i * row +
// d * step`; the rows of b and c are 32 wide.
template <int ROWS>
BIV_AVX512 void multiply_rows(const float *a, int64_t row, int64_t step, const float *b, int64_t depth, bool add,
                              float *c) {
  Lanes left[ROWS], right[ROWS];
#pragma GCC unroll 14
  for (int i = 0; i < ROWS; ++i) {
    left[i] = add ? load(c + i * kPanel) : _mm512_setzero_ps();
    right[i] = add ? load(c + i * kPanel + kLanes) : _mm512_setzero_ps();
  }
  for (int64_t d = 0; d < depth; ++d, a += step, b += kPanel) {
    const Lanes b_left = load(b), b_right = load(b + kLanes);
#pragma GCC unroll 14
    for (int i = 0; i < ROWS; ++i) {
      const Lanes value = _mm512_set1_ps(a[i * row]);
      left[i] = _mm512_fmadd_ps(value, b_left, left[i]);
      right[i] = _mm512_fmadd_ps(value, b_right, right[i]);
    }
  }
#pragma GCC unroll 14
  for (int i = 0; i < ROWS; ++i) {
    store(c + i * kPanel, left[i]);
    store(c + i * kPanel + kLanes, right[i]);
  }
}

using Multiply = void (*)(const float *, int64_t, int64_t, const float *, int64_t, bool, float *);
template <int... ROWS>
constexpr std::array<Multiply, kRows> products(std::integer_sequence<int, ROWS...>) {
  return {multiply_rows<ROWS + 1>...};
}

void multiply(const float *a, int64_t row, int64_t step, const float *b, int64_t rows, int64_t depth, bool add,
              float *c) {
  static constexpr auto kProducts = products(std::make_integer_sequence<int, kRows>());
  for (int64_t i = 0; i < rows; i += kRows) {
    kProducts[std::min<int64_t>(rows - i, kRows) - 1](a + i * row, row, step, b, depth, add, c + i * kPanel);
  }
}

// The pixels of a tile, from the first channel on.
template <int SIZE>
using Pixels = float *[SIZE][SIZE];

// Images in the channels-last format, and their tiles.
struct Images {
  float *data;
  int64_t rows, height, width, channels;

  explicit Images(const at::Tensor &tensor)
      : data(const_cast<float *>(tensor.const_data_ptr<float>())),
        rows(tensor.size(0)),
        height(tensor.size(2)),
        width(tensor.size(3)),
        channels(tensor.size(1)) {}

  int64_t down() const { return (height + kTile - 1) / kTile; }
  int64_t across() const { return (width + kTile - 1) / kTile; }
  int64_t tiles() const { return rows * down() * across(); }
  int64_t panels() const { return channels / kPanel; }

  // The first channels of the SIZE x SIZE pixels that begin `margin` above and to the left of a tile; `beyond` for
  // those that are not in the image.
  template <int SIZE>
  void pixels(int64_t tile, int margin, float *beyond, Pixels<SIZE> &result) const {
    const int64_t image = tile / (down() * across());
    const int64_t top = tile / across() % down() * kTile - margin, left = tile % across() * kTile - margin;
    for (int i = 0; i < SIZE; ++i) {
      for (int j = 0; j < SIZE; ++j) {
        const int64_t y = top + i, x = left + j;
        const bool inside = y >= 0 && y < height && x >= 0 && x < width;
        result[i][j] = inside ? data + ((image * height + y) * width + x) * channels : beyond;
      }
    }
  }
};

// Where a tile's values at the points are: those of a channel `point` apart, those of one panel and the next `panel`.
struct Place {
  float *values;
  int64_t point, panel;

  float *lanes(int64_t channel) const { return values + channel / kPanel * panel + channel % kPanel; }
};

// The way from a tile's pixels to the points.
template <class Map>
BIV_AVX512 void map_pixels(const Pixels<Map::kFrom> &pixels, int64_t channels, const Place &to) {
  for (int64_t channel = 0; channel < channels; channel += kLanes) {
    Lanes from[Map::kFrom][Map::kFrom], values[Map::kTo][Map::kTo];
#pragma GCC unroll 6
    for (int i = 0; i < Map::kFrom; ++i) {
#pragma GCC unroll 6
      for (int j = 0; j < Map::kFrom; ++j) {
        const float *pixel = pixels[i][j] + channel;
        from[i][j] = load(pixel);
        // The next tile's.
        if (j >= Map::kFrom - kTile) __builtin_prefetch(pixel + kTile * channels);
      }
    }
    map<Map>(from, values);
    float *at = to.lanes(channel);
#pragma GCC unroll 6
    for (int i = 0; i < Map::kTo; ++i) {
#pragma GCC unroll 6
      for (int j = 0; j < Map::kTo; ++j) store(at + (i * Map::kTo + j) * to.point, values[i][j]);
    }
  }
}

// The way from the points to the pixels of the output, which get `bias`, too, if it is not NULL.
BIV_AVX512 void map_points(const Place &from, int64_t channels, const float *bias, const Pixels<kTile> &pixels) {
  for (int64_t channel = 0; channel < channels; channel += kLanes) {
    Lanes points[kInput][kInput], values[kTile][kTile];
    const float *at = from.lanes(channel);
#pragma GCC unroll 6
    for (int i = 0; i < kInput; ++i) {
#pragma GCC unroll 6
      for (int j = 0; j < kInput; ++j) points[i][j] = load(at + (i * kInput + j) * from.point);
    }
    map<OutputMap>(points, values);
    const Lanes addend = bias ? load(bias + channel) : _mm512_setzero_ps();
#pragma GCC unroll 4
    for (int i = 0; i < kTile; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kTile; ++j) {
        float *pixel = pixels[i][j] + channel;
        store(pixel, values[i][j] + addend);
        // The next tile's.
        __builtin_prefetch(pixel + kTile * channels, 1);
      }
    }
  }
}

// For each point and panel of outputs a matrix of 32 columns with a row for each input.
class Matrices {
 public:
  Matrices(int64_t inputs, int64_t outputs)
      : inputs_(inputs),
        outputs_(outputs),
        point_(inputs * outputs + kLanes),
        values_(at::empty({kPoints * point_}, at::kFloat)) {}

  int64_t outputs() const { return outputs_; }
  int64_t point() const { return point_; }
  float *panel(int64_t point, int64_t panel) const {
    return values_.data_ptr<float>() + point * point_ + panel * inputs_ * kPanel;
  }

 private:
  int64_t inputs_, outputs_;
  // From one point to the next: no power of two, whose values would be in the way of each other in the cache.
  int64_t point_;
  at::Tensor values_;
};

// The way from the filters of one input and 16 outputs to the points.
BIV_AVX512 void map_filters(const float *from, int64_t output, int64_t tap, float *to, int64_t point) {
  float values[kFilter][kFilter][kLanes];
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    for (int t = 0; t < kTaps; ++t) values[t / kFilter][t % kFilter][lane] = from[lane * output + t * tap];
  }
  Lanes taps[kFilter][kFilter], points[kInput][kInput];
  for (int t = 0; t < kTaps; ++t) taps[t / kFilter][t % kFilter] = load(values[t / kFilter][t % kFilter]);
  map<FilterMap>(taps, points);
  // Past the caches: large networks have more of them than there is room.
  for (int p = 0; p < kPoints; ++p) _mm512_stream_ps(to + p * point, points[p / kInput][p % kInput]);
}

// The filters at the points: those that take a convolution's input to its output; with `back` those that take a
// derivative by its output to that by its input, which is the convolution with all filters turned by 180 degrees.
Matrices filters_at_points(const at::Tensor &weight, bool back) {
  const int64_t inputs = weight.size(back ? 0 : 1), outputs = weight.size(back ? 1 : 0);
  const Matrices filters(inputs, outputs);
  const float *from = weight.const_data_ptr<float>() + (back ? kTaps - 1 : 0);
  const int64_t tap = back ? -1 : 1, pair = kTaps * weight.size(1);
  const int64_t input = back ? pair : kTaps, output = back ? kTaps : pair;
  share(inputs * outputs / kLanes, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      const int64_t lanes = at / inputs, i = at % inputs;
      map_filters(from + lanes * kLanes * output + i * input, output, tap,
                  filters.panel(0, lanes / 2) + i * kPanel + lanes % 2 * kLanes, filters.point());
    }
    _mm_sfence();
  });
  return filters;
}

// The tiles of a mini-batch in runs, and memory for what is at the points of one.
class Chunks {
 public:
  Chunks(int64_t tiles, int64_t inputs, int64_t outputs) : tiles_(tiles), outputs_(outputs) {
    const int64_t most = std::max(kChunk / (kPoints * (inputs + outputs)), int64_t{8 * kRows});
    const int64_t count = (tiles + most - 1) / most;
    size_ = ((tiles + count - 1) / count + kRows - 1) / kRows * kRows;
    // A row's width is no power of two, whose rows would be in the way of each other in the cache.
    row_ = inputs + kLanes;
    left_ = at::empty({kPoints * size_ * row_}, at::kFloat);
    right_ = at::empty({kPoints * size_ * outputs}, at::kFloat);
  }

  // `work(start, size)` for each.
  template <class Work>
  void each(Work work) const {
    for (int64_t start = 0; start < tiles_; start += size_) work(start, std::min(size_, tiles_ - start));
  }

  int64_t row() const { return row_; }
  // A row for each tile, with a value for each input.
  float *inputs(int64_t point) const { return left_.data_ptr<float>() + point * size_ * row_; }
  // For each panel of outputs, a row of 32 for each tile.
  float *outputs(int64_t point, int64_t panel) const {
    return right_.data_ptr<float>() + (point * outputs_ + panel * kPanel) * size_;
  }
  Place input(int64_t tile) const { return {inputs(0) + tile * row_, size_ * row_, kPanel}; }
  Place output(int64_t tile) const { return {outputs(0, 0) + tile * kPanel, size_ * outputs_, size_ * kPanel}; }

 private:
  int64_t tiles_, outputs_, size_, row_;
  at::Tensor left_, right_;
};

// Back from the points to the filters of one input and 32 outputs.
BIV_AVX512 void map_gradients(const float *from, int64_t point, int64_t inputs, float *to) {
  for (int64_t half = 0; half < kPanel; half += kLanes) {
    Lanes points[kInput][kInput], taps[kFilter][kFilter];
    for (int p = 0; p < kPoints; ++p) points[p / kInput][p % kInput] = load(from + p * point + half);
    map<GradientMap>(points, taps);
    float values[kTaps][kLanes];
    for (int t = 0; t < kTaps; ++t) store(values[t], taps[t / kFilter][t % kFilter]);
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      for (int t = 0; t < kTaps; ++t) to[(half + lane) * inputs * kTaps + t] = values[t][lane];
    }
  }
}

// To the points: the tiles from `start` on, with `margin` around them, each to its `place(tile)`.
template <class Map, class MakePlace>
void take(const Images &images, int margin, int64_t start, int64_t size, MakePlace place) {
  share(size, [&](int64_t begin, int64_t end) {
    std::vector<float> zeros(images.channels);
    for (int64_t tile = begin; tile < end; ++tile) {
      Pixels<Map::kFrom> pixels;
      images.pixels(start + tile, margin, zeros.data(), pixels);
      map_pixels<Map>(pixels, images.channels, place(tile));
    }
  });
}

at::Tensor convolve(const at::Tensor &input, const Matrices &filters, const float *bias) {
  at::Tensor output = at::empty({input.size(0), filters.outputs(), input.size(2), input.size(3)}, input.options(),
                                at::MemoryFormat::ChannelsLast);
  const Images from(input), to(output);
  const int64_t panels = to.panels();
  const Chunks chunks(from.tiles(), from.channels, to.channels);
  chunks.each([&](int64_t start, int64_t size) {
    take<InputMap>(from, 1, start, size, [&](int64_t tile) { return chunks.input(tile); });
    share(kPoints * panels, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t point = i / panels, panel = i % panels;
        multiply(chunks.inputs(point), chunks.row(), 1, filters.panel(point, panel), size, from.channels, false,
                 chunks.outputs(point, panel));
      }
    });
    share(size, [&](int64_t begin, int64_t end) {
      std::vector<float> nowhere(to.channels);
      for (int64_t tile = begin; tile < end; ++tile) {
        Pixels<kTile> pixels;
        to.pixels(start + tile, 0, nowhere.data(), pixels);
        map_points(chunks.output(tile), to.channels, bias, pixels);
      }
    });
  });
  return output;
}

// The derivatives by the filters.
at::Tensor by_filters(const at::Tensor &input, const at::Tensor &delta) {
  const Images from(input), to(delta);
  const int64_t panels = to.panels();
  const Chunks chunks(from.tiles(), from.channels, to.channels);
  const Matrices sums(from.channels, to.channels);
  chunks.each([&](int64_t start, int64_t size) {
    take<InputMap>(from, 1, start, size, [&](int64_t tile) { return chunks.input(tile); });
    take<DeltaMap>(to, 0, start, size, [&](int64_t tile) { return chunks.output(tile); });
    share(kPoints * panels, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t point = i / panels, panel = i % panels;
        multiply(chunks.inputs(point), 1, chunks.row(), chunks.outputs(point, panel), from.channels, size, start > 0,
                 sums.panel(point, panel));
      }
    });
  });
  at::Tensor result = at::empty({to.channels, from.channels, kFilter, kFilter}, at::kFloat);
  float *gradients = result.data_ptr<float>();
  share(panels * from.channels, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t panel = i / from.channels, channel = i % from.channels;
      map_gradients(sums.panel(0, panel) + channel * kPanel, sums.point(), from.channels,
                    gradients + (panel * kPanel * from.channels + channel) * kTaps);
    }
  });
  return result;
}

struct Convolution : torch::autograd::Function<Convolution> {
  static at::Tensor forward(torch::autograd::AutogradContext *context, const at::Tensor &input,
                            const at::Tensor &weight, const std::optional<at::Tensor> &bias) {
    context->save_for_backward({input, weight});
    context->saved_data["bias"] = bias.has_value();
    return convolve(input, filters_at_points(weight, false), bias ? bias->const_data_ptr<float>() : nullptr);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *context,
                                                 torch::autograd::variable_list deltas) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &input = saved[0], &weight = saved[1];
    const at::Tensor delta = deltas[0].contiguous(at::MemoryFormat::ChannelsLast);
    at::Tensor by_input, by_bias;
    if (context->needs_input_grad(0)) by_input = convolve(delta, filters_at_points(weight, true), nullptr);
    if (context->saved_data["bias"].toBool()) by_bias = delta.sum({0, 2, 3});
    return {by_input, by_filters(input, delta), by_bias};
  }
};

// Whether it is for the code here: in single precision, and with so many tiles for each filter that those save more
// than it takes to bring the filters to the points, and cost less where they reach beyond the image.
bool is_ours(const at::Tensor &input, const at::Tensor &weight, int64_t stride, int64_t padding) {
  const auto is_float = [](const at::Tensor &tensor) { return tensor.is_cpu() && tensor.scalar_type() == at::kFloat; };
  if (!__builtin_cpu_supports("avx512f") || !is_float(input) || !is_float(weight) || !weight.is_contiguous() ||
      input.dim() != 4 || input.numel() == 0 || !input.is_contiguous(at::MemoryFormat::ChannelsLast)) {
    return false;
  }
  const Images images(input);
  return weight.size(2) == kFilter && weight.size(3) == kFilter && stride == 1 && padding == 1 &&
         weight.size(0) % kPanel == 0 && weight.size(1) % kPanel == 0 && images.tiles() >= kFewestTiles &&
         images.down() * images.across() * kTile * kTile <= 2 * images.height * images.width;
}

}  // namespace

#else

namespace {

struct Convolution {
  static at::Tensor apply(const at::Tensor &, const at::Tensor &, const std::optional<at::Tensor> &) { return {}; }
};

bool is_ours(const at::Tensor &, const at::Tensor &, int64_t, int64_t) { return false; }

}  // namespace

#endif

// A convolution with square filters, plus `bias` unless that is NULL: a new tensor.
extern "C" char *biv_shim_conv2d(const at::Tensor *input, const at::Tensor *weight, const at::Tensor *bias,
                                 int64_t stride, int64_t padding, at::Tensor **result) {
  return guarded([&] {
    const std::optional<at::Tensor> addend = bias ? std::optional(*bias) : std::nullopt;
    const bool ours = is_ours(*input, *weight, stride, padding);
    *result = new at::Tensor(ours ? Convolution::apply(*input, *weight, addend)
                                  : at::conv2d(*input, *weight, addend, {stride, stride}, {padding, padding}));
  });
}
