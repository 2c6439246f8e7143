// Compiles CUDA kernels from source with NVRTC, for the GPU at hand and when they are first needed. So the build needs
// no CUDA compiler. libtorch comes with NVRTC.

#pragma once

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <dlfcn.h>

#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

// Macros for the preprocessor, and their values.
using Definitions = std::map<std::string, int>;

// The functions of NVRTC. libtorch does not bring its header.
class Nvrtc {
 public:
  // Loaded at the first call: an exception where it is not there.
  static const Nvrtc &get() {
    static const Nvrtc nvrtc;
    return nvrtc;
  }

  // Whether it is there: some builds of libtorch come without it.
  static bool is_there() {
    try {
      get();
      return true;
    } catch (const std::exception &) {
      return false;
    }
  }

  // Compiles `source` to machine code for GPUs of the compute capability `architecture`.
  std::string compile(const char *source, int architecture, const Definitions &definitions) const {
    void *program;
    check(create_(&program, source, "biv.cu", 0, nullptr, nullptr), "nvrtcCreateProgram");
    std::vector<std::string> options = {"--gpu-architecture=sm_" + std::to_string(architecture), "--std=c++17"};
    for (const auto &[name, value] : definitions) options.push_back("-D" + name + "=" + std::to_string(value));
    std::vector<const char *> pointers;
    for (const std::string &option : options) pointers.push_back(option.c_str());
    const int failed = compile_(program, static_cast<int>(pointers.size()), pointers.data());
    size_t size = 0;
    std::string text;
    if (failed) {
      log_size_(program, &size);
      text.resize(size);
      log_(program, text.data());
      destroy_(&program);
      throw std::runtime_error("a CUDA kernel could not be compiled: " + text);
    }
    check(code_size_(program, &size), "nvrtcGetCUBINSize");
    text.resize(size);
    check(code_(program, text.data()), "nvrtcGetCUBIN");
    destroy_(&program);
    return text;
  }

 private:
  Nvrtc() {
    // libtorch's own wrapper of NVRTC, in libtorch's folder, which finds NVRTC as libtorch does.
    Dl_info torch;
    if (!dladdr(reinterpret_cast<void *>(&c10::cuda::device_synchronize), &torch)) {
      throw std::runtime_error("libtorch's folder cannot be told");
    }
    std::string path = torch.dli_fname;
    path = path.substr(0, path.rfind('/') + 1) + "libcaffe2_nvrtc.so";
    void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) throw std::runtime_error(dlerror());
    find(library, "nvrtcCreateProgram", create_);
    find(library, "nvrtcCompileProgram", compile_);
    find(library, "nvrtcDestroyProgram", destroy_);
    find(library, "nvrtcGetProgramLogSize", log_size_);
    find(library, "nvrtcGetProgramLog", log_);
    find(library, "nvrtcGetCUBINSize", code_size_);
    find(library, "nvrtcGetCUBIN", code_);
  }

  template <class Function>
  static void find(void *library, const char *name, Function *&function) {
    function = reinterpret_cast<Function *>(dlsym(library, name));
    if (!function) throw std::runtime_error(dlerror());
  }

  static void check(int result, const char *what) {
    if (result) throw std::runtime_error(std::string(what) + " failed with " + std::to_string(result));
  }

  int (*create_)(void **, const char *, const char *, int, const char *const *, const char *const *);
  int (*compile_)(void *, int, const char *const *);
  int (*destroy_)(void **);
  int (*log_size_)(void *, size_t *);
  int (*log_)(void *, char *);
  int (*code_size_)(void *, size_t *);
  int (*code_)(void *, char *);
};

// A property of a GPU.
inline int attribute(cudaDeviceAttr which, int gpu = c10::cuda::current_device()) {
  int value;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&value, which, gpu));
  return value;
}

// How many blocks and threads run a kernel, and the bytes of shared memory of a block.
struct Grid {
  unsigned blocks, threads;
  size_t shared = 0;
  unsigned layers = 1;
  // Whether all blocks must run at once.
  bool together = false;
};

// A kernel whose parameters are of these types.
template <class... Parameters>
class Kernel {
 public:
  Kernel(cudaLibrary_t library, const char *name) { C10_CUDA_CHECK(cudaLibraryGetKernel(&kernel_, library, name)); }

  // Launches the kernel on the thread's stream, without waiting for it.
  void operator()(const Grid &grid, Parameters... parameters) const {
    constexpr size_t kUsual = 48 << 10;
    if (grid.shared > kUsual) {
      C10_CUDA_CHECK(cudaKernelSetAttributeForDevice(kernel_, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                     static_cast<int>(grid.shared), c10::cuda::current_device()));
    }
    cudaLaunchAttribute together;
    together.id = cudaLaunchAttributeCooperative;
    together.val.cooperative = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(grid.blocks, grid.layers);
    config.blockDim = dim3(grid.threads);
    config.dynamicSmemBytes = grid.shared;
    config.stream = c10::cuda::getCurrentCUDAStream();
    config.attrs = &together;
    config.numAttrs = grid.together ? 1 : 0;
    void *pointers[] = {&parameters...};
    C10_CUDA_CHECK(cudaLaunchKernelExC(&config, kernel_, pointers));
  }

 private:
  cudaKernel_t kernel_;
};

// The set of kernels in `source` for this thread's GPU: compiled once for each architecture and definitions, and kept.
template <class KernelSet>
const KernelSet &compiled(const char *source, const Definitions &definitions) {
  static std::mutex mutex;
  static std::map<std::pair<int, Definitions>, KernelSet> all;
  const int architecture =
      10 * attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor);
  const std::lock_guard<std::mutex> lock(mutex);
  const auto key = std::make_pair(architecture, definitions);
  if (const auto found = all.find(key); found != all.end()) return found->second;
  const std::string code = Nvrtc::get().compile(source, architecture, definitions);
  cudaLibrary_t library;
  C10_CUDA_CHECK(cudaLibraryLoadData(&library, code.data(), nullptr, nullptr, 0, nullptr, nullptr, 0));
  return all.emplace(key, KernelSet(library)).first->second;
}

}  // namespace
