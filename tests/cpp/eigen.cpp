// Eigen's matrices as Views: both orders, blocks, transposes, maps, vectors, float and double.
#include <Eigen/Dense>

#include "check.hpp"

using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/* An expression without memory of its own, and integers, are no Views. */
static_assert(!std::is_convertible_v<decltype(Eigen::MatrixXd() * 2.0), biv::View>);
static_assert(!std::is_convertible_v<Eigen::MatrixXi, biv::View>);

int main() {
  Eigen::MatrixXd features(3, 2);
  features << 1, 2, 3, 4, 5, 6;
  const Eigen::Vector3d labels(1, 2, 3), variances(0, 1, 2);
  const std::vector<double> expected{1, 2, 3, 4, 5, 6};
  const auto stored = [&](const biv::View &view) { return biv::Dataset(view, labels).features(); };

  CHECK(stored(features) == expected);
  CHECK(stored(RowMajor(features.cast<float>())) == expected);
  CHECK(stored(Eigen::MatrixXd(features.transpose()).transpose()) == expected);
  CHECK(stored(Eigen::Map<const Eigen::MatrixXd>(features.data(), 3, 2)) == expected);
  Eigen::MatrixXd frame = Eigen::MatrixXd::Constant(5, 4, 9);
  frame.block(1, 1, 3, 2) = features;
  CHECK(stored(frame.block(1, 1, 3, 2)) == expected);
  CHECK(stored(Eigen::ArrayXXd(features.array())) == expected);
  CHECK(biv::View(labels).shape() == std::vector<std::int64_t>{3});
  CHECK(biv::View(features.row(1)).shape() == (std::vector<std::int64_t>{1, 2}));
  CHECK(stored(features.col(1)) == (std::vector<double>{2, 4, 6}));

  const biv::Dataset data(features, labels, variances);
  CHECK(data.variances() == (std::vector<double>{0, 1, 2}));
  const biv::Model model({{"kind", "mlp"}, {"inputs", 2}, {"hidden", {4}}});
  CHECK(model.predict(features.row(1))[0] == model.predict(features)[1]);
  CHECK_ERROR(biv::Dataset(features, labels.head(2)), BIV_ERROR_SHAPE, "rows");
  CHECK_ERROR(model.predict(features.transpose()), BIV_ERROR_SHAPE, "2");
  return report();
}
