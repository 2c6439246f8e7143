// Every part of biv.hpp, used well and badly.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <thread>

#include "../c/dlpack.h"
#include "check.hpp"

using biv::Dataset, biv::Model, biv::Options, biv::Trainer, biv::View;

static const double nan_value = std::numeric_limits<double>::quiet_NaN();
static std::filesystem::path folder;

static std::string in_folder(const char *name) { return (folder / name).string(); }

static Dataset friedman(int rows = 300) { return Dataset::synthetic({{"rows", rows}, {"features", 5}, {"seed", 1}}); }

static Dataset noisy(int rows = 300) {
  return friedman(rows).add_noise({{"distribution", {{"kind", "uniform"}, {"low", 0}, {"high", 4}}}, {"seed", 1}});
}

static Model network() { return Model({{"kind", "mlp"}, {"inputs", 5}, {"hidden", {8}}, {"seed", 1}}); }

static const Options small_batches{{"batch_size", 50}, {"seed", 1}};

/* What must not compile: copies, and arrays of the wrong type. */
static_assert(!std::is_copy_constructible_v<Dataset> && !std::is_copy_assignable_v<Dataset>);
static_assert(!std::is_copy_constructible_v<Model> && !std::is_copy_assignable_v<Model>);
static_assert(!std::is_copy_constructible_v<Trainer> && !std::is_copy_assignable_v<Trainer>);
static_assert(std::is_nothrow_move_constructible_v<Dataset> && std::is_nothrow_move_assignable_v<Dataset>);
static_assert(std::is_nothrow_move_constructible_v<Model> && std::is_nothrow_move_assignable_v<Model>);
static_assert(std::is_nothrow_move_constructible_v<Trainer> && std::is_nothrow_move_assignable_v<Trainer>);
static_assert(!std::is_convertible_v<std::vector<int>, View> && !std::is_convertible_v<std::string, View>);

static void options() {
  const auto json = [](const Options &options) { return std::string(options.json() ? options.json() : "none"); };
  CHECK(json({}) == "none");
  CHECK(json("{\"rows\": 5}") == "{\"rows\": 5}");
  CHECK(json({{"rows", 5}}) == R"({"rows":5})");
  CHECK(json({{"kind", "mse"}}) == R"({"kind":"mse"})");
  CHECK(json({{"hidden", {}}, {"one", {5}}}) == R"({"hidden":[],"one":[5]})");
  CHECK(json({{"hidden", {32, 16}}, {"seed", std::uint64_t{18446744073709551615u}}}) ==
        R"({"hidden":[32,16],"seed":18446744073709551615})");
  CHECK(json({{"labels", {"a"}}, {"features", {"a", "b"}}}) == R"({"labels":["a"],"features":["a","b"]})");
  CHECK(json({{"loss", {{"kind", "biv"}, {"epsilon", {{"min_effective_batch_size", 64}}}}}, {"normalize", true}}) ==
        R"({"loss":{"kind":"biv","epsilon":{"min_effective_batch_size":64}},"normalize":true})");
  CHECK(json({{"losses", {{{"kind", "mse"}}, {{"kind", "biv"}}}}}) == R"({"losses":[{"kind":"mse"},{"kind":"biv"}]})");
  CHECK(json({{"base", Options("{\"epochs\": 1}")}, {"out", nullptr}}) == R"({"base":{"epochs": 1},"out":null})");
  CHECK(json({{"a", std::vector<int>{1, 2}}, {"b", std::vector<std::string>{}}}) == R"({"a":[1,2],"b":[]})");
  CHECK(json({{"a\"\n", "\\ \t \xc3\xa9"}}) == "{\"a\\\"\\u000a\":\"\\\\ \\u0009 \xc3\xa9\"}");
  CHECK(json({{"a", 0.5}, {"b", 1e300}, {"c", -3}}) == R"({"a":0.5,"b":1.0000000000000001e+300,"c":-3})");
  CHECK(std::stod(json({{"a", 0.1}}).substr(5)) == 0.1);

  CHECK_ERROR(Dataset::synthetic({{"rows", "many"}}), BIV_ERROR_INVALID_CONFIG, "rows");
  CHECK_ERROR(Dataset::synthetic({{"rows", 5}, {"colour", 1}}), BIV_ERROR_INVALID_CONFIG, "colour");
  CHECK_ERROR(Dataset::synthetic("{\"rows\": "), BIV_ERROR_INVALID_CONFIG, "synthetic");
  CHECK_ERROR(Dataset::synthetic("\xff"), BIV_ERROR_INVALID_ARGUMENT, "UTF-8");
  CHECK_ERROR(Trainer(network(), friedman(), {{"learning_rate", nan_value}}), BIV_ERROR_INVALID_CONFIG,
              "learning_rate");
}

