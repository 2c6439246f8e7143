// Runs the GPU's kernels for images on the CPU and compares them with the same layers in double precision.

#include "emulated.hpp"

// A block's shared memory.
float shared[1 << 14];

#include "images.inc"

namespace {

constexpr int kCount = 2, kHeight = 7, kWidth = 6, kGroups = 3, kChannels = kGroups * WIDTH;
constexpr int kPixels = kCount * kHeight * kWidth, kValues = kPixels * kChannels;
constexpr int kPooledHeight = (kHeight + 2 * PADDING - SIZE) / STRIDE + 1;
constexpr int kPooledWidth = (kWidth + 2 * PADDING - SIZE) / STRIDE + 1;
constexpr int kPooledPixels = kCount * kPooledHeight * kPooledWidth, kPooledValues = kPooledPixels * kChannels;
constexpr int kBlocks = 4, kThreads = kGroups * 5;
constexpr double kEpsilon = 1e-5, kMomentum = 0.1;

float value(Bits bits) { return widened(bits); }

Bits *random_images(int count, float mean) {
  Bits *images = global<Bits>(count);
  std::generate_n(images, count, [&] { return bfloat16(random_value() + mean); });
  return images;
}

std::vector<double> values(const Bits *images, int count) {
  std::vector<double> result(count);
  std::transform(images, images + count, result.begin(), value);
  return result;
}

enum class Epilogue { kNothing, kRelu, kShortcutAndRelu, kReluAndMaxPool };

// The expected results, in double precision.
struct Exact {
  std::vector<double> output, grad_input, grad_shortcut, grad_weight, grad_bias, running_mean, running_var;
};

Exact exactly(const std::vector<double> &x, const std::vector<double> &shortcut, const std::vector<double> &delta,
              const float *weight, const float *bias, Epilogue epilogue) {
  Exact exact;
  std::vector<double> normal(kValues), inverse_std(kChannels), z(kValues), grad_z(kValues);
  for (int c = 0; c < kChannels; ++c) {
    double mean = 0, var = 0;
    for (int i = c; i < kValues; i += kChannels) mean += x[i] / kPixels;
    for (int i = c; i < kValues; i += kChannels) var += (x[i] - mean) * (x[i] - mean) / kPixels;
    inverse_std[c] = 1 / std::sqrt(var + kEpsilon);
    for (int i = c; i < kValues; i += kChannels) {
      normal[i] = (x[i] - mean) * inverse_std[c];
      z[i] = weight[c] * normal[i] + bias[c] + (epilogue == Epilogue::kShortcutAndRelu ? shortcut[i] : 0);
    }
    exact.running_mean.push_back(kMomentum * mean);
    exact.running_var.push_back(1 - kMomentum + kMomentum * var * kPixels / (kPixels - 1));
  }
  if (epilogue == Epilogue::kReluAndMaxPool) {
    for (int p = 0; p < kPooledValues; ++p) {
      const int c = p % kChannels, column = p / kChannels % kPooledWidth;
      const int row = p / kChannels / kPooledWidth % kPooledHeight,
                image = p / kChannels / kPooledWidth / kPooledHeight;
      double best = 0;
      int place = -1;
      for (int y = row * STRIDE - PADDING; y < row * STRIDE - PADDING + SIZE; ++y) {
        for (int x = column * STRIDE - PADDING; x < column * STRIDE - PADDING + SIZE; ++x) {
          if (y < 0 || y >= kHeight || x < 0 || x >= kWidth) continue;
          const int i = ((image * kHeight + y) * kWidth + x) * kChannels + c;
          if (z[i] > best) best = z[i], place = i;
        }
      }
      exact.output.push_back(best);
      if (place >= 0) grad_z[place] += delta[p];
    }
  } else {
    for (int i = 0; i < kValues; ++i) {
      const bool passes = epilogue == Epilogue::kNothing || z[i] > 0;
      exact.output.push_back(passes ? z[i] : 0);
      grad_z[i] = passes ? delta[i] : 0;
    }
  }
  exact.grad_shortcut = grad_z;
  exact.grad_weight.resize(kChannels), exact.grad_bias.resize(kChannels), exact.grad_input.resize(kValues);
  for (int i = 0; i < kValues; ++i) {
    exact.grad_bias[i % kChannels] += grad_z[i];
    exact.grad_weight[i % kChannels] += grad_z[i] * normal[i];
  }
  for (int i = 0; i < kValues; ++i) {
    const int c = i % kChannels;
    const double rest = grad_z[i] - exact.grad_bias[c] / kPixels - normal[i] * exact.grad_weight[c] / kPixels;
    exact.grad_input[i] = weight[c] * inverse_std[c] * rest;
  }
  return exact;
}

void compare_batch_norm(Epilogue epilogue) {
  const bool pools = epilogue == Epilogue::kReluAndMaxPool, adds = epilogue == Epilogue::kShortcutAndRelu;
  const int outputs = pools ? kPooledValues : kValues;
  Bits *input = random_images(kValues, 3), *shortcut = random_images(kValues, 0), *delta = random_images(outputs, 0);
  Bits *output = global<Bits>(outputs), *relu_delta = global<Bits>(kValues), *grad_input = global<Bits>(kValues);
  float *weight = global<float>(kChannels), *bias = global<float>(kChannels);
  float *running_mean = global<float>(kChannels), *running_var = global<float>(kChannels);
  float *grad_weight = global<float>(kChannels), *grad_bias = global<float>(kChannels);
  float *sums = global<float>(2 * kChannels * kBlocks), *lists = global<float>(4 * kChannels);
  float *line = global<float>(3 * kChannels);
  Marks *marks = global<Marks>(kPooledPixels * kGroups);
  std::generate_n(weight, kChannels, [] { return random_value() + 0.5f; });
  std::generate_n(bias, kChannels, random_value);
  std::fill_n(running_var, kChannels, 1.0f);
  const Sizes sizes{kHeight, kWidth, kPooledHeight, kPooledWidth};
  const float floor = epilogue == Epilogue::kNothing ? -INFINITY : 0;
  const Index blocks{kBlocks, 1}, finish{(kChannels + 1) / 2, 1};

  launch(blocks, kThreads, [&] { add_moments(input, kPixels, kGroups, sums); });
  launch(finish, 64, [&] {
    finish_moments(input, sums, kBlocks, kPixels, kChannels, weight, bias, running_mean, running_var, kMomentum,
                   kEpsilon, lists);
  });
  if (pools) {
    launch(blocks, kThreads, [&] { normalize_and_pool(input, kPooledPixels, kGroups, lists, sizes, output, marks); });
    launch(blocks, kThreads,
           [&] { add_pooled_deltas(input, delta, marks, kPooledPixels, kGroups, lists, sizes, sums); });
  } else {
    launch(blocks, kThreads,
           [&] { normalize(input, adds ? shortcut : nullptr, kPixels, kGroups, lists, floor, output); });
    launch(blocks, kThreads, [&] {
      add_deltas(input, delta, adds ? output : nullptr, kPixels, kGroups, lists, floor, adds ? relu_delta : nullptr,
                 sums);
    });
  }
  launch(finish, 64, [&] { finish_deltas(sums, kBlocks, kPixels, kChannels, lists, grad_weight, grad_bias, line); });
  if (pools) {
    launch(blocks, kThreads,
           [&] { backward_pooled_input(input, delta, marks, kPixels, kGroups, line, sizes, grad_input); });
  } else {
    launch(blocks, kThreads, [&] {
      backward_input(input, adds ? relu_delta : delta, kPixels, kGroups, lists, line, adds ? -INFINITY : floor,
                     grad_input);
    });
  }

  const Exact exact =
      exactly(values(input, kValues), values(shortcut, kValues), values(delta, outputs), weight, bias, epilogue);
  check_close(values(output, outputs), exact.output, outputs, 0.005, "an output");
  check_close(values(grad_input, kValues), exact.grad_input, kValues, 0.005, "a derivative by the input");
  if (adds) check_close(values(relu_delta, kValues), exact.grad_shortcut, kValues, 0, "a derivative by the shortcut");
  check_close(grad_weight, exact.grad_weight, kChannels, 1e-5, "a derivative by a weight");
  check_close(grad_bias, exact.grad_bias, kChannels, 1e-5, "a derivative by a bias");
  check_close(running_mean, exact.running_mean, kChannels, 1e-5, "a running mean");
  check_close(running_var, exact.running_var, kChannels, 1e-5, "a running variance");
}

void compare_blocks() {
  constexpr int kColors = 3, kPadding = 3, kRows = 6, kColumns = 5, kBlockGroups = (4 * kColors + WIDTH - 1) / WIDTH;
  constexpr int kBlockChannels = kBlockGroups * WIDTH, kBlockPixels = kCount * kRows * kColumns;
  const Bits *images = random_images(kPixels * kColors, 0);
  Bits *found = global<Bits>(kBlockPixels * kBlockChannels);
  launch({kBlocks, 1}, kBlockGroups * 4, [&] {
    gather_blocks(images, kHeight, kWidth, kColors, kPadding, kRows, kColumns, kBlockGroups, kBlockPixels, found);
  });
  std::vector<double> expected(kBlockPixels * kBlockChannels);
  for (int image = 0; image < kCount; ++image) {
    for (int y = 0; y < kHeight; ++y) {
      for (int x = 0; x < kWidth; ++x) {
        const int row = (y + kPadding) / 2, column = (x + kPadding) / 2;
        const int place = (y + kPadding) % 2 * 2 + (x + kPadding) % 2;
        if (row >= kRows || column >= kColumns) continue;
        for (int color = 0; color < kColors; ++color) {
          expected[((image * kRows + row) * kColumns + column) * kBlockChannels + place * kColors + color] =
              value(images[((image * kHeight + y) * kWidth + x) * kColors + color]);
        }
      }
    }
  }
  check_close(values(found, kBlockPixels * kBlockChannels), expected, expected.size(), 0, "a pixel of a block");
}

void compare_bytes() {
  constexpr int kColors = 3, kSize = kHeight * kWidth;
  unsigned char *bytes = global<unsigned char>(5 * kColors * kSize);
  for (int i = 0; i < 5 * kColors * kSize; ++i) bytes[i] = static_cast<unsigned char>(i * 37);
  const long index[] = {4, 0, 4};
  Bits *found = global<Bits>(3 * kSize * kColors);
  launch({2, 3}, 32, [&] { gather_bytes(bytes, index, kSize, kColors, 0.01f, -1.5f, found); });
  std::vector<double> expected;
  for (long image : index) {
    for (int pixel = 0; pixel < kSize; ++pixel) {
      for (int color = 0; color < kColors; ++color) {
        expected.push_back(0.01 * bytes[(image * kColors + color) * kSize + pixel] - 1.5);
      }
    }
  }
  check_close(values(found, 3 * kSize * kColors), expected, expected.size(), 0.004, "a pixel of bytes");
}

}  // namespace

int main() {
  for (Epilogue epilogue :
       {Epilogue::kNothing, Epilogue::kRelu, Epilogue::kShortcutAndRelu, Epilogue::kReluAndMaxPool}) {
    compare_batch_norm(epilogue);
  }
  compare_blocks();
  compare_bytes();
  std::printf("kernels, images, %d channels to a thread: %d checks\n", WIDTH, checks);
}
