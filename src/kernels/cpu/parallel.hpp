// Loops that run on libtorch's threads.

#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <exception>
#include <mutex>

// The OpenMP that libtorch uses, and so its threads. NULL where libtorch was built without.
extern "C" {
__attribute__((weak)) void GOMP_parallel(void (*work)(void *), void *data, unsigned threads, unsigned flags);
__attribute__((weak)) int omp_get_thread_num();
__attribute__((weak)) int omp_get_num_threads();
}

namespace {

// Calls `work(first, end)` for as many parts of [0, count) as libtorch has threads, each on its own thread. Throws what
// a part threw. at::parallel_for is a template: compiled without OpenMP, as here, it has one thread; and an OpenMP that
// we linked might not be libtorch's.
template <class Work>
void parallel_for(int64_t count, const Work &work) {
  const int64_t threads = std::min<int64_t>(at::get_num_threads(), count);
  const bool alone = threads < 2 || at::in_parallel_region();
  if (alone || !GOMP_parallel || !omp_get_thread_num || !omp_get_num_threads) return work(0, count);
  struct Call {
    const Work &work;
    int64_t count;
    std::mutex mutex;
    std::exception_ptr error;
  } call{work, count, {}, {}};
  const auto run = [](void *data) {
    auto &[work, count, mutex, error] = *static_cast<Call *>(data);
    const int64_t index = omp_get_thread_num(), all = omp_get_num_threads();
    try {
      work(count * index / all, count * (index + 1) / all);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      error = std::current_exception();
    }
  };
  GOMP_parallel(run, &call, static_cast<unsigned>(threads), 0);
  if (call.error) std::rethrow_exception(call.error);
}

}  // namespace
