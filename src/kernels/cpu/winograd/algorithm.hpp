// The algorithm, compiled in a namespace of its own for each instruction set (see ../conv.cpp).

#include "transforms.hpp"

// In the transform domain a value is part of an element of 32 bits: one value of single precision, or two of bfloat16
// that follow each other in the order of summation. Sums are in single precision.

struct SinglePrecision {
  using Tiles = TilesOf4;
  using Value = float;
  // How many values an element has.
  static constexpr int kValues = 1;

  BIV_INLINE static Lanes read(const Value *pixel) { return load(pixel); }
  BIV_INLINE static void write(Value *pixel, Lanes value) { store(pixel, value); }
  // Elements whose values are consecutive channels.
  BIV_INLINE static Lanes in_order(const Lanes (&values)[kValues]) { return values[0]; }
  // Elements that take one value from each vector.
  BIV_INLINE static Lanes side_by_side(const Lanes (&values)[kValues]) { return values[0]; }
  // sum + a b
  BIV_INLINE static Lanes add_product(Lanes sum, Lanes a, Lanes b) { return multiply_add(a, b, sum); }
};

// Outputs in the transform domain are in panels of this many channels: two vectors.
constexpr int64_t kPanel = 2 * kLanes;
// For smaller outputs, and for fewer channels, a direct convolution takes less time.
constexpr int64_t kFewestPixels = 64, kFewestChannels = 32;
// How many elements of the transform domain are worked on at once: by one thread, in its core's cache, and by all
// threads, in the processor's.
constexpr int64_t kThreadElements = 3 << 16, kSharedElements = 1 << 20;

// The number of points of the transform domain. In all templates M is SinglePrecision or Bfloat16.
template <class M>
constexpr int kPoints = M::Tiles::kInput *M::Tiles::kInput;

// The matrix product c = a b for ROWS rows, a panel of columns, and sums over `depth`; added to c if `add`. Element
// (i, d) of a is at `i * row + d * step`. The rows of b and c are one panel wide.
template <class M, int ROWS>
BIV_TARGET void gemm_rows(const float *a, int64_t row, int64_t step, const float *b, int64_t depth, bool add,
                          float *c) {
  Lanes left[ROWS], right[ROWS];
#pragma GCC unroll 14
  for (int i = 0; i < ROWS; ++i) {
    left[i] = add ? load(c + i * kPanel) : Lanes{};
    right[i] = add ? load(c + i * kPanel + kLanes) : Lanes{};
  }
  for (int64_t d = 0; d < depth; ++d, a += step, b += kPanel) {
    const Lanes b_left = load(b), b_right = load(b + kLanes);
#pragma GCC unroll 14
    for (int i = 0; i < ROWS; ++i) {
      const Lanes element = spread(a[i * row]);
      left[i] = M::add_product(left[i], element, b_left);
      right[i] = M::add_product(right[i], element, b_right);
    }
  }
#pragma GCC unroll 14
  for (int i = 0; i < ROWS; ++i) {
    store(c + i * kPanel, left[i]);
    store(c + i * kPanel + kLanes, right[i]);
  }
}

using GemmRows = void (*)(const float *, int64_t, int64_t, const float *, int64_t, bool, float *);
template <class M, int... ROWS>
constexpr std::array<GemmRows, kRows> gemm_of_rows(std::integer_sequence<int, ROWS...>) {
  return {gemm_rows<M, ROWS + 1>...};
}

// As gemm_rows, for any number of rows.
template <class M>
void gemm(const float *a, int64_t row, int64_t step, const float *b, int64_t rows, int64_t depth, bool add, float *c) {
  static constexpr auto kGemm = gemm_of_rows<M>(std::make_integer_sequence<int, kRows>());
  for (int64_t i = 0; i < rows; i += kRows) {
    kGemm[std::min<int64_t>(rows - i, kRows) - 1](a + i * row, row, step, b, depth, add, c + i * kPanel);
  }
}

// For each pixel of a tile, where its channels begin.
template <class M, int SIZE>
using Pixels = typename M::Value *[SIZE][SIZE];

// Images in the channels-last format, and their tiles.
template <class M>
struct Images {
  using Value = typename M::Value;
  static constexpr int kTile = M::Tiles::kTile;

  Value *data;
  int64_t rows, height, width, channels;

  explicit Images(const at::Tensor &tensor)
      : data(static_cast<Value *>(const_cast<void *>(tensor.const_data_ptr()))),
        rows(tensor.size(0)),
        height(tensor.size(2)),
        width(tensor.size(3)),
        channels(tensor.size(1)) {}

