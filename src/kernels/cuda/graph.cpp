// libbiv_cuda.so: work on a GPU recorded once as a CUDA graph and then repeated by one call. A library of its
// own, which libbiv loads when it is asked for: it needs libtorch's CUDA libraries, and CUDA's headers to be
// compiled. As in torch/ops.cpp, every function returns NULL or a message that the caller frees.

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <memory>

#include "../../torch/guarded.hpp"

extern "C" {

// A recording. While it is made, `before` is the stream that the thread worked on.
struct biv_cuda_graph {
  at::cuda::CUDAGraph graph;
  c10::cuda::CUDAStream before;
};

// Starts to record what this thread, and libtorch's for it, do on `device`, instead of doing it.
char *biv_cuda_graph_begin(int device, biv_cuda_graph **result) {
  return guarded([&] {
    auto index = static_cast<c10::DeviceIndex>(device);
    c10::cuda::CUDAGuard on_device(index);
    std::unique_ptr<biv_cuda_graph> recording(new biv_cuda_graph{{}, c10::cuda::getCurrentCUDAStream(index)});
    // Everything before it is done: recordings cannot wait for other streams.
    c10::cuda::device_synchronize();
    c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, index));
    try {
      // Other threads of the host may go on using the GPU.
      recording->graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    } catch (...) {
      c10::cuda::setCurrentCUDAStream(recording->before);
      throw;
    }
    *result = recording.release();
  });
}

// Ends the recording. The thread then works on the stream of before again.
char *biv_cuda_graph_end(biv_cuda_graph *recording) {
  return guarded([&] {
    c10::cuda::CUDAGuard on_device(recording->before.device_index());
    try {
      recording->graph.capture_end();
    } catch (...) {
      c10::cuda::setCurrentCUDAStream(recording->before);
      throw;
    }
    c10::cuda::setCurrentCUDAStream(recording->before);
  });
}

// Does what was recorded, on the thread's stream; does not wait for it.
char *biv_cuda_graph_replay(biv_cuda_graph *recording) {
  return guarded([&] { recording->graph.replay(); });
}

char *biv_cuda_graph_free(biv_cuda_graph *recording) {
  return guarded([&] { delete recording; });
}

}  // extern "C"
