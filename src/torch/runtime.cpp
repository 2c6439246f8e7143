// libtorch's modes, switches and libraries. No exception leaves a function: it returns NULL, or a message made with
// strdup that the caller frees.

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <dlfcn.h>
#include <link.h>
#include <torch/headeronly/version.h>

#include <cstring>
#include <stdexcept>

#include "guarded.hpp"

namespace {

// Where the loaded library `name` keeps the address of the function `symbol`, which it calls.
struct Slot {
  const char *name, *symbol;
  void *const *place;
};

int find_slot(dl_phdr_info *library, size_t, void *data) {
  auto *slot = static_cast<Slot *>(data);
  if (!strstr(library->dlpi_name, slot->name)) return 0;
  const ElfW(Dyn) *dynamic = nullptr;
  for (int i = 0; i < library->dlpi_phnum; ++i) {
    const ElfW(Phdr) &header = library->dlpi_phdr[i];
    if (header.p_type == PT_DYNAMIC) dynamic = reinterpret_cast<const ElfW(Dyn) *>(library->dlpi_addr + header.p_vaddr);
  }
  const ElfW(Rela) *calls = nullptr;
  const ElfW(Sym) *symbols = nullptr;
  const char *names = nullptr;
  size_t size = 0;
  for (; dynamic && dynamic->d_tag != DT_NULL; ++dynamic) {
    if (dynamic->d_tag == DT_JMPREL) calls = reinterpret_cast<const ElfW(Rela) *>(dynamic->d_un.d_ptr);
    if (dynamic->d_tag == DT_SYMTAB) symbols = reinterpret_cast<const ElfW(Sym) *>(dynamic->d_un.d_ptr);
    if (dynamic->d_tag == DT_STRTAB) names = reinterpret_cast<const char *>(dynamic->d_un.d_ptr);
    if (dynamic->d_tag == DT_PLTRELSZ) size = dynamic->d_un.d_val;
  }
  if (!calls || !symbols || !names) return 1;
  for (size_t i = 0; i < size / sizeof *calls; ++i) {
    if (!strcmp(names + symbols[ELF64_R_SYM(calls[i].r_info)].st_name, slot->symbol))
      slot->place = reinterpret_cast<void *const *>(library->dlpi_addr + calls[i].r_offset);
  }
  return 1;
}

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

// The file whose dgemm_ libtorch calls for products of matrices: its own, unless a BLAS of the host's comes before it.
// The caller frees it; NULL where it cannot be told.
char *biv_torch_blas() {
  try {
    // The first call looks up the address.
    at::NoGradGuard no_grad;
    at::Tensor ones = at::ones({32, 32}, at::kDouble);
    at::mm(ones, ones);
    Slot slot = {"libtorch_cpu", "dgemm_", nullptr};
    dl_iterate_phdr(find_slot, &slot);
    Dl_info owner;
    if (!slot.place || !dladdr(*slot.place, &owner) || !owner.dli_fname) return nullptr;
    return strdup(owner.dli_fname);
  } catch (...) {
    return nullptr;
  }
}

// Whether the processor is Intel's.
bool biv_torch_intel() {
#ifdef __x86_64__
  return __builtin_cpu_is("intel");
#else
  return false;
#endif
}

// The version of the headers, a literal.
const char *biv_torch_torch_version() { return TORCH_VERSION; }

}  // extern "C"