  // How many tiles there are down an image, across it, and in all images.
  int64_t down() const { return (height + kTile - 1) / kTile; }
  int64_t across() const { return (width + kTile - 1) / kTile; }
  int64_t tiles() const { return rows * down() * across(); }
  int64_t panels() const { return channels / kPanel; }

  // The SIZE x SIZE pixels that begin `margin` above and to the left of a tile. Those outside of the image are
  // `beyond`.
  template <int SIZE>
  void pixels(int64_t tile, int margin, Value *beyond, Pixels<M, SIZE> &result) const {
    const int64_t image = tile / (down() * across());
    const int64_t top = tile / across() % down() * kTile - margin, left = tile % across() * kTile - margin;
    for (int i = 0; i < SIZE; ++i) {
      for (int j = 0; j < SIZE; ++j) {
        const int64_t y = top + i, x = left + j;
        const bool inside = image < rows && y >= 0 && y < height && x >= 0 && x < width;
        result[i][j] = inside ? data + ((image * height + y) * width + x) * channels : beyond;
      }
    }
  }
};

// Where the elements of one row (a tile) are in the transform domain: those of two points are `point` apart, those of
// two panels `panel`.
struct TransformedRow {
  float *elements;
  int64_t point, panel;

  float *lanes(int64_t column) const { return elements + column / kPanel * panel + column % kPanel; }
};

// Transforms pixels to a row of the transform domain: one tile, its channels in order; or, SIDE_BY_SIDE, as many tiles
// as an element has values.
template <class M, class Map, bool SIDE_BY_SIDE>
BIV_TARGET void transform_input(const Pixels<M, Map::kFrom> *tiles, int64_t channels, const TransformedRow &to) {
  constexpr int64_t kStep = SIDE_BY_SIDE ? kLanes : M::kValues * kLanes;
  for (int64_t channel = 0; channel < channels; channel += kStep) {
    Lanes values[M::kValues][Map::kTo][Map::kTo];
#pragma GCC unroll 2
    for (int v = 0; v < M::kValues; ++v) {
      const auto &pixels = tiles[SIDE_BY_SIDE ? v : 0];
      const int64_t first = channel + (SIDE_BY_SIDE ? 0 : v * kLanes);
      Lanes from[Map::kFrom][Map::kFrom];
#pragma GCC unroll 6
      for (int i = 0; i < Map::kFrom; ++i) {
#pragma GCC unroll 6
        for (int j = 0; j < Map::kFrom; ++j) {
          const auto *pixel = pixels[i][j] + first;
          from[i][j] = M::read(pixel);
          // The next tile needs these.
          if (j >= Map::kFrom - M::Tiles::kTile) __builtin_prefetch(pixel + M::Tiles::kTile * channels);
        }
      }
      transform<Map>(from, values[v]);
    }
    float *at = to.lanes(channel / kStep * kLanes);
#pragma GCC unroll 6
    for (int i = 0; i < Map::kTo; ++i) {
#pragma GCC unroll 6
      for (int j = 0; j < Map::kTo; ++j) {
        Lanes parts[M::kValues];
#pragma GCC unroll 2
        for (int v = 0; v < M::kValues; ++v) parts[v] = values[v][i][j];
        store(at + (i * Map::kTo + j) * to.point, SIDE_BY_SIDE ? M::side_by_side(parts) : M::in_order(parts));
      }
    }
  }
}

// Transforms a panel of a row back to pixels of the output, and adds `bias` if it is not NULL.
template <class M>
BIV_TARGET void transform_output(const TransformedRow &from, int64_t channels, int64_t panel, const float *bias,
                                 const Pixels<M, M::Tiles::kTile> &pixels) {
  using Map = typename M::Tiles::Output;
  for (int64_t lane = 0; lane < kPanel; lane += kLanes) {
    const int64_t channel = panel * kPanel + lane;
    Lanes points[Map::kFrom][Map::kFrom], values[Map::kTo][Map::kTo];
    const float *at = from.lanes(lane);
#pragma GCC unroll 6
    for (int i = 0; i < Map::kFrom; ++i) {
#pragma GCC unroll 6
      for (int j = 0; j < Map::kFrom; ++j) points[i][j] = load(at + (i * Map::kFrom + j) * from.point);
    }
    transform<Map>(points, values);
    const Lanes addend = bias ? load(bias + channel) : Lanes{};
#pragma GCC unroll 4
    for (int i = 0; i < Map::kTo; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < Map::kTo; ++j) {
        auto *pixel = pixels[i][j] + channel;
        M::write(pixel, values[i][j] + addend);
        // The next tile writes these.
        __builtin_prefetch(pixel + Map::kTo * channels, 1);
      }
    }
  }
}

