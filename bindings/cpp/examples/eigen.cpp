// Eigen's column-major matrices go in as they are; predictions come back into a Map.
#include <Eigen/Dense>
#include <biv.hpp>
#include <iostream>

int main() try {
  const int rows = 3000;
  const Eigen::MatrixXd features = Eigen::MatrixXd::Random(rows, 3);
  const Eigen::VectorXd truth = features.col(0) - 2 * features.col(1).cwiseAbs2();
  const Eigen::VectorXd variances = Eigen::VectorXd::LinSpaced(rows, 0.01, 4);
  const Eigen::VectorXd noise = Eigen::VectorXd::Random(rows).array() * (3 * variances.array()).sqrt();
  const Eigen::VectorXd labels = truth + noise;  // uniform in +-sqrt(3 v): of variance v

  const int train = 2500, test = rows - train;
  const biv::Dataset data(features.topRows(train), labels.head(train), variances.head(train));
  const biv::Model model({{"kind", "mlp"}, {"inputs", 3}, {"hidden", {32, 16}}});
  biv::Trainer trainer(model, data, {{"loss", {{"kind", "biv"}, {"epsilon", 0.05}}}, {"learning_rate", 0.003}});
  trainer.fit(60);

  const std::vector<double> values = trainer.predict(features.bottomRows(test));
  const Eigen::Map<const Eigen::VectorXd> predictions(values.data(), test);
  std::cout << "RMSE against the truth: " << (predictions - truth.tail(test)).norm() / std::sqrt(test) << '\n';
} catch (const biv::Error &error) {
  std::cerr << error.name() << ": " << error.what() << '\n';
  return 1;
}
