// A robot whose sensors' noise is not known: rows arrive while it learns, and the prediction errors on new rows refine
// what is believed of each sensor's variance, as an adaptive Kalman filter's innovations do.
#include <biv.hpp>
#include <cmath>
#include <cstdio>
#include <random>

struct Sensor {
  double deviation;     // the truth, which only the simulation knows
  double variance = 1;  // what is believed
  double innovations = 1;
};

int main() try {
  // Friedman's function stands for the world; every row comes of one of three sensors.
  const biv::Dataset world = biv::Dataset::synthetic({{"rows", 3500}, {"seed", 1}});
  const std::vector<double> x = world.features(), truth = world.labels();
  const std::size_t start = 500, rows = 3000, batch = 100;
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  std::vector<Sensor> sensors{{0.2}, {2}, {10}};
  std::vector<double> y, believed;
  const auto measure = [&](std::size_t from, std::size_t to) {
    for (std::size_t row = from; row < to; row++) y.push_back(truth[row] + sensors[row % 3].deviation * normal(random));
    const std::vector<double> features(&x[from * 10], &x[from * 10] + (to - from) * 10),
        labels(&y[from], &y[from] + (to - from));
    return biv::Dataset({features, {to - from, 10}}, labels, std::vector<double>(to - from, 1));
  };

  biv::Dataset seen = measure(0, start);
  const biv::Options options{{"batch_size", 64}, {"learning_rate", 0.003}, {"seed", 1}};
  const biv::Options network{{"kind", "mlp"}, {"inputs", 10}, {"hidden", {64, 32}}, {"seed", 1}};
  biv::Trainer refined(biv::Model(network), seen, options), naive(biv::Model(network), seen, options);
  for (std::size_t now = start; now < rows; now += batch) {
    refined.fit(5);
    naive.fit(5);
    const biv::Dataset news = measure(now, now + batch);
    const std::vector<double> predicted = refined.predict({news.features(), {batch, 10}}), labels = news.labels();
    for (std::size_t row = 0; row < batch; row++) {
      Sensor &sensor = sensors[(now + row) % 3];
      sensor.innovations = std::min(sensor.innovations + 1, 300.0);  // older networks were worse: they are forgotten
      sensor.variance += (std::pow(labels[row] - predicted[row], 2) - sensor.variance) / sensor.innovations;
    }
    // The rows share the memory of those before; all of them get the variances that are believed now.
    seen = seen.append(news);
    believed.resize(now + batch);
    for (std::size_t row = 0; row < believed.size(); row++) believed[row] = sensors[row % 3].variance;
    refined.set_data(seen.with_variances(believed));
    naive.set_data(seen);
  }

  for (const Sensor &sensor : sensors)
    std::printf("believed noise %.1f, true noise %.1f\n", std::sqrt(sensor.variance), sensor.deviation);
  std::vector<std::int64_t> later;
  for (std::size_t row = rows; row < truth.size(); row++) later.push_back(static_cast<std::int64_t>(row));
  const biv::Dataset test = world.subset(later);
  const double with = refined.evaluate(test).rmse, without = naive.evaluate(test).rmse;
  std::printf("RMSE %.2f with refined variances, %.2f with equal ones: %s\n", with, without,
              with < without ? "better" : "NOT better");
  return with < without ? 0 : 1;
} catch (const biv::Error &error) {
  std::fprintf(stderr, "%s: %s\n", error.name(), error.what());
  return 1;
}
