// Writes the 20 losses, the test RMSE and the 100 predictions of a fixed training to the path given, as little-endian
// doubles. Every language's program writes the same bytes.
#include <biv.hpp>
#include <cstdio>
#include <fstream>

int main(int argc, char **argv) try {
  if (argc != 2) return 2;
  biv::set_num_threads(1);
  const biv::Dataset all = biv::Dataset::synthetic({{"rows", 600}, {"features", 10}, {"seed", 7}});
  const auto [clean, test] = all.split({{"train_size", 500}, {"test_size", 100}, {"seed", 7}});
  const biv::Dataset train =
      clean.add_noise({{"distribution", {{"kind", "gamma"}, {"mean", 20}, {"variance", 400}}}, {"seed", 7}});
  const biv::Model model({{"kind", "mlp"}, {"inputs", 10}, {"hidden", {32, 16}}, {"seed", 7}});
  biv::Trainer trainer(
      model, train,
      {{"loss", {{"kind", "biv"}, {"epsilon", 0.1}}}, {"batch_size", 25}, {"learning_rate", 0.01}, {"seed", 7}});

  std::vector<double> values;
  for (int step = 0; step < 20; ++step) values.push_back(trainer.step().loss);
  values.push_back(trainer.evaluate(test).rmse);
  const std::vector<double> features = test.features(), predictions = model.predict({features, {100, 10}});
  values.insert(values.end(), predictions.begin(), predictions.end());

  std::ofstream file(argv[1], std::ios::binary);
  file.write(reinterpret_cast<const char *>(values.data()),
             static_cast<std::streamsize>(values.size() * sizeof(double)));
  return file.good() ? 0 : 1;
} catch (const biv::Error &error) {
  std::fprintf(stderr, "%s: %s\n", error.name(), error.what());
  return 1;
}
