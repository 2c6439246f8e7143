// The algorithm, compiled in a namespace of its own for each kind of vectors (see ../conv.cpp).

#include "transforms.hpp"

// Factors of the products at the points are elements of 32 bits, with a value or several next to each other in the
// sum's order. Sums are in single precision.

struct SinglePrecision {
  using Tiles = TilesOf4;
  using Value = float;
  // Values of an element.
  static constexpr int kValues = 1;

  BIV_INLINE static Lanes read(const Value *pixel) { return load(pixel); }
  BIV_INLINE static void write(Value *pixel, Lanes value) { store(pixel, value); }
  // Elements of values that follow each other.
  BIV_INLINE static Lanes in_order(const Lanes (&values)[kValues]) { return values[0]; }
  // Elements each of which has a value of each.
  BIV_INLINE static Lanes side_by_side(const Lanes (&values)[kValues]) { return values[0]; }
  // sum + a b
  BIV_INLINE static Lanes add_product(Lanes sum, Lanes a, Lanes b) { return multiply_add(a, b, sum); }
};

// What is at the points is in panels of this many: two vectors.
constexpr int64_t kPanel = 2 * kLanes;
// Of smaller outputs, and with fewer channels, a direct convolution takes less time.
constexpr int64_t kFewestPixels = 64, kFewestChannels = 32;
// Elements at the points that are worked on at once: by a thread on its own, in its core's cache, and by all, in the
// processor's.
constexpr int64_t kAlone = 3 << 16, kTogether = 1 << 20;

// M is SinglePrecision or Bfloat16.
template <class M>
constexpr int kPoints = M::Tiles::kInput *M::Tiles::kInput;

// Sums for `rows` rows (ROWS at most) and a panel over `depth`: c = a b, plus what c was if `add`. Element (i, d) of a
// is at `i * row + d * step`; the rows of b and c are a panel wide.
template <class M, int ROWS>
BIV_TARGET void multiply_rows(const float *a, int64_t row, int64_t step, const float *b, int64_t depth, bool add,
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

using Multiply = void (*)(const float *, int64_t, int64_t, const float *, int64_t, bool, float *);
template <class M, int... ROWS>
constexpr std::array<Multiply, kRows> products(std::integer_sequence<int, ROWS...>) {
  return {multiply_rows<M, ROWS + 1>...};
}

template <class M>
void multiply(const float *a, int64_t row, int64_t step, const float *b, int64_t rows, int64_t depth, bool add,
              float *c) {
  static constexpr auto kProducts = products<M>(std::make_integer_sequence<int, kRows>());
  for (int64_t i = 0; i < rows; i += kRows) {
    kProducts[std::min<int64_t>(rows - i, kRows) - 1](a + i * row, row, step, b, depth, add, c + i * kPanel);
  }
}

// The pixels of a tile, from the first channel on.
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

  int64_t down() const { return (height + kTile - 1) / kTile; }
  int64_t across() const { return (width + kTile - 1) / kTile; }
  int64_t tiles() const { return rows * down() * across(); }
  int64_t panels() const { return channels / kPanel; }

  // The first channels of the SIZE x SIZE pixels that begin `margin` above and to the left of a tile; `beyond` for
  // those that are not in an image.
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

// Where the elements of a row are at the points: those of a channel `point` apart, those of one panel and the next
// `panel`.
struct Place {
  float *elements;
  int64_t point, panel;

  float *lanes(int64_t column) const { return elements + column / kPanel * panel + column % kPanel; }
};

// The way from pixels to a row at the points: of one tile with its channels in order, or of as many tiles as an element
// has values SIDE_BY_SIDE.
template <class M, class Map, bool SIDE_BY_SIDE>
BIV_TARGET void map_pixels(const Pixels<M, Map::kFrom> *tiles, int64_t channels, const Place &to) {
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
          // The next tile's.
          if (j >= Map::kFrom - M::Tiles::kTile) __builtin_prefetch(pixel + M::Tiles::kTile * channels);
        }
      }
      map<Map>(from, values[v]);
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

