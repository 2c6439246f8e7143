// Emulates CUDA on the CPU: each block is a process, and each of its threads a thread. It tests what kernels compute
// where there is no GPU. It has only the few functions of CUDA's that they use. The Makefile prepares the kernels for
// it: a block's shared memory becomes static.

#pragma once

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#define __device__
#define __global__

using std::isfinite, std::max, std::min;

struct float4 {
  float x, y, z, w;
};
struct uint4 {
  unsigned x, y, z, w;
};
struct uint2 {
  unsigned x, y;
};
struct Index {
  int x, y;
};

inline thread_local Index threadIdx;
inline Index blockIdx, blockDim, gridDim;

// The barriers and the warps' exchange of the block that this process is.
inline std::unique_ptr<std::barrier<>> all_threads;
inline std::vector<std::unique_ptr<std::barrier<>>> warps;
inline double lanes[1024];

inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline void __syncthreads() { all_threads->arrive_and_wait(); }
// The atomic operations below are fences already.
inline void __threadfence() {}
inline void atomicAdd(unsigned *place, unsigned value) { __atomic_fetch_add(place, value, __ATOMIC_SEQ_CST); }
inline float __ldcg(const float *place) { return *place; }

inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline float __int_as_float(int bits) { return __uint_as_float(static_cast<unsigned>(bits)); }

template <class Value>
Value __shfl_xor_sync(unsigned, Value value, int distance) {
  const int thread = threadIdx.x;
  lanes[thread] = value;
  warps[thread / 32]->arrive_and_wait();
  const auto other = static_cast<Value>(lanes[thread ^ distance]);
  warps[thread / 32]->arrive_and_wait();
  return other;
}

inline uint16_t bfloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return value == value ? static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16) : 0x7fff;
}

// The only assembly in the kernels is this one instruction.
#define asm(...) both = bfloat16(low) | static_cast<unsigned>(bfloat16(high)) << 16

// Memory that all blocks share, initially 0.
template <class Value>
Value *global(size_t count) {
  void *memory = mmap(nullptr, count * sizeof(Value), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) std::abort();
  return static_cast<Value *>(memory);
}

// Runs `kernel()` in all threads of all blocks, and waits for them.
template <class Kernel>
void launch(Index blocks, int threads, Kernel kernel) {
  gridDim = blocks, blockDim = {threads, 1};
  std::vector<pid_t> processes;
  for (int block = 0; block < blocks.x * blocks.y; ++block) {
    const pid_t process = fork();
    if (process < 0) std::abort();
    if (process > 0) {
      processes.push_back(process);
      continue;
    }
    blockIdx = {block % blocks.x, block / blocks.x};
    all_threads = std::make_unique<std::barrier<>>(threads);
    for (int first = 0; first < threads; first += 32) {
      warps.push_back(std::make_unique<std::barrier<>>(std::min(threads - first, 32)));
    }
    std::vector<std::thread> running;
    for (int thread = 0; thread < threads; ++thread) {
      running.emplace_back([&, thread] {
        threadIdx = {thread, 0};
        kernel();
      });
    }
    for (std::thread &thread : running) thread.join();
    _exit(0);
  }
  for (pid_t process : processes) {
    int status = 0;
    if (waitpid(process, &status, 0) < 0 || status != 0) {
      std::fprintf(stderr, "a block of the kernel failed\n");
      std::exit(1);
    }
  }
}

// A value between -1 and 1. The sequence is the same in each run.
inline float random_value() {
  static uint32_t state = 1;
  state = state * 1664525 + 1013904223;
  return static_cast<float>(state >> 8) / (1 << 23) - 1;
}

inline int checks = 0;

// `tolerance` is relative to the largest value.
template <class Found, class Expected>
void check_close(const Found &found, const Expected &expected, size_t count, double tolerance, const char *what) {
  double largest = 1e-3;
  for (size_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(static_cast<double>(expected[i])));
  for (size_t i = 0; i < count; ++i) {
    ++checks;
    const double difference = std::fabs(static_cast<double>(found[i]) - static_cast<double>(expected[i]));
    if (difference <= tolerance * largest) continue;
    std::fprintf(stderr, "%s, %zu: %g, expected %g\n", what, i, static_cast<double>(found[i]),
                 static_cast<double>(expected[i]));
    std::exit(1);
  }
}
