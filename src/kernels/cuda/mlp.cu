// Training of small multi-layer perceptrons: one launch of this kernel takes whole steps, one after the other. A block
// holds the weights in its shared memory and takes tiles of TILE rows of the mini-batch forward and backward. Together
// the blocks add up their gradients and move the weights by Adam. The derivatives are those of src/kernels/mlp. The
// order of summation does not depend on how the GPU schedules threads, so neither does any bit of the result.

constexpr int kMostLayers = 16;
constexpr int kQuads = TILE / 4;

// The same struct is in mlp.cpp.
struct Network {
  int layers, parameters;
  // The widths of the inputs, the hidden layers and the outputs.
  int widths[kMostLayers + 1];
};

// The same struct is biv_cuda_queued_step in interface.hpp.
struct QueuedStep {
  int first, rows;
  float rate, beta1, beta2, epsilon, weight_decay, correction;
};
static_assert(sizeof(QueuedStep) == 32, "as in interface.hpp");

// A block's shared memory, in single precision. The values of a tile are in the order [neuron][row].
struct Memory {
  // The features, and the outputs of the hidden layers.
  float4 *inputs;
  // The derivatives by the outputs of a layer, and of the layer before it.
  float4 *delta, *next_delta;
  // The labels, and the weights of their squared errors.
  float *labels, *coefficients;
  // The parameters of all layers. Rows of weights are an odd number of values apart: see row_stride.
  float *parameters;
};

// The distance between two rows of weights in shared memory. An odd one keeps threads out of each other's memory banks.
__device__ int row_stride(int inputs) { return inputs | 1; }

__device__ int widest(const Network &network) {
  int most = 0;
  for (int layer = 1; layer <= network.layers; ++layer) most = max(most, network.widths[layer]);
  return most;
}

__device__ float sum_of(float4 v) { return (v.x + v.y) + (v.z + v.w); }

__device__ void add_product(float4 &sum, float a, float4 b) {
  sum.x += a * b.x;
  sum.y += a * b.y;
  sum.z += a * b.z;
  sum.w += a * b.w;
}

// Waits until all blocks have called it as often as this one. `arrived` counts all calls, `calls` those of this block.
__device__ void grid_barrier(unsigned *arrived, unsigned &calls) {
  __syncthreads();
  if (threadIdx.x == 0) {
    ++calls;
    __threadfence();
    atomicAdd(arrived, 1);
    while (*static_cast<volatile unsigned *>(arrived) < calls * gridDim.x) {
    }
    __threadfence();
  }
  __syncthreads();
}

// The sum over the block's threads, known to all of them.
__device__ float block_sum(float value) {
  __shared__ float sums[32];
  __shared__ float sum;
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(~0u, value, lanes);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  if (threadIdx.x == 0) {
    sum = 0;
    for (int warp = 0; warp < blockDim.x / 32; ++warp) sum += sums[warp];
  }
  __syncthreads();
  return sum;
}

// Copies the parameters of all layers to shared memory.
__device__ void load_parameters(const Network &network, const float *from, float *to) {
  for (int layer = 0; layer < network.layers; ++layer) {
    const int inputs = network.widths[layer], outputs = network.widths[layer + 1], row = row_stride(inputs);
#pragma unroll 8
    for (int i = threadIdx.x; i < outputs * inputs; i += blockDim.x)
      to[i / inputs * row + i % inputs] = __ldcg(from + i);
    from += outputs * inputs, to += outputs * row;
    for (int i = threadIdx.x; i < outputs; i += blockDim.x) to[i] = __ldcg(from + i);
    from += outputs, to += outputs;
  }
}

// A layer: weights times inputs plus bias, and a ReLU if it is hidden.
__device__ void forward(int inputs, int outputs, bool hidden, const float *weights, const float4 *x, float4 *y) {
  const int row = row_stride(inputs);
  const float *bias = weights + outputs * row;
  for (int i = threadIdx.x; i < outputs * kQuads; i += blockDim.x) {
    const int output = i % outputs, quad = i / outputs;
    const float start = bias[output];
    float4 sum = make_float4(start, start, start, start);
#pragma unroll 8
    for (int input = 0; input < inputs; ++input)
      add_product(sum, weights[output * row + input], x[input * kQuads + quad]);
    if (hidden) {
      // NaN stays NaN.
      sum.x = sum.x < 0 ? 0 : sum.x;
      sum.y = sum.y < 0 ? 0 : sum.y;
      sum.z = sum.z < 0 ? 0 : sum.z;
      sum.w = sum.w < 0 ? 0 : sum.w;
    }
    y[output * kQuads + quad] = sum;
  }
}

