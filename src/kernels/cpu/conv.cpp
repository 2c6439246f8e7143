// Convolutions of 3 x 3 with stride 1 for images in the channels-last format on the CPU, by Winograd's minimal
// filtering (Winograd 1980; Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks"). In single
// precision a tile of 4 x 4 pixels of the output needs 36 multiplications for each pair of channels instead of 144,
// F(4 x 4, 3 x 3); in bfloat16 one of 2 x 2 needs 16 instead of 36, F(2 x 2, 3 x 3).
//
//   Y = A^T [(G g G^T) * (B^T d B)] A
//
// for a filter g and the pixels d of the input that a tile takes, 6 x 6 or 4 x 4, * being elementwise: summed over the
// channels, a product of matrices for each of these points. Its derivatives are those of its linear maps, and go the
// same way.
//
// What is summed and in which order does not depend on the number of threads, and so neither does a bit of the result.

#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
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
#include "parallel.hpp"

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>

// For functions with vectors, which are compiled for each kind. A template's functions are compiled as it says itself,
// not as those do that use it: so each kind has everything for itself.
#define BIV_INLINE BIV_TARGET __attribute__((always_inline)) inline

namespace {

namespace avx512 {
#include "winograd/avx512.hpp"
}
namespace avx2 {
#include "winograd/avx2.hpp"
}

// Whether libtorch itself takes such vectors: the environment's ATEN_CPU_CAPABILITY limits both.
bool has_avx512() {
  static const bool has = at::get_cpu_capability() == "AVX512";
  return has;
}

bool has_avx2() {
  static const bool has = at::get_cpu_capability() == "AVX2";
  return has || has_avx512();
}

// Processors with AMX have libtorch do 16 times as many products of bfloat16 in the time of ours.
bool has_amx() {
  unsigned eax, ebx, ecx, edx;
  constexpr unsigned kAmxBf16 = 1 << 22;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && edx & kAmxBf16;
}

bool has_bfloat16() {
  static const bool has = has_avx512() && __builtin_cpu_supports("avx512bf16") && !has_amx();
  return has;
}

// A convolution by the code here, if it is for that.
std::optional<at::Tensor> winograd(const at::Tensor &input, const at::Tensor &weight,
                                   const std::optional<at::Tensor> &bias, int64_t stride, int64_t padding) {
  // at::autocast::is_autocast_enabled(at::kCPU), whose header has all of ATen.
  const bool cast = !c10::impl::tls_is_dispatch_key_excluded(c10::DispatchKey::AutocastCPU);
  if (cast && input.scalar_type() == at::kBFloat16 && has_bfloat16()) {
    return avx512::convolution<avx512::Bfloat16>(input, weight, bias, stride, padding);
  }
  if (cast || input.scalar_type() != at::kFloat) return std::nullopt;
  std::optional<at::Tensor> output;
  if (has_avx512()) output = avx512::convolution<avx512::SinglePrecision>(input, weight, bias, stride, padding);
  // Numbers of channels that fill no two vectors of AVX-512 may be for these.
  if (!output && has_avx2()) output = avx2::convolution<avx2::SinglePrecision>(input, weight, bias, stride, padding);
  return output;
}

}  // namespace

#endif

namespace {

at::Tensor conv2d(const at::Tensor &input, const at::Tensor &weight, const std::optional<at::Tensor> &bias,
                  int64_t stride, int64_t padding) {
#ifdef __x86_64__
  if (const auto output = winograd(input, weight, bias, stride, padding)) return *output;
#endif
  return at::conv2d(input, weight, bias, {stride, stride}, {padding, padding});
}

}  // namespace

// A convolution with square filters, plus `bias` unless that is NULL: a new tensor.
extern "C" char *biv_cpu_conv2d(const at::Tensor *input, const at::Tensor *weight, const at::Tensor *bias,
                                 int64_t stride, int64_t padding, at::Tensor **result) {
  return guarded([&] {
    const std::optional<at::Tensor> addend = bias ? std::optional(*bias) : std::nullopt;
    *result = new at::Tensor(conv2d(*input, *weight, addend, stride, padding));
  });
}
