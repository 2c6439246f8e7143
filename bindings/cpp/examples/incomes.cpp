// Incomes of US counties, which a survey estimates and publishes with margins of error at 90 %: a standard error is
// margin / 1.645. As published, this noise is small beside what the features cannot tell; of a survey that asked a
// thirtieth of the households, the variances are worth a lot. The file acs2017_county_data.csv is looked for in
// BIV_DATA_DIR; without it, the data are synthetic.
#include <algorithm>
#include <biv.hpp>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <sstream>

static const std::vector<std::string> feature_names{"TotalPop",   "White",        "Poverty",  "Professional",
                                                    "Service",    "Construction", "Drive",    "Transit",
                                                    "WorkAtHome", "MeanCommute",  "Employed", "SelfEmployed"};

// A survey in arrays of our own: features, incomes, and the standard error of each income.
struct Survey {
  std::vector<float> features;
  std::vector<double> incomes, standard_errors;
};

static Survey read(const std::filesystem::path &path) {
  std::ifstream file(path);
  std::string line, cell;
  const auto cells = [&] {
    std::vector<std::string> row;
    for (std::istringstream text(line); std::getline(text, cell, ',');) row.push_back(cell);
    return row;
  };
  std::getline(file, line);
  const std::vector<std::string> header = cells();
  const auto column = [&](const std::string &name) {
    return static_cast<std::size_t>(std::find(header.begin(), header.end(), name) - header.begin());
  };
  Survey survey;
  while (std::getline(file, line)) {
    const std::vector<std::string> row = cells();
    if (row.at(column("Income")).empty() || row.at(column("IncomeErr")).empty()) continue;
    for (const std::string &name : feature_names) survey.features.push_back(std::stof(row.at(column(name))));
    survey.incomes.push_back(std::stod(row.at(column("Income"))));
    survey.standard_errors.push_back(std::stod(row.at(column("IncomeErr"))) / 1.645);
  }
  return survey;
}

static biv::Dataset counties() {
  const char *variable = std::getenv("BIV_DATA_DIR");
  const std::filesystem::path folder = variable ? variable : "";
  for (const auto &path : {folder / "acs" / "acs2017_county_data.csv", folder / "acs2017_county_data.csv"}) {
    if (!std::filesystem::exists(path)) continue;
    const Survey survey = read(path);
    return biv::Dataset::with_standard_deviations({survey.features, {survey.incomes.size(), feature_names.size()}},
                                                  survey.incomes, survey.standard_errors);
  }
  std::printf("acs2017_county_data.csv is not in BIV_DATA_DIR: synthetic data instead\n");
  return biv::Dataset::synthetic({{"rows", 3000}, {"features", 12}})
      .add_noise({{"distribution", {{"kind", "gamma"}, {"mean", 5}, {"variance", 50}}}});
}

// What a survey of fewer households would have published: noise of `times` the variance.
static biv::Dataset of_fewer(const biv::Dataset &survey, double times) {
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  std::vector<double> incomes = survey.labels(), variances = survey.variances();
  for (std::size_t row = 0; row < incomes.size(); ++row) {
    incomes[row] += std::sqrt((times - 1) * variances[row]) * normal(random);
    variances[row] *= times;
  }
  const std::vector<double> features = survey.features();
  return biv::Dataset({features, {survey.info().rows, survey.info().features}}, incomes, variances);
}

// The root of the mean squared residual, each weighted by 1 / (variance + epsilon).
static double weighted_rmse(const std::vector<double> &residuals, const std::vector<double> &variances,
                            double epsilon) {
  double sum = 0, weights = 0;
  for (std::size_t row = 0; row < residuals.size(); ++row) {
    const double weight = std::isinf(epsilon) ? 1 : 1 / (variances[row] + epsilon);
    sum += weight * residuals[row] * residuals[row];
    weights += weight;
  }
  return std::sqrt(sum / weights);
}

int main() try {
  const biv::Dataset data = counties();
  const auto [train, test] = data.split({{"test_size", 600}, {"train_size", data.info().rows - 600}, {"seed", 1}});
  const std::vector<double> features = test.features(), labels = test.labels(), variances = test.variances();
  for (const double times : {1.0, 30.0}) {
    const biv::Dataset survey = of_fewer(train, times);
    std::printf("training labels of %.0f times the published variance\n", times);
    std::optional<double> epsilon;
    for (const char *loss : {"mse", "biv"}) {
      const biv::Model model({{"kind", "mlp"}, {"inputs", data.info().features}, {"hidden", {64, 32}}, {"seed", 1}});
      biv::Trainer trainer(model, survey, {{"loss", {{"kind", loss}}}, {"seed", 1}});
      trainer.fit(30);
      const biv::Metrics metrics = trainer.evaluate(test);
      // The test labels are noisy, too: no model gets below their noise. In a fair mean they count as much as they say,
      // which is what the residuals tell, and for both models the same.
      std::vector<double> residuals = model.predict({features, {labels.size(), data.info().features}});
      for (std::size_t row = 0; row < labels.size(); ++row) residuals[row] = labels[row] - residuals[row];
      if (!epsilon) epsilon = biv::variance_model(residuals, variances).epsilon;
      std::printf("  %s: RMSE %.4g, of which the labels' noise is %.4g; weighted by their variances %.4g\n", loss,
                  metrics.rmse, metrics.expected_rmse, weighted_rmse(residuals, variances, *epsilon));
    }
  }
} catch (const std::exception &error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