// Writes a layer's gradient, or adds it to what is there.
__device__ void add_gradient(int inputs, int outputs, const float4 *x, const float4 *delta, bool add, float *gradient) {
  const int groups = max(static_cast<int>(blockDim.x) / inputs, 1);
  for (int i = threadIdx.x; i < inputs * groups; i += blockDim.x) {
    const int input = i % inputs;
    float4 column[kQuads];
    for (int quad = 0; quad < kQuads; ++quad) column[quad] = x[input * kQuads + quad];
    for (int output = i / inputs; output < outputs; output += groups) {
      float sum = 0;
      for (int quad = 0; quad < kQuads; ++quad) {
        const float4 d = delta[output * kQuads + quad];
        sum += (d.x * column[quad].x + d.y * column[quad].y) + (d.z * column[quad].z + d.w * column[quad].w);
      }
      float *place = gradient + output * inputs + input;
      *place = add ? *place + sum : sum;
    }
  }
  for (int output = threadIdx.x; output < outputs; output += blockDim.x) {
    float sum = 0;
    for (int quad = 0; quad < kQuads; ++quad) sum += sum_of(delta[output * kQuads + quad]);
    float *place = gradient + outputs * inputs + output;
    *place = add ? *place + sum : sum;
  }
}

// The derivatives by the inputs of the ReLU whose outputs are a layer's inputs `x`.
__device__ void backward_input(int inputs, int outputs, const float *weights, const float4 *x, const float4 *delta,
                               float4 *result) {
  const int row = row_stride(inputs);
  for (int i = threadIdx.x; i < inputs * kQuads; i += blockDim.x) {
    const int input = i % inputs, quad = i / inputs;
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 8
    for (int output = 0; output < outputs; ++output) {
      add_product(sum, weights[output * row + input], delta[output * kQuads + quad]);
    }
    const float4 passed = x[input * kQuads + quad];
    result[input * kQuads + quad] = make_float4(passed.x > 0 ? sum.x : 0, passed.y > 0 ? sum.y : 0,
                                                passed.z > 0 ? sum.z : 0, passed.w > 0 ? sum.w : 0);
  }
}

// Takes a tile forward and backward. Returns this thread's part of its loss, and writes its gradient to the block's
// `gradient`, or adds it there.
__device__ float train_tile(const Network &network, const float *features, const float *labels, const long *rows,
                            const float *coefficients, int count, bool add, Memory memory, float *gradient) {
  const int inputs = network.widths[0], outputs = network.widths[network.layers];
  // Rows beyond the last one are zeros.
  float *values = reinterpret_cast<float *>(memory.inputs);
  for (int i = threadIdx.x; i < TILE * (inputs + outputs); i += blockDim.x) {
    const int row = i % TILE, number = i / TILE;
    if (number < inputs) {
      values[i] = row < count ? features[rows[row] * inputs + number] : 0;
    } else {
      const int output = number - inputs;
      memory.labels[output * TILE + row] = row < count ? labels[rows[row] * outputs + output] : 0;
      memory.coefficients[output * TILE + row] = row < count ? coefficients[row * outputs + output] : 0;
    }
  }
  __syncthreads();
  float4 *x = memory.inputs;
  const float *parameters = memory.parameters;
  for (int layer = 0; layer < network.layers; ++layer) {
    const int from = network.widths[layer], to = network.widths[layer + 1];
    const bool hidden = layer + 1 < network.layers;
    float4 *y = hidden ? x + from * kQuads : memory.delta;
    forward(from, to, hidden, parameters, x, y);
    __syncthreads();
    if (hidden) {
      x = y;
      parameters += to * row_stride(from) + to;
      gradient += to * from + to;
    }
  }
  float loss = 0;
  float *delta = reinterpret_cast<float *>(memory.delta);
  for (int i = threadIdx.x; i < TILE * outputs; i += blockDim.x) {
    const float error = delta[i] - memory.labels[i], weighted = memory.coefficients[i] * error;
    const bool counts = i % TILE < count;
    loss += counts ? weighted * error : 0;
    delta[i] = counts ? 2 * weighted : 0;
  }
  __syncthreads();
  for (int layer = network.layers - 1;; --layer) {
    const int from = network.widths[layer], to = network.widths[layer + 1];
    add_gradient(from, to, x, memory.delta, add, gradient);
    if (layer == 0) break;
    backward_input(from, to, parameters, x, memory.delta, memory.next_delta);
    __syncthreads();
    float4 *written = memory.next_delta;
    memory.next_delta = memory.delta;
    memory.delta = written;
    const int before = network.widths[layer - 1];
    x -= before * kQuads;
    parameters -= from * row_stride(before) + from;
    gradient -= from * before + from;
  }
  // The next tile overwrites this one.
  __syncthreads();
  return loss;
}

