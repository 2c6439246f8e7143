// biv.hpp without exceptions: every function gives a Result. Compiled with -fno-exceptions.
#include "check.hpp"

#ifndef BIV_NO_EXCEPTIONS
#error "biv.hpp did not see that there are no exceptions"
#endif

/** The result is an error with this status, and a message that says `said`. */
template <class T>
static bool failed_with(const biv::Result<T> &result, biv_status status, const std::string &said) {
  return !result && result.error().status() == status &&
         std::string(result.error().what()).find(said) != std::string::npos;
}

/* What goes wrong in a function that calls another comes out of it, as in programs of this style. */
static biv::Result<double> trained(const biv::Options &network, const biv::Options &options) {
  const biv::Result<biv::Dataset> data = biv::Dataset::synthetic({{"rows", 200}, {"features", 5}});
  if (!data) return data.error();
  const biv::Result<biv::Model> model = biv::Model::create(network);
  if (!model) return model.error();
  biv::Result<biv::Trainer> trainer = biv::Trainer::create(*model, *data, options);
  if (!trainer) return trainer.error();
  int epochs = 0;
  const biv::Result<bool> complete = trainer->fit(9, &*data, [&](const biv::Epoch &epoch) {
    CHECK(epoch.test.has_value());
    return ++epochs < 2;
  });
  CHECK(complete && !*complete && epochs == 2);
  const biv::Result<biv::Metrics> metrics = trainer->evaluate(*data);
  if (!metrics) return metrics.error();
  return metrics->rmse;
}

int main() {
  const biv::Options network{{"kind", "mlp"}, {"inputs", 5}, {"hidden", {8}}},
      mse{{"loss", {{"kind", "mse"}}}, {"batch_size", 50}};
  const biv::Result<double> rmse = trained(network, mse);
  CHECK(rmse && *rmse > 0);
  CHECK(failed_with(trained("{}", mse), BIV_ERROR_INVALID_CONFIG, "kind"));
  CHECK(failed_with(trained(network, {{"batch_size", 0}}), BIV_ERROR_INVALID_CONFIG, "batch_size"));

  const std::vector<double> values{1, 2, 3, 4, 5, 6};
  const std::vector<double> labels{1, 2, 3};
  biv::Result<biv::Dataset> data = biv::Dataset::create({values, {3, 2}}, labels, labels);
  CHECK(data && *data->features() == values && *data->variances() == labels && data->info()->rows == 3);
  CHECK(data->describe() && biv::build_info()->front() == '{' && *biv::num_threads() > 0);
  CHECK(failed_with(biv::Dataset::create({values, {3, 2}}, values), BIV_ERROR_SHAPE, "6 rows"));
  CHECK(failed_with(biv::Dataset::create({values, {3, 2}, {1}}, labels), BIV_ERROR_SHAPE, "rank is 0"));
  CHECK(failed_with(data->features({4, 2}), BIV_ERROR_SHAPE, "[3, 2]"));
  CHECK(!data->features({std::int64_t{1} << 62, 8}));
  CHECK(!data->subset({7}) && data->split({{"train_size", 2}})->first.info()->rows == 2);

  const biv::Result<biv::Model> model = biv::Model::create({{"kind", "mlp"}, {"inputs", 2}, {"hidden", {3}}});
  CHECK(model && model->predict({values, {3, 2}})->size() == 3 && *model->parameter_count() == 13);
  CHECK(model->tensor("0.weight")->shape == (std::vector<std::int64_t>{3, 2}));
  CHECK(failed_with(model->tensor("9.weight"), BIV_ERROR_NOT_FOUND, "9.weight"));
  CHECK(failed_with(model->predict_with_variance({values, {3, 2}}), BIV_ERROR_UNSUPPORTED, ""));
  CHECK(failed_with(model->save("nowhere/model.biv"), BIV_ERROR_NOT_FOUND, "nowhere"));
  CHECK(bool(biv::set_num_threads(*biv::num_threads())));
  const biv::Result<biv::Fit> fit = biv::fit(*biv::Dataset::synthetic({{"rows", 200}}), {}, {{"epochs", 1}});
  CHECK(fit && fit->report.find("\"members\":5") != std::string::npos);
  CHECK(failed_with(biv::fit(*data), BIV_ERROR_INVALID_ARGUMENT, "rows"));
  CHECK(biv::compute_loss({{"kind", "mse"}}, labels, labels)->value == 0);

  const biv::Dataset taken = *std::move(data);
  CHECK(failed_with(data->info(), BIV_ERROR_INVALID_HANDLE, "NULL") && taken.info());
  return report();
}
