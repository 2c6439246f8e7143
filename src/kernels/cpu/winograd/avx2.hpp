// Winograd's convolutions with AVX2: its vectors, and the algorithm.

#undef BIV_TARGET
#define BIV_TARGET __attribute__((target("avx2,fma")))

// A vector: 8 channels in single precision.
using Lanes = __m256;
constexpr int64_t kLanes = 8;
// How many rows of a matrix product have their sums in registers at once, two vectors each.
constexpr int kRows = 6;

// Loads and stores need no alignment.
BIV_INLINE Lanes load(const float *from) { return _mm256_loadu_ps(from); }
BIV_INLINE void store(float *to, Lanes value) { _mm256_storeu_ps(to, value); }
// Stores past the caches; needs alignment.
BIV_INLINE void stream(float *to, Lanes value) { _mm256_stream_ps(to, value); }
// The same value in all lanes.
BIV_INLINE Lanes spread(float value) { return _mm256_set1_ps(value); }
// a b + c
BIV_INLINE Lanes multiply_add(Lanes a, Lanes b, Lanes c) { return _mm256_fmadd_ps(a, b, c); }

#include "algorithm.hpp"