static void arrays() {
  const std::vector<double> labels{1, 2, 3}, variances{0.25, 1, 4}, deviations{0.5, 1, 2};
  const std::vector<float> features{1, 2, 3, 4, 5, 6};
  const Dataset data({features, {3, 2}}, labels, variances);
  CHECK(data.info().rows == 3 && data.info().features == 2 && data.info().outputs == 1);
  CHECK(data.info().has_variances == 1 && data.info().has_clean_labels == 0 && data.info().left_out == 0);
  CHECK(data.features() == (std::vector<double>{1, 2, 3, 4, 5, 6}));
  CHECK(data.labels() == labels && data.clean_labels() == labels && data.variances() == variances);
  CHECK(Dataset::with_standard_deviations({features, {3, 2}}, labels, deviations).variances() == variances);

  /* Column-major, reversed, f64 and plain pointers. */
  const std::vector<double> columns{1, 3, 5, 2, 4, 6};
  CHECK(Dataset({columns, {3, 2}, {1, 3}}, labels).features() == data.features());
  CHECK(Dataset(View(features.data(), {3, 2}), labels).features() == data.features());
  CHECK(Dataset(View(features.data() + 4, {3, 2}, {-2, 1}), labels).features() ==
        (std::vector<double>{5, 6, 3, 4, 1, 2}));
  CHECK(Dataset({columns, {3, 2}, {1, 3}}, {labels, {labels.size(), 1}}).labels() == labels);
  CHECK(View(labels).shape() == std::vector<std::int64_t>{3} && View().shape().empty());

  const Dataset twofold({features, {3, 2}}, {features, {3, 2}});
  CHECK(twofold.info().outputs == 2 && twofold.labels() == data.features());
  const Dataset deep({features, {3, 1, 2}}, labels);
  CHECK(deep.info().features == 2 && deep.features({3, 1, 2}) == data.features());
  CHECK_ERROR(deep.features({3, 3}), BIV_ERROR_SHAPE, "[3, 1, 2]");

  const View good(features, {3, 2});
  CHECK_ERROR(Dataset({features, {4, 2}}, labels), BIV_ERROR_SHAPE, "size is 6");
  CHECK_ERROR(Dataset({features, {-3, 2}}, labels), BIV_ERROR_SHAPE, "negative");
  CHECK_ERROR(Dataset({features, {3, 2}, {1}}, labels), BIV_ERROR_SHAPE, "2 dimensions and 1 strides");
  CHECK_ERROR(Dataset({features, biv::Shape()}, labels), BIV_ERROR_SHAPE, "rank is 0");
  CHECK_ERROR(Dataset({features, {1, 1, 1, 1, 1, 1, 1, 3, 2}}, labels), BIV_ERROR_SHAPE, "rank is 9");
  CHECK_ERROR(Dataset({features, {std::int64_t{1} << 62, 8}}, labels), BIV_ERROR_SHAPE, "features");
  CHECK_ERROR(Dataset(good, std::vector<double>{1, 2}), BIV_ERROR_SHAPE, "rows");
  CHECK_ERROR(Dataset(good, labels, std::vector<double>{1, 2}), BIV_ERROR_SHAPE, "variances");
  CHECK_ERROR(Dataset(good, std::vector<double>{1, 2, nan_value}), BIV_ERROR_INVALID_ARGUMENT, "row 2, label 0: NaN");
  CHECK(std::string(biv_last_error_message_from_one()).find("row 3, label 1: NaN") == 0);
  CHECK_ERROR(Dataset(good, labels, std::vector<double>{1, -2, 1}), BIV_ERROR_INVALID_ARGUMENT,
              "-2 must not be negative");
  CHECK_ERROR(Dataset::with_standard_deviations(good, labels, std::vector<double>{1, -2, 1}),
              BIV_ERROR_INVALID_ARGUMENT, "standard");
  CHECK_ERROR(Dataset(View(), labels), BIV_ERROR_INVALID_ARGUMENT, "features");
  CHECK_ERROR(Dataset(good, View()), BIV_ERROR_INVALID_ARGUMENT, "labels");
  CHECK_ERROR(Dataset({std::vector<float>(), {0, 2}}, std::vector<double>()), BIV_ERROR_INVALID_ARGUMENT,
              "at least one row");
  std::vector<double> with_room;
  with_room.reserve(100);
  CHECK_ERROR(Dataset(good, {with_room, {3}}), BIV_ERROR_INVALID_ARGUMENT, "NULL");
  CHECK_ERROR(data.features({2, 2}), BIV_ERROR_SHAPE, "[3, 2]");
  CHECK_ERROR(data.features({std::int64_t{1} << 40, std::int64_t{1} << 40}), BIV_ERROR_OUT_OF_MEMORY, "memory");
}

static void datasets() {
  const Dataset all = friedman();
  const auto [train, test] = all.split({{"train_size", 200}, {"test_size", 100}, {"seed", 3}});
  CHECK(train.info().rows == 200 && test.info().rows == 100);
  const Dataset noise = train.add_noise({{"distribution", {{"kind", "gamma"}, {"mean", 2}, {"variance", 1}}}});
  CHECK(noise.info().has_variances == 1 && noise.info().has_clean_labels == 1);
  CHECK(noise.clean_labels() == train.labels() && noise.labels() != train.labels());
  CHECK(noise.variances().size() == 200);
  const Dataset part = all.subset({2, 0, 2});
  const std::vector<double> labels = all.labels();
  CHECK(part.labels() == (std::vector<double>{labels[2], labels[0], labels[2]}));
  CHECK(all.shuffle(5).labels() == friedman().shuffle(5).labels() && all.shuffle(5).labels() != labels);
  const biv::Dataset twice = all.append(all);
  CHECK(twice.info().rows == 2 * all.info().rows && twice.latest(labels.size()).labels() == labels);
  const std::vector<double> twos(labels.size(), 2);
  CHECK(all.with_variances(twos).variances() == twos);
  CHECK(all.with_variances(twos, {{"standard_deviations", true}}).variances()[0] == 4);

  CHECK_ERROR(all.variances(), BIV_ERROR_UNSUPPORTED, "variances");
  CHECK_ERROR(all.subset({300}), BIV_ERROR_INVALID_ARGUMENT, "300");
  CHECK_ERROR(all.subset({}), BIV_ERROR_INVALID_ARGUMENT, "");
  CHECK_ERROR(all.split({{"train_size", 400}}), BIV_ERROR_INVALID_ARGUMENT, "400");
  CHECK_ERROR(all.split({{"train_size", 1.5}}), BIV_ERROR_INVALID_CONFIG, "train_size");
  CHECK_ERROR(all.add_noise({{"distribution", {{"kind", "cauchy"}}}}), BIV_ERROR_INVALID_CONFIG, "cauchy");

  const std::string path = in_folder("incomes.csv");
  std::ofstream(path) << "name,people,income,moe\na,10,100,3.29\nb,20,200,1.645\n";
  const Options columns{
      {"labels", {"income"}}, {"standard_errors", {"moe"}}, {"error_divisor", 1.645}, {"features", {"people"}}};
  const Dataset incomes = Dataset::from_csv(path, columns);
  CHECK(incomes.labels() == (std::vector<double>{100, 200}));
  CHECK_NEAR(incomes.variances()[0], 4.0);
  CHECK(incomes.describe().find("\"labels\":[\"income\"]") != std::string::npos);
  CHECK_ERROR(Dataset::from_csv(path, {{"labels", {"wage"}}, {"features", {"people"}}}), BIV_ERROR_NOT_FOUND, "wage");
  CHECK_ERROR(Dataset::from_csv(path, {{"labels", {"income"}}, {"features", {"name"}}}), BIV_ERROR_PARSE, "row");
  CHECK_ERROR(Dataset::from_csv(in_folder("none.csv"), columns), BIV_ERROR_NOT_FOUND, "none.csv");
  CHECK_ERROR(Dataset::from_csv(path, {}), BIV_ERROR_INVALID_CONFIG, "csv");
  CHECK_ERROR(Dataset::named("bike", in_folder("none")), BIV_ERROR_NOT_FOUND, "none");
  CHECK_ERROR(Dataset::named("boats", path), BIV_ERROR_INVALID_ARGUMENT, "boats");

  const std::string draw = "'" BIV_PROGRAM "' faces '" + in_folder("faces") + "' --count 6 --size 16";
  CHECK(std::system(draw.c_str()) == 0);
  const Dataset faces = Dataset::from_images(in_folder("faces"));
  CHECK(faces.info().rows == 6 && faces.info().features == 3 * 16 * 16);
  CHECK(faces.features({6, 3, 16, 16}).size() == 6 * 3 * 16 * 16);
  CHECK(Dataset::from_images(in_folder("faces"), {{"size", {{"height", 8}, {"width", 8}}}}).info().features == 192);
  CHECK(faces.features() == faces.features({6, 3, 16, 16}));
  CHECK_ERROR(faces.features({6, 16, 16, 3}), BIV_ERROR_SHAPE, "[6, 3, 16, 16]");
  CHECK_ERROR(Dataset::from_images(in_folder("none")), BIV_ERROR_NOT_FOUND, "none");

  if (const char *data = std::getenv("BIV_DATA_DIR"); data && std::filesystem::exists(std::string(data) + "/bike"))
    CHECK(Dataset::named("bike", std::string(data) + "/bike").info().features == 19);
  else
    std::printf("skipped: Bike Sharing is not in BIV_DATA_DIR\n");
}

