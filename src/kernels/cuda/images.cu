// Kernels for images on a GPU, compiled for the GPU at hand when they are first needed. Images are bfloat16 in the
// channels-last format: `pixels` times `channels` values. A thread has WIDTH neighbouring channels of some of the
// pixels. The order of summation does not depend on how the GPU schedules threads, so neither does any bit of the
// result.

using Bits = unsigned short;  // A bfloat16.

#if WIDTH == 8
using Pack = uint4;   // WIDTH values of bfloat16.
using Marks = uint2;  // WIDTH bytes.
#elif WIDTH == 4
using Pack = uint2;
using Marks = unsigned;
#else
using Pack = unsigned;
using Marks = unsigned short;
#endif

__device__ float widened(Bits bits) { return __uint_as_float(static_cast<unsigned>(bits) << 16); }

// Two values, each to the nearest bfloat16, halfway to the even one.
__device__ unsigned narrowed(float low, float high) {
  unsigned both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}

// WIDTH values in single precision: one thread's channels of one pixel.
struct Values {
  float of[WIDTH];
  __device__ float &operator[](int j) { return of[j]; }
  __device__ float operator[](int j) const { return of[j]; }
};

__device__ Values load(const Bits *images, long pack) {
  const Pack read = reinterpret_cast<const Pack *>(images)[pack];
  const unsigned *words = reinterpret_cast<const unsigned *>(&read);
  Values values;
#pragma unroll
  for (int j = 0; j < WIDTH; j += 2) {
    values[j] = __uint_as_float(words[j / 2] << 16);
    values[j + 1] = __uint_as_float(words[j / 2] & 0xffff0000u);
  }
  return values;
}

__device__ void store(Bits *images, long pack, const Values &values) {
  Pack written;
  unsigned *words = reinterpret_cast<unsigned *>(&written);
#pragma unroll
  for (int j = 0; j < WIDTH; j += 2) words[j / 2] = narrowed(values[j], values[j + 1]);
  reinterpret_cast<Pack *>(images)[pack] = written;
}

// Which channels and pixels this thread has. A block consists of rows of `groups` threads, one row for each pixel.
// Kernels that sum go from the last pixel to the first: the GPU's cache still holds the end of what the kernel before
// wrote, and will hold the beginning for the kernel after.
struct ThreadPosition {
  int groups, group, row, rows;
  __device__ explicit ThreadPosition(int groups)
      : groups(groups), group(threadIdx.x % groups), row(threadIdx.x / groups), rows(blockDim.x / groups) {}
  __device__ int first() const { return blockIdx.x * rows + row; }
  __device__ int step() const { return gridDim.x * rows; }
  __device__ long pack(int pixel) const { return static_cast<long>(pixel) * groups + group; }
  // This thread's channels in a list with one number for each channel.
  __device__ Values of(const float *list) const {
    Values values;
#pragma unroll
    for (int j = 0; j < WIDTH; ++j) values[j] = list[group * WIDTH + j];
    return values;
  }
};

// BatchNorm's numbers for the channels: four lists, one after the other.
struct Statistics {
  float *mean, *inverse_std, *scale, *shift;
  __device__ Statistics(float *lists, int channels)
      : mean(lists), inverse_std(lists + channels), scale(lists + 2 * channels), shift(lists + 3 * channels) {}
};

// The sizes of images before and after a pooling. Its square window is fixed when this is compiled: SIZE, STRIDE,
// PADDING.
struct Sizes {
  int height, width, pooled_height, pooled_width;
};

// Adds up the `a` and the `b` of a block's threads, and writes sums[a or b][channel][block].
__device__ void add_up(const ThreadPosition &position, const Values &a, const Values &b, float *sums) {
  extern __shared__ float shared[];
  const int channels = position.groups * WIDTH;
#pragma unroll
  for (int j = 0; j < WIDTH; ++j) {
    shared[position.row * channels + position.group * WIDTH + j] = a[j];
    shared[(position.rows + position.row) * channels + position.group * WIDTH + j] = b[j];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < 2 * channels; i += blockDim.x) {
    const float *column = shared + (i / channels) * position.rows * channels + i % channels;
    float sum = 0;
    for (int row = 0; row < position.rows; ++row) sum += column[row * channels];
    sums[static_cast<long>(i) * gridDim.x + blockIdx.x] = sum;
  }
}

// The sum over the blocks, computed by a warp and known to all its lanes.
__device__ double total(const float *sums, int blocks) {
  double sum = 0;
#pragma unroll 16
  for (int block = threadIdx.x % 32; block < blocks; block += 32) sum += sums[block];
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(~0u, sum, lanes);
  return sum;
}

