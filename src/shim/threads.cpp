// What libtorch starts on a thread that calls it for the first time, to be started where there is room for it.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <pthread.h>
#include <sys/resource.h>

#include "guarded.hpp"

namespace {

// What a thread needs beside its stack until it works, in bytes, amply.
constexpr size_t kStart = 1 << 20;

// How many threads there are for this one's operations, itself among them; 0 before the first.
thread_local int team = 0;

size_t stack_size() {
  size_t size = 8 << 20;
  pthread_attr_t attributes;
  if (pthread_getattr_default_np(&attributes) == 0) {
    pthread_attr_getstacksize(&attributes, &size);
    pthread_attr_destroy(&attributes);
  }
  return size;
}

// Each kind of operation keeps something for the thread, and the system ends the process where there is no memory for
// that.
void touch_thread_locals() {
  at::AutoGradMode grad(true);
  for (auto kind : {at::kFloat, at::kBFloat16}) {
    at::Tensor weights = at::ones({1, 1, 1, 1}, kind).requires_grad_();
    at::Tensor images = at::conv2d(at::ones({1, 1, 1, 1}, kind), weights);
    at::linear(images.view({1, 1}), weights.view({1, 1})).sum().backward();
  }
}

}  // namespace

extern "C" {

// How many bytes of a limited address space biv_shim_start_thread needs: 0 if it need not be called on this thread.
size_t biv_shim_thread_needs() {
  rlimit space;
  if (getrlimit(RLIMIT_AS, &space) != 0 || space.rlim_cur == RLIM_INFINITY) return 0;
  const int wanted = at::get_num_threads();
  // OpenMP ends threads that are not wanted any more.
  if (wanted < team) team = wanted;
  if (wanted == team) return 0;
  return (wanted - 1) * (stack_size() + kStart) + kStart;
}

// Starts the threads that OpenMP has for this one: it would end the process if there were no room for them.
char *biv_shim_start_thread() {
  return guarded([] {
    const int wanted = at::get_num_threads();
    // Large enough to be divided.
    at::zeros({1 << 16}, at::kFloat);
    if (team == 0) touch_thread_locals();
    team = wanted;
  });
}

}  // extern "C"
