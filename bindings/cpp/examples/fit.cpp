// From data to a model with error bars in one call: labels of which half are noisy, and how well the bars hold.
#include <biv.hpp>
#include <cmath>
#include <cstdio>

int main() try {
  // Friedman's function. Half of the labels are nearly exact, the others are off by about 10.
  const auto [clean, test] = biv::Dataset::synthetic({{"rows", 1500}, {"seed", 1}}).split({{"train_size", 1000}});
  const biv::Options noise{
      {"distribution",
       {{"kind", "binary_uniform"},
        {"components", {{{"weight", 0.5}, {"low", 0}, {"high", 0.1}}, {{"low", 80}, {"high", 120}}}}}},
      {"seed", 2}};
  const biv::Dataset train = clean.add_noise(noise);

  const biv::Options options{{"members", 3}, {"epochs", 30}, {"batch_size", 64}, {"learning_rate", 0.003}};
  const auto [model, report] = biv::fit(train, {}, options, [](const biv::FitProgress &progress) {
    if (progress.epoch % 15 == 0 && progress.steps * progress.epochs == progress.epoch * progress.total_steps)
      std::printf("epoch %d of %d\n", static_cast<int>(progress.epoch), static_cast<int>(progress.epochs));
    return true;  // false stops; so does an exception, which comes out of fit
  });
  std::printf("report: %.100s ...\n", report.c_str());

  const biv::Metrics metrics = model.evaluate(test);
  std::printf("RMSE %.2f on clean labels; %.0f %% of them are within the bars of 95 %%\n", metrics.rmse,
              100 * metrics.coverage_95);
  const std::vector<double> features = test.features(), truth = test.labels();
  const biv::Prediction prediction = model.predict_with_variance({features, {truth.size(), 10}});
  for (std::size_t row = 0; row < 3; row++)
    std::printf("predicted %.1f +- %.1f, true %.1f\n", prediction.values[row], std::sqrt(prediction.variances[row]),
                truth[row]);

  // The same by the residuals of any model, on rows that it was not trained on.
  const biv::Dataset measured = test.add_noise(noise);
  std::vector<double> residuals = measured.labels();
  for (std::size_t row = 0; row < residuals.size(); row++) residuals[row] -= prediction.values[row];
  const biv::VarianceModel variances = biv::variance_model(residuals, measured.variances());
  std::printf("the residuals' variance is %.2f times the noise's, plus %.2f\n", variances.scale, variances.tau2);
} catch (const biv::Error &error) {
  std::fprintf(stderr, "%s: %s\n", error.name(), error.what());
  return 1;
}