// The channel of this thread's warp, in the kernels that add up the blocks' sums.
__device__ int warps_channel() { return (blockIdx.x * blockDim.x + threadIdx.x) / 32; }

extern "C" {

// Sums the differences from the first pixel's value, and their squares.
__global__ void add_moments(const Bits *input, int pixels, int groups, float *sums) {
  const ThreadPosition position(groups);
  const Values first = load(input, position.group);
  Values sum = {}, squares = {};
#pragma unroll 4
  for (int pixel = pixels - 1 - position.first(); pixel >= 0; pixel -= position.step()) {
    const Values x = load(input, position.pack(pixel));
#pragma unroll
    for (int j = 0; j < WIDTH; ++j) {
      const float above = x[j] - first[j];
      sum[j] += above;
      squares[j] += above * above;
    }
  }
  add_up(position, sum, squares, sums);
}

// Computes the statistics from those sums, and moves the running ones towards them.
__global__ void finish_moments(const Bits *input, const float *sums, int blocks, int pixels, int channels,
                               const float *weight, const float *bias, float *running_mean, float *running_var,
                               float momentum, float epsilon, float *lists) {
  const int channel = warps_channel();
  if (channel >= channels) return;
  const float gain = weight[channel], offset = bias[channel], first = widened(input[channel]);
  const double above = total(sums + static_cast<long>(channel) * blocks, blocks) / pixels;
  const double squares = total(sums + static_cast<long>(channels + channel) * blocks, blocks) / pixels;
  if (threadIdx.x % 32) return;
  const double mean = first + above, found = squares - above * above, var = found < 0 ? 0 : found;
  const float inverse_std = static_cast<float>(1 / sqrt(var + epsilon)), scale = gain * inverse_std;
  const Statistics statistics(lists, channels);
  statistics.mean[channel] = static_cast<float>(mean);
  statistics.inverse_std[channel] = inverse_std;
  statistics.scale[channel] = scale;
  statistics.shift[channel] = offset - static_cast<float>(mean) * scale;
  const double unbiased = var * pixels / (pixels - 1.0);
  running_mean[channel] += momentum * static_cast<float>(mean - running_mean[channel]);
  running_var[channel] += momentum * static_cast<float>(unbiased - running_var[channel]);
}

// `max(scale x + shift + shortcut, floor)`. `shortcut` is NULL where there is none. NaN stays NaN.
__global__ void normalize(const Bits *input, const Bits *shortcut, int pixels, int groups, float *lists, float floor,
                          Bits *output) {
  const ThreadPosition position(groups);
  const Statistics statistics(lists, groups * WIDTH);
  const Values scale = position.of(statistics.scale), shift = position.of(statistics.shift);
#pragma unroll 4
  for (int pixel = position.first(); pixel < pixels; pixel += position.step()) {
    const Values x = load(input, position.pack(pixel));
    Values y = {};
    if (shortcut) y = load(shortcut, position.pack(pixel));
#pragma unroll
    for (int j = 0; j < WIDTH; ++j) {
      const float z = x[j] * scale[j] + shift[j] + y[j];
      y[j] = z < floor ? floor : z;
    }
    store(output, position.pack(pixel), y);
  }
}

// Sums the derivatives by the normalised values, and those times `x - mean`. With a shortcut `output` is the ReLU's
// output and the derivatives by its input are written to `relu_delta`; without one both are NULL, and where the ReLU
// passed values on is computed from the input.
__global__ void add_deltas(const Bits *input, const Bits *delta, const Bits *output, int pixels, int groups,
                           float *lists, float floor, Bits *relu_delta, float *sums) {
  const ThreadPosition position(groups);
  const Statistics statistics(lists, groups * WIDTH);
  const Values mean = position.of(statistics.mean), scale = position.of(statistics.scale);
  const Values shift = position.of(statistics.shift);
  Values sum = {}, products = {};
#pragma unroll 2
  for (int pixel = pixels - 1 - position.first(); pixel >= 0; pixel -= position.step()) {
    const Values x = load(input, position.pack(pixel));
    Values d = load(delta, position.pack(pixel)), y;
    if (output) y = load(output, position.pack(pixel));
#pragma unroll
    for (int j = 0; j < WIDTH; ++j) {
      const float decides = output ? y[j] : x[j] * scale[j] + shift[j];
      d[j] = decides <= floor ? 0 : d[j];
      sum[j] += d[j];
      products[j] += d[j] * (x[j] - mean[j]);
    }
    if (output) store(relu_delta, position.pack(pixel), d);
  }
  add_up(position, sum, products, sums);
}

// Computes the derivatives by weight and bias from those sums, and three lists a, b and c: the derivative by the input
// is a d + b x + c.
__global__ void finish_deltas(const float *sums, int blocks, int pixels, int channels, float *lists, float *grad_weight,
                              float *grad_bias, float *line) {
  const int channel = warps_channel();
  if (channel >= channels) return;
  const double sum = total(sums + static_cast<long>(channel) * blocks, blocks);
  const double product = total(sums + static_cast<long>(channels + channel) * blocks, blocks);
  if (threadIdx.x % 32) return;
  const Statistics statistics(lists, channels);
  const double inverse_std = statistics.inverse_std[channel], scale = statistics.scale[channel];
  const double slope = product / pixels * inverse_std * inverse_std;
  grad_weight[channel] = static_cast<float>(product * inverse_std);
  grad_bias[channel] = static_cast<float>(sum);
  line[channel] = static_cast<float>(scale);
  line[channels + channel] = static_cast<float>(-scale * slope);
  line[2 * channels + channel] = static_cast<float>(scale * (statistics.mean[channel] * slope - sum / pixels));
}

// Computes the derivatives by the input.
__global__ void backward_input(const Bits *input, const Bits *delta, int pixels, int groups, float *lists,
                               const float *line, float floor, Bits *result) {
  const ThreadPosition position(groups);
  const int channels = groups * WIDTH;
  const Statistics statistics(lists, channels);
  const Values scale = position.of(statistics.scale), shift = position.of(statistics.shift);
  const Values a = position.of(line), b = position.of(line + channels), c = position.of(line + 2 * channels);
#pragma unroll 2
  for (int pixel = position.first(); pixel < pixels; pixel += position.step()) {
    Values x = load(input, position.pack(pixel));
    const Values d = load(delta, position.pack(pixel));
#pragma unroll
    for (int j = 0; j < WIDTH; ++j) {
      const float passed = x[j] * scale[j] + shift[j] <= floor ? 0 : d[j];
      x[j] = a[j] * passed + (b[j] * x[j] + c[j]);
    }
    store(result, position.pack(pixel), x);
  }
}

#ifdef SIZE

// The mark of a window all of whose values the ReLU set to 0.
constexpr unsigned char kStopped = 255;

// `max(scale x + shift, 0)`, and the largest value of each window. Its mark is the index of that value in the window.
__global__ void normalize_and_pool(const Bits *input, int pooled_pixels, int groups, float *lists, Sizes sizes,
                                   Bits *output, Marks *marks) {
  const ThreadPosition position(groups);
  const Statistics statistics(lists, groups * WIDTH);
  const Values scale = position.of(statistics.scale), shift = position.of(statistics.shift);
  for (int pixel = position.first(); pixel < pooled_pixels; pixel += position.step()) {
    const int left = pixel % sizes.pooled_width * STRIDE - PADDING, line = pixel / sizes.pooled_width;
    const int top = line % sizes.pooled_height * STRIDE - PADDING, image = line / sizes.pooled_height;
    Values best;
    unsigned char mark[WIDTH];
#pragma unroll
    for (int j = 0; j < WIDTH; ++j) {
      best[j] = 0;
      mark[j] = kStopped;
    }
#pragma unroll
    for (int dy = 0; dy < SIZE; ++dy) {
#pragma unroll
      for (int dx = 0; dx < SIZE; ++dx) {
        const int y = top + dy, x = left + dx;
        if (y < 0 || y >= sizes.height || x < 0 || x >= sizes.width) continue;
        const Values read = load(input, position.pack((image * sizes.height + y) * sizes.width + x));
#pragma unroll
        for (int j = 0; j < WIDTH; ++j) {
          const float z = read[j] * scale[j] + shift[j];
          // Of equal values the first counts. NaN stays NaN.
          if (z > best[j] || z != z) {
            best[j] = z;
            mark[j] = dy * SIZE + dx;
          }
        }
      }
    }
    store(output, position.pack(pixel), best);
    Marks written;
#pragma unroll
    for (int j = 0; j < WIDTH; ++j) reinterpret_cast<unsigned char *>(&written)[j] = mark[j];
    marks[position.pack(pixel)] = written;
  }
}

// Like add_deltas, from the derivatives by the pooled values.
__global__ void add_pooled_deltas(const Bits *input, const Bits *delta, const Marks *marks, int pooled_pixels,
                                  int groups, float *lists, Sizes sizes, float *sums) {
  const ThreadPosition position(groups);
  const Statistics statistics(lists, groups * WIDTH);
  const Values mean = position.of(statistics.mean);
  Values sum = {}, products = {};
  for (int pixel = pooled_pixels - 1 - position.first(); pixel >= 0; pixel -= position.step()) {
    const int left = pixel % sizes.pooled_width * STRIDE - PADDING, line = pixel / sizes.pooled_width;
    const int top = line % sizes.pooled_height * STRIDE - PADDING, image = line / sizes.pooled_height;
    const Values d = load(delta, position.pack(pixel));
    const Marks read = marks[position.pack(pixel)];
#pragma unroll
    for (int j = 0; j < WIDTH; ++j) {
      const int mark = reinterpret_cast<const unsigned char *>(&read)[j];
      if (mark == kStopped) continue;
      const int y = top + mark / SIZE, x = left + mark % SIZE;
      const int at = (image * sizes.height + y) * sizes.width + x;
      sum[j] += d[j];
      products[j] += d[j] * (widened(input[position.pack(at) * WIDTH + j]) - mean[j]);
    }
  }
  add_up(position, sum, products, sums);
}

// Like backward_input, from the derivatives by the pooled values.
__global__ void backward_pooled_input(const Bits *input, const Bits *delta, const Marks *marks, int pixels, int groups,
                                      const float *line, Sizes sizes, Bits *result) {
  const ThreadPosition position(groups);
  const int channels = groups * WIDTH;
  const Values a = position.of(line), b = position.of(line + channels), c = position.of(line + 2 * channels);
  for (int pixel = position.first(); pixel < pixels; pixel += position.step()) {
    const int x = pixel % sizes.width + PADDING, line = pixel / sizes.width;
    const int y = line % sizes.height + PADDING, image = line / sizes.height;
    Values d = {};
    // A pixel is in so many windows, at most, in each direction.
    constexpr int kWindows = (SIZE + STRIDE - 1) / STRIDE;
#pragma unroll
    for (int up = 0; up < kWindows; ++up) {
#pragma unroll
      for (int back = 0; back < kWindows; ++back) {
        const int row = y / STRIDE - up, column = x / STRIDE - back;
        const int dy = y - row * STRIDE, dx = x - column * STRIDE;
        if (dy >= SIZE || row < 0 || row >= sizes.pooled_height) continue;
        if (dx >= SIZE || column < 0 || column >= sizes.pooled_width) continue;
        const long pooled = position.pack((image * sizes.pooled_height + row) * sizes.pooled_width + column);
        const Values read = load(delta, pooled);
        const Marks found = marks[pooled];
#pragma unroll
        for (int j = 0; j < WIDTH; ++j) {
          if (reinterpret_cast<const unsigned char *>(&found)[j] == dy * SIZE + dx) d[j] += read[j];
        }
      }
    }
    Values value = load(input, position.pack(pixel));
#pragma unroll
    for (int j = 0; j < WIDTH; ++j) value[j] = a[j] * d[j] + (b[j] * value[j] + c[j]);
    store(result, position.pack(pixel), value);
  }
}

#endif

// Gathers blocks of 2 x 2 pixels: their values become the channels of one pixel, with zeros up to a multiple of WIDTH.
// An image of `height` x `width` pixels with `padding` zeros around it gives `rows` x `columns` blocks.
__global__ void gather_blocks(const Bits *images, int height, int width, int channels, int padding, int rows,
                              int columns, int groups, int pixels, Bits *blocks) {
  const ThreadPosition position(groups);
  for (int pixel = position.first(); pixel < pixels; pixel += position.step()) {
    const int column = pixel % columns, line = pixel / columns, row = line % rows;
    const long image = line / rows;
    Values values;
#pragma unroll
    for (int j = 0; j < WIDTH; ++j) {
      const int number = position.group * WIDTH + j, within = number / channels;
      const int y = 2 * row + within / 2 - padding, x = 2 * column + within % 2 - padding;
      const bool inside = within < 4 && y >= 0 && y < height && x >= 0 && x < width;
      values[j] = inside ? widened(images[((image * height + y) * width + x) * channels + number % channels]) : 0;
    }
    store(blocks, position.pack(pixel), values);
  }
}

// Gathers the images `index` of bytes in the order [channel][row][column] as `scale * byte + shift`.
__global__ void gather_bytes(const unsigned char *bytes, const long *index, int size, int channels, float scale,
                             float shift, Bits *images) {
  const int pixel = blockIdx.x * blockDim.x + threadIdx.x, image = blockIdx.y;
  if (pixel >= size) return;
  const unsigned char *from = bytes + index[image] * channels * size + pixel;
  Bits *to = images + (static_cast<long>(image) * size + pixel) * channels;
  for (int channel = 0; channel < channels; ++channel) {
    to[channel] = narrowed(from[static_cast<long>(channel) * size] * scale + shift, 0) & 0xffff;
  }
}
}
