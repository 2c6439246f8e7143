// What libbiv asks libbiv_cuda.so before it uses it.

#include "interface.hpp"

#include <torch/headeronly/version.h>

#include "../../torch/guarded.hpp"
#include "nvrtc.hpp"

#define BIV_TEXT_OF(value) #value
#define BIV_TEXT(value) BIV_TEXT_OF(value)

extern "C" {

// The interface of this library, and the libtorch that it was compiled for: a literal. libbiv compares it before it
// calls anything else, so this function itself never changes.
const char *biv_cuda_interface() { return BIV_TEXT(BIV_CUDA_INTERFACE) " for libtorch " TORCH_VERSION; }

// Why the kernels cannot be compiled here, in a message that the caller frees; NULL where they can.
char *biv_cuda_nvrtc() {
  return guarded([] { Nvrtc::get(); });
}

}  // extern "C"
