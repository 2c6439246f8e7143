// A host that uses libtorch itself: what the library does beside it changes nothing of libtorch's state.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <biv.h>
#include <c10/core/DefaultDtype.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>

namespace {

void ok(biv_status status) {
  if (status == BIV_OK) return;
  std::printf("host-torch: %s: %s\n", biv_status_name(status), biv_last_error_message());
  std::exit(1);
}

// Everything that a library beside the host might change in the process or on this thread.
std::string libtorch_state() {
  std::ostringstream out;
  auto &context = at::globalContext();
  at::Tensor generator = at::detail::getDefaultCPUGenerator().get_state();
  const auto *bytes = generator.const_data_ptr<uint8_t>();
  out << "generator " << std::string(bytes, bytes + generator.numel()) << "\nthreads " << at::get_num_threads()
      << " and " << at::get_num_interop_threads() << "\ngradients " << c10::GradMode::is_enabled() << "\ninference "
      << c10::InferenceMode::is_enabled() << "\ntype " << c10::get_default_dtype().name() << "\nautocast "
      << at::autocast::is_autocast_enabled(at::kCPU) << at::autocast::is_autocast_cache_enabled()
      << at::autocast::get_autocast_dtype(at::kCPU) << "\ndeterministic " << context.deterministicAlgorithms()
      << context.deterministicAlgorithmsWarnOnly() << context.deterministicFillUninitializedMemory()
      << context.deterministicCuDNN() << context.benchmarkCuDNN() << "\nmkldnn " << context.userEnabledMkldnn()
      << "\nprecision " << static_cast<int>(context.float32MatmulPrecision()) << "\n";
  return out.str();
}

// The error that training ends with.
double train(const char *options) {
  biv_dataset *clean = nullptr, *data = nullptr;
  biv_model *model = nullptr;
  biv_trainer *trainer = nullptr;
  biv_metrics metrics{};
  metrics.struct_size = sizeof metrics;
  ok(biv_dataset_create_synthetic(R"({"rows": 200, "features": 5})", &clean));
  ok(biv_dataset_add_noise(clean, R"({"distribution": {"kind": "gamma", "mean": 1, "variance": 2}})", &data));
  ok(biv_model_create(R"({"kind": "mlp", "inputs": 5, "hidden": [8], "batch_norm": true})", &model));
  ok(biv_trainer_create(model, data, options, &trainer));
  ok(biv_trainer_fit(trainer, 2, data, nullptr, nullptr));
  ok(biv_trainer_evaluate(trainer, data, &metrics));
  // A step that fails leaves through another door.
  if (biv_trainer_set_learning_rate(trainer, -1) == BIV_OK) std::exit(1);
  biv_trainer_free(trainer);
  biv_model_free(model);
  biv_dataset_free(data);
  biv_dataset_free(clean);
  return metrics.mse;
}

int failed = 0;

// The state is the same after `work`, and says so where it is not.
template <class Work>
void unchanged(const char *what, Work work) {
  std::string before = libtorch_state();
  work();
  if (libtorch_state() == before) return;
  std::printf("host-torch: libtorch's state was changed by %s\n", what);
  failed += 1;
}

// The same happens whatever the host's state is.
void trained_as_ever(const char *options, double &first) {
  double error = train(options);
  if (first < 0) first = error;
  if (error == first) return;
  std::printf("host-torch: %s: the error is %.17g, it was %.17g\n", options, error, first);
  failed += 1;
}

void use() {
  static double f32 = -1, bf16 = -1;
  unchanged("training", [] { trained_as_ever(R"({"batch_size": 16})", f32); });
  unchanged("training in bf16", [] { trained_as_ever(R"({"batch_size": 16, "precision": "bf16"})", bf16); });
  unchanged("a failure", [] {
    biv_model *none = nullptr;
    if (biv_model_create(R"({"kind": "mlp", "inputs": 1000000, "hidden": [1000000]})", &none) == BIV_OK) failed += 1;
  });
}

}  // namespace

int main() {
  at::manual_seed(17);
  use();
  // In the states that a host of its own mind may be in.
  {
    at::NoGradGuard no_gradients;
    use();
  }
  {
    c10::InferenceMode inference;
    use();
  }
  at::autocast::set_autocast_enabled(at::kCPU, true);
  use();
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::globalContext().setDeterministicAlgorithms(true, false);
  c10::set_default_dtype(caffe2::TypeMeta::Make<double>());
  use();
  c10::set_default_dtype(caffe2::TypeMeta::Make<float>());
  // The host's next random numbers are those that it would have had alone.
  at::Tensor drawn = at::rand({100});
  at::manual_seed(17);
  if (!at::equal(drawn, at::rand({100}))) std::printf("host-torch: the host draws other numbers\n"), failed += 1;
  std::printf("host-torch: %d failed, the state of libtorch compared 15 times\n", failed);
  return failed != 0;
}
