// Convolutions of 3 x 3 with stride 1 for images in the channels-last format on the CPU, by Winograd's minimal
// filtering (Winograd 1980; Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks"). In single
// precision an output tile of 4 x 4 pixels needs 36 multiplications for each pair of channels instead of 144,
// F(4 x 4, 3 x 3). In bfloat16 one of 2 x 2 needs 16 instead of 36, F(2 x 2, 3 x 3).
//
//   Y = A^T [(G g G^T) * (B^T d B)] A
//
// Here g is a filter, d are the pixels of the input that a tile needs, 6 x 6 or 4 x 4, and * is elementwise. The values
// in the brackets are in the transform domain, which has 36 or 16 points. Summed over the channels, the elementwise
// products are a product of matrices at each point. The maps are linear, so the derivatives use their transposes.
//
// What is summed in which order does not depend on the number of threads, so neither does any bit of the result.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "../../torch/guarded.hpp"
#include "features.hpp"
#include "parallel.hpp"

#ifdef __x86_64__
#include <immintrin.h>

// The attributes of small functions on vectors. A template is compiled for the instruction set that it names itself,
// not for that of its caller: so each instruction set has its own copy of all the code, in its own namespace.
#define BIV_INLINE BIV_TARGET __attribute__((always_inline)) inline

namespace {

namespace avx512 {
#include "winograd/avx512.hpp"
}
namespace avx2 {
#include "winograd/avx2.hpp"
}

std::optional<at::Tensor> winograd(int vectors, const at::Tensor &input, const at::Tensor &weight,
                                   const std::optional<at::Tensor> &bias, int64_t stride, int64_t padding) {
  if (input.scalar_type() == at::kBFloat16 && vectors == kAvx512) {
    return avx512::convolution<avx512::Bfloat16>(input, weight, bias, stride, padding);
  }
  if (input.scalar_type() != at::kFloat) return std::nullopt;
  if (vectors == kAvx512) return avx512::convolution<avx512::SinglePrecision>(input, weight, bias, stride, padding);
  if (vectors == kAvx2) return avx2::convolution<avx2::SinglePrecision>(input, weight, bias, stride, padding);
  return std::nullopt;
}

}  // namespace

#endif

// A convolution with square filters by the instructions of `vectors`, plus `bias` unless that is NULL: a new tensor, or
// NULL where the code here does not take such tensors. bfloat16 needs AVX-512's instructions for it.
extern "C" char *biv_cpu_winograd(int vectors, const at::Tensor *input, const at::Tensor *weight,
                                  const at::Tensor *bias, int64_t stride, int64_t padding, at::Tensor **result) {
  return guarded([&] {
    *result = nullptr;
#ifdef __x86_64__
    const std::optional<at::Tensor> addend = bias ? std::optional(*bias) : std::nullopt;
    const auto output = winograd(vectors, *input, *weight, addend, stride, padding);
    if (output) *result = new at::Tensor(*output);
#else
    (void)vectors, (void)input, (void)weight, (void)bias, (void)stride, (void)padding;
#endif
  });
}
