// Incomes of US counties, which a survey estimates and publishes with margins of error at 90 %: a standard error is
// margin / 1.645. The file acs2017_county_data.csv is looked for in BIV_DATA_DIR; without it, the data are synthetic.
#include <algorithm>
#include <biv.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
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

int main() try {
  const biv::Dataset data = counties();
  const auto [train, test] = data.split({{"test_size", 600}, {"train_size", data.info().rows - 600}, {"seed", 1}});
  for (const char *loss : {"mse", "biv"}) {
    const biv::Model model({{"kind", "mlp"}, {"inputs", data.info().features}, {"hidden", {64, 32}}, {"seed", 1}});
    biv::Trainer trainer(model, train, {{"loss", {{"kind", loss}}}, {"seed", 1}});
    trainer.fit(30);
    const biv::Metrics metrics = trainer.evaluate(test);
    std::printf("%s: RMSE %.4g, R2 %.3f on %d estimates\n", loss, metrics.rmse, metrics.r2,
                static_cast<int>(metrics.rows));
  }
} catch (const std::exception &error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
