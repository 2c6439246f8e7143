// What libbiv and libbiv_cuda.so agree on. A change of a function's parameters or of a struct's layout takes a new
// number, here and in library.rs: libbiv uses no library of another one.

#pragma once

#include <cstddef>
#include <cstdint>

#define BIV_CUDA_INTERFACE 1

// A step of training: where its mini-batch's rows begin in the list of all, how many there are, and Adam's numbers. As
// QueuedStep in mlp.rs and mlp.cu.
struct biv_cuda_queued_step {
  int32_t first, rows;
  float rate, beta1, beta2, epsilon, weight_decay, correction;
};

static_assert(sizeof(biv_cuda_queued_step) == 32 && alignof(biv_cuda_queued_step) == 4);
static_assert(offsetof(biv_cuda_queued_step, first) == 0 && offsetof(biv_cuda_queued_step, rows) == 4);
static_assert(offsetof(biv_cuda_queued_step, rate) == 8 && offsetof(biv_cuda_queued_step, beta1) == 12);
static_assert(offsetof(biv_cuda_queued_step, beta2) == 16 && offsetof(biv_cuda_queued_step, epsilon) == 20);
static_assert(offsetof(biv_cuda_queued_step, weight_decay) == 24 && offsetof(biv_cuda_queued_step, correction) == 28);