static void lent() {
  const std::vector<float> features{1, 2, 3, 4, 5, 6};
  const std::vector<double> labels{1, 2, 3}, variances{0.25, 1, 4}, too_few{1};
  int released = 0;
  const auto release = [&] { ++released; };
  {
    const Dataset data = Dataset::borrowed({features, {3, 2}}, labels, variances, release);
    CHECK(data.variances() == variances && data.features() == (std::vector<double>{1, 2, 3, 4, 5, 6}));
    CHECK(released == 0);
  }
  CHECK(released == 1);
  CHECK_ERROR(Dataset::borrowed({features, {3, 2}}, too_few, {}, release), BIV_ERROR_SHAPE, "labels have 1 rows");
  CHECK(released == 2);
  CHECK(Dataset::borrowed({features, {3, 2}}, labels, {}, nullptr, labels, {{"columns", {"a", "b"}}}).info().rows == 3);
}

/* A tensor over a vector's memory, which counts how often it was deleted. */
template <class T>
static DLManagedTensorVersioned *tensor(std::vector<T> &values, std::vector<std::int64_t> &shape, int &deleted) {
  const auto free = [](DLManagedTensorVersioned *self) {
    ++*static_cast<int *>(self->manager_ctx);
    delete self;
  };
  const DLTensor dl_tensor{values.data(),
                           {kDLCPU, 0},
                           static_cast<std::int32_t>(shape.size()),
                           {kDLFloat, 8 * sizeof(T), 1},
                           shape.data(),
                           nullptr,
                           0};
  return new DLManagedTensorVersioned{{1, 3}, &deleted, free, 0, dl_tensor};
}