// The way from the points to a panel of the output's channels, which get `bias`, too, if it is not NULL.
template <class M>
BIV_TARGET void map_points(const Place &from, int64_t channels, int64_t panel, const float *bias,
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
    map<Map>(points, values);
    const Lanes addend = bias ? load(bias + channel) : Lanes{};
#pragma GCC unroll 4
    for (int i = 0; i < Map::kTo; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < Map::kTo; ++j) {
        auto *pixel = pixels[i][j] + channel;
        M::write(pixel, values[i][j] + addend);
        // The next tile's.
        __builtin_prefetch(pixel + Map::kTo * channels, 1);
      }
    }
  }
}

// For each point and panel of outputs a matrix as wide as a panel.
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
  // From one point to the next: no power of two, whose values would be in the way of each other in the cache.
  int64_t point_;
  at::Tensor elements_;
};

// The way from the filters of an element's inputs, `input` apart, and a vector of outputs to the points.
template <class M>
BIV_TARGET void map_filters(const float *from, int64_t input, int64_t output, int64_t tap, float *to, int64_t point) {
  using Map = typename M::Tiles::Filter;
  Lanes points[M::kValues][Map::kTo][Map::kTo];
  for (int v = 0; v < M::kValues; ++v, from += input) {
    float values[kFilter][kFilter][kLanes];
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      for (int t = 0; t < kTaps; ++t) values[t / kFilter][t % kFilter][lane] = from[lane * output + t * tap];
    }
    Lanes taps[kFilter][kFilter];
    for (int t = 0; t < kTaps; ++t) taps[t / kFilter][t % kFilter] = load(values[t / kFilter][t % kFilter]);
    map<Map>(taps, points[v]);
  }
  for (int p = 0; p < kPoints<M>; ++p) {
    Lanes parts[M::kValues];
    for (int v = 0; v < M::kValues; ++v) parts[v] = points[v][p / Map::kTo][p % Map::kTo];
    // Past the caches: large networks have more of them than there is room.
    stream(to + p * point, M::side_by_side(parts));
  }
}

// The filters at the points: those that take a convolution's input to its output; with `back` those that take a
// derivative by its output to that by its input, which is the convolution with all filters turned by 180 degrees.
template <class M>
Matrices filters_at_points(const at::Tensor &weight, bool back) {
  const int64_t rows = weight.size(back ? 0 : 1) / M::kValues, outputs = weight.size(back ? 1 : 0);
  const Matrices filters(kPoints<M>, rows, outputs);
  const float *from = weight.const_data_ptr<float>() + (back ? kTaps - 1 : 0);
  const int64_t tap = back ? -1 : 1, pair = kTaps * weight.size(1);
  const int64_t input = back ? pair : kTaps, output = back ? kTaps : pair;
  share(rows * outputs / kLanes, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      const int64_t lanes = at / rows, row = at % rows;
      map_filters<M>(from + lanes * kLanes * output + row * M::kValues * input, input, output, tap,
                     filters.panel(0, lanes / 2) + row * kPanel + lanes % 2 * kLanes, filters.point());
    }
    _mm_sfence();
  });
  return filters;
}

// How many of `rows` rows are worked on at once, whose elements at the points are `width`: about as many as
// `elements` has room for.
int64_t run_length(int64_t rows, int64_t width, int64_t elements) {
  const int64_t most = std::max(elements / width, int64_t{8 * kRows});
  const int64_t runs = (rows + most - 1) / most;
  return ((rows + runs - 1) / runs + kRows - 1) / kRows * kRows;
}

// Memory for what some rows of tiles have at the points.
class Rows {
 public:
  Rows(float *elements, int64_t points, int64_t rows, int64_t inputs, int64_t outputs)
      : left_(elements),
        right_(elements + points * rows * row(inputs)),
        rows_(rows),
        row_(row(inputs)),
        outputs_(outputs) {}

  // How many elements that takes.
  static int64_t size(int64_t points, int64_t rows, int64_t inputs, int64_t outputs) {
    return points * rows * (row(inputs) + outputs);
  }

