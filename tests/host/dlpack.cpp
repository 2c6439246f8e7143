// A host whose tensors are libtorch's: what it hands over by DLPack is used where it is and given back, and biv.h
// stands beside the declarations of DLPack itself.
#include <ATen/ATen.h>
#include <ATen/DLConvertor.h>
#include <biv.h>

#include <cstdio>
#include <cstring>

namespace {

int failed = 0;

void expect(bool holds, const char *what, int line) {
  if (holds) return;
  std::printf("host-dlpack: line %d: does not hold: %s: %s\n", line, what, biv_last_error_message());
  failed += 1;
}

#define EXPECT(condition) expect((condition), #condition, __LINE__)

// How many own a tensor's memory.
std::size_t owners(const at::Tensor &tensor) { return tensor.use_count() + tensor.storage().use_count() - 1; }

biv_dataset *made(const at::Tensor &features, const at::Tensor &labels, biv_status expected = BIV_OK) {
  biv_dataset *data = nullptr;
  const biv_status status = biv_dataset_create_from_dlpack(
      at::toDLPackVersioned(features), at::toDLPackVersioned(labels), nullptr, nullptr, nullptr, nullptr, &data);
  EXPECT(status == expected);
  EXPECT((data != nullptr) == (expected == BIV_OK));
  return data;
}

at::Tensor labels_of(const biv_dataset *data) {
  biv_dataset_info info{};
  info.struct_size = sizeof info;
  EXPECT(biv_dataset_get_info(data, &info) == BIV_OK);
  at::Tensor labels = at::empty({info.rows, info.outputs}, at::kDouble);
  const biv_array_out out{labels.data_ptr(), BIV_F64, 2, labels.sizes().data(), nullptr, 0};
  EXPECT(biv_dataset_copy_labels(data, &out) == BIV_OK);
  return labels;
}

}  // namespace

int main() {
  const at::Tensor x = at::arange(12, at::kFloat).reshape({4, 3}).clone(), y = at::arange(4, at::kDouble);

  // Lent: what is written there is seen, and the memory has another owner until the data set is freed.
  biv_dataset *data = made(x, y);
  EXPECT(owners(x) == 2 && owners(y) == 2);
  y[2] = 77;
  EXPECT(labels_of(data)[2][0].item<double>() == 77);
  biv_dataset_free(data);
  EXPECT(owners(x) == 1 && owners(y) == 1);

  // Copied: every other type, and every other order.
  for (const auto type : {at::kHalf, at::kBFloat16, at::kFloat, at::kChar, at::kByte, at::kShort, at::kInt, at::kLong,
                          at::kBool, at::kUInt16, at::kUInt32, at::kUInt64}) {
    const at::Tensor given = at::tensor({0.0, 1.0}, at::kDouble).to(type);
    data = made(given, given);
    EXPECT(owners(given) == (type == at::kFloat ? 2 : 1));
    EXPECT(labels_of(data).flatten().equal(at::tensor({0.0, 1.0}, at::kDouble)));
    biv_dataset_free(data);
    EXPECT(owners(given) == 1);
  }
  for (const at::Tensor &given : {y.flip(0), at::arange(8, at::kDouble).slice(0, 0, 8, 2),
                                  at::ones({1}, at::kDouble).expand({4}), at::arange(8, at::kDouble).slice(0, 3, 7)}) {
    data = made(x.t().contiguous().t(), given);
    EXPECT(labels_of(data).flatten().equal(given));
    biv_dataset_free(data);
  }
  EXPECT(owners(x) == 1);

  // Refused, and given back.
  made(x, at::arange(3, at::kDouble), BIV_ERROR_SHAPE);
  made(x, at::empty({4}, at::kComplexDouble), BIV_ERROR_INVALID_ARGUMENT);
  made(at::empty({0, 3}, at::kFloat), at::empty({0}, at::kDouble), BIV_ERROR_INVALID_ARGUMENT);
  EXPECT(owners(x) == 1);

  // Predictions into a tensor of the host's.
  biv_model *model = nullptr;
  EXPECT(biv_model_create(R"({"kind": "mlp", "inputs": 3, "hidden": [4]})", &model) == BIV_OK);
  at::Tensor expected = at::empty({4}, at::kDouble), found = at::zeros({4, 2}, at::kDouble);
  const std::int64_t table[] = {4, 3}, column[] = {4};
  const biv_array features{x.data_ptr(), BIV_F32, 2, table, nullptr, 0};
  const biv_array_out out{expected.data_ptr(), BIV_F64, 1, column, nullptr, 0};
  EXPECT(biv_model_predict(model, &features, &out) == BIV_OK);
  EXPECT(biv_model_predict_dlpack(model, at::toDLPackVersioned(x), at::toDLPackVersioned(found.select(1, 1))) ==
         BIV_OK);
  EXPECT(found.select(1, 1).equal(expected) && found.select(1, 0).equal(at::zeros({4}, at::kDouble)));
  EXPECT(owners(x) == 1 && owners(found) == 1);
  biv_model_free(model);

  if (failed == 0) std::printf("host-dlpack: libtorch's tensors are used and given back\n");
  return failed > 0;
}
