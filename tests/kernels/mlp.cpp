// Runs the GPU's kernel that trains small multi-layer perceptrons on the CPU and compares it with the same steps in
// double precision.

#include "emulated.hpp"

// A block's shared memory.
float4 shared[1 << 14];

#define TILE 8
#include "../../src/kernels/cuda/interface.hpp"
#include "mlp.inc"

// Both have the same layout.
static_assert(sizeof(QueuedStep) == sizeof(biv_cuda_queued_step));
#define SAME_OFFSET(field) static_assert(offsetof(QueuedStep, field) == offsetof(biv_cuda_queued_step, field))
SAME_OFFSET(first);
SAME_OFFSET(rows);
SAME_OFFSET(rate);
SAME_OFFSET(beta1);
SAME_OFFSET(beta2);
SAME_OFFSET(epsilon);
SAME_OFFSET(weight_decay);
SAME_OFFSET(correction);

namespace {

struct Data {
  int inputs, outputs;
  std::vector<float> features, labels, coefficients;
  std::vector<long> rows;
};

// One step in double precision; returns the loss.
double step_exactly(const Network &network, const Data &data, const QueuedStep &step, std::vector<double> &values,
                    std::vector<double> &means, std::vector<double> &squares) {
  std::vector<double> gradient(values.size());
  double loss = 0;
  for (int number = step.first; number < step.first + step.rows; ++number) {
    const float *features = &data.features[data.rows[number] * data.inputs];
    std::vector<std::vector<double>> outputs = {std::vector<double>(features, features + data.inputs)};
    std::vector<size_t> starts = {0};
    for (int layer = 0; layer < network.layers; ++layer) {
      const int from = network.widths[layer], to = network.widths[layer + 1];
      std::vector<double> output(to);
      for (int j = 0; j < to; ++j) {
        output[j] = values[starts[layer] + to * from + j];
        for (int k = 0; k < from; ++k) output[j] += values[starts[layer] + j * from + k] * outputs[layer][k];
        if (layer + 1 < network.layers) output[j] = std::max(output[j], 0.0);
      }
      outputs.push_back(output);
      starts.push_back(starts[layer] + to * (from + 1));
    }
    std::vector<double> delta(data.outputs);
    for (int j = 0; j < data.outputs; ++j) {
      const double error = outputs.back()[j] - data.labels[data.rows[number] * data.outputs + j];
      const double weight = data.coefficients[number * data.outputs + j];
      loss += weight * error * error;
      delta[j] = 2 * weight * error;
    }
    for (int layer = network.layers - 1; layer >= 0; --layer) {
      const int from = network.widths[layer], to = network.widths[layer + 1];
      std::vector<double> before(from);
      for (int j = 0; j < to; ++j) {
        gradient[starts[layer] + to * from + j] += delta[j];
        for (int k = 0; k < from; ++k) {
          gradient[starts[layer] + j * from + k] += delta[j] * outputs[layer][k];
          before[k] += outputs[layer][k] > 0 ? values[starts[layer] + j * from + k] * delta[j] : 0;
        }
      }
      delta = before;
    }
  }
  if (!std::isfinite(loss)) return loss;
  for (size_t i = 0; i < values.size(); ++i) {
    const double g = gradient[i] + step.weight_decay * values[i];
    means[i] += (1 - step.beta1) * (g - means[i]);
    squares[i] = step.beta2 * squares[i] + (1 - step.beta2) * g * g;
    values[i] -= step.rate * means[i] / (std::sqrt(squares[i]) * step.correction + step.epsilon);
  }
  return loss;
}

// Takes steps on mini-batches of `sizes`. The loss of number `broken` is not finite.
void compare(const std::vector<int> &widths, const std::vector<int> &sizes, int broken) {
  constexpr int kBlocks = 3, kThreads = 64, kRows = 50;
  const int layers = static_cast<int>(widths.size()) - 1, count = static_cast<int>(sizes.size());
  Network network{layers, 0, {}};
  std::copy(widths.begin(), widths.end(), network.widths);
  for (int layer = 0; layer < layers; ++layer) network.parameters += (widths[layer] + 1) * widths[layer + 1];

  Data data{widths.front(), widths.back(), {}, {}, {}, {}};
  for (int i = 0; i < kRows * data.inputs; ++i) data.features.push_back(random_value());
  for (int i = 0; i < kRows * data.outputs; ++i) data.labels.push_back(random_value());
  std::vector<QueuedStep> steps;
  for (int number = 0; number < count; ++number) {
    const float rate = 0.01f * static_cast<float>(number + 1), correction = 3.0f / static_cast<float>(number + 1);
    steps.push_back({static_cast<int>(data.rows.size()), sizes[number], rate, 0.9f, 0.999f, 1e-8f, 0.01f, correction});
    for (int row = 0; row < sizes[number]; ++row) {
      data.rows.push_back(static_cast<long>((random_value() + 1) / 2 * kRows) % kRows);
      for (int j = 0; j < data.outputs; ++j) {
        data.coefficients.push_back(number == broken ? INFINITY : std::fabs(random_value()));
      }
    }
  }

  const size_t parameters = network.parameters;
  float *values = global<float>(parameters), *means = global<float>(parameters), *squares = global<float>(parameters);
  float *partial = global<float>(kBlocks * (parameters + 1)), *losses = global<float>(count);
  unsigned *arrived = global<unsigned>(1);
  std::generate_n(values, parameters, [] { return random_value() / 2; });
  std::vector<double> exact(values, values + parameters), exact_means(parameters), exact_squares(parameters);
  std::vector<double> exact_losses;
  for (const QueuedStep &step : steps) {
    exact_losses.push_back(step_exactly(network, data, step, exact, exact_means, exact_squares));
    if (!std::isfinite(exact_losses.back())) break;
  }

  launch({kBlocks, 1}, kThreads, [&] {
    train(network, data.features.data(), data.labels.data(), data.rows.data(), data.coefficients.data(), steps.data(),
          count, values, means, squares, partial, losses, arrived);
  });
  const size_t finite = broken < 0 ? count : broken;
  check_close(losses, exact_losses, finite, 1e-5, "a loss");
  for (int number = static_cast<int>(finite); number < count; ++number) {
    if (std::isnan(losses[number])) continue;
    std::fprintf(stderr, "loss %d after one that is not finite: %g\n", number, losses[number]);
    std::exit(1);
  }
  check_close(values, exact, parameters, 1e-5, "a weight");
  check_close(means, exact_means, parameters, 1e-5, "a mean");
  check_close(squares, exact_squares, parameters, 1e-5, "a mean of squares");
}

}  // namespace

int main() {
  // More inputs than threads; more rows than all blocks take at once; partial tiles, and fewer tiles than blocks.
  compare({5, 70, 9, 2}, {60, 7, 33}, -1);
  compare({4, 1}, {1, 24}, -1);
  compare({3, 6, 5, 4, 3, 1}, {8, 16, 40}, -1);
  compare({5, 8, 2}, {10, 20, 10, 30}, 2);
  std::printf("kernels, mlp: %d checks\n", checks);
}
