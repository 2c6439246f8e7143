// A sweep: two losses, three seeds, on synthetic data with noise of known variance. The result is JSON.
#include <biv.hpp>
#include <iostream>

int main() try {
  const biv::Options gamma{{"kind", "gamma"}, {"mean", 1}, {"variance", 2}};
  const biv::Options base{{"dataset", {{"kind", "synthetic"}, {"train_size", 2000}, {"test_size", 1000}}},
                          {"model", {{"kind", "mlp"}, {"hidden", {64, 32}}}},
                          {"epochs", 10}};
  const biv::Options sweep{{"base", base},
                           {"grid",
                            {{"seeds", {1, 2, 3}},
                             {"losses", {{{"kind", "mse"}}, {{"kind", "biv"}, {"epsilon", 0.1}}}},
                             {"noises", {{{"distribution", gamma}, {"relative", true}}}}}}};

  const std::string result = biv::run_sweep(sweep, [](const biv::ExperimentProgress &progress) {
    if (progress.stage == biv::Stage::sweep)
      std::cout << progress.done << " of " << progress.total << " runs: " << progress.run << std::endl;
    return true;
  });
  std::cout << result.substr(result.find("\"table\"")) << '\n';
} catch (const biv::Error &error) {
  std::cerr << error.name() << ": " << error.what() << '\n';
  return 1;
}
