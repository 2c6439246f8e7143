// Drives the C++ kernels for the CPU over odd shapes, compiled with sanitizers, and compares them with libtorch's own
// operations. libtorch itself is not compiled with sanitizers.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

// src/kernels/cpu/ and src/torch/arena.cpp, which are compiled into this program.
extern "C" {
int biv_cpu_vectors();
bool biv_cpu_has_avx512_bf16();
char *biv_cpu_winograd(int vectors, const at::Tensor *input, const at::Tensor *weight, const at::Tensor *bias,
                       int64_t stride, int64_t padding, at::Tensor **result);
char *biv_cpu_batch_norm(int vectors, const at::Tensor *input, const at::Tensor *weight, const at::Tensor *bias,
                         const at::Tensor *running_mean, const at::Tensor *running_var, const at::Tensor *shortcut,
                         bool training, double momentum, double epsilon, bool relu, at::Tensor **result);
struct SharedArena;
const SharedArena *biv_torch_arena_create();
void biv_torch_arena_free(const SharedArena *);
const SharedArena *biv_torch_arena_enter(const SharedArena *);
}

namespace {

int compared = 0;

void fail(const std::string &what) {
  std::fprintf(stderr, "kernels, sanitized: %s\n", what.c_str());
  std::exit(1);
}

// The result of a kernel; undefined where it takes no such tensors.
at::Tensor result_of(const std::function<char *(at::Tensor **)> &call) {
  at::Tensor *result = nullptr;
  if (char *message = call(&result)) fail(message);
  if (!result) return {};
  at::Tensor tensor = std::move(*result);
  delete result;
  return tensor;
}

at::Tensor leaf(const at::Tensor &tensor) { return tensor.detach().clone().set_requires_grad(true); }

at::Tensor images(at::IntArrayRef shape, at::ScalarType type) {
  return at::randn(shape).to(type).contiguous(at::MemoryFormat::ChannelsLast);
}

void check_close(const at::Tensor &found, const at::Tensor &expected, double tolerance, const std::string &what) {
  const at::Tensor difference = (found.to(at::kDouble) - expected.to(at::kDouble)).abs().max();
  const double scale = std::max(expected.to(at::kDouble).abs().max().item<double>(), 1e-3);
  if (!(difference.item<double>() <= tolerance * scale)) fail(what);
  ++compared;
}

// An output, and its gradients for a random derivative.
std::vector<at::Tensor> with_gradients(const at::Tensor &output, const at::Tensor &delta,
                                       const std::vector<at::Tensor> &leaves) {
  std::vector<at::Tensor> results = torch::autograd::grad({output}, leaves, {delta.to(output.scalar_type())});
  results.push_back(output.detach());
  return results;
}

void compare(const std::vector<at::Tensor> &found, const std::vector<at::Tensor> &expected, double tolerance,
             const char *what) {
  for (size_t i = 0; i < found.size(); ++i) check_close(found[i], expected[i], tolerance, what);
}

void convolutions(int vectors, at::ScalarType type) {
  // Rows, channels, height, width: whole tiles and partial ones, long and thin images.
  const std::vector<std::array<int64_t, 4>> shapes = {{4, 32, 4, 4},  {2, 32, 13, 9}, {9, 96, 7, 6},  {3, 48, 9, 8},
                                                      {1, 64, 8, 64}, {1, 32, 64, 7}, {40, 32, 3, 2}, {2, 64, 31, 33}};
  int taken = 0;
  for (const auto &shape : shapes) {
    for (const int64_t outputs : {32, 80, 96}) {
      const at::Tensor input = leaf(images({shape[0], shape[1], shape[2], shape[3]}, type));
      const at::Tensor weight = leaf(at::randn({outputs, shape[1], 3, 3})), bias = leaf(at::randn({outputs}));
      const at::Tensor output = result_of(
          [&](at::Tensor **result) { return biv_cpu_winograd(vectors, &input, &weight, &bias, 1, 1, result); });
      if (!output.defined()) continue;
      ++taken;
      const at::Tensor delta = images(output.sizes(), type);
      const std::vector<at::Tensor> exact = {leaf(input.to(at::kDouble)), leaf(weight.to(at::kDouble)),
                                             leaf(bias.to(at::kDouble))};
      const at::Tensor expected = at::conv2d(exact[0], exact[1], exact[2], 1, 1);
      compare(with_gradients(output, delta, {input, weight, bias}), with_gradients(expected, delta, exact),
              type == at::kFloat ? 3e-5 : 0.02, "a convolution differs from libtorch's");
    }
  }
  if (taken < 8) fail("convolutions are not taken");
}

void batch_norms(int vectors, at::ScalarType type) {
  // Channels that fill no vector, single pixels, several blocks, more blocks than parts.
  const std::vector<std::vector<int64_t>> shapes = {{4, 16, 1, 2},  {1, 1, 9, 9}, {5, 10, 20, 20}, {3, 33, 7, 5},
                                                    {5, 300, 9, 9}, {3, 7, 1, 2}, {40, 3, 50, 50}};
  for (const auto &shape : shapes) {
    const int64_t channels = shape[1];
    for (const bool with_shortcut : {false, true}) {
      for (const bool training : {true, false}) {
        const at::Tensor input = leaf(images(shape, type)), shortcut = leaf(images(shape, type));
        const at::Tensor weight = leaf(at::rand({channels}) + 0.5), bias = leaf(at::randn({channels}));
        const at::Tensor mean = at::randn({channels}), var = at::rand({channels}) + 0.5;
        const at::Tensor exact_mean = mean.to(at::kDouble), exact_var = var.to(at::kDouble);
        const auto norm = [&](at::Tensor **result) {
          return biv_cpu_batch_norm(vectors, &input, &weight, &bias, &mean, &var, with_shortcut ? &shortcut : nullptr,
                                    training, 0.1, 1e-5, /*relu=*/false, result);
        };
        const at::Tensor output = result_of(norm), delta = images(shape, type);
        std::vector<at::Tensor> exact, leaves = {input, weight, bias};
        if (with_shortcut) leaves.push_back(shortcut);
        for (const at::Tensor &tensor : leaves) exact.push_back(leaf(tensor.to(at::kDouble)));
        at::Tensor expected =
            at::batch_norm(exact[0], exact[1], exact[2], exact_mean, exact_var, training, 0.1, 1e-5, false);
        if (with_shortcut) expected = expected + exact[3];
        const double tolerance = type == at::kFloat ? 5e-5 : 0.01;
        check_close(output, expected, tolerance, "a BatchNorm differs from libtorch's");
        check_close(mean, exact_mean, tolerance, "a running mean differs from libtorch's");
        check_close(var, exact_var, tolerance, "a running variance differs from libtorch's");
        if (!training) continue;
        compare(with_gradients(output, delta, leaves), with_gradients(expected, delta, exact), tolerance,
                "a BatchNorm's gradient differs from libtorch's");
      }
    }
  }
}

// Threads make tensors of odd sizes in an arena, and free each other's.
void arenas() {
  const SharedArena *arena = biv_torch_arena_create();
  std::vector<at::Tensor> kept(64);
  const auto work = [&](int id) {
    const SharedArena *before = biv_torch_arena_enter(arena);
    for (int i = 0; i < 200; ++i) {
      const at::Tensor tensor = at::full({(1 << 20) + 4097 * (i * 7 % 61) + id}, id, at::kByte);
      if (!tensor.eq(id).all().item<bool>()) fail("a tensor in an arena has other values");
      kept[(32 * id + i * 5) % 32 + 32 * (id % 2)] = tensor;
    }
    biv_torch_arena_enter(before);
  };
  std::thread other(work, 1);
  work(0);
  other.join();
  biv_torch_arena_free(arena);
  kept.clear();
  ++compared;
}

}  // namespace

int main() {
  at::manual_seed(1);
  for (const int threads : {1, 3}) {
    at::set_num_threads(threads);
    for (int vectors = 0; vectors <= biv_cpu_vectors(); ++vectors) {
      for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) batch_norms(vectors, type);
      if (vectors > 0) convolutions(vectors, at::kFloat);
      if (vectors == 2 && biv_cpu_has_avx512_bf16()) convolutions(vectors, at::kBFloat16);
    }
  }
  arenas();
  std::printf("kernels, sanitized: %d comparisons\n", compared);
}
