// The loops of norm.cpp, which includes this once for each instruction set, in a namespace of its own and with BIV_WIDE
// as the functions' target. They go through `count` values in groups of `period`, of which the last may be shorter.
// What depends on the channel is a list with one number for each value of a group.

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

// Adds up the derivatives by the normalised values, and those times `x - mean`.
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

BIV_WIDE void backward_input(const float *__restrict x, const float *__restrict delta, int64_t count, int64_t period,
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

// bfloat16 to single precision.
BIV_WIDE void widen(const uint16_t *__restrict from, int64_t count, float *__restrict to) {
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = static_cast<uint32_t>(from[i]) << 16;
    std::memcpy(&to[i], &bits, sizeof bits);
  }
}

// Single precision to the nearest bfloat16, halfway to the even one.
BIV_WIDE void narrow(const float *__restrict from, int64_t count, uint16_t *__restrict to) {
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, &from[i], sizeof bits);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    to[i] = static_cast<uint16_t>(from[i] == from[i] ? rounded : 0x7fc0);
  }
}

constexpr Loops kLoops = {add_values, add_squares,    normalize, normalize_and_add,
                          add_deltas, backward_input, widen,     narrow};