static void tensors() {
  std::vector<float> features{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  std::vector<double> labels{1, 2}, predictions(2);
  std::vector<std::int64_t> table{2, 5}, column{2};
  int x = 0, y = 0;
  {
    /* A stream says nothing of tensors on the CPU. */
    const Dataset data =
        Dataset::from_dlpack(tensor(features, table, x), tensor(labels, column, y), nullptr, nullptr, {}, &x);
    /* The data set reads the vector's memory. */
    labels[1] = 7;
    CHECK(data.labels() == labels && x == 0 && y == 0);
  }
  CHECK(x == 1 && y == 1);
  CHECK_ERROR(Dataset::from_dlpack(tensor(features, table, x), nullptr), BIV_ERROR_INVALID_ARGUMENT, "labels is NULL");
  CHECK(x == 2);
  const Model model = network();
  model.predict_dlpack(tensor(features, table, x), tensor(predictions, column, y));
  CHECK(predictions == model.predict({features, {2, 5}}) && x == 3 && y == 2);
  CHECK_ERROR(model.predict_dlpack(tensor(features, table, x), nullptr), BIV_ERROR_INVALID_ARGUMENT, "out is NULL");
  CHECK(x == 4);
}

static void models() {
  Model model = network();
  CHECK(model.info().inputs == 5 && model.info().outputs == 1 && model.info().normalized == 0);
  CHECK(model.parameter_count() == 5 * 8 + 8 + 8 + 1);
  Model twin = model.copy();
  const std::string weights = (folder / "weights.safetensors").string();
  twin.export_to(weights);
  CHECK(Model({{"kind", "mlp"}, {"inputs", 5}, {"hidden", {8}}, {"seed", 2}})
            .import_weights(weights)
            .find("\"imported\":[\"0.weight\"") != std::string::npos);
  const std::string onnx = (folder / "model.onnx").string(), unnamed = (folder / "model").string();
  twin.export_to(onnx);
  twin.export_to(unnamed, {{"format", "onnx"}});
  CHECK(std::filesystem::file_size(onnx) == std::filesystem::file_size(unnamed));
  CHECK_ERROR(twin.export_to(unnamed), BIV_ERROR_INVALID_ARGUMENT, ".onnx or .safetensors");
  const auto saved = twin.save_to_memory();
  CHECK(Model::load_from_memory(saved.data(), saved.size()).parameter_count() == twin.parameter_count());
  CHECK_ERROR(Model::load_from_memory(saved.data(), 9), BIV_ERROR_CORRUPT, "the bytes: ");
  CHECK(model.describe().find("\"0.weight\"") != std::string::npos && model.describe().back() == '}');

  const biv::Tensor weight = model.tensor("0.weight"), bias = model.tensor("2.bias");
  CHECK(weight.shape == (std::vector<std::int64_t>{8, 5}) && weight.values.size() == 40);
  CHECK(bias.shape == std::vector<std::int64_t>{1});
  model.set_tensor("2.weight", {std::vector<double>(8, 0.0), {1, 8}});
  model.set_tensor("2.bias", std::vector<double>{7.5});
  const std::vector<double> rows(10, 0.5);
  CHECK(model.predict({rows, {2, 5}}) == (std::vector<double>{7.5, 7.5}));
  CHECK(model.predict({rows, {0, 5}}).empty());
  model.set_tensor("0.weight", {weight.values, {8, 5}});
  CHECK(model.tensor("0.weight").values == weight.values);

  const std::string path = in_folder("model.biv");
  model.save(path);
  CHECK(Model::load(path).predict({rows, {2, 5}}) == model.predict({rows, {2, 5}}));
  CHECK(Model("{\"kind\": \"vanilla_ann\", \"dataset\": \"bike\"}").info().inputs == 19);

  CHECK_ERROR(model.tensor("9.weight"), BIV_ERROR_NOT_FOUND, "9.weight");
  CHECK_ERROR(model.tensor("\"]"), BIV_ERROR_NOT_FOUND, "");
  CHECK_ERROR(model.set_tensor("0.weight", {weight.values, {5, 8}}), BIV_ERROR_SHAPE, "[8, 5]");
  CHECK_ERROR(model.set_tensor("2.bias", std::vector<double>{nan_value}), BIV_ERROR_INVALID_ARGUMENT, "2.bias");
  CHECK_ERROR(model.set_tensor("2.bias", {}), BIV_ERROR_INVALID_ARGUMENT, "NULL");
  CHECK_ERROR(model.predict({rows, {5, 2}}), BIV_ERROR_SHAPE, "5");
  CHECK_ERROR(model.predict({rows, {std::int64_t{1} << 60, 5}}), BIV_ERROR_SHAPE, "features");
  CHECK_ERROR(model.predict({rows, {-2, 5}}), BIV_ERROR_SHAPE, "negative");
  CHECK_ERROR(model.predict({}), BIV_ERROR_INVALID_ARGUMENT, "features");
  CHECK_ERROR(model.predict({std::vector<double>(5, nan_value), {1, 5}}), BIV_ERROR_INVALID_ARGUMENT,
              "row 0, feature 0: NaN");
  CHECK_ERROR(Model({{"kind", "mlp"}, {"inputs", -1}, {"hidden", {8}}}), BIV_ERROR_INVALID_CONFIG, "-1");
  CHECK_ERROR(Model(Options()), BIV_ERROR_INVALID_CONFIG, "kind");
  CHECK_ERROR(Model::load(in_folder("none.biv")), BIV_ERROR_NOT_FOUND, "none.biv");
  CHECK_ERROR(Model::load(in_folder("incomes.csv")), BIV_ERROR_CORRUPT, "incomes.csv");
  CHECK_ERROR(model.save(in_folder("none/model.biv")), BIV_ERROR_NOT_FOUND, "none");
}

static void training() {
  const Dataset data = noisy(), test = friedman(100);
  const Model model = network();
  Trainer trainer(model, data, small_batches);
  const biv::Step step = trainer.step();
  CHECK(step.rows == 50 && step.samples_used == 50 && step.loss > 0 && step.epsilon > 0);
  CHECK(step.effective_batch_size > 1 && step.effective_batch_size < 50);
  CHECK(trainer.progress().steps == 1 && trainer.progress().batch == 1 && trainer.progress().running == 0);
  CHECK(trainer.fit(2) && trainer.progress().epoch == 2);
  const std::vector<double> features = test.features();
  const View rows(features, {100, 5});
  CHECK(trainer.predict(rows) == model.predict(rows) && trainer.model().predict(rows) == model.predict(rows));
  CHECK(model.info().normalized == 1);
  const biv::Metrics metrics = trainer.evaluate(test);
  CHECK(metrics.rows == 100);
  CHECK_NEAR(metrics.rmse * metrics.rmse, metrics.mse);
  trainer.set_learning_rate(0.01);
  CHECK(trainer.learning_rate() == 0.01);
  CHECK(trainer.describe().find("\"kernel\":\"mlp_cpu\"") != std::string::npos);

  const std::vector<double> labels = test.labels(), variances(100, 1.0);
  Trainer fed(network(), {{"normalize", false}, {"loss", {{"kind", "mse"}}}});
  CHECK(fed.step_on(rows, labels).rows == 100);
  CHECK(Trainer(network(), {{"normalize", false}}).step_on(rows, labels, variances).samples_used == 100);
  CHECK_ERROR(Trainer(network(), {{"normalize", false}}).step_on(rows, labels), BIV_ERROR_INVALID_ARGUMENT,
              "variances");
  CHECK_ERROR(fed.step(), BIV_ERROR_UNSUPPORTED, "data set");
  CHECK_ERROR(fed.fit(1), BIV_ERROR_UNSUPPORTED, "data set");
  CHECK_ERROR(fed.step_on(rows, std::vector<double>{1}), BIV_ERROR_SHAPE, "rows");

  const std::string path = in_folder("checkpoint.biv");
  trainer.step();
  trainer.save(path);
  Trainer resumed = Trainer::load(path, &data);
  trainer.fit(2);
  resumed.fit(2);
  CHECK(resumed.predict(rows) == trainer.predict(rows));
  CHECK(Trainer::load(path, &data, "cpu").progress().epoch == 2);
  CHECK_ERROR(Trainer::load(path).step(), BIV_ERROR_UNSUPPORTED, "data set");
  CHECK_ERROR(Trainer::load(path, &test), BIV_ERROR_SHAPE, "");
  CHECK_ERROR(Trainer::load(path, &data, "abacus"), BIV_ERROR_INVALID_ARGUMENT, "abacus");
  CHECK_ERROR(Trainer::load(in_folder("model.biv")), BIV_ERROR_INVALID_ARGUMENT, "model");
  /* The model that a checkpoint has can be read by itself. */
  CHECK(Model::load(path).parameter_count() == trainer.model().parameter_count());

  CHECK_ERROR(Trainer(model, friedman()), BIV_ERROR_INVALID_ARGUMENT, "variances");
  CHECK_ERROR(Trainer(model, Dataset::synthetic({{"rows", 300}}), {{"loss", {{"kind", "mse"}}}}), BIV_ERROR_SHAPE, "5");
  CHECK_ERROR(Trainer(model, data, {{"batch_size", 1000}}), BIV_ERROR_INVALID_ARGUMENT, "1000");
  CHECK_ERROR(trainer.set_learning_rate(-1), BIV_ERROR_INVALID_CONFIG, "learning_rate");
  CHECK_ERROR(trainer.fit(-1), BIV_ERROR_INVALID_ARGUMENT, "-1");
  CHECK_ERROR(trainer.evaluate(Dataset::synthetic({{"rows", 10}})), BIV_ERROR_SHAPE, "5");
}

static void optimizers() {
  const Dataset data = noisy();
  Trainer trainer(network(), data,
                  {{"batch_size", 50},
                   {"learning_rate", 0.02},
                   {"optimizer", {{"kind", "sgd"}, {"momentum", 0.9}, {"nesterov", true}}},
                   {"schedule", {{"kind", "plateau"}, {"factor", 0.5}, {"patience", 0}, {"threshold", 0.9}}},
                   {"clip_norm", 1.0}});
  CHECK_ERROR(trainer.step(), BIV_ERROR_INVALID_ARGUMENT,
              "the schedule 'plateau' follows the loss on a validation set");
  trainer.set_validation(noisy());
  std::vector<double> rates;
  CHECK(trainer.fit(3, nullptr, [&](const biv::Epoch &epoch) {
    rates.push_back(epoch.learning_rate);
    return true;
  }));
  CHECK(rates == (std::vector<double>{0.02, 0.02, 0.01}) && trainer.learning_rate() == 0.02);
  CHECK(trainer.step().learning_rate == 0.005);
  CHECK_ERROR(Trainer(network(), data, {{"optimizer", {{"kind", "lion"}}}}), BIV_ERROR_INVALID_CONFIG,
              "trainer.optimizer.kind: is 'lion'");
}

struct Refusal {
  int number;
};

static void callbacks() {
  const Dataset data = noisy(), test = friedman(100);
  Trainer trainer(network(), data, small_batches);
  std::vector<biv::Epoch> epochs;
  CHECK(trainer.fit(3, &test, [&](const biv::Epoch &epoch) {
    epochs.push_back(epoch);
    trainer.set_learning_rate(0.001 / static_cast<double>(epoch.epoch));
    return epoch.test->rmse == trainer.evaluate(test).rmse;
  }));
  CHECK(epochs.size() == 3 && epochs[2].epoch == 3 && epochs[2].batches == 6 && epochs[2].skipped == 0);
  CHECK(epochs[2].loss > 0 && epochs[2].effective_batch_size > 1);
  CHECK(epochs[2].test->rmse == trainer.evaluate(test).rmse);
  CHECK(!trainer.fit(9, nullptr, [](const biv::Epoch &epoch) { return epoch.test.has_value(); }));
  CHECK(trainer.progress().epoch == 4);

  /* Whatever is thrown comes out, and the trainer goes on. */
  int caught = 0;
  try {
    trainer.fit(9, nullptr, [](const biv::Epoch &) -> bool { throw Refusal{17}; });
  } catch (const Refusal &refusal) {
    caught = refusal.number;
  }
  CHECK(caught == 17 && trainer.progress().epoch == 5 && trainer.progress().running == 0);
  CHECK_ERROR(trainer.fit(9, nullptr, [&](const biv::Epoch &) { return trainer.fit(1); }), BIV_ERROR_BUSY, "fit");
  CHECK_ERROR(trainer.fit(1, nullptr,
                          [&](const biv::Epoch &) { return network().info().inputs == 5 && test.variances().empty(); }),
              BIV_ERROR_UNSUPPORTED, "variances");
  CHECK(trainer.fit(1));

  std::atomic<bool> begun{false};
  std::thread other([&] {
    while (!begun) std::this_thread::yield();
    trainer.cancel();
  });
  CHECK(!trainer.fit(1000000, nullptr, [&](const biv::Epoch &) { return begun = true; }));
  other.join();
  /* One that no fit has heard is the next one's. */
  trainer.cancel();
  CHECK(!trainer.fit(1) && trainer.fit(1));

  /* A trainer keeps what it needs. */
  Trainer lone = [] { return Trainer(network(), noisy(), small_batches); }();
  CHECK(lone.fit(1));
}

static void moved() {
  Dataset data = noisy();
  Model model = network();
  Trainer trainer(model, data, small_batches);
  const Dataset other_data = std::move(data);
  const Model other_model = std::move(model);
  Trainer other_trainer = std::move(trainer);
  CHECK(other_data.info().rows == 300 && other_model.info().inputs == 5 && other_trainer.fit(1));

  const std::vector<double> row(5);
  CHECK_ERROR(data.info(), BIV_ERROR_INVALID_HANDLE, "Dataset was moved from");
  CHECK_ERROR(data.labels(), BIV_ERROR_INVALID_HANDLE, "moved");
  CHECK_ERROR(data.split({}), BIV_ERROR_INVALID_HANDLE, "moved");
  CHECK_ERROR(model.predict({row, {1, 5}}), BIV_ERROR_INVALID_HANDLE, "Model was moved from");
  CHECK_ERROR(model.describe(), BIV_ERROR_INVALID_HANDLE, "moved");
  CHECK_ERROR(model.tensor("0.weight"), BIV_ERROR_INVALID_HANDLE, "moved");
  CHECK_ERROR(model.predict_with_variance({row, {1, 5}}), BIV_ERROR_INVALID_HANDLE, "moved");
  CHECK_ERROR(model.reset_normalization(), BIV_ERROR_INVALID_HANDLE, "moved");
  CHECK_ERROR(biv::fit(data), BIV_ERROR_INVALID_HANDLE, "moved");
  CHECK_ERROR(other_trainer.set_validation(data), BIV_ERROR_INVALID_HANDLE, "moved");
  CHECK_ERROR(trainer.step(), BIV_ERROR_INVALID_HANDLE, "Trainer was moved from");
  CHECK_ERROR(trainer.predict({row, {1, 5}}), BIV_ERROR_INVALID_HANDLE, "moved");
  CHECK_ERROR(trainer.cancel(), BIV_ERROR_INVALID_HANDLE, "moved");
  CHECK_ERROR(Trainer(model, other_data), BIV_ERROR_INVALID_HANDLE, "Model");
  CHECK_ERROR(Trainer(other_model, data), BIV_ERROR_INVALID_HANDLE, "Dataset");
  CHECK_ERROR(other_trainer.fit(1, &data), BIV_ERROR_INVALID_HANDLE, "Dataset");
  CHECK_ERROR(other_trainer.evaluate(data), BIV_ERROR_INVALID_HANDLE, "Dataset");

  data = friedman(10);
  CHECK(data.info().rows == 10);
  data = friedman(20);
  CHECK(data.info().rows == 20);
  Dataset &same = data;
  data = std::move(same);
  CHECK(data.info().rows == 20);
}

static void losses() {
  const std::vector<double> predictions{1, 2}, labels{0, 0}, variances{1, 3};
  const biv::Loss loss = biv::compute_loss({{"kind", "biv"}, {"epsilon", 1}}, predictions, labels, variances);
  /* Weights 1/2 and 1/4: (1/2 + 4/4) / (3/4). */
  CHECK_NEAR(loss.value, 2.0);
  CHECK_NEAR(loss.effective_batch_size, 9.0 / 5);
  CHECK(loss.epsilon == 1 && loss.samples_used == 2 && loss.gradient.size() == 2);
  CHECK_NEAR(loss.gradient[1], 2 * 2 * (0.25 / 0.75));
  CHECK_NEAR(biv::compute_loss({{"kind", "mse"}}, predictions, labels).value, 2.5);
  CHECK(biv::compute_loss({{"kind", "mse"}}, {predictions, {1, 2}}, {labels, {1, 2}}).samples_used == 1);
  CHECK_ERROR(biv::compute_loss({}, predictions, labels), BIV_ERROR_INVALID_ARGUMENT, "variances");
  CHECK_ERROR(biv::compute_loss({}, predictions, labels, std::vector<double>{1}), BIV_ERROR_SHAPE, "variances");
  CHECK_ERROR(biv::compute_loss({{"kind", "huber"}}, predictions, labels), BIV_ERROR_INVALID_CONFIG, "huber");
  CHECK_ERROR(biv::compute_loss({}, {}, labels, variances), BIV_ERROR_INVALID_ARGUMENT, "predictions");

  const Options gamma{{"kind", "gamma"}, {"alpha", 2}, {"beta", 0.5}};
  CHECK(biv::sample_noise(gamma, 1, 100) == biv::sample_noise(gamma, 1, 100));
  CHECK(biv::sample_noise(gamma, 1, 100) != biv::sample_noise(gamma, 2, 100) && biv::sample_noise(gamma, 1, 0).empty());
  CHECK_ERROR(biv::sample_noise({{"kind", "gamma"}, {"alpha", -2}}, 1, 5), BIV_ERROR_INVALID_CONFIG, "alpha");
}

/* Half of the labels are nearly exact, and half have hardly a meaning. */
static Dataset half_noisy(int rows) {
  return friedman(rows).add_noise(
      {{"distribution",
        {{"kind", "binary_uniform"},
         {"components", {{{"weight", 0.5}, {"low", 0}, {"high", 0.1}}, {{"low", 100}, {"high", 200}}}}}},
       {"seed", 2}});
}

static void masks() {
  const std::vector<double> features{1, 2, 3}, labels{1, nan_value, 3}, deviations{2, 1, INFINITY}, groups{1, 1, 2};
  const Options options{{"standard_deviations", true}, {"missing_labels", "mask"}};
  const Dataset data(features, labels, deviations, groups, options);
  CHECK(data.info().masked_labels == 2 && data.variances() == (std::vector<double>{4, INFINITY, INFINITY}));
  CHECK(Dataset(features, features, {}, groups).info().masked_labels == 0);
  CHECK(Dataset(features, features, {}, {}, options).info().has_variances == 0);
  CHECK(Dataset(features, features, deviations).info().masked_labels == 1);
  CHECK_ERROR(Dataset(features, labels, deviations, groups), BIV_ERROR_INVALID_ARGUMENT, "row 1");
  CHECK_ERROR(Dataset(features, features, {}, labels), BIV_ERROR_INVALID_ARGUMENT, "group");
  CHECK_ERROR(Dataset(features, features, {}, {}, {{"missing", "mask"}}), BIV_ERROR_INVALID_CONFIG, "missing");
}

static void fits() {
  const Dataset data = half_noisy(400);
  const Options network_options{{"kind", "mlp"}, {"inputs", 5}, {"hidden", {16}}, {"seed", 1}};
  const Options options{{"members", 2}, {"epochs", 4}, {"batch_size", 64}};
  std::vector<biv::FitProgress> seen;
  const auto [model, report] = biv::fit(data, network_options, options, [&](const biv::FitProgress &progress) {
    seen.push_back(progress);
    return data.info().rows == 400;
  });
  CHECK(seen.size() >= 4 && seen.back().epoch == seen.back().epochs && seen.back().steps == seen.back().total_steps);
  CHECK(seen.back().held_out_loss > 0 && seen.back().is_final == 0);
  CHECK(report.front() == '{' && report.find("\"variance_model\"") != std::string::npos);
  CHECK(model.describe().find("\"scale\":[") != std::string::npos);

  const std::vector<double> features = data.features();
  const View rows(features, {400, 5});
  const biv::Prediction prediction = model.predict_with_variance(rows);
  CHECK(prediction.values == model.predict(rows) && prediction.variances.size() == 400);
  CHECK(*std::min_element(prediction.variances.begin(), prediction.variances.end()) > 0);
  const biv::Metrics metrics = model.evaluate(data);
  CHECK(metrics.coverage_68 > 0 && metrics.coverage_68 <= metrics.coverage_95 && metrics.coverage_95 <= 1);
  CHECK(metrics.weighted_rmse < metrics.rmse && metrics.expected_rmse > 0);
  const std::string path = in_folder("fitted.biv");
  model.save(path);
  const biv::Prediction again = Model::load(path).predict_with_variance(rows);
  CHECK(again.values == prediction.values && again.variances == prediction.variances);
  CHECK_ERROR(network().predict_with_variance(rows), BIV_ERROR_UNSUPPORTED, "knows nothing");
  CHECK(std::isnan(network().evaluate(data).coverage_95));

  /* Stopped by its callback, by an exception, and then gone on from the checkpoint to the same bits. */
  const Options kept{{"members", 2}, {"epochs", 4}, {"batch_size", 64}, {"checkpoint", in_folder("fit.biv")}};
  CHECK_ERROR(biv::fit(data, network_options, kept, [](const biv::FitProgress &) { return false; }),
              BIV_ERROR_CANCELLED, "");
  int caught = 0;
  try {
    biv::fit(data, network_options, kept, [](const biv::FitProgress &) -> bool { throw Refusal{5}; });
  } catch (const Refusal &refusal) {
    caught = refusal.number;
  }
  CHECK(caught == 5);
  CHECK(biv::fit(data, network_options, kept).model.predict(rows) == prediction.values);
  CHECK(biv::fit(data, {}, {{"members", 1}, {"epochs", 1}}).model.info().inputs == 5);
  CHECK_ERROR(biv::fit(data, {}, {{"members", 0}}), BIV_ERROR_INVALID_CONFIG, "members");
  CHECK_ERROR(biv::fit(Dataset::synthetic({{"rows", 40}}), network_options), BIV_ERROR_SHAPE, "10");

  const Model own({{"kind", "mean_variance"}, {"network", network_options}});
  Trainer(own, data, {{"loss", {{"kind", "gaussian"}}}, {"batch_size", 50}}).fit(1);
  CHECK(own.predict_with_variance(rows).values == own.predict(rows));
}

/* Variances ten times as large as those of the noise. */
static void variance_models() {
  std::mt19937 random(1);
  std::exponential_distribution<double> exponential;
  std::normal_distribution<double> normal;
  std::vector<double> variances(4000), wider(4000), residuals(4000);
  for (std::size_t row = 0; row < variances.size(); row++) {
    variances[row] = 10 * exponential(random);
    wider[row] = 100 * variances[row];
    residuals[row] = std::sqrt(variances[row] / 10 + 0.25) * normal(random);
  }
  const biv::VarianceModel found = biv::variance_model(residuals, variances);
  CHECK(found.verdict == BIV_VERDICT_PROFILE && found.rows == 4000 && found.scale < 0.2);
  CHECK(std::string(found.warning).find("overstated") != std::string::npos);
  CHECK_NEAR(found.tau2, found.scale * found.epsilon);
  const biv::VarianceModel scaled = biv::variance_model(residuals, wider);
  CHECK_NEAR(scaled.epsilon, 100 * found.epsilon);
  CHECK_NEAR(scaled.tau2, found.tau2);
  variances[3] = -1;
  CHECK_ERROR(biv::variance_model(residuals, variances), BIV_ERROR_INVALID_ARGUMENT, "row 3");
  CHECK_ERROR(biv::variance_model({}, variances), BIV_ERROR_INVALID_ARGUMENT, "residuals");
}

static void validation() {
  const Dataset data = half_noisy(100),
                held_out = friedman(60).add_noise({{"distribution", {{"kind", "uniform"}, {"low", 0}, {"high", 2}}}});
  const Options options{{"loss", {{"kind", "biv"}, {"epsilon", "auto"}}},
                        {"batch_size", 20},
                        {"learning_rate", 0.02},
                        {"patience", 2},
                        {"normalization", "labels"}};
  Trainer trainer(network(), data, options);
  CHECK_ERROR(trainer.fit(1), BIV_ERROR_INVALID_ARGUMENT, "validation");
  trainer.set_validation(held_out);
  std::vector<double> losses;
  std::int64_t best = 0;
  CHECK(trainer.fit(1000, nullptr, [&](const biv::Epoch &epoch) {
    losses.push_back(epoch.validation_loss);
    best = epoch.best_epoch;
    return true;
  }));
  CHECK(static_cast<std::int64_t>(losses.size()) == best + 2);
  CHECK(std::min_element(losses.begin(), losses.end()) - losses.begin() == best - 1);
  CHECK_ERROR(trainer.set_validation(friedman(10)), BIV_ERROR_INVALID_ARGUMENT, "variances");
  trainer.set_data(data.append(data));
  CHECK_ERROR(trainer.set_data(friedman(30)), BIV_ERROR_INVALID_ARGUMENT, "variances");

  Model model = network();
  const std::vector<double> row(5, 0.5), zeros(5, 0.0), ones(5, 1.0), mean{3}, deviation{2};
  const double before = model.predict({row, {1, 5}})[0];
  model.set_normalization(zeros, ones, mean, deviation);
  CHECK(model.info().normalized == 1);
  CHECK_NEAR(model.predict({row, {1, 5}})[0], 2 * before + 3);
  CHECK_ERROR(model.set_normalization(zeros, zeros, mean, deviation), BIV_ERROR_INVALID_ARGUMENT, "");
  CHECK_ERROR(model.set_normalization(zeros, ones, zeros, deviation), BIV_ERROR_SHAPE, "normalisation");
  model.reset_normalization();
  CHECK(model.info().normalized == 0 && model.predict({row, {1, 5}})[0] == before);
}

static void experiments() {
  const Options config{{"dataset", {{"kind", "synthetic"}, {"train_size", 600}, {"test_size", 100}}},
                       {"model", {{"kind", "mlp"}, {"hidden", {8}}}},
                       {"noise", {{"distribution", {{"kind", "uniform"}, {"low", 0}, {"high", 2}}}}},
                       {"epochs", 2}};
  CHECK(biv::resolve_experiment(config).find("\"learning_rate\"") != std::string::npos);
  int calls = 0;
  const std::string result = biv::run_experiment(config, [&](const biv::ExperimentProgress &progress) {
    CHECK(progress.stage == biv::Stage::training && progress.epochs == 2);
    CHECK(!progress.run.empty() && progress.done <= progress.total);
    return ++calls > 0;
  });
  CHECK(calls >= 4 && result.find("\"last\"") != std::string::npos);
  const std::string table =
      biv::run_sweep({{"base", config},
                      {"grid", {{"seeds", {1, 2}}, {"losses", {{{"kind", "mse"}}, {{"kind", "biv"}}}}}},
                      {"jobs", 1}});
  CHECK(table.find("\"table\"") != std::string::npos && table.find("\"error\":\"") == std::string::npos);

  CHECK_ERROR(biv::run_experiment(config, [](const biv::ExperimentProgress &) { return false; }), BIV_ERROR_CANCELLED,
              "");
  const auto refuse = [](const biv::ExperimentProgress &) -> bool { throw Refusal{3}; };
  const auto refuse_at_last = [](const biv::ExperimentProgress &progress) -> bool {
    return progress.done < progress.total ? true : throw Refusal{4};
  };
  int caught = 0;
  for (const biv::ExperimentCallback &callback :
       {biv::ExperimentCallback(refuse), biv::ExperimentCallback(refuse_at_last)}) {
    try {
      biv::run_experiment(config, callback);
    } catch (const Refusal &refusal) {
      caught += refusal.number;
    }
  }
  CHECK(caught == 7);
  CHECK_ERROR(biv::run_experiment({{"epochs", 0.5}}), BIV_ERROR_INVALID_CONFIG, "epochs");
  CHECK_ERROR(biv::run_sweep("{}"), BIV_ERROR_INVALID_CONFIG, "sweep");
  CHECK_ERROR(biv::resolve_experiment({{"settings", {{"experiment_settings", "tag,x"}}}}), BIV_ERROR_INVALID_CONFIG,
              "");
}

static void library() {
  CHECK(biv::version() == BIV_VERSION && biv_abi_version() == BIV_ABI_VERSION);
  const std::string build = biv::build_info();
  CHECK(build.find("\"libtorch\"") != std::string::npos);
  const auto has = [&](const char *text) { return build.find(text) != std::string::npos; };
  CHECK(has("\"blas\":\"libtorch_cpu.so\"") || has("\"blas\":\"libnvpl_blas_lp64_gomp.so.0\""));
  CHECK(biv::config_schema("trainer").find("batch_size") != std::string::npos);
  CHECK_ERROR(biv::config_schema("boat"), BIV_ERROR_INVALID_ARGUMENT, "boat");
  CHECK(biv::cuda_device_count() >= 0);
  const int threads = biv::num_threads();
  biv::set_num_threads(1);
  CHECK(biv::num_threads() == 1);
  biv::set_num_threads(threads);
  CHECK_ERROR(biv::set_num_threads(0), BIV_ERROR_INVALID_CONFIG, "0");
  const biv::Error error(BIV_ERROR_SHAPE, "text");
  CHECK(std::string(error.name()) == "BIV_ERROR_SHAPE" && std::string(error.what()) == "text");
}

static void logging() {
  const int threads = biv::num_threads();
  int number = 1000, heard = 0, infos = 0, later = 0;
  const auto listen = [&](biv::LogLevel level, const std::string &message) {
    infos += level == biv::LogLevel::info;
    heard += level == biv::LogLevel::warning && message.find(std::to_string(number) + " threads") != std::string::npos;
  };
  biv::set_log(biv::LogLevel::info, listen);
  CHECK(infos > 0 && heard == 0);
  biv::set_num_threads(number);
  CHECK(heard == 1);
  // What a log function throws is dropped, and it may call the library and set another one.
  biv::set_log(biv::LogLevel::warning, [&](biv::LogLevel, const std::string &) {
    biv::set_log(biv::LogLevel::warning, [&](biv::LogLevel, const std::string &) { later += biv::num_threads(); });
    throw Refusal{1};
  });
  biv::set_num_threads(number + 1);
  CHECK(heard == 1 && later == 0);
  biv::set_num_threads(number + 2);
  CHECK(later == number + 2);
  // What a function owns is freed when it is replaced.
  auto owned = std::make_shared<int>(0);
  biv::set_log(biv::LogLevel::warning, [owned](biv::LogLevel, const std::string &) { ++*owned; });
  biv::set_num_threads(number + 3);
  biv::set_log(biv::LogLevel::silent);
  biv::set_num_threads(number + 4);
  CHECK(*owned == 1 && owned.use_count() == 1);
  biv::set_num_threads(threads);
}

int main() try {
  folder = std::filesystem::temp_directory_path() / ("biv_cpp_" + std::to_string(std::random_device()()));
  std::filesystem::create_directory(folder);
  for (auto *part : {options, arrays, lent, tensors, datasets, models, training, optimizers, callbacks, moved, losses,
                     masks, fits, variance_models, validation, experiments, library, logging})
    part();
  std::filesystem::remove_all(folder);
  return report();
} catch (const std::exception &error) {
  std::printf("unexpected: %s\n", error.what());
  return 1;
}