// Matrices in the transform domain, one for each point and panel of outputs, as wide as a panel.
class Matrices {
 public:
  Matrices(int64_t points, int64_t rows, int64_t outputs)
      : rows_(rows),
        outputs_(outputs),
        point_(rows * outputs + kLanes),
        elements_(at::empty({points * point_}, at::kFloat)) {}

  int64_t outputs() const { return outputs_; }
  int64_t point() const { return point_; }
  float *panel(int64_t point, int64_t panel) const {
    return elements_.data_ptr<float>() + point * point_ + panel * rows_ * kPanel;
  }

 private:
  int64_t rows_, outputs_;
  // The distance between two points. It is no power of two: those values would evict each other from the cache.
  int64_t point_;
  at::Tensor elements_;
};

// Transforms the filters from the inputs of one element to a vector of outputs. `input`, `output` and `tap` are the
// distances between two inputs, outputs and taps of the weights; `point` is that between two points of the result.
template <class M>
BIV_TARGET void transform_filter(const float *from, int64_t input, int64_t output, int64_t tap, float *to,
                                 int64_t point) {
  using Map = typename M::Tiles::Filter;
  Lanes points[M::kValues][Map::kTo][Map::kTo];
  for (int v = 0; v < M::kValues; ++v, from += input) {
    float values[kFilter][kFilter][kLanes];
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      for (int t = 0; t < kTaps; ++t) values[t / kFilter][t % kFilter][lane] = from[lane * output + t * tap];
    }
    Lanes taps[kFilter][kFilter];
    for (int t = 0; t < kTaps; ++t) taps[t / kFilter][t % kFilter] = load(values[t / kFilter][t % kFilter]);
    transform<Map>(taps, points[v]);
  }
  for (int p = 0; p < kPoints<M>; ++p) {
    Lanes parts[M::kValues];
    for (int v = 0; v < M::kValues; ++v) parts[v] = points[v][p / Map::kTo][p % Map::kTo];
    // Past the caches: those of a large network do not fit in them.
    stream(to + p * point, M::side_by_side(parts));
  }
}

// Transforms all filters of a convolution. With `backward` those that map the derivative by its output to that by its
// input: the filters turned by 180 degrees, with inputs and outputs exchanged.
template <class M>
Matrices transform_filters(const at::Tensor &weight, bool backward) {
  const int64_t rows = weight.size(backward ? 0 : 1) / M::kValues, outputs = weight.size(backward ? 1 : 0);
  const Matrices filters(kPoints<M>, rows, outputs);
  const float *from = weight.const_data_ptr<float>() + (backward ? kTaps - 1 : 0);
  const int64_t tap = backward ? -1 : 1, pair = kTaps * weight.size(1);
  const int64_t input = backward ? pair : kTaps, output = backward ? kTaps : pair;
  parallel_for(rows * outputs / kLanes, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      const int64_t lanes = at / rows, row = at % rows;
      transform_filter<M>(from + lanes * kLanes * output + row * M::kValues * input, input, output, tap,
                          filters.panel(0, lanes / 2) + row * kPanel + lanes % 2 * kLanes, filters.point());
    }
    _mm_sfence();
  });
  return filters;
}

// How many of `rows` rows are worked on at once, if each has `width` elements in the transform domain: about as many as
// have `elements` together.
int64_t run_length(int64_t rows, int64_t width, int64_t elements) {
  const int64_t most = std::max(elements / width, int64_t{8 * kRows});
  const int64_t runs = (rows + most - 1) / most;
  return ((rows + runs - 1) / runs + kRows - 1) / kRows * kRows;
}

// Memory for some rows of the transform domain: inputs and outputs.
class Rows {
 public:
  Rows(float *elements, int64_t points, int64_t rows, int64_t inputs, int64_t outputs)
      : left_(elements),
        right_(elements + points * rows * row(inputs)),
        rows_(rows),
        row_(row(inputs)),
        outputs_(outputs) {}

  // The number of elements.
  static int64_t size(int64_t points, int64_t rows, int64_t inputs, int64_t outputs) {
    return points * rows * (row(inputs) + outputs);
  }

