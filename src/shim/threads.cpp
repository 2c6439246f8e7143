// What libtorch starts on a thread that calls it for the first time, to be started where there is room for it.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <pthread.h>
#include <sys/resource.h>

#include <algorithm>

#include "guarded.hpp"

namespace {

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

// Operations keep something for the thread, and the system ends the process where there is no memory for that. Those of
// networks for images do too, but take more and fail in their own ways.
void touch_thread_locals() {
  at::AutoGradMode grad(true);
  at::linear(at::ones({1, 1}), at::ones({1, 1}).requires_grad_()).sum().backward();
}

}  // namespace

extern "C" {

// How many bytes of a limited address space the next biv_shim_start_thread needs, if a thread needs `each` beside its
// stack: 0 if there is nothing to start on this thread. libtorch's first word on a thread, how many threads it has,
// needs some, too.
size_t biv_shim_thread_needs(size_t each) {
  rlimit space;
  if (getrlimit(RLIMIT_AS, &space) != 0 || space.rlim_cur == RLIM_INFINITY) return 0;
  if (team == 0) return each;
  const int wanted = at::get_num_threads();
  // OpenMP ends threads that are not wanted any more.
  team = std::min(team, wanted);
  return (wanted - team) * (stack_size() + each);
}

// Starts what is this thread's own, and then the threads that OpenMP has for it: it would end the process if there were
// no room for them.
char *biv_shim_start_thread() {
  return guarded([] {
    if (team == 0) {
      touch_thread_locals();
      team = 1;
    } else {
      // Large enough to be divided.
      at::zeros({1 << 16}, at::kFloat);
      team = at::get_num_threads();
    }
  });
}

}  // extern "C"