// Replaces numbers that are almost 0 by 0, as adam_step.rs does.
__device__ float normal(float value) { return fabsf(value) < 1e-30f ? 0 : value; }

// One step of Adam for one parameter.
__device__ void apply_update(const QueuedStep &step, float gradient, float &value, float &mean, float &square) {
  gradient += step.weight_decay * value;
  mean = normal(mean + (1 - step.beta1) * (gradient - mean));
  square = normal(step.beta2 * square + (1 - step.beta2) * gradient * gradient);
  value -= step.rate * mean / (sqrtf(square) * step.correction + step.epsilon);
}

// Takes all of `steps`. `rows` and `coefficients` are those of their mini-batches, one after the other. `partial` has
// room for each block's gradient and loss. The first step whose loss is not finite changes nothing, nor do those after
// it, and their losses are NaN. All blocks must run at once. `arrived` is 0 at the start.
extern "C" __global__ void train(Network network, const float *features, const float *labels, const long *rows,
                                 const float *coefficients, const QueuedStep *steps, int count, float *parameters,
                                 float *means, float *squares, float *partial, float *losses, unsigned *arrived) {
  extern __shared__ float4 shared[];
  Memory memory;
  memory.inputs = shared;
  memory.delta = shared;
  for (int layer = 0; layer < network.layers; ++layer) memory.delta += network.widths[layer] * kQuads;
  memory.next_delta = memory.delta + widest(network) * kQuads;
  const int outputs = network.widths[network.layers];
  memory.labels = reinterpret_cast<float *>(memory.next_delta + widest(network) * kQuads);
  memory.coefficients = memory.labels + outputs * TILE;
  memory.parameters = memory.coefficients + outputs * TILE;
  float *block_losses = partial + static_cast<long>(gridDim.x) * network.parameters;
  unsigned calls = 0;
  bool finite = true;
  for (int number = 0; number < count; ++number) {
    const QueuedStep step = steps[number];
    load_parameters(network, parameters, memory.parameters);
    float *gradient = partial + static_cast<long>(blockIdx.x) * network.parameters;
    float loss = 0;
    for (int start = blockIdx.x * TILE; start < step.rows; start += gridDim.x * TILE) {
      const int first = step.first + start;
      loss += train_tile(network, features, labels, rows + first, coefficients + static_cast<long>(first) * outputs,
                         min(step.rows - start, TILE), start != blockIdx.x * TILE, memory, gradient);
    }
    loss = block_sum(loss);
    if (threadIdx.x == 0) block_losses[blockIdx.x] = loss;
    grid_barrier(arrived, calls);
    // Blocks without a tile have written no gradient.
    const int blocks = min((step.rows + TILE - 1) / TILE, static_cast<int>(gridDim.x));
    loss = 0;
    for (int block = threadIdx.x; block < blocks; block += blockDim.x) loss += __ldcg(block_losses + block);
    loss = block_sum(loss);
    finite = finite && isfinite(loss);
    if (blockIdx.x == 0 && threadIdx.x == 0) losses[number] = finite ? loss : __int_as_float(0x7fffffff);
    if (finite) {
      for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < network.parameters; i += gridDim.x * blockDim.x) {
        float value = __ldcg(parameters + i), mean = means[i], square = squares[i], sum = 0;
#pragma unroll 16
        for (int block = 0; block < blocks; ++block)
          sum += __ldcg(partial + static_cast<long>(block) * network.parameters + i);
        apply_update(step, sum, value, mean, square);
        parameters[i] = value, means[i] = mean, squares[i] = square;
      }
    }
    grid_barrier(arrived, calls);
  }
}
