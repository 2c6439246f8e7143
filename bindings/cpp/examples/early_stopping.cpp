// Stops when the error on the test set has not improved for ten epochs, and goes back to the best model.
#include <biv.hpp>
#include <cmath>
#include <cstdio>
#include <filesystem>

int main() try {
  const auto [clean, test] = biv::Dataset::synthetic({{"rows", 2500}, {"seed", 1}}).split({{"train_size", 2000}});
  const biv::Dataset train = clean.add_noise(
      {{"distribution", {{"kind", "gamma"}, {"mean", 1}, {"variance", 2}}}, {"relative", true}, {"seed", 1}});
  const biv::Model model({{"kind", "mlp"}, {"inputs", 10}, {"hidden", {64, 32}}, {"seed", 1}});
  biv::Trainer trainer(model, train, {{"loss", {{"kind", "biv"}}}, {"learning_rate", 0.003}, {"seed", 1}});

  const std::string path = (std::filesystem::temp_directory_path() / "early_stopping.biv").string();
  double best = INFINITY;
  std::int64_t best_epoch = 0;
  const bool completed = trainer.fit(500, &test, [&](const biv::Epoch &epoch) {
    if (epoch.test->rmse < best) {
      best = epoch.test->rmse;
      best_epoch = epoch.epoch;
      trainer.save(path);
    }
    return epoch.epoch < best_epoch + 10;
  });
  std::printf("%s after %d epochs, RMSE %.3f\n", completed ? "completed" : "stopped",
              static_cast<int>(trainer.progress().epoch), trainer.evaluate(test).rmse);

  const biv::Trainer kept = biv::Trainer::load(path, &train);
  std::printf("the best, of epoch %d: RMSE %.3f\n", static_cast<int>(best_epoch), kept.evaluate(test).rmse);
  std::filesystem::remove(path);
} catch (const biv::Error &error) {
  std::fprintf(stderr, "%s: %s\n", error.name(), error.what());
  return 1;
}
