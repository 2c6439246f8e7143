// CUDA graphs: work on a GPU that is captured once and then repeated by one call. This is part of libbiv_cuda.so, a
// library of its own, which libbiv loads when a GPU is first used: it needs libtorch's CUDA libraries, and CUDA's
// headers to be compiled. As in torch/ops.cpp, every function returns NULL or a message that the caller frees.

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <memory>

#include "../../torch/guarded.hpp"

extern "C" {

// Captured work. `before` is the stream that the thread used before the capture.
struct biv_cuda_graph {
  at::cuda::CUDAGraph graph;
  c10::cuda::CUDAStream before;
};

// Begins to capture what this thread, and libtorch's threads for it, start on `device`, instead of doing it.
char *biv_cuda_graph_begin(int device, biv_cuda_graph **result) {
  return guarded([&] {
    auto index = static_cast<c10::DeviceIndex>(device);
    c10::cuda::CUDAGuard on_device(index);
    std::unique_ptr<biv_cuda_graph> recording(new biv_cuda_graph{{}, c10::cuda::getCurrentCUDAStream(index)});
    // A capture cannot wait for other streams, so all earlier work is done first.
    c10::cuda::device_synchronize();
    c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, index));
    try {
      // The host's other threads may use the GPU meanwhile.
      recording->graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    } catch (...) {
      c10::cuda::setCurrentCUDAStream(recording->before);
      throw;
    }
    *result = recording.release();
  });
}

// Ends the capture, also one that failed. The thread is then on its former stream again.
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

// Does the captured work on the thread's stream, without waiting for it.
char *biv_cuda_graph_replay(biv_cuda_graph *recording) {
  return guarded([&] { recording->graph.replay(); });
}

char *biv_cuda_graph_free(biv_cuda_graph *recording) {
  return guarded([&] { delete recording; });
}

}  // extern "C"
