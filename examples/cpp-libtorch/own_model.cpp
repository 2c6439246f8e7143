// A network of one's own in libtorch, trained with libbiv's loss: biv_loss_compute() gives the gradient by the
// predictions, and autograd takes it from there. The data go to libbiv by DLPack and are not copied.
//
// The program and libbiv must use one libtorch (docs/linking.md).
#include <ATen/DLConvertor.h>
#include <biv.h>
#include <torch/nn.h>
#include <torch/optim.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace {

void check(biv_status status) {
  if (status == BIV_OK) return;
  std::fprintf(stderr, "%s: %s\n", biv_status_name(status), biv_last_error_message());
  std::exit(1);
}

// A tensor of doubles on the CPU as libbiv reads it, whatever its strides.
biv_array array(const at::Tensor &tensor) {
  return {tensor.const_data_ptr<double>(), BIV_F64, static_cast<std::int32_t>(tensor.dim()), tensor.sizes().data(),
          tensor.strides().data(),         0};
}

biv_array_out filled(at::Tensor &tensor) {
  return {tensor.mutable_data_ptr<double>(), BIV_F64, static_cast<std::int32_t>(tensor.dim()), tensor.sizes().data(),
          tensor.strides().data(),           0};
}

double rmse(const at::Tensor &predictions, const at::Tensor &truth) {
  return (predictions - truth).square().mean().sqrt().item<double>();
}

// A network that was trained with a loss of libbiv's.
torch::nn::Sequential trained(const char *loss, const at::Tensor &x, const at::Tensor &y, const at::Tensor &v) {
  torch::manual_seed(1);
  torch::nn::Sequential network(torch::nn::Linear(5, 64), torch::nn::SiLU(), torch::nn::Linear(64, 1));
  network->to(at::kDouble);
  torch::optim::Adam adam(network->parameters(), 0.01);
  for (int epoch = 0; epoch < 30; ++epoch) {
    for (const at::Tensor &rows : torch::randperm(x.size(0)).split(100)) {
      adam.zero_grad();
      const at::Tensor prediction = network->forward(x.index_select(0, rows));
      const at::Tensor labels = y.index_select(0, rows), variances = v.index_select(0, rows);
      at::Tensor gradient = at::empty_like(labels);
      biv_loss_result result{};
      result.struct_size = sizeof result;
      const at::Tensor values = prediction.detach();
      const biv_array p = array(values), l = array(labels), n = array(variances);
      const biv_array_out g = filled(gradient);
      check(biv_loss_compute(loss, &p, &l, &n, &result, &g));
      prediction.backward(gradient);
      adam.step();
    }
  }
  return network;
}

}  // namespace

int main() {
  // Friedman's first function; nine labels of ten have much more noise than the others.
  torch::manual_seed(0);
  const at::Tensor x = torch::rand({3000, 5}, at::kDouble);
  const auto column = [&](int at) { return x.select(1, at); };
  const at::Tensor truth =
      (10 * (M_PI * column(0) * column(1)).sin() + 20 * (column(2) - 0.5).square() + 10 * column(3) + 5 * column(4))
          .unsqueeze(1);
  const at::Tensor v = at::where(torch::rand({3000, 1}, at::kDouble) < 0.1, 0.1, 100.0).to(at::kDouble);
  const at::Tensor y = truth + v.sqrt() * torch::randn({3000, 1}, at::kDouble);
  const auto train_rows = [](const at::Tensor &all) { return all.slice(0, 0, 2000); };
  const auto test_rows = [](const at::Tensor &all) { return all.slice(0, 2000); };

  // Normalised, as libbiv does it by itself.
  const at::Tensor scaled = (x - train_rows(x).mean(0)) / train_rows(x).std(0);
  const at::Tensor mean = train_rows(y).mean(), std = train_rows(y).std();
  double errors[2];
  const char *const losses[] = {R"({"kind": "mse"})", R"({"kind": "biv", "epsilon": 0.1})"};
  for (int which = 0; which < 2; ++which) {
    torch::nn::Sequential network =
        trained(losses[which], train_rows(scaled), (train_rows(y) - mean) / std, train_rows(v) / std.square());
    at::NoGradGuard guard;
    errors[which] = rmse(network->forward(test_rows(scaled)) * std + mean, test_rows(truth));
    std::printf("own network, %s: RMSE %.2f\n", losses[which], errors[which]);
  }

  // A network of libbiv's on the same tensors, and its predictions into one of libtorch's.
  const at::Tensor single = x.to(at::kFloat);
  biv_dataset *data = nullptr;
  biv_model *model = nullptr;
  biv_trainer *trainer = nullptr;
  check(biv_dataset_create_from_dlpack(at::toDLPackVersioned(train_rows(single)), at::toDLPackVersioned(train_rows(y)),
                                       at::toDLPackVersioned(train_rows(v)), nullptr, nullptr, nullptr, &data));
  check(biv_model_create(R"({"kind": "mlp", "inputs": 5, "hidden": [64]})", &model));
  check(biv_trainer_create(model, data, R"({"batch_size": 100, "learning_rate": 0.01})", &trainer));
  check(biv_trainer_fit(trainer, 30, nullptr, nullptr, nullptr));
  const at::Tensor predicted = at::empty({1000, 1}, at::kDouble);
  check(biv_model_predict_dlpack(model, at::toDLPackVersioned(test_rows(single)), at::toDLPackVersioned(predicted)));
  std::printf("libbiv's network: RMSE %.2f\n", rmse(predicted, test_rows(truth)));
  biv_trainer_free(trainer);
  biv_model_free(model);
  biv_dataset_free(data);
  return errors[1] < errors[0] ? 0 : 1;
}
