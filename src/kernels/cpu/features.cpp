// What the processor can do. The environment's ATEN_CPU_CAPABILITY limits the vectors, as it does libtorch's own.

#include "features.hpp"

#include <ATen/Version.h>

#include <string>

#ifdef __x86_64__
#include <cpuid.h>
#endif

extern "C" {

// The widest vectors that libtorch uses here: a number of `Vectors`.
int biv_cpu_vectors() noexcept {
  try {
    const std::string capability = at::get_cpu_capability();
    return capability == "AVX512" ? kAvx512 : capability == "AVX2" ? kAvx2 : kBaseline;
  } catch (...) {
    return kBaseline;
  }
}

// Whether there are instructions for products of bfloat16 in AVX-512's vectors.
bool biv_cpu_has_avx512_bf16() noexcept {
#ifdef __x86_64__
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

// Whether there are those of AMX, with which libtorch multiplies 16 times as many bfloat16 in the same time.
bool biv_cpu_has_amx_bf16() noexcept {
#ifdef __x86_64__
  unsigned eax, ebx, ecx, edx;
  constexpr unsigned kAmxBf16 = 1 << 22;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && edx & kAmxBf16;
#else
  return false;
#endif
}

}  // extern "C"
