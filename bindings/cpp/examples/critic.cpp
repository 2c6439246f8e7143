// A critic that learns the value of states from a replay buffer: the latest transitions, each with a target of which
// the ensemble's spread says how uncertain it is.
#include <biv.hpp>
#include <cmath>
#include <cstdio>
#include <random>

constexpr double discount = 0.9;

// From x the policy goes to x / 2, and the reward is sin(3 x).
static double value(double x) {
  double sum = 0;
  for (double weight = 1; weight > 1e-9; weight *= discount, x /= 2) sum += weight * std::sin(3 * x);
  return sum;
}

int main() try {
  const std::size_t transitions = 200, buffer = 1000;
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  std::vector<biv::Trainer> critics;
  biv::Dataset replay = biv::Dataset::synthetic({{"rows", 1}});  // replaced at once

  for (int round = 0; round < 60; round++) {
    std::vector<double> states(transitions), next(transitions), targets(transitions), variances(transitions);
    for (std::size_t row = 0; row < transitions; row++) {
      states[row] = uniform(random);
      next[row] = states[row] / 2;
      variances[row] = row % 2 ? 0.001 : 1;  // of the reward's measurement
      targets[row] = std::sin(3 * states[row]) + std::sqrt(variances[row]) * normal(random);
    }
    // What the critics say of the next state is noisy too: by their spread.
    std::vector<std::vector<double>> votes;
    for (const biv::Trainer &critic : critics) votes.push_back(critic.predict(next));
    for (std::size_t row = 0; row < transitions && !votes.empty(); row++) {
      double mean = 0, spread = 0;
      for (const std::vector<double> &vote : votes) mean += vote[row] / static_cast<double>(votes.size());
      for (const std::vector<double> &vote : votes)
        spread += std::pow(vote[row] - mean, 2) / (static_cast<double>(votes.size()) - 1);
      targets[row] += discount * mean;
      variances[row] += discount * discount * spread;
    }
    biv::Dataset news(states, targets, variances);
    replay = round == 0 ? std::move(news) : replay.append(news).latest(buffer);
    for (int seed = 0; round == 0 && seed < 3; seed++)
      critics.emplace_back(
          biv::Model({{"kind", "mlp"}, {"inputs", 1}, {"hidden", {32, 32}}, {"seed", seed}}), replay,
          biv::Options{{"loss", {{"kind", "biv"}}}, {"batch_size", 50}, {"learning_rate", 0.003}, {"seed", seed}});
    for (biv::Trainer &critic : critics) {
      critic.set_data(replay);
      critic.fit(4);
    }
  }

  double worst = 0;
  for (const double x : {0.1, 0.3, 0.5, 0.7, 0.9}) {
    double mean = 0;
    for (const biv::Trainer &critic : critics)
      mean += critic.predict(std::vector<double>{x})[0] / static_cast<double>(critics.size());
    std::printf("value of %.1f: %.2f, true %.2f\n", x, mean, value(x));
    worst = std::max(worst, std::abs(mean - value(x)));
  }
  std::printf("%d rows in the buffer; off by %.2f at most: %s\n", static_cast<int>(replay.info().rows), worst,
              worst < 0.2 ? "good" : "NOT good");
  return worst < 0.2 ? 0 : 1;
} catch (const biv::Error &error) {
  std::fprintf(stderr, "%s: %s\n", error.name(), error.what());
  return 1;
}
