// How C++ functions return to Rust: no exception crosses.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstring>
#include <exception>
#include <vector>

namespace {

// Runs `body`. Returns NULL, or its exception's message, made with strdup.
template <class Body>
char *guarded(Body body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const std::exception &error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("an unknown C++ exception");
  }
}

// The `count` tensors behind `tensors`.
inline std::vector<at::Tensor> list(at::Tensor *const *tensors, size_t count) {
  std::vector<at::Tensor> result;
  result.reserve(count);
  for (size_t i = 0; i < count; ++i) result.push_back(*tensors[i]);
  return result;
}

}  // namespace
