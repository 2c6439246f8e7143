// Labels of two sensors, one of them twenty times as noisy: train on what is known about each.
#include <biv.hpp>
#include <cstdio>
#include <random>

int main() try {
  const int rows = 4000;
  std::mt19937 random(1);
  std::uniform_real_distribution<float> position;
  std::normal_distribution<double> noise;
  std::vector<float> features;
  std::vector<double> labels, variances;
  for (int row = 0; row < rows; ++row) {
    const float a = position(random), b = position(random);
    const double deviation = row % 2 ? 0.1 : 2;
    features.insert(features.end(), {a, b});
    labels.push_back(a + 2 * b + deviation * noise(random));
    variances.push_back(deviation * deviation);
  }

  const biv::Dataset data({features, {rows, 2}}, labels, variances);
  const biv::Model model({{"kind", "mlp"}, {"inputs", 2}, {"hidden", {32}}});
  biv::Trainer trainer(model, data, {{"loss", {{"kind", "biv"}, {"epsilon", 0.1}}}});
  trainer.fit(40);

  const std::vector<double> at{0.5, 0.5};
  std::printf("y(0.5, 0.5) = 1.5, predicted %.2f\n", model.predict({at, {1, 2}})[0]);
} catch (const biv::Error &error) {
  std::fprintf(stderr, "%s: %s\n", error.name(), error.what());
  return 1;
}
