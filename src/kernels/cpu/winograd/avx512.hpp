// Winograd's convolutions with AVX-512: its vectors, the algorithm, and bfloat16.

#undef BIV_TARGET
// The instructions for bfloat16 are only in the code for bfloat16, which the caller asks for.
#define BIV_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))

// A vector: 16 channels in single precision, or whatever else 64 bytes hold.
using Lanes = __m512;
constexpr int64_t kLanes = 16;
// How many rows of a matrix product have their sums in registers at once, two vectors each.
constexpr int kRows = 14;

// Loads and stores need no alignment.
BIV_INLINE Lanes load(const float *from) { return _mm512_loadu_ps(from); }
BIV_INLINE void store(float *to, Lanes value) { _mm512_storeu_ps(to, value); }
// Stores past the caches; needs alignment.
BIV_INLINE void stream(float *to, Lanes value) { _mm512_stream_ps(to, value); }
// The same value in all lanes.
BIV_INLINE Lanes spread(float value) { return _mm512_set1_ps(value); }
// a b + c
BIV_INLINE Lanes multiply_add(Lanes a, Lanes b, Lanes c) { return _mm512_fmadd_ps(a, b, c); }

#include "algorithm.hpp"

// bfloat16, in tiles of 2 x 2. Rounding in the transform domain makes outputs wrong by 0.4 % (libtorch's own
// convolutions, which round the weights: 0.2 %). With tiles of 4 x 4 it would be 2 %.
struct Bfloat16 {
  using Tiles = TilesOf2;
  using Value = uint16_t;
  static constexpr int kValues = 2;

  BIV_INLINE static Lanes read(const Value *pixel) {
    Values values;
    std::memcpy(&values, pixel, sizeof values);
    return reinterpret_cast<Lanes>(widen(values) << 16);
  }
  BIV_INLINE static void write(Value *pixel, Lanes value) {
    const Values values = round(value);
    std::memcpy(pixel, &values, sizeof values);
  }
  BIV_INLINE static Lanes in_order(const Lanes (&values)[kValues]) {
    return reinterpret_cast<Lanes>(_mm512_cvtne2ps_pbh(values[1], values[0]));
  }
  BIV_INLINE static Lanes side_by_side(const Lanes (&values)[kValues]) {
    return reinterpret_cast<Lanes>(widen(round(values[0])) | widen(round(values[1])) << 16);
  }
  BIV_INLINE static Lanes add_product(Lanes sum, Lanes a, Lanes b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }

 private:
  using Values = uint16_t __attribute__((vector_size(32)));
  using Elements = uint32_t __attribute__((vector_size(64)));

  BIV_INLINE static Elements widen(Values values) { return __builtin_convertvector(values, Elements); }
  BIV_INLINE static Values round(Lanes value) { return reinterpret_cast<Values>(_mm512_cvtneps_pbh(value)); }
};