  int64_t row() const { return row_; }
  // A row with an element for each input, or for several.
  float *inputs(int64_t point) const { return left_ + point * rows_ * row_; }
  // For each panel of outputs, a row of it.
  float *outputs(int64_t point, int64_t panel) const { return right_ + (point * outputs_ + panel * kPanel) * rows_; }
  Place input(int64_t row) const { return {inputs(0) + row * row_, rows_ * row_, kPanel}; }
  Place output(int64_t row) const { return {outputs(0, 0) + row * kPanel, rows_ * outputs_, rows_ * kPanel}; }

 private:
  // A row's width is no power of two, whose rows would be in the way of each other in the cache.
  static int64_t row(int64_t inputs) { return inputs + kLanes; }

  float *left_, *right_;
  int64_t rows_, row_, outputs_;
};

// Back from the points to the filters of one input and a panel of outputs.
template <class M>
BIV_TARGET void map_gradients(const float *from, int64_t point, int64_t inputs, float *to) {
  using Map = typename M::Tiles::Gradient;
  for (int64_t half = 0; half < kPanel; half += kLanes) {
    Lanes points[Map::kFrom][Map::kFrom], taps[kFilter][kFilter];
    for (int p = 0; p < kPoints<M>; ++p) points[p / Map::kFrom][p % Map::kFrom] = load(from + p * point + half);
    map<Map>(points, taps);
    float values[kTaps][kLanes];
    for (int t = 0; t < kTaps; ++t) store(values[t], taps[t / kFilter][t % kFilter]);
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      for (int t = 0; t < kTaps; ++t) to[(half + lane) * inputs * kTaps + t] = values[t][lane];
    }
  }
}

// To the points: the rows of tiles from `begin` to `end`, with `margin` around them, each to its `place(row)`.
template <class M, class Map, bool SIDE_BY_SIDE, class MakePlace>
void take(const Images<M> &images, int margin, int64_t begin, int64_t end, MakePlace place) {
  constexpr int kTiles = SIDE_BY_SIDE ? M::kValues : 1;
  std::vector<typename M::Value> zeros(images.channels);
  for (int64_t row = begin; row < end; ++row) {
    Pixels<M, Map::kFrom> tiles[kTiles];
    for (int t = 0; t < kTiles; ++t) images.pixels(row * kTiles + t, margin, zeros.data(), tiles[t]);
    map_pixels<M, Map, SIDE_BY_SIDE>(tiles, images.channels, place(row));
  }
}

// A thread takes some tiles after the other to the points, multiplies there and goes back, one panel of outputs after
// the other.
template <class M>
at::Tensor convolve(const at::Tensor &input, const Matrices &filters, const float *bias) {
  using Tiles = typename M::Tiles;
  at::Tensor output = at::empty({input.size(0), filters.outputs(), input.size(2), input.size(3)}, input.options(),
                                at::MemoryFormat::ChannelsLast);
  const Images<M> from(input), to(output);
  const int64_t depth = from.channels / M::kValues, tiles = from.tiles();
  const int64_t parts = std::min<int64_t>(at::get_num_threads(), tiles);
  const int64_t most = run_length((tiles + parts - 1) / parts, kPoints<M> * (depth + kPanel), kAlone);
  const int64_t size = Rows::size(kPoints<M>, most, depth, kPanel);
  const at::Tensor memory = at::empty({parts * size}, at::kFloat);
  share(parts, [&](int64_t first_part, int64_t last_part) {
    std::vector<typename M::Value> nowhere(to.channels);
    const auto pixels = std::make_unique<Pixels<M, Tiles::kTile>[]>(most);
    const Rows rows(memory.data_ptr<float>() + first_part * size, kPoints<M>, most, depth, kPanel);
    const int64_t last = tiles * last_part / parts;
    for (int64_t start = tiles * first_part / parts; start < last; start += most) {
      const int64_t count = std::min(most, last - start);
      take<M, typename Tiles::Input, false>(from, 1, start, start + count,
                                            [&](int64_t tile) { return rows.input(tile - start); });
      for (int64_t i = 0; i < count; ++i) to.pixels(start + i, 0, nowhere.data(), pixels[i]);
      for (int64_t panel = 0; panel < to.panels(); ++panel) {
        for (int64_t point = 0; point < kPoints<M>; ++point) {
          multiply<M>(rows.inputs(point), rows.row(), 1, filters.panel(point, panel), count, depth, false,
                      rows.outputs(point, 0));
        }
        for (int64_t i = 0; i < count; ++i) map_points<M>(rows.output(i), to.channels, panel, bias, pixels[i]);
      }
    }
  });
  return output;
}

