// libtorch's modes, switches and libraries. No exception leaves a function: it returns NULL, or a message made with
// strdup that the caller frees.

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <cxxabi.h>
#include <dlfcn.h>
#include <torch/headeronly/version.h>
#include <unistd.h>

#include <stdexcept>

#include "guarded.hpp"

namespace {

at::DeviceType device_type(bool cuda) { return cuda ? at::kCUDA : at::kCPU; }

}  // namespace

extern "C" {

// A thread's autocast for one type of device, as AutocastState in scopes.rs.
struct biv_torch_autocast {
  bool enabled;
  bool cached;
  at::ScalarType dtype;
};
static_assert(sizeof(biv_torch_autocast) == 3 && offsetof(biv_torch_autocast, dtype) == 2);

// Whether this thread's operations on the CPU are cast.
bool biv_torch_autocasts_on_cpu() {
  // at::autocast::is_autocast_enabled without its checks, as it is asked for each layer.
  return !c10::impl::tls_is_dispatch_key_excluded(c10::DispatchKey::AutocastCPU);
}

// Sets this thread's autocast to bfloat16 or switches it off, and writes what it was to `before`. The cache is off, so
// no copy of a weight outlives a step.
char *biv_torch_autocast_set(bool cuda, bool enabled, biv_torch_autocast *before) {
  return guarded([&] {
    at::DeviceType device = device_type(cuda);
    *before = {at::autocast::is_autocast_enabled(device), at::autocast::is_autocast_cache_enabled(),
               at::autocast::get_autocast_dtype(device)};
    if (enabled) at::autocast::set_autocast_dtype(device, at::kBFloat16);
    at::autocast::set_autocast_cache_enabled(false);
    at::autocast::set_autocast_enabled(device, enabled);
  });
}

// Undoes biv_torch_autocast_set.
char *biv_torch_autocast_restore(bool cuda, const biv_torch_autocast *before) {
  return guarded([&] {
    at::DeviceType device = device_type(cuda);
    at::autocast::set_autocast_enabled(device, before->enabled);
    at::autocast::set_autocast_cache_enabled(before->cached);
    at::autocast::set_autocast_dtype(device, before->dtype);
  });
}

// Puts this thread into libtorch's ordinary mode, in which tensors can be trained. Returns what undoes it; NULL where
// there is no memory for that.
c10::InferenceMode *biv_torch_ordinary_mode_enter() {
  try {
    return new c10::InferenceMode(false);
  } catch (...) {
    return nullptr;
  }
}

// Puts the thread back into its former mode.
void biv_torch_ordinary_mode_leave(c10::InferenceMode *mode) { delete mode; }

// Sets one of libtorch's switches, which hold for the whole process: TF32 in products of matrices (0), TF32 in
// convolutions (1), timing which algorithm for a convolution is the fastest (2). `before` becomes what it was.
char *biv_torch_switch(int which, bool on, bool *before) {
  return guarded([&] {
    at::Context &context = at::globalContext();
    switch (which) {
      case 0:
        *before = context.allowTF32CuBLAS();
        context.setAllowTF32CuBLAS(on);
        break;
      case 1:
        *before = context.allowTF32CuDNN();
        context.setAllowTF32CuDNN(on);
        break;
      default:
        *before = context.benchmarkCuDNN();
        context.setBenchmarkCuDNN(on);
    }
  });
}

// Loads a library of libtorch's that registers itself with it, as libtorch_cuda.so does. We are not linked with that
// one, so that one binary runs with and without it. Its symbols are not visible to the host's other libraries.
char *biv_torch_load(const char *name) {
  return guarded([&] {
    if (!dlopen(name, RTLD_NOW | RTLD_LOCAL)) throw std::runtime_error(dlerror());
  });
}

// Whether the processor is Intel's.
bool biv_torch_intel() {
#ifdef __x86_64__
  return __builtin_cpu_is("intel");
#else
  return false;
#endif
}

// Runs `call`, a callback of the host's. An exception that leaves it ends the process. A thread that is ended in it, as
// by pthread_exit(), stays here for good: the frames below are not made to be unwound.
void biv_torch_call_host(void (*call)(void *, void *), void *data) noexcept {
#ifdef __GLIBCXX__
  try {
    call(data, nullptr);
  } catch (abi::__forced_unwind &) {
    for (;;) pause();
  }
#else
  call(data, nullptr);
#endif
}

// The version of the headers, a literal.
const char *biv_torch_torch_version() { return TORCH_VERSION; }

}  // extern "C"
