// Saves a trainer in the middle, goes on with a loaded one to the same bits, and predicts with a loaded model.
#include <biv.hpp>
#include <cstdio>
#include <filesystem>

int main() try {
  const std::filesystem::path folder = std::filesystem::temp_directory_path();
  const std::string checkpoint = (folder / "checkpoint.biv").string(), file = (folder / "model.biv").string();
  const biv::Dataset data = biv::Dataset::synthetic({{"rows", 1000}})
                                .add_noise({{"distribution", {{"kind", "uniform"}, {"low", 0}, {"high", 10}}}});
  const biv::Model model({{"kind", "mlp"}, {"inputs", 10}, {"hidden", {32}}});
  biv::Trainer trainer(model, data, {{"batch_size", 100}});

  trainer.fit(5);
  trainer.save(checkpoint);
  trainer.fit(5);

  biv::Trainer resumed = biv::Trainer::load(checkpoint, &data);
  resumed.fit(5);
  resumed.model().save(file);

  const biv::Model loaded = biv::Model::load(file);
  const std::vector<double> features = data.features();
  const biv::View rows(features, {1000, 10});
  std::printf("%d parameters, prediction of the first row: %.4f\n", static_cast<int>(loaded.parameter_count()),
              loaded.predict(rows)[0]);
  const bool same = loaded.predict(rows) == model.predict(rows);
  std::printf("the resumed training ended with %s predictions\n", same ? "the same" : "other");
  std::filesystem::remove(checkpoint);
  std::filesystem::remove(file);
  return same ? 0 : 1;
} catch (const biv::Error &error) {
  std::fprintf(stderr, "%s: %s\n", error.name(), error.what());
  return 1;
}