  int64_t row() const { return row_; }
  // A row has an element for each input, or for several.
  float *inputs(int64_t point) const { return left_ + point * rows_ * row_; }
  // Each panel of outputs has a matrix of its own.
  float *outputs(int64_t point, int64_t panel) const { return right_ + (point * outputs_ + panel * kPanel) * rows_; }
  TransformedRow input(int64_t row) const { return {inputs(0) + row * row_, rows_ * row_, kPanel}; }
  TransformedRow output(int64_t row) const { return {outputs(0, 0) + row * kPanel, rows_ * outputs_, rows_ * kPanel}; }

 private:
  // The width of a row is no power of two: such rows would evict each other from the cache.
  static int64_t row(int64_t inputs) { return inputs + kLanes; }

  float *left_, *right_;
  int64_t rows_, row_, outputs_;
};

// Transforms back the derivatives by the filters of one input and a panel of outputs.
template <class M>
BIV_TARGET void transform_gradient(const float *from, int64_t point, int64_t inputs, float *to) {
  using Map = typename M::Tiles::Gradient;
  for (int64_t half = 0; half < kPanel; half += kLanes) {
    Lanes points[Map::kFrom][Map::kFrom], taps[kFilter][kFilter];
    for (int p = 0; p < kPoints<M>; ++p) points[p / Map::kFrom][p % Map::kFrom] = load(from + p * point + half);
    transform<Map>(points, taps);
    float values[kTaps][kLanes];
    for (int t = 0; t < kTaps; ++t) store(values[t], taps[t / kFilter][t % kFilter]);
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      for (int t = 0; t < kTaps; ++t) to[(half + lane) * inputs * kTaps + t] = values[t][lane];
    }
  }
}

// Transforms rows `begin` to `end` of tiles, with `margin` pixels around them, each to its `destination(row)`.
template <class M, class Map, bool SIDE_BY_SIDE, class Destination>
void transform_rows(const Images<M> &images, int margin, int64_t begin, int64_t end, Destination destination) {
  constexpr int kTiles = SIDE_BY_SIDE ? M::kValues : 1;
  std::vector<typename M::Value> zeros(images.channels);
  for (int64_t row = begin; row < end; ++row) {
    Pixels<M, Map::kFrom> tiles[kTiles];
    for (int t = 0; t < kTiles; ++t) images.pixels(row * kTiles + t, margin, zeros.data(), tiles[t]);
    transform_input<M, Map, SIDE_BY_SIDE>(tiles, images.channels, destination(row));
  }
}

// A convolution. Each thread transforms some tiles, multiplies in the transform domain and transforms back, one panel
// of outputs after the other; then the next tiles.
template <class M>
at::Tensor convolve(const at::Tensor &input, const Matrices &filters, const float *bias) {
  using Tiles = typename M::Tiles;
  at::Tensor output = at::empty({input.size(0), filters.outputs(), input.size(2), input.size(3)}, input.options(),
                                at::MemoryFormat::ChannelsLast);
  const Images<M> from(input), to(output);
  const int64_t depth = from.channels / M::kValues, tiles = from.tiles();
  const int64_t parts = std::min<int64_t>(at::get_num_threads(), tiles);
  const int64_t most = run_length((tiles + parts - 1) / parts, kPoints<M> * (depth + kPanel), kThreadElements);
  const int64_t size = Rows::size(kPoints<M>, most, depth, kPanel);
  const at::Tensor memory = at::empty({parts * size}, at::kFloat);
  parallel_for(parts, [&](int64_t first_part, int64_t last_part) {
    std::vector<typename M::Value> nowhere(to.channels);
    const auto pixels = std::make_unique<Pixels<M, Tiles::kTile>[]>(most);
    const Rows rows(memory.data_ptr<float>() + first_part * size, kPoints<M>, most, depth, kPanel);
    const int64_t last = tiles * last_part / parts;
    for (int64_t start = tiles * first_part / parts; start < last; start += most) {
      const int64_t count = std::min(most, last - start);
      transform_rows<M, typename Tiles::Input, false>(from, 1, start, start + count,
                                                      [&](int64_t tile) { return rows.input(tile - start); });
      for (int64_t i = 0; i < count; ++i) to.pixels(start + i, 0, nowhere.data(), pixels[i]);
      for (int64_t panel = 0; panel < to.panels(); ++panel) {
        for (int64_t point = 0; point < kPoints<M>; ++point) {
          gemm<M>(rows.inputs(point), rows.row(), 1, filters.panel(point, panel), count, depth, false,
                  rows.outputs(point, 0));
        }
        for (int64_t i = 0; i < count; ++i) transform_output<M>(rows.output(i), to.channels, panel, bias, pixels[i]);
      }
    }
  });
  return output;
}