// The derivatives by the filters.
template <class M>
at::Tensor by_filters(const at::Tensor &input, const at::Tensor &delta) {
  using Tiles = typename M::Tiles;
  const Images<M> from(input), to(delta);
  const int64_t panels = to.panels(), count = (from.tiles() + M::kValues - 1) / M::kValues;
  const int64_t most = run_length(count, kPoints<M> * (from.channels + to.channels), kTogether);
  const at::Tensor memory = at::empty({Rows::size(kPoints<M>, most, from.channels, to.channels)}, at::kFloat);
  const Rows rows(memory.data_ptr<float>(), kPoints<M>, most, from.channels, to.channels);
  const Matrices sums(kPoints<M>, from.channels, to.channels);
  for (int64_t start = 0; start < count; start += most) {
    const int64_t size = std::min(most, count - start);
    share(size, [&](int64_t begin, int64_t end) {
      take<M, typename Tiles::Input, true>(from, 1, start + begin, start + end,
                                           [&](int64_t row) { return rows.input(row - start); });
      take<M, typename Tiles::Delta, true>(to, 0, start + begin, start + end,
                                           [&](int64_t row) { return rows.output(row - start); });
    });
    share(kPoints<M> * panels, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t point = i / panels, panel = i % panels;
        multiply<M>(rows.inputs(point), 1, rows.row(), rows.outputs(point, panel), from.channels, size, start > 0,
                    sums.panel(point, panel));
      }
    });
  }
  at::Tensor result = at::empty({to.channels, from.channels, kFilter, kFilter}, at::kFloat);
  float *gradients = result.data_ptr<float>();
  share(panels * from.channels, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t panel = i / from.channels, channel = i % from.channels;
      map_gradients<M>(sums.panel(0, panel) + channel * kPanel, sums.point(), from.channels,
                       gradients + (panel * kPanel * from.channels + channel) * kTaps);
    }
  });
  return result;
}

// Of an input in the precision's values; `weight` and `bias` are in single precision.
template <class M>
struct Convolution : torch::autograd::Function<Convolution<M>> {
  static at::Tensor forward(torch::autograd::AutogradContext *context, const at::Tensor &input,
                            const at::Tensor &weight, const std::optional<at::Tensor> &bias) {
    context->save_for_backward({input, weight});
    context->saved_data["bias"] = bias.has_value();
    return convolve<M>(input, filters_at_points<M>(weight, false), bias ? bias->const_data_ptr<float>() : nullptr);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *context,
                                                 torch::autograd::variable_list deltas) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &input = saved[0], &weight = saved[1];
    const at::Tensor delta = deltas[0].contiguous(at::MemoryFormat::ChannelsLast);
    at::Tensor by_input, by_bias;
    if (context->needs_input_grad(0)) by_input = convolve<M>(delta, filters_at_points<M>(weight, true), nullptr);
    if (context->saved_data["bias"].toBool()) by_bias = delta.sum({0, 2, 3}, false, at::kFloat);
    return {by_input, by_filters<M>(input, delta), by_bias};
  }
};

// Whether a convolution has so many tiles for each filter that those save more than it takes to bring the filters to
// the points, and cost less where they reach beyond the image.
template <class M>
bool fits(const at::Tensor &input, const at::Tensor &weight, int64_t stride, int64_t padding) {
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

// A convolution, if it is for the code here.
template <class M>
std::optional<at::Tensor> convolution(const at::Tensor &input, const at::Tensor &weight,
                                      const std::optional<at::Tensor> &bias, int64_t stride, int64_t padding) {
  if (!fits<M>(input, weight, stride, padding)) return std::nullopt;
  return Convolution<M>::apply(input, weight, bias);
}