// The derivative by the filters.
template <class M>
at::Tensor backward_weight(const at::Tensor &input, const at::Tensor &delta) {
  using Tiles = typename M::Tiles;
  const Images<M> from(input), to(delta);
  const int64_t panels = to.panels(), count = (from.tiles() + M::kValues - 1) / M::kValues;
  const int64_t most = run_length(count, kPoints<M> * (from.channels + to.channels), kSharedElements);
  const at::Tensor memory = at::empty({Rows::size(kPoints<M>, most, from.channels, to.channels)}, at::kFloat);
  const Rows rows(memory.data_ptr<float>(), kPoints<M>, most, from.channels, to.channels);
  const Matrices sums(kPoints<M>, from.channels, to.channels);
  for (int64_t start = 0; start < count; start += most) {
    const int64_t size = std::min(most, count - start);
    parallel_for(size, [&](int64_t begin, int64_t end) {
      transform_rows<M, typename Tiles::Input, true>(from, 1, start + begin, start + end,
                                                     [&](int64_t row) { return rows.input(row - start); });
      transform_rows<M, typename Tiles::Delta, true>(to, 0, start + begin, start + end,
                                                     [&](int64_t row) { return rows.output(row - start); });
    });
    parallel_for(kPoints<M> * panels, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t point = i / panels, panel = i % panels;
        gemm<M>(rows.inputs(point), 1, rows.row(), rows.outputs(point, panel), from.channels, size, start > 0,
                sums.panel(point, panel));
      }
    });
  }
  at::Tensor result = at::empty({to.channels, from.channels, kFilter, kFilter}, at::kFloat);
  float *gradients = result.data_ptr<float>();
  parallel_for(panels * from.channels, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t panel = i / from.channels, channel = i % from.channels;
      transform_gradient<M>(sums.panel(0, panel) + channel * kPanel, sums.point(), from.channels,
                            gradients + (panel * kPanel * from.channels + channel) * kTaps);
    }
  });
  return result;
}

// The input has M's type of values; `weight` and `bias` are in single precision.
template <class M>
struct Convolution : torch::autograd::Function<Convolution<M>> {
  static at::Tensor forward(torch::autograd::AutogradContext *context, const at::Tensor &input,
                            const at::Tensor &weight, const std::optional<at::Tensor> &bias) {
    context->save_for_backward({input, weight});
    context->saved_data["bias"] = bias.has_value();
    return convolve<M>(input, transform_filters<M>(weight, false), bias ? bias->const_data_ptr<float>() : nullptr);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *context,
                                                 torch::autograd::variable_list deltas) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &input = saved[0], &weight = saved[1];
    const at::Tensor delta = deltas[0].contiguous(at::MemoryFormat::ChannelsLast);
    at::Tensor grad_input, grad_bias;
    if (context->needs_input_grad(0)) grad_input = convolve<M>(delta, transform_filters<M>(weight, true), nullptr);
    if (context->saved_data["bias"].toBool()) grad_bias = delta.sum({0, 2, 3}, false, at::kFloat);
    return {grad_input, backward_weight<M>(input, delta), grad_bias};
  }
};

// Whether the code here takes a convolution, and is faster: there are enough tiles for each filter to pay for its
// transform, and few enough pixels of tiles beyond the image.
template <class M>
bool is_supported(const at::Tensor &input, const at::Tensor &weight, int64_t stride, int64_t padding) {
  constexpr int kTile = M::Tiles::kTile;
  if (!input.is_cpu() || !weight.is_cpu() || weight.scalar_type() != at::kFloat || !weight.is_contiguous() ||
      input.dim() != 4 || input.numel() == 0 || !input.is_contiguous(at::MemoryFormat::ChannelsLast)) {
    return false;
  }
  const Images<M> images(input);
  return weight.size(2) == kFilter && weight.size(3) == kFilter && stride == 1 && padding == 1 &&
         weight.size(0) % kPanel == 0 && weight.size(1) % kPanel == 0 &&
         std::min(weight.size(0), weight.size(1)) >= kFewestChannels &&
         images.tiles() * kTile * kTile >= kFewestPixels &&
         images.down() * images.across() * kTile * kTile <= 2 * images.height * images.width;
}

// A convolution, if the code here takes it.
template <class M>
std::optional<at::Tensor> convolution(const at::Tensor &input, const at::Tensor &weight,
                                      const std::optional<at::Tensor> &bias, int64_t stride, int64_t padding) {
  if (!is_supported<M>(input, weight, stride, padding)) return std::nullopt;
  return Convolution<M>::apply(input, weight, bias);
}
